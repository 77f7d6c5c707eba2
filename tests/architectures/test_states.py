"""Models with a state for each sequence: what llama.cpp does with batches of several."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.errors import DecodeError, InvalidRequestError
from medusa.llama import runtime
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.params import ContextParams
from medusa.sampling.params import SamplingParams
from medusa.speculation.cost import FixedCost
from medusa.speculation.drafter import Drafter
from tests.architectures.conftest import Subject, Subjects
from tests.architectures.models import RECURRENT_MODELS
from tests.architectures.oracle import Oracle
from tests.architectures.reference import Expected
from tests.architectures.requests import random_request, random_requests, random_tokens
from tests.architectures.test_matrix import random_heads, running
from tests.architectures.test_windows import answers

ROLLING_BACK = ["lfm2", "nemotron-h", "qwen35"]
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


def dialogues(subject: Subject, dice: random.Random, n_slots: int) -> list[Expected]:
    """As many dialogues as slots, each of which goes on from all that was said, or begins anew."""
    turns: list[Expected] = []
    while len(turns) < 40:
        text: list[int] = []
        if len(turns) >= n_slots and dice.random() < 0.6:
            before = turns[-n_slots]
            text = [*before.request.prompt, *before.answer][:120]
        text += random_tokens(dice, dice.randint(5, 20))
        turns.append(subject.evaluate(random_request(dice, text)))
    return turns


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


def test_what_can_roll_back_is_known(subject: Subject) -> None:
    """llama.cpp keeps no snapshots where it knows of no way to use them."""
    llama_cpp = runtime.load().llama_cpp
    params = llama_cpp.llama_context_default_params()
    params.n_rs_seq = 2
    handle = llama_cpp.llama_init_from_model(subject.model.handle, params)
    kept = llama_cpp.llama_n_rs_seq(handle)
    llama_cpp.llama_free(handle)
    assert subject.model.capabilities.can_roll_back == (kept == 2)


@pytest.mark.parametrize("name", ROLLING_BACK)
@pytest.mark.parametrize("n_slots", [1, 3])
def test_drafts_are_taken_back(
    subject_of: Subjects, name: str, n_slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, dice = subject_of(name), random.Random(n_slots)
    expected = dialogues(subject, dice, n_slots)
    drafter = Drafter([Oracle(expected, dice)], FixedCost(), max_nodes=8)
    monkeypatch.setattr(Drafter, "create", lambda *_: drafter)
    with running(subject, n_slots=n_slots, draft_nodes=8) as engine:
        generated = answers(engine, expected, n_slots)
    subject.compare(expected, generated)
    usages = [answer.usage for answer in generated if answer.usage]
    least = len(usages) if n_slots == 1 else 1
    assert sum(usage.accepted_drafts for usage in usages) >= least
    assert sum(usage.rejected_drafts for usage in usages) >= least
    assert sum(usage.cached_tokens for usage in usages) > 0


@pytest.mark.parametrize("name", ROLLING_BACK)
@pytest.mark.parametrize("heads", [False, True])
def test_drafts_in_a_crowd(
    subject_of: Subjects, name: str, heads: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With heads, that is hidden states, llama.cpp computes one sequence after the other."""
    subject, dice = subject_of(name), random.Random(3)
    if heads and not subject.model.capabilities.gives_hidden_states:
        pytest.skip("no heads")
    expected = [subject.evaluate(request) for request in random_requests(dice, 60)]
    drafter = Drafter([Oracle(expected, dice)], FixedCost(), max_nodes=12)
    monkeypatch.setattr(Drafter, "create", lambda *_: drafter)
    loaded = random_heads(subject.model, tmp_path / "heads.gguf") if heads else None
    with running(subject, loaded, draft_nodes=12) as engine:
        subject.compare(expected, answers(engine, expected, len(expected)))


@pytest.mark.parametrize("name", ["mamba", *ROLLING_BACK])
def test_engines_start_with_their_own_measurements(subject_of: Subjects, name: str) -> None:
    subject = subject_of(name)
    config = EngineConfig(n_slots=2, n_threads=1, **subject.numerics.engine_options)
    engine = Engine(subject.model, config=config)
    text = [7, 8, 9, 10, 7, 8, 9] * 3
    (answer,) = generate(engine, [GenerationRequest(tuple(text), max_tokens=20, ignore_eos=True)])
    engine.close()
    assert len(answer.tokens) == 20
    assert (engine.config.draft_nodes > 0) == (name in ROLLING_BACK)


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
