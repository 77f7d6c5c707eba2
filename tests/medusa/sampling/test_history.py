from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.sampling.bans import Bans
from medusa.sampling.breakers import breakers_of
from medusa.sampling.constraints import NothingAllowedError
from medusa.sampling.dry import repetitions
from medusa.sampling.history import History, TokenCounts
from medusa.sampling.params import SamplingParams
from medusa.sampling.sampler import Sampler

texts = st.lists(st.integers(0, 5), max_size=600)


@given(prompt=texts, generated=texts, count=st.integers(-1, 700))
def test_a_history_is_the_prompt_and_what_came(
    prompt: list[int], generated: list[int], count: int
) -> None:
    history = History(prompt)
    for token in generated:
        history.append(token)
    text = prompt + generated
    assert history.tokens.tolist() == text
    assert history.generated.tolist() == generated
    newest = text if count < 0 else text[max(0, len(text) - count) :]
    assert history.newest(count).tolist() == newest


@given(text=texts, window=st.integers(1, 20), start=st.integers(0, 20))
def test_counts_follow_a_window(text: list[int], window: int, start: int) -> None:
    begun = text[:start][-window:]
    counts = TokenCounts(np.array(begun, np.int32))
    inside = list(begun)
    for token in text[start:]:
        counts.add(token)
        inside.append(token)
        if len(inside) > window:
            counts.remove(inside.pop(0))
        found = dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True))
        assert found == Counter(inside)


@given(text=st.lists(st.integers(0, 2), min_size=1, max_size=40), longest=st.integers(0, 9))
def test_repetitions_are_common_endings(text: list[int], longest: int) -> None:
    expected = []
    for end in range(1, len(text)):
        length = 0
        while length < min(end, longest) and text[end - 1 - length] == text[-1 - length]:
            length += 1
        expected.append(length)
    assert repetitions(np.array(text, np.int32), longest).tolist() == expected


def test_breakers_are_the_tokens_that_spell_them() -> None:
    pieces = [b"a", b"ab", b"b", b"xab", b"c", b"ca", "é".encode()]

    def tokenize(text: str) -> list[int]:
        return [pieces.index(character.encode()) for character in text]

    assert breakers_of(["ab"], pieces, tokenize) == {
        0: ((2,),), 1: ((),), 3: ((),), 5: ((2,),),
    }  # fmt: skip
    assert breakers_of(["é"], pieces, tokenize) == {6: ((),)}


def test_nothing_that_may_come_is_an_error_of_its_own() -> None:
    params = SamplingParams(allowed_tokens=frozenset({1}), logit_bias={1: -np.inf})
    with pytest.raises(NothingAllowedError):
        Sampler(params, []).sample(np.zeros(4, np.float32))


def test_settings_without_bans_ban_nothing() -> None:
    history = History([])
    assert not Bans(SamplingParams(), history, ends=[3]).are_any
    assert Bans(SamplingParams(min_tokens=1), history, ends=[3]).are_any
    assert Bans(SamplingParams(), history, forbidden=[3]).are_any
