"""Which candidates are left, and at what temperature: pure functions from candidates to candidates.

What each does is what llama.cpp's sampler of the same name does (src/llama-sampler.cpp).
`min_keep` are candidates that are left in any case.
"""

import math

import numpy as np

from medusa.sampling.candidates import Candidates
from medusa.sampling.params import GREEDY_BELOW
from medusa.sampling.passes import block_sums, nucleus, reaching
from medusa.sampling.selecting import ascending, largest

_SMALLEST_LOG = -1e4
"""Stands for the logarithm of 0 where it is multiplied by 0."""


def temperature(candidates: Candidates, degrees: float) -> Candidates:
    """Divide logits; with 0, or as good as that, the likeliest token is left."""
    if degrees < GREEDY_BELOW:
        return candidates.only(np.array([candidates.logits.argmax()]))
    return candidates.at(degrees)


def dynamic_temperature(
    candidates: Candidates, degrees: float, spread: float, exponent: float
) -> Candidates:
    """A temperature in degrees ± spread, the higher the less the model knows.

    It rises with the entropy's share of the largest possible one, to the power of `exponent`.
    """
    if len(candidates) < 2:
        return candidates
    low, high = max(0.0, degrees - spread), degrees + spread
    share = _entropy(candidates) / math.log(len(candidates))
    return temperature(candidates, low + (high - low) * max(0.0, share) ** exponent)


def top_k(candidates: Candidates, count: int) -> Candidates:
    """The `count` likeliest."""
    if count >= len(candidates):
        return candidates
    return candidates.only(largest(candidates.logits, count))


def top_p(candidates: Candidates, share: float, min_keep: int) -> Candidates:
    """The likeliest that have so much of the probability together.

    Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    return _at_least(min_keep, candidates, nucleus(candidates.weighed, share))


def min_p(candidates: Candidates, share: float, min_keep: int) -> Candidates:
    """Those that have at least so much of the likeliest one's probability (Nguyen et al. 2024)."""
    weights = candidates.weights
    kept = reaching(weights, np.float32(share) * weights.max())
    return _at_least(min_keep, candidates, kept)


def typical_p(candidates: Candidates, share: float, min_keep: int) -> Candidates:
    """Those whose surprise is nearest to the entropy, which have more than a share together.

    Meister et al. 2022, "Locally typical sampling".
    """
    mass = candidates.weighed.total
    # Surprise is log(mass) - scaled, the entropy is log(mass) less the mean of scaled.
    mean = math.log(mass) - _entropy(candidates)
    order = ascending(np.abs(candidates.scaled - np.float32(mean)))
    running = np.cumsum(candidates.weights[order], dtype=np.float64)
    count = int(np.searchsorted(running, share * mass, side="right")) + 1
    return candidates.only(np.sort(order[: max(count, min_keep)]))


def top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Those no further below the likeliest than n standard deviations of the logits.

    Tang et al. 2024, "Top-n-sigma: not all logits are you need".
    """
    logits = candidates.logits
    possible = logits if logits.min() > -np.inf else logits[logits > -np.inf]
    spread = float(possible.std(dtype=np.float64))
    return candidates.only(reaching(logits, logits.max() - np.float32(n * spread)))


def without_top_choices(candidates: Candidates, threshold: float, min_keep: int) -> Candidates:
    """XTC ("exclude top choices"; p-e-w 2024, text-generation-webui #6335).

    Of those with a probability of at least the threshold all but the least likely go.
    """
    weights = candidates.weights
    top = reaching(weights, threshold * candidates.weighed.total)
    excess = len(top) - 1
    if excess < 1 or len(candidates) - excess < min_keep:
        return candidates
    # Of equally unlikely ones the last stays, as it is the last of them in sorted order.
    last = top[len(top) - 1 - int(weights[top][::-1].argmin())]
    return candidates.only(np.delete(np.arange(len(candidates)), top[top != last]))


def _at_least(count: int, candidates: Candidates, kept: np.ndarray) -> Candidates:
    """What is kept, ascending indices, or so many of the likeliest if that is too little."""
    return candidates.only(kept if len(kept) >= count else largest(candidates.logits, count))


def _entropy(candidates: Candidates) -> float:
    """In nats."""
    mass = candidates.weighed.total
    logs = np.maximum(candidates.scaled, np.float32(_SMALLEST_LOG))
    return math.log(mass) - float(block_sums(candidates.weights * logs).sum()) / mass
