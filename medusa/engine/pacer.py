"""How much of the prompts fits into a step without holding up those who are decoding."""

from dataclasses import dataclass


@dataclass
class _Speed:
    """Tokens a second, learnt from what was run (exponentially weighted)."""

    value: float

    def observe(self, tokens: int, seconds: float) -> None:
        self.value += 0.3 * (tokens / seconds - self.value)


class PrefillPacer:
    """Bounds how long prompts may keep running requests waiting in a step.

    Tokens whose logits are wanted take longer than others, so their speed is learnt apart.

    Args:
        max_stall: seconds that the prompts of one step may take while others decode.
        largest: prompt tokens of a step at most.
        largest_scored: the same for tokens whose logits are wanted.
        smallest: tokens that are worth a piece, however slow.
        tokens_per_second: a first guess of the speed.
    """

    def __init__(
        self,
        max_stall: float,
        largest: int,
        largest_scored: int = 64,
        smallest: int = 8,
        tokens_per_second: float = 250.0,
    ) -> None:
        self._max_stall = max_stall
        self._largest = {False: largest, True: min(largest, largest_scored)}
        self._smallest = smallest
        self._speed = {False: _Speed(tokens_per_second), True: _Speed(tokens_per_second / 2)}

    def budget(self, *, others_decode: bool, scored: bool = False, part: float = 1.0) -> int:
        """Prompt tokens for this step.

        Args:
            others_decode: whether anybody would be held up.
            scored: with logits or without.
            part: of the time that may be spent.
        """
        largest = self._largest[scored]
        if not others_decode:
            return largest
        affordable = int(self._speed[scored].value * self._max_stall * part)
        return min(largest, max(self._smallest, affordable))

    def observe(self, tokens: int, seconds: float, *, scored: bool = False) -> None:
        """Learn from prompt tokens that were run; too few say little."""
        if tokens >= self._smallest and seconds > 0:
            self._speed[scored].observe(tokens, seconds)
