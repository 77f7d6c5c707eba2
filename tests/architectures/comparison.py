"""Whether an answer of the engine is the reference's."""

import copy
from collections.abc import Sequence

import numpy as np

from medusa.engine.client import Generated
from medusa.engine.events import TokenLogprob
from medusa.llama.model import Model
from medusa.sampling.softmax import log_softmax
from tests.architectures.numerics import Tolerance
from tests.architectures.reference import Expected, make_sampler

_TRIES = 200


def assert_same(
    model: Model, expected: Sequence[Expected], actual: Sequence[Generated], tolerance: Tolerance
) -> None:
    """Compare answers to the same requests; the first difference says what it is about."""
    flipped = [
        _differs(model, want, have, tolerance) for want, have in zip(expected, actual, strict=True)
    ]
    most = 0 if tolerance.is_exact else 1 + tolerance.flips * len(flipped)
    assert sum(flipped) <= most, f"{sum(flipped)} of {len(flipped)} answers left the reference's"


def _differs(model: Model, expected: Expected, actual: Generated, tolerance: Tolerance) -> bool:
    """Whether a token differs, where it may; log probabilities are compared up to there."""
    request = expected.request
    if request.prompt_logprobs is not None:
        first, *others = actual.prompt_logprobs
        assert first is None
        assert len(others) == len(request.prompt) - 1
        for i, (entry, row) in enumerate(zip(others, expected.prompt_logits, strict=True)):
            assert entry is not None
            assert entry.token == request.prompt[i + 1]
            _assert_close(entry, row, tolerance, f"prompt token {i + 1} of {request}")
    place = _first_difference(expected.answer, actual.tokens)
    if request.logprobs is not None:
        assert len(actual.logprobs) == len(actual.tokens)
        for i, (entry, row) in enumerate(zip(actual.logprobs, expected.logits, strict=False)):
            if place is None or i < place:
                assert entry.token == expected.tokens[i]
                _assert_close(entry, row, tolerance, f"token {i} of {request}")
    if place is None:
        assert actual.text == expected.text
        assert actual.reason == expected.reason
        return False
    chosen = actual.tokens[place] if place < len(actual.tokens) else None
    assert _could_choose(model, expected, place, chosen, tolerance), (
        f"token {place} is {chosen}, not {expected.tokens[place]}: {request}; "
        f"{expected.tokens} expected, {actual.tokens} generated"
    )
    return True


def _first_difference(expected: Sequence[int], actual: Sequence[int]) -> int | None:
    if list(expected) == list(actual):
        return None
    pairs = zip(expected, actual, strict=False)
    shorter = min(len(expected), len(actual))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)


def _assert_close(entry: TokenLogprob, row: np.ndarray, tolerance: Tolerance, what: str) -> None:
    logprobs = log_softmax(row)
    best = np.sort(logprobs)[::-1]
    pairs = [(entry.token, entry.logprob), *entry.top]
    errors = [abs(value - float(logprobs[token])) for token, value in pairs]
    errors += [abs(value - float(best[rank])) for rank, (_, value) in enumerate(entry.top)]
    assert max(errors) <= tolerance.logprob, f"off by {max(errors):.2g} nats: {what}"


def _could_choose(
    model: Model, expected: Expected, place: int, token: int | None, tolerance: Tolerance
) -> bool:
    """Whether the reference's sampler takes `token` from logits within the tolerance.

    None stands for an end token.
    """
    if tolerance.is_exact or place >= len(expected.tokens):
        return False
    sampler = make_sampler(expected.request, model)
    for row in expected.logits[:place]:
        sampler.sample(row)
    row, noise = expected.logits[place], np.random.default_rng(0)
    wanted = model.eog_tokens if token is None else {token}
    return any(
        copy.deepcopy(sampler).sample(_moved(row, noise, tolerance.logprob)) in wanted
        for _ in range(_TRIES)
    )


def _moved(row: np.ndarray, noise: np.random.Generator, tolerance: float) -> np.ndarray:
    return row + noise.uniform(-tolerance, tolerance, len(row)).astype(np.float32)
