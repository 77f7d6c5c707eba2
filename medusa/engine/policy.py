"""Who comes first: the order of prefill and of stepping back, and who may pass. Pure functions."""

from collections.abc import Collection

from medusa.engine.prefixes import PrefixKey, common_prefix
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot

MAX_PASSES = 16
"""So many later requests may be admitted before one that does not fit yet; then all wait for it."""

WORTH_WAITING = 32
"""Tokens of a prompt that another slot is prefilling right now from which on it pays to wait for
that slot and share its cells."""


def arrival(sequence: Sequence) -> float:
    """First come, first served: the order of prefill and of stepping back."""
    return sequence.submitted


def by_arrival(slots: Collection[Slot]) -> list[Slot]:
    """Busy slots, the oldest sequence's first."""
    return sorted(slots, key=lambda slot: arrival(slot.sequence))


def is_worth_waiting(key: PrefixKey, reused: int, slots: Collection[Slot]) -> bool:
    """Whether one of the slots prefills a prompt that shares much more than is reused so far."""
    return any(
        slot.is_prefilling
        and slot.adapters == key.adapters
        and common_prefix(slot.sequence.tokens[:-1], key.tokens) >= reused + WORTH_WAITING
        for slot in slots
    )


def share_prefill(missing: list[int], budget: int) -> list[int]:
    """How many tokens of each prompt are prefilled in a step.

    Half goes to the oldest, so that a stream of short prompts cannot hold up a long one for ever;
    the rest to whoever needs least, so that a short prompt need not wait for a long one.

    Args:
        missing: tokens that each still needs, the oldest sequence's first.
        budget: tokens in all.
    """
    shares = [0] * len(missing)

    def give(index: int, most: int) -> None:
        nonlocal budget
        tokens = min(most, missing[index] - shares[index])
        shares[index] += tokens
        budget -= tokens

    if missing:
        give(0, (budget + 1) // 2)
    for index in sorted(range(len(missing)), key=lambda index: missing[index] - shares[index]):
        give(index, budget)
    return shares
