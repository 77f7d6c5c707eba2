"""DRY: a token that goes on with a repetition becomes the less likely, the longer it is.

The effect is that of llama.cpp's sampler of this name (src/llama-sampler.cpp).
"""

import math

import numpy as np

from medusa.sampling.params import Breakers, Dry

_MAX_LOG = 88.7  # of a float32
_FLAT = 1.000001  # a base up to which penalties are as good as constant
_LONGEST_TAIL = 20  # tokens of a breaker after the first that are looked at


def is_wanted(dry: Dry) -> bool:
    """Whether settings switch it on."""
    return dry.multiplier != 0.0 and dry.penalty_last_n != 0


def penalties(text: np.ndarray, dry: Dry) -> tuple[np.ndarray, np.ndarray]:
    """What tokens lose that go on with a repetition.

    Args:
        text: [n] int32, the tokens to look at.
        dry: the settings.

    Returns:
        Token ids [m] and what to subtract from their logits [m] float32.
    """
    steepest = int(_MAX_LOG / math.log(dry.base)) if dry.base > _FLAT else 0
    longest = dry.allowed_length + steepest
    longest = min(longest, _since_break(text[-(longest + _LONGEST_TAIL + 1) :], dry.breakers))
    if len(text) <= dry.allowed_length or longest < dry.allowed_length:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    lengths = repetitions(text, longest)
    ends = np.flatnonzero(lengths >= dry.allowed_length)
    tokens, places = np.unique(text[ends + 1], return_inverse=True)
    excess = np.zeros(len(tokens))
    np.maximum.at(excess, places, lengths[ends] - dry.allowed_length)
    taken = np.minimum(dry.multiplier * np.power(dry.base, excess), np.finfo(np.float32).max)
    breaks = [() in dry.breakers.get(token, ()) for token in tokens.tolist()]
    taken[np.array(breaks, bool)] = 0.0
    return tokens, taken.astype(np.float32)


def repetitions(text: np.ndarray, longest: int) -> np.ndarray:
    """How much of the end of a text also ends at each place before.

    Args:
        text: [n] int32.
        longest: more counts as that much.

    Returns:
        [n - 1] tokens; 0 where not even the last token is the same.
    """
    lengths = np.zeros(len(text) - 1, np.int64)
    if longest == 0:
        return lengths
    ends = np.flatnonzero(text[:-1] == text[-1])
    lengths[ends] = 1
    for length in range(1, longest):
        ends = ends[ends >= length]
        ends = ends[text[ends - length] == text[-1 - length]]
        if len(ends) == 0:
            break
        lengths[ends] = length + 1
    return lengths


def _since_break(text: np.ndarray, breakers: Breakers) -> int:
    """Tokens after the last place where a text breaks repetitions off; all of them without any."""
    newest: list[int] = text.tolist()
    n = len(newest)
    for head in reversed(range(n)):
        after = newest[head + 1 :]
        complete = [
            len(tail)
            for tail in breakers.get(newest[head], ())
            if tuple(after[: len(tail)]) == tail
        ]
        if complete:
            return len(after) - max(complete)
    return n
