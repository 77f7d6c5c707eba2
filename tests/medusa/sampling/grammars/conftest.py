"""Tiny models with the marks of calls as tokens, and without."""

from collections.abc import Iterator

import pytest

from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.sampling.grammars.compiler import GrammarCompiler
from tests.app.tiny_model import write_tiny_model

MARKUP = ("<tool_call>", "</tool_call>", "<think>", "</think>")


@pytest.fixture(scope="module", params=["markup", "plain"])
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("answers") / "tiny.gguf"
    if request.param == "markup":
        write_tiny_model(path, control=["[TOOL_CALLS]", "[ARGS]"], user_defined=MARKUP)
    else:
        write_tiny_model(path)
    model = Model(path)
    yield model
    model.close()


@pytest.fixture(scope="module")
def compiler(tiny: Model) -> GrammarCompiler:
    return GrammarCompiler(lambda: grammar_tokenizer(tiny))
