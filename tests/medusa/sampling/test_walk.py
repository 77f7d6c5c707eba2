"""Whatever is guessed, each sampler chooses what it would have chosen without guesses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.sampling.params import Dry, SamplingParams, Stage
from medusa.sampling.sampler import Sampler
from medusa.speculation.tree import TokenTree
from medusa.speculation.verify import walk

N_VOCAB = 12
N_TOKENS = 40
PROMPT = [1, 2, 3, 1, 2]

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"temperature": 0.0},
    "greedy with penalties": {
        "temperature": 0.0, "repetition_penalty": 1.3, "frequency_penalty": 0.3,
        "presence_penalty": 0.2, "penalty_last_n": 7,
    },
    "greedy with dry": {"temperature": 0.0, "dry": Dry(1.0, allowed_length=1, breakers={4: ((),)})},
    "dry": {"dry": Dry(2.0, penalty_last_n=-1), "top_p": 0.9},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    "mirostat 1": {"mirostat": 1, "mirostat_tau": 2.0, "mirostat_eta": 0.5},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.5},
    "filters": {
        "top_k": 9, "typical_p": 0.9, "top_p": 0.95, "min_p": 0.02, "top_n_sigma": 2.0,
        "dynatemp_range": 0.5, "min_keep": 2,
    },
    "llama.cpp's order": {
        "stages": (Stage.PENALTIES, Stage.TOP_K, Stage.TYPICAL_P, Stage.XTC, Stage.TEMPERATURE),
        "typical_p": 0.9, "xtc_probability": 0.5, "repetition_penalty": 1.2, "temperature": 0.7,
    },
    "bans": {
        "bad_words": ((3,), (5, 6), (1, 2, 4)), "allowed_tokens": frozenset(range(10)),
        "min_tokens": 20, "logit_bias": {2: 1.0, 8: -np.inf},
    },
}  # fmt: skip


def logits_after(text: list[int]) -> np.ndarray:
    """A model that looks at three tokens."""
    seed = text[-1] + N_VOCAB * (text[-2] + N_VOCAB * text[-3])
    return np.random.default_rng(seed).normal(0, 2, N_VOCAB).astype(np.float32)


def sampler(settings: dict[str, Any]) -> Sampler:
    return Sampler(SamplingParams(seed=9, **settings), PROMPT, ends=[11])


def plain(settings: dict[str, Any]) -> list[int]:
    text, chooser = list(PROMPT), sampler(settings)
    for _ in range(N_TOKENS):
        text.append(chooser.sample(logits_after(text)))
    return text[len(PROMPT) :]


def _choose(chooser: Sampler, rows: list[np.ndarray], node: int) -> int:
    return chooser.sample(rows[node])


def guessed(settings: dict[str, Any], draw: Callable[..., Any], right: list[int]) -> list[int]:
    """The same through trees, in which what is right is often among the guesses."""
    text, chooser = list(PROMPT), sampler(settings)
    while len(text) < len(PROMPT) + N_TOKENS:
        tokens, parents, texts = [text[-1]], [-1], [list(text)]
        for _ in range(draw(st.integers(0, 6))):
            parent = draw(st.integers(0, len(tokens) - 1))
            above = texts[parent]
            place = len(above) - len(PROMPT)
            known = right[place] if place < len(right) else 0
            token = draw(st.sampled_from([known, known, draw(st.integers(0, N_VOCAB - 1))]))
            tokens.append(token)
            parents.append(parent)
            texts.append([*above, token])
        tree = TokenTree(tuple(tokens), tuple(parents))
        rows = [logits_after(each) for each in texts]
        for _, token in walk(tree, partial(_choose, chooser, rows)):
            text.append(token)
            if len(text) == len(PROMPT) + N_TOKENS:
                break
    return text[len(PROMPT) :]


@pytest.mark.parametrize("name", SETTINGS)
@given(data=st.data())
def test_a_walk_through_any_tree_chooses_as_plain_decoding_does(
    name: str, data: st.DataObject
) -> None:
    settings = SETTINGS[name]
    right = plain(settings)
    assert guessed(settings, data.draw, right) == right


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_change_what_is_chosen(name: str) -> None:
    if name not in ("plain", "greedy"):
        base = {"temperature": SETTINGS[name].get("temperature", 1.0)}
        assert plain(SETTINGS[name]) != plain(base)


def test_what_is_banned_is_never_chosen() -> None:
    text = plain(SETTINGS["bans"])
    assert not {3, 8, 10, 11} & set(text)
    for run in SETTINGS["bans"]["bad_words"]:
        places = range(len(text) - len(run) + 1)
        assert run not in [tuple(text[place : place + len(run)]) for place in places]


def test_the_text_does_not_end_before_its_time() -> None:
    wants_to_end = np.zeros(N_VOCAB, np.float32)
    wants_to_end[11] = 50
    chooser = Sampler(SamplingParams(seed=1, min_tokens=5), PROMPT, ends=[11])
    text = [chooser.sample(wants_to_end) for _ in range(6)]
    assert 11 not in text[:5]
    assert text[5] == 11


def test_a_coin_that_never_shows_heads_changes_no_draw() -> None:
    never = {"xtc_probability": 1e-300, "xtc_threshold": 0.05}
    assert plain(never) == plain({})
