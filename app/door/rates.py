"""How much a client may ask for in a minute, in requests and in tokens; OpenAI's headers for it."""

import math
from collections.abc import Mapping
from time import monotonic

from app.door.keys import Rates
from app.door.refusals import RefusedError

REQUESTS, TOKENS = "requests", "tokens"
"""What is counted, as OpenAI's errors and headers call it."""

_MINUTE = 60.0


class RateLimitedError(RefusedError):
    """A client has asked for more than its rate allows.

    Args:
        unit: of the limit, requests or tokens.
        per_minute: the limit.
        wait: seconds until the client is let in.
        headers: of the response, beside Retry-After.
    """

    def __init__(self, unit: str, per_minute: int, wait: float, headers: Mapping[str, str]) -> None:
        seconds = max(1, math.ceil(wait))
        super().__init__(
            429,
            f"rate limit reached: {per_minute:,} {unit} per minute; try again in {seconds} s",
            "rate_limit_exceeded",
            {"Retry-After": str(seconds), **headers},
        )
        self.unit = unit


class Bucket:
    """What is left of a rate. It refills steadily and holds a minute's worth (a token bucket).

    More than is left may be spent; it is owed then. Pure: times are given, in seconds of any clock.

    Args:
        per_minute: the rate.
        now: when it is full.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left, self._at = float(per_minute), now

    def left(self, now: float) -> float:
        """What may be spent; below 0: what is owed."""
        refilled = (now - self._at) * self.per_minute / _MINUTE
        return min(float(self.per_minute), self._left + refilled)

    def spend(self, amount: int, now: float) -> None:
        """Take out so much."""
        self._left, self._at = self.left(now) - amount, now

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until so much is left."""
        return max(0.0, (amount - self.left(now)) * _MINUTE / self.per_minute)


class Meter:
    """Counts what one client asks for; a request must find a request and a token left.

    How many tokens it will take nobody knows before. So prompts are counted when they are read,
    answers as they are written, and what is more than was left delays the next request.

    Args:
        rates: the limits.
    """

    def __init__(self, rates: Rates) -> None:
        now = monotonic()
        limits = {REQUESTS: rates.requests, TOKENS: rates.tokens}
        self._buckets = {
            unit: Bucket(limit, now) for unit, limit in limits.items() if limit is not None
        }

    def begin(self) -> None:
        """Count a request.

        Raises:
            RateLimitedError: it comes too early, and is not counted.
        """
        now = monotonic()
        waits = {unit: bucket.seconds_until(1, now) for unit, bucket in self._buckets.items()}
        unit = max(waits, key=waits.__getitem__, default=None)
        if unit is not None and waits[unit] > 0:
            per_minute = self._buckets[unit].per_minute
            raise RateLimitedError(unit, per_minute, waits[unit], self.headers())
        self._spend(REQUESTS, 1)

    def spend(self, tokens: int) -> None:
        """Count tokens of prompts or answers."""
        self._spend(TOKENS, tokens)

    def headers(self) -> dict[str, str]:
        """Limits, what is left of them and when all of it will be, in OpenAI's headers
        (https://platform.openai.com/docs/guides/rate-limits)."""
        now = monotonic()
        told = {}
        for unit, bucket in self._buckets.items():
            full = bucket.seconds_until(bucket.per_minute, now)
            told[f"x-ratelimit-limit-{unit}"] = str(bucket.per_minute)
            told[f"x-ratelimit-remaining-{unit}"] = str(max(0, math.floor(bucket.left(now))))
            told[f"x-ratelimit-reset-{unit}"] = duration(full)
        return told

    def _spend(self, unit: str, amount: int) -> None:
        if unit in self._buckets:
            self._buckets[unit].spend(amount, monotonic())


def duration(seconds: float) -> str:
    """A time as OpenAI writes it, which is Go's way: 6m0s, 1.5s, 20ms."""
    milliseconds = math.ceil(1000 * seconds)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
