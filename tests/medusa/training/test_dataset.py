import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.training.dataset import SEGMENT, Dataset, Window, frequent_tokens, load_datasets
from medusa.training.shards import Answer, ShardStore

N_EMBD = 4


def answer(prompt: int, tokens: Sequence[int], first_state: int = 0) -> Answer:
    """Hidden states that hold their own number."""
    states = np.arange(first_state, first_state + len(tokens))
    hidden = np.repeat(states[:, None], N_EMBD, axis=1).astype(np.float16)
    return Answer(prompt, prompt, np.array(tokens, np.int32), hidden)


def dataset(lengths: Sequence[int]) -> Dataset:
    """Answers whose tokens and hidden states count upwards over all of them."""
    starts = np.cumsum([0, *lengths]).tolist()
    return Dataset.join(
        [
            answer(1, range(100 + start, 100 + start + length), start)
            for start, length in zip(starts, lengths, strict=False)
        ]
    )


def here_of(window: Window) -> np.ndarray:
    """The position of every column of a window of `dataset`."""
    return window.hidden[:, 0].numpy().astype(int)


def test_targets_are_the_tokens_after_the_next(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.write([answer(0, [5, 6, 7, 8])])
    store.write([answer(1, [1, 2, 3, 4])])
    trained, held_out = load_datasets(store)
    for data, tokens in ((trained, [1, 2, 3, 4]), (held_out, [5, 6, 7, 8])):
        assert data.tokens.tolist() == tokens
        window = data.window(np.array([0]), n_heads=2)
        assert window.targets[:, :2].T.tolist() == [tokens[1:3], tokens[2:4]]
        assert window.valid[:, :4].tolist() == [
            [True, True, True, False],
            [True, True, False, False],
        ]


def test_targets_end_with_their_answer() -> None:
    window = dataset([3, 40]).window(np.array([0]), n_heads=3)
    assert window.valid[:, :4].tolist() == [
        [True, True, False, True],
        [True, False, False, True],
        [False, False, False, True],
    ]


def test_the_last_positions_of_the_data_have_no_targets() -> None:
    window = dataset([SEGMENT + 1]).window(np.array([1]), n_heads=2)
    assert window.valid.sum(dim=1).tolist() == [SEGMENT - 1, SEGMENT - 2]
    assert not window.valid[:, -1].any()


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    n_heads=st.integers(1, 5),
    data=st.data(),
)
def test_every_valid_target_is_the_token_that_many_places_ahead(
    lengths: list[int], n_heads: int, data: st.DataObject
) -> None:
    whole = dataset(lengths)
    starts = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4))
    window = whole.window(np.array(starts), n_heads)
    expected = np.minimum(np.array(starts)[:, None] + np.arange(SEGMENT), len(whole) - 1).ravel()
    np.testing.assert_array_equal(here_of(window), expected)
    assert window.tokens.shape == window.targets.shape == window.valid.shape
    for head in range(n_heads):
        for column, here in enumerate(here_of(window)):
            valid = bool(window.valid[head, column])
            assert valid == (here + head + 1 < whole.ends[here])
            if valid:
                assert window.tokens[head, column] == 100 + here + head
                assert window.targets[head, column] == 100 + here + head + 1
                source = window.hidden_ahead[window.ahead[head, column], 0]
                assert source == here + head + 1, "the state that wrote the target"


@pytest.mark.parametrize("length", [SEGMENT, 3 * SEGMENT, 100 * SEGMENT + 7])
@pytest.mark.parametrize("batch_size", [1, 2 * SEGMENT, 10_000])
def test_a_pass_sees_every_position_at_most_once(length: int, batch_size: int) -> None:
    data = dataset([length])
    batches = list(data.shuffled_batches(batch_size, np.random.default_rng(0)))
    assert len(batches) == data.n_batches(batch_size)
    assert max(map(len, batches)) <= max(1, batch_size // SEGMENT)
    starts = sorted(np.concatenate(batches).tolist())
    assert len(starts) == length // SEGMENT
    assert all(b - a >= SEGMENT for a, b in itertools.pairwise(starts))
    assert starts[0] >= 0
    assert starts[-1] + SEGMENT <= length


def test_less_than_a_segment_is_learnt_from_as_a_whole() -> None:
    for seed in range(5):
        (starts,) = dataset([5]).shuffled_batches(64, np.random.default_rng(seed))
        assert starts.tolist() == [0]


def test_passes_differ_in_their_order() -> None:
    data = dataset([50 * SEGMENT])
    first, second = (
        np.concatenate(list(data.shuffled_batches(64, np.random.default_rng(seed)))).tolist()
        for seed in (0, 1)
    )
    assert first != second
    assert sorted(first) == sorted(second)


def test_frequent_tokens() -> None:
    assert frequent_tokens(np.array([9, 9, 3, 3, 9, 1, 3]), 2, 10).tolist() == [3, 9]
    assert frequent_tokens(np.array([2]), 3, 4).tolist() == [0, 1, 2]
