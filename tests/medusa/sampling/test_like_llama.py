"""Ours against llama.cpp's own samplers, on random rows: the same tokens, as likely."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.llama_samplers import LlamaChain
from medusa.llama.model import Model
from medusa.sampling.breakers import DEFAULT_BREAKERS, breakers_of
from medusa.sampling.candidates import Candidates
from medusa.sampling.chain import filters_of
from medusa.sampling.mirostat import Mirostat
from medusa.sampling.params import Dry, SamplingParams, Stage
from medusa.sampling.sampler import Sampler

N_VOCAB = 1000
LLAMA_ORDER = (
    Stage.PENALTIES, Stage.DRY, Stage.TOP_N_SIGMA, Stage.TOP_K, Stage.TYPICAL_P, Stage.TOP_P,
    Stage.MIN_P, Stage.XTC, Stage.TEMPERATURE,
)  # fmt: skip
ALWAYS = {"xtc_probability": 1.0, "xtc_threshold": 0.02}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"temperature": 5.0},
    {"top_k": 40},
    {"top_k": 2000},
    {"top_p": 0.9},
    {"top_p": 0.0},
    {"top_p": 0.1, "min_keep": 7},
    {"min_p": 0.05},
    {"min_p": 0.9, "min_keep": 7},
    {"typical_p": 0.9},
    {"typical_p": 0.2},
    {"typical_p": 0.1, "min_keep": 7},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 2.5, "temperature": 1.7},
    ALWAYS,
    ALWAYS | {"xtc_threshold": 0.1},
    ALWAYS | {"min_keep": 998},
    {"temperature": 1.0, "dynatemp_range": 0.5},
    {"temperature": 0.8, "dynatemp_range": 2.0, "dynatemp_exponent": 3.0},
    {"temperature": 0.0, "dynatemp_range": 1.0},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
    # top_n_sigma with neither: where llama.cpp leaves -inf, typical_p becomes NaN, and what it has
    # cut still counts for dynatemp_range.
    {"top_k": 60, "typical_p": 0.9, **ALWAYS, "dynatemp_range": 0.4},
    {"top_k": 60, "top_n_sigma": 2.0, "top_p": 0.9, "min_p": 0.02, **ALWAYS},
]


def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    flat, steep = rng.normal(0, 1, N_VOCAB), rng.normal(0, 4, N_VOCAB)
    masked = steep.copy()
    masked[rng.integers(0, N_VOCAB, 300)] = -np.inf
    return [row.astype(np.float32) for row in (flat, steep, masked)]


def shares(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[N_VOCAB] probabilities."""
    found = np.zeros(N_VOCAB)
    likely = np.exp(logits.astype(np.float64) - float(logits.max()))
    found[ids] = likely / likely.sum()
    return found


def ours(params: SamplingParams, row: np.ndarray) -> np.ndarray:
    candidates = Candidates.of(row)
    for step in filters_of(params, np.random.default_rng(0)):
        candidates = step(candidates)
    ids = [candidates.token(index) for index in range(len(candidates))]
    found = np.zeros(N_VOCAB)
    found[ids] = candidates.weights / candidates.weights.sum(dtype=np.float64)
    return found


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("first", [None, Stage.TEMPERATURE], ids=["last", "first"])
def test_filters_do_what_llama_cpps_do(settings: dict[str, Any], first: Stage | None) -> None:
    order = LLAMA_ORDER if first is None else tuple(Stage)
    params = SamplingParams(stages=order, seed=1, **settings)
    for row in rows()[: 2 if params.typical_p < 1 else 3]:  # there -inf becomes NaN
        with LlamaChain(params, N_VOCAB) as chain:
            theirs = shares(*chain.apply(row))
        np.testing.assert_allclose(ours(params, row), theirs, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("last_n", [3, 16, 64, 500])
@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"presence_penalty": 0.7},
        {"frequency_penalty": 0.2, "presence_penalty": -0.4, "repetition_penalty": 0.8},
    ],
    ids=str,
)
def test_penalties_are_llama_cpps(last_n: int, settings: dict[str, Any]) -> None:
    params = SamplingParams(seed=2, penalty_last_n=last_n, **settings)
    sampler = Sampler(params, [])
    accepted: list[int] = []
    for row in rows() * 30:
        row[20:] = -5.0  # so that tokens come again
        with LlamaChain(replace(params, stages=(Stage.PENALTIES,)), N_VOCAB, accepted) as chain:
            ids, logits = chain.apply(row)
            np.testing.assert_allclose(sampler._adjust(row)[ids], logits, rtol=1e-5, atol=1e-5)
        accepted.append(sampler.sample(row))


@pytest.mark.parametrize(
    "dry",
    [
        Dry(0.8),
        Dry(0.8, allowed_length=1, penalty_last_n=16),
        Dry(1.5, base=1.1, allowed_length=0),
        Dry(0.8, allowed_length=3, penalty_last_n=400),
        Dry(0.5, base=4.0, allowed_length=2, penalty_last_n=400),
        Dry(0.5, base=1.0, penalty_last_n=400),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_tokens", [2, 4, 30])
def test_dry_is_llama_cpps(dry: Dry, n_tokens: int) -> None:
    rng = np.random.default_rng(n_tokens)
    for length in (1, 2, 3, 10, 100, 300):
        text = rng.integers(0, n_tokens, length).tolist()
        params = SamplingParams(dry=dry)
        row = rows()[0]
        with LlamaChain(replace(params, stages=(Stage.DRY,)), N_VOCAB, text) as chain:
            ids, logits = chain.apply(row)
            np.testing.assert_allclose(Sampler(params, text)._adjust(row)[ids], logits, rtol=1e-4)


def test_dry_breaks_off_where_llama_cpp_does(model: Model) -> None:
    texts = [*DEFAULT_BREAKERS, "\n\n", "ing the", "<|im_end|>", "é"]
    breakers = breakers_of(
        texts, model.pieces, lambda text: model.tokenize(text, add_special=False)
    )
    dry = Dry(0.8, allowed_length=1, penalty_last_n=400, breakers=breakers)
    params = SamplingParams(dry=dry)
    row = np.zeros(model.n_vocab, np.float32)
    for text in (
        "going the way of going the way of going",
        "one: two three one: two three one: two",
        'He said "yes, yes, yes" and "yes, yes',
        "a\n\nb c d a\n\nb c d a\n\nb c",
        "café café café café",
        "no break at all no break at all no break",
    ):
        tokens = model.tokenize(text, add_special=False)
        for end in range(1, len(tokens) + 1):
            with LlamaChain(
                replace(params, stages=(Stage.DRY,)),
                model.n_vocab,
                tokens[:end],
                model.vocab_handle,
                texts,
            ) as chain:
                ids, logits = chain.apply(row)
                found = Sampler(params, tokens[:end])._adjust(row)
                np.testing.assert_allclose(found[ids], logits, rtol=1e-4)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [1.0, 5.0, 9.0])
def test_mirostat_cuts_where_its_paper_says(version: int, tau: float) -> None:
    """llama.cpp's cut and draw are one; so the cut is compared by its formula, in doubles."""
    for row in rows():
        mirostat = Mirostat(version, tau, 0.1)
        left = mirostat.cut(Candidates.of(row))
        probs = np.sort(shares(np.arange(N_VOCAB), row))[::-1]
        if version == 2:
            expected = max(1, int(np.count_nonzero(-np.log2(np.maximum(probs, 1e-300)) <= 2 * tau)))
        else:
            logs = np.log(probs[:100])
            steps = np.log(np.arange(2, 101) / np.arange(1, 100))
            slope = np.sum(steps * (logs[:-1] - logs[1:])) / np.sum(steps**2)
            epsilon = slope - 1
            k = (epsilon * 2 ** (2 * tau) / (1 - N_VOCAB**-epsilon)) ** (1 / slope)
            expected = min(max(1, int(k)), N_VOCAB)
        assert len(left) == expected
        index = int(np.argmax(left.weights))
        share = float(left.weights[index] / left.weights.sum(dtype=np.float64))
        mirostat.observe(left.probability(left.token(index)))
        assert mirostat.limit == pytest.approx(2 * tau - 0.1 * (-np.log2(share) - tau), rel=1e-4)
