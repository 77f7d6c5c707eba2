"""Timing decodes of an idle engine, for the drafter to know what a guess costs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medusa.llama.batch import Batch
from medusa.llama.context import Context


@contextmanager
def timed_decodes(
    context: Context, batch: Batch, n_prompt: int, *, hidden: bool, rewinds: bool
) -> Iterator[Callable[[int], float]]:
    """A function that decodes so many tokens behind a prompt and returns the seconds it took.

    The KV cache must be empty, and is empty again afterwards.

    Args:
        context: what decodes.
        batch: scratch rows.
        n_prompt: tokens in the KV cache; with them each token costs more.
        hidden: whether hidden states are computed too.
        rewinds: whether the cache can go back to the prompt; else it is computed anew each time.
    """

    def prefill() -> None:
        batch.clear()
        batch.add_run([0] * n_prompt, 0, [0], output=False)
        context.prefill(batch)

    def decode(n_tokens: int) -> float:
        batch.clear()
        batch.add_run([0] * n_tokens, n_prompt, [0], output=True)
        began = time.perf_counter()
        context.decode(batch, hidden=hidden)
        seconds = time.perf_counter() - began
        if rewinds:
            context.remove_sequence(0, n_prompt)
        else:
            context.clear()
            prefill()
        return seconds

    prefill()
    try:
        yield decode
    finally:
        context.clear()
