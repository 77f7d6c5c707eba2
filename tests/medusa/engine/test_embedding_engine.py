"""Models that only make vectors: llama.cpp's own pooling, several texts at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.embedding_engine import EmbeddingEngine
from medusa.engine.events import Embedded, Failed, FailureKind
from medusa.engine.pooling import Pooling
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.errors import ContextLengthError, DecodeError, EngineStoppedError, InvalidRequestError
from medusa.llama.pooled_context import PooledContext
from medusa.loading import LoadedModel, open_model
from tests.architectures.embedding_models import EMBEDDING_MODELS
from tests.architectures.writer import write_model
from tests.conftest import Run, generate, submit

TEXTS = [tuple((7 * i + 3 * j) % 250 for j in range(n)) for i, n in enumerate((1, 5, 64, 300))]


@pytest.fixture(params=EMBEDDING_MODELS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoadedModel]:
    yield from opened(tmp_path, request.param)


@pytest.fixture
def bert(tmp_path: Path) -> Iterator[LoadedModel]:
    yield from opened(tmp_path, "bert")


def opened(folder: Path, name: str) -> Iterator[LoadedModel]:
    path = folder / "tiny.gguf"
    write_model(EMBEDDING_MODELS[name], path)
    loaded = open_model(path, config=EngineConfig(n_slots=3, n_threads=1, max_queue=12))
    yield loaded
    loaded.close()


def embedding(loaded: LoadedModel, prompt: tuple[int, ...]) -> GenerationRequest:
    return GenerationRequest(prompt, max_tokens=0, pooling=loaded.engine.pooling)


def vector(run: Run) -> np.ndarray:
    embedded = run.events[0]
    assert isinstance(embedded, Embedded), embedded
    return embedded.vector


def test_vectors_are_what_llama_cpp_pools_in_company_too(loaded: LoadedModel) -> None:
    context = PooledContext(loaded.model, 512, 1, n_threads=1)
    runs = generate(loaded.engine, [embedding(loaded, text) for text in TEXTS * 3])
    for text, run in zip(TEXTS * 3, runs, strict=True):
        (expected,) = context.embed([text])
        if loaded.engine.pooling is not Pooling.RANK:
            expected = expected / np.linalg.norm(expected)
        if loaded.engine.exactness.exact:
            np.testing.assert_allclose(vector(run), expected, atol=1e-7)
        else:  # llama.cpp's attention computes a few rows otherwise than many, in F16
            np.testing.assert_allclose(vector(run), expected, atol=0.02)
        assert run.finished.usage.prompt_tokens == len(text)
    context.close()


def test_the_longest_text_is_as_long_as_the_model_was_trained_for(bert: LoadedModel) -> None:
    longest = bert.engine.max_context
    assert longest == 512
    (run,) = generate(bert.engine, [embedding(bert, (1,) * longest)])
    assert len(vector(run)) == bert.model.n_embd
    with pytest.raises(ContextLengthError):
        generate(bert.engine, [embedding(bert, (1,) * (longest + 1))])


def test_text_is_not_generated_and_pooling_is_the_models_own(bert: LoadedModel) -> None:
    with pytest.raises(InvalidRequestError, match="makes embeddings; it cannot generate text"):
        generate(bert.engine, [GenerationRequest((1, 2))])
    with pytest.raises(InvalidRequestError, match="nothing to pool by last"):
        generate(bert.engine, [GenerationRequest((1, 2), max_tokens=0, pooling=Pooling.LAST)])


def test_who_left_is_not_computed_for(bert: LoadedModel) -> None:
    runs = submit(bert.engine, [embedding(bert, TEXTS[3])] * 12)
    bert.engine.cancel(run.id for run in runs)
    generate(bert.engine, [embedding(bert, TEXTS[0])])
    assert sum(bool(run.events) for run in runs) <= 3
    assert bert.engine.n_waiting == 0


def test_an_error_ends_the_request_that_it_happened_in(
    bert: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = PooledContext.embed

    def failing(self: PooledContext, texts: list[tuple[int, ...]]) -> np.ndarray:
        if any(tokens[0] == 99 for tokens in texts):
            raise DecodeError("bad luck")
        return embed(self, texts)

    monkeypatch.setattr(PooledContext, "embed", failing)
    good, bad, other = generate(
        bert.engine, [embedding(bert, (1, 2)), embedding(bert, (99, 2)), embedding(bert, (3, 2))]
    )
    (failed,) = bad.events
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.INTERNAL
    assert np.isfinite(vector(good)).all()
    assert np.isfinite(vector(other)).all()


def test_steps_are_told_and_the_end_fails_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(EMBEDDING_MODELS["bert"], path)
    steps: list[StepReport] = []
    loaded = open_model(path, config=EngineConfig(n_threads=1), observer=steps.append)
    assert isinstance(loaded.engine, EmbeddingEngine)
    generate(loaded.engine, [embedding(loaded, TEXTS[1])])
    runs = submit(loaded.engine, [embedding(loaded, TEXTS[3])] * 40)
    loaded.close()
    assert sum(step.prefilled_tokens for step in steps) >= len(TEXTS[1])
    last = runs[-1].events[-1]
    assert isinstance(last, Failed)
    assert last.kind is FailureKind.STOPPED
    with pytest.raises(EngineStoppedError):
        submit(loaded.engine, [embedding(loaded, TEXTS[1])])
