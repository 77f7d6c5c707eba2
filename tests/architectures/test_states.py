"""Models with a state for each sequence: what llama.cpp does with batches of several."""

from collections.abc import Iterator

import numpy as np
import pytest

from medusa.engine.client import generate
from medusa.engine.requests import GenerationRequest
from medusa.errors import DecodeError, InvalidRequestError
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.params import ContextParams
from medusa.sampling.params import SamplingParams
from tests.architectures.conftest import Subject, Subjects
from tests.architectures.models import RECURRENT_MODELS
from tests.architectures.test_matrix import running

TEXTS = {3: range(5, 12), 0: range(40, 41), 2: range(60, 83), 1: range(100, 102)}


@pytest.fixture(params=RECURRENT_MODELS)
def subject(subject_of: Subjects, request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


@pytest.fixture
def context(subject: Subject) -> Iterator[Context]:
    params = ContextParams(
        n_ctx=256,
        n_seq_max=4,
        n_batch=64,
        n_threads=1,
        flash_attention=subject.numerics.flash_attention,
        cache_type=subject.numerics.cache_type,
    )
    context = Context(subject.model, params)
    yield context
    context.close()


def alone(context: Context, seq: int, *, hidden: bool) -> np.ndarray:
    """Logits, or hidden states, of one text by itself."""
    batch = Batch(64, 1)
    context.clear()
    batch.add_run(TEXTS[seq], 0, [seq], output=True)
    outputs = context.decode(batch, hidden=hidden)
    rows = outputs.hidden if hidden else outputs.logits
    assert rows is not None
    return rows.copy()


@pytest.mark.parametrize("hidden", [False, True])
def test_rows_come_back_in_the_batchs_order(
    context: Context, subject: Subject, hidden: bool
) -> None:
    """llama.cpp computes texts of unequal length in pieces of equal length."""
    expected = {seq: alone(context, seq, hidden=hidden) for seq in TEXTS}
    context.clear()
    batch = Batch(64, 1)
    rows = {seq: batch.add_run(text, 0, [seq], output=True) for seq, text in TEXTS.items()}
    outputs = context.decode(batch, hidden=hidden)
    together = outputs.hidden if hidden else outputs.logits
    assert together is not None
    assert outputs.logits.any() == (not hidden or subject.model.capabilities.gives_hidden_states)
    assert (outputs.hidden is None) == (not hidden)
    for seq, row in rows.items():
        np.testing.assert_allclose(
            together[row : row + len(TEXTS[seq])],
            expected[seq],
            rtol=0,
            atol=subject.numerics.tolerance.logprob,
        )


def test_a_copied_state_goes_its_own_way(context: Context, subject: Subject) -> None:
    tolerance = subject.numerics.tolerance.logprob
    expected = alone(context, 2, hidden=False)
    text = list(TEXTS[2])
    context.clear()
    batch = Batch(64, 1)
    batch.add_run(text[:10], 0, [2], output=False)
    context.prefill(batch)
    context.copy_sequence(2, 0, 0, 10)
    batch.clear()
    batch.add_run(text[10:], 10, [2], output=True)  # both go on in one batch, one differently
    batch.add_run([7, 8, 9], 10, [0], output=True)
    rows = context.decode(batch).logits[: len(text) - 10]
    np.testing.assert_allclose(rows, expected[10:], rtol=0, atol=tolerance)
    context.remove_sequence(2, 0)
    context.copy_sequence(0, 2, 0, 13)
    batch.clear()
    batch.add(50, 13, [0], output=True)
    batch.add(50, 13, [2], output=True)
    one, other = context.decode(batch).logits
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def test_a_state_cannot_go_back(context: Context) -> None:
    alone(context, 2, hidden=False)
    with pytest.raises(DecodeError, match="partial removal"):
        context.remove_sequence(2, 5)
    context.remove_sequence(2, 0)


def test_a_request_that_records_hidden_states_says_the_same(subject: Subject) -> None:
    def requests(*, record: bool) -> list[GenerationRequest]:
        return [
            GenerationRequest(
                tuple(text),
                SamplingParams(temperature=0),
                max_tokens=8,
                ignore_eos=True,
                record_hidden=record and seq != 1,
            )
            for seq, text in TEXTS.items()
        ]

    with running(subject) as engine:
        plain = generate(engine, requests(record=False))
        if not subject.model.capabilities.gives_hidden_states:
            with pytest.raises(InvalidRequestError, match="no hidden states"):
                generate(engine, requests(record=True))
            return
        recorded = generate(engine, requests(record=True))
    assert [answer.tokens for answer in recorded] == [answer.tokens for answer in plain]
    assert [len(answer.hidden) > 0 for answer in recorded] == [seq != 1 for seq in TEXTS]
