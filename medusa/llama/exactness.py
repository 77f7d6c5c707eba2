"""Whether a model's results depend on what is computed beside them, seen by watching it compute.

Exact means that a token's logits are the same to the bit alone and in any batch, with any number of
threads, wherever the cells of its text lie. Our kernels are; what goes past them may not be.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from medusa.llama import devices, runtime
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.kernels.library import Fallthrough, Operation
from medusa.llama.model import Model
from medusa.llama.pooled_context import PooledContext

_SEVERAL = 5
"""Rows of a small batch: other code may run for those than for a single one."""


@dataclass(frozen=True)
class Exactness:
    """Why a model is not exact; it is where there is no reason."""

    reasons: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether company, threads and places in the cache leave results as they are."""
        return not self.reasons

    def joined(self, other: "Exactness") -> "Exactness":
        """Of what is exact where both are."""
        return Exactness(tuple(dict.fromkeys(self.reasons + other.reasons)))

    def __str__(self) -> str:
        return "exact" if self.exact else f"not exact: {', '.join(self.reasons)}"


def observe(context: Context, batch: Batch, model: Model) -> Exactness:
    """Decode one token and then several, and see what goes past our kernels.

    The KV cache must be empty, and is empty again afterwards.

    Args:
        context: what decodes.
        batch: scratch rows.
        model: whose context it is.
    """

    def compute(n_tokens: int) -> None:
        try:
            batch.clear()
            batch.add_run([0] * n_tokens, 0, [0], output=True)
            context.decode(batch)
        finally:
            context.clear()

    return _watch(compute, min(_SEVERAL, batch.capacity), model)


def observe_embeddings(context: PooledContext, model: Model) -> Exactness:
    """The same of a model that turns texts into vectors."""
    return _watch(
        lambda n_tokens: context.embed([[0] * n_tokens]),
        min(_SEVERAL, context.max_tokens),
        model,
    )


def _watch(compute: Callable[[int], object], several: int, model: Model) -> Exactness:
    """Compute one token and then several, and see what goes past our kernels."""
    kernels = runtime.load().kernels
    elsewhere = _elsewhere(model)
    if elsewhere:
        return Exactness(elsewhere)
    library = kernels.library
    if library is None or not kernels.active:
        return Exactness(("llama.cpp's own kernels",))
    library.reset_fallthrough()
    for n_tokens in (1, several):
        compute(n_tokens)
    return of_fallthrough(library.fallthrough())


def _elsewhere(model: Model) -> tuple[str, ...]:
    """What devices compute, where nobody watches."""
    reasons = []
    if model.offloaded_layers:
        reasons.append(f"layers on {', '.join(each.name for each in model.devices)}")
    # llama.cpp's op_offload; workers are never asked.
    helping = [each.name for each in model.devices if not each.is_worker]
    helping += [each.name for each in devices.accelerators()]
    if helping and model.offloaded_layers < model.n_offloadable:
        reasons.append(f"large products on {', '.join(helping)}")
    return tuple(reasons)


def of_fallthrough(seen: Iterable[Fallthrough]) -> Exactness:
    """What went past our kernels, in words; the same words once."""
    return Exactness(tuple(dict.fromkeys(map(_reason, seen))))


def _reason(seen: Fallthrough) -> str:
    match seen.operation:
        case Operation.PRODUCT:
            return f"products with {seen.kind.name} weights"
        case Operation.EXPERT_PRODUCT:
            return f"experts with {seen.kind.name} weights"
        case Operation.ATTENTION:
            what = f" and {seen.feature}" if seen.feature else ""
            return f"attention with head size {seen.size}, {seen.kind.name} cells{what}"
        case Operation.UNFUSED_ATTENTION:
            return "attention in separate steps"
        case Operation.CHUNKED_STATE:
            return "recurrent states in chunks"
