from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.engine.config import EngineConfig
from medusa.engine.memory import MemoryRules, guarded_length
from medusa.errors import ModelLoadError
from medusa.llama.capabilities import Capabilities, Memory
from tests.medusa.capabilities import LLAMA

GEMMA = replace(LLAMA, architecture="gemma3", memory=Memory.WINDOWED, n_swa=32)
MAMBA = replace(LLAMA, architecture="mamba", memory=Memory.RECURRENT)
JAMBA = replace(LLAMA, architecture="jamba", memory=Memory.HYBRID)
EIGHT = EngineConfig(n_slots=8, n_ctx=4096)


def rules(model: Capabilities, config: EngineConfig = EIGHT) -> MemoryRules:
    return MemoryRules.of(model, config.decided(8192, model))


@given(length=st.integers(0, 200), window=st.integers(1, 50), position=st.integers(0, 200))
def test_every_cell_that_may_be_given_away_is_guarded(
    length: int, window: int, position: int
) -> None:
    """The next token of a text stands at the position `length`."""
    slid = length - position >= window
    in_earlier_chunk = position < length // window * window
    if slid or in_earlier_chunk:
        assert position < guarded_length(length, window)
    assert guarded_length(length, window) <= length


def test_plain_attention_branches_and_shares() -> None:
    assert rules(LLAMA) == MemoryRules(ids=16, n_cells=4096)


def test_full_windows_do_what_plain_attention_does() -> None:
    expected = MemoryRules(ids=16, n_cells=4096, window=32, is_guarded=True)
    assert rules(GEMMA) == expected
    assert rules(GEMMA, replace(EIGHT, draft_nodes=0)) == replace(expected, ids=2)


def test_short_windows_have_one_sequence_id() -> None:
    short = replace(EIGHT, swa_full=False)
    assert rules(GEMMA, short) == MemoryRules(ids=1, n_cells=4096, window=32, can_share=False)
    assert rules(LLAMA, short) == rules(LLAMA)


def test_states_are_as_many_as_slots() -> None:
    assert rules(JAMBA) == MemoryRules(ids=1, n_cells=4096, can_truncate=False)
    assert rules(MAMBA) == MemoryRules(ids=1, n_cells=8 * 4096, can_truncate=False)


def test_snapshots_are_kept_for_drafts_only() -> None:
    qwen = replace(JAMBA, architecture="qwen35")
    assert rules(qwen) == replace(rules(JAMBA), rollback=3)
    assert rules(qwen).context_params(EIGHT.decided(8192, qwen)).n_rs_seq == 3
    assert rules(qwen, replace(EIGHT, draft_nodes=2)).rollback == 2
    assert rules(qwen, replace(EIGHT, draft_nodes=0)).rollback == 0


def test_too_many_slots_for_guards_are_refused() -> None:
    config = EngineConfig(n_slots=200, n_ctx=4096, draft_nodes=1)
    assert rules(LLAMA, config).ids == 1
    with pytest.raises(ModelLoadError, match="128 slots at most, not 200"):
        rules(GEMMA, config)


@pytest.mark.parametrize(
    ("model", "common", "cached", "first", "usable"),
    [
        (LLAMA, 40, 90, 0, 40),
        (GEMMA, 40, 90, 0, 40),
        (GEMMA, 40, 90, 8, 40),  # position 40 sees 9 to 39
        (GEMMA, 40, 90, 9, 0),
        (GEMMA, 20, 90, 1, 0),
        (MAMBA, 40, 40, 0, 40),
        (MAMBA, 40, 41, 0, 0),
        (JAMBA, 0, 0, 0, 0),
    ],
)
def test_usable_prefixes(
    model: Capabilities, common: int, cached: int, first: int, usable: int
) -> None:
    assert rules(model).usable_prefix(common, cached, first) == usable
