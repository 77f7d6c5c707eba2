"""Embeddings: prompts without an answer whose hidden states are pooled, beside whatever runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.client import Generated
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Embedded, Failed, FailureKind, Finished
from medusa.engine.pooling import Pooling
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.llama.model import Model
from medusa.llama.pooled_context import PooledContext
from tests.app.exact_model import write_exact_model
from tests.app.tiny_model import write_tiny_model
from tests.conftest import Run, generate, submit
from tests.medusa.engine.conftest import GREEDY, wait_until

TEXTS = [tuple((7 * i + 3 * j) % 250 for j in range(n)) for i, n in enumerate((1, 5, 63, 64, 200))]
KINDS = [Pooling.MEAN, Pooling.LAST]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("exact") / "tiny.gguf"
    write_exact_model(path)
    model = Model(path)
    yield model
    model.close()


def open_engine(model: Model, n_ctx: int = 2048, steps: list[StepReport] | None = None) -> Engine:
    config = EngineConfig(n_slots=4, n_ctx=n_ctx, n_threads=1, draft_nodes=4)
    return Engine(model, config=config, observer=None if steps is None else steps.append)


@pytest.fixture
def small(exact: Model) -> Iterator[Engine]:
    engine = open_engine(exact)
    yield engine
    engine.close()


def embedding(prompt: tuple[int, ...], pooling: Pooling) -> GenerationRequest:
    return GenerationRequest(prompt, max_tokens=0, pooling=pooling)


def vector(run: Run) -> np.ndarray:
    embedded, finished = run.events
    assert isinstance(embedded, Embedded)
    assert isinstance(finished, Finished)
    return embedded.vector


@pytest.mark.parametrize("pooling", KINDS)
def test_embeddings_are_what_llama_cpp_pools(small: Engine, exact: Model, pooling: Pooling) -> None:
    context = PooledContext(exact, 512, 4, n_threads=1, pooling=pooling)
    for text in TEXTS:
        (run,) = generate(small, [embedding(text, pooling)])
        (expected,) = context.embed([text])
        found = vector(run)
        assert found.dtype == np.float32
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
        usage = run.finished.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(text), 0)
    context.close()


@pytest.mark.parametrize("pooling", KINDS)
def test_company_changes_no_bit_of_an_embedding_nor_a_token_of_an_answer(
    exact: Model, pooling: Pooling
) -> None:
    requests = [embedding(text, pooling) for text in TEXTS]
    answers = [GenerationRequest(text, GREEDY, 40, ignore_eos=True) for text in TEXTS[:3]]
    alone = []
    for request in (*requests, *answers):
        engine = open_engine(exact)
        alone.append(generate(engine, [request])[0])
        engine.close()
    cramped = open_engine(exact, n_ctx=450)  # somebody has to step back
    together = generate(cramped, [*answers, *requests, *answers, *reversed(requests)])
    cramped.close()
    n = len(requests)
    for run, expected in zip(together[3 : 3 + n], alone, strict=False):
        assert np.array_equal(vector(run), vector(expected))
    for run, expected in zip(reversed(together[-n:]), alone[:n], strict=True):
        assert np.array_equal(vector(run), vector(expected))
    for run, expected in zip(together[:3], alone[n:], strict=True):
        assert run.tokens == expected.tokens


def test_the_last_token_needs_no_more_than_itself(exact: Model) -> None:
    steps: list[StepReport] = []
    engine = open_engine(exact, steps=steps)
    first = vector(generate(engine, [embedding(TEXTS[4], Pooling.LAST)])[0])
    steps.clear()
    (run,) = generate(engine, [embedding(TEXTS[4], Pooling.LAST)])
    assert sum(step.prefilled_tokens for step in steps) == 1
    assert run.finished.usage.cached_tokens == len(TEXTS[4]) - 1
    assert np.array_equal(vector(run), first)
    steps.clear()
    generate(engine, [embedding(TEXTS[4], Pooling.MEAN)])
    assert sum(step.prefilled_tokens for step in steps) == len(TEXTS[4])
    steps.clear()
    (answer,) = generate(engine, [GenerationRequest(TEXTS[4], GREEDY, max_tokens=1)])
    assert answer.finished.usage.cached_tokens == len(TEXTS[4]) - 1, "its cells serve an answer"
    engine.close()


def test_a_cancelled_embedding_frees_its_slot(exact: Model) -> None:
    engine = open_engine(exact)
    request = embedding(TEXTS[4], Pooling.MEAN)
    runs = submit(engine, [request] * 12)
    engine.cancel(run.id for run in runs)
    wait_until(lambda: engine.n_running == engine.n_waiting == 0)
    assert len(vector(generate(engine, [request])[0])) == exact.n_embd
    engine.close()


def test_hidden_states_that_are_no_numbers_are_no_embedding(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, control=("<|bad|>",), broken="<|bad|>")
    model = Model(path)
    engine = open_engine(model)
    bad = model.n_vocab - 1
    good, spoilt = generate(
        engine, [embedding((1, 2, 3), Pooling.MEAN), embedding((1, bad, 3), Pooling.MEAN)]
    )
    (failed,) = spoilt.events
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.NOT_NUMBERS
    assert np.isfinite(vector(good)).all()
    engine.close()
    model.close()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_tokens": 1}, "without an answer"),
        ({"max_tokens": None}, "without an answer"),
        ({"max_tokens": 0, "prompt_logprobs": 1}, "without log probabilities"),
        ({"max_tokens": 0, "pooling": Pooling.RANK}, "nothing to pool by rank"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    small: Engine, fields: dict[str, object], why: str
) -> None:
    asked = {"pooling": Pooling.MEAN} | fields
    with pytest.raises(InvalidRequestError, match=why):
        small.submit([GenerationRequest((1, 2), **asked)], lambda _: None)  # type: ignore[arg-type]


def test_put_together_it_is_a_vector(small: Engine) -> None:
    (run,) = generate(small, [embedding(TEXTS[1], Pooling.MEAN)])
    generated: Generated = run.generated
    assert generated.embedding is not None
    assert np.array_equal(generated.embedding, vector(run))
