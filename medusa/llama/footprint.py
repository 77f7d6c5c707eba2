"""What a model and its context would take, asked before any of it is taken.

llama.cpp plans models and contexts without allocating them (`no_alloc`, which its own --fit uses),
and says in its log what they would take.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from medusa.llama import runtime
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.llama.pooled_context import PooledContext

_CACHE = re.compile(r"\bsize = +([\d.]+) MiB \(")
_BUFFER = re.compile(r"(\S+) +(?:compute|output) buffer size = +([\d.]+) MiB")
_LONGEST_PLAN = 262_144
"""Tokens; llama.cpp's plan itself takes some 50 bytes for each."""
_MARGIN = 0.95
"""Of what is free, how much is thought of when something smaller is proposed."""


@dataclass(frozen=True)
class Footprint:
    """What would be taken, in bytes.

    weights are those of the layers, of which gpu_layers of n_layers are to be on devices; what is
    read from the disk by mapping it is no allocation. cache is for n_ctx tokens. adapters lie
    where the layers do.
    """

    weights: int
    cache: int
    host_buffers: int
    gpu_buffers: int
    n_ctx: int
    n_layers: int
    gpu_layers: int
    adapters: int = 0

    @property
    def on_gpu(self) -> int:
        """On devices; at least this much, as tied embeddings are not counted."""
        share = self.gpu_layers / self.n_layers
        return int(share * (self.weights + self.cache + self.adapters)) + self.gpu_buffers

    @property
    def on_host(self) -> int:
        """Allocated in RAM."""
        share = 1 - self.gpu_layers / self.n_layers
        return int(share * (self.cache + self.adapters)) + self.host_buffers

    @property
    def mapped(self) -> int:
        """Weights in RAM, mapped from the file."""
        return int((1 - self.gpu_layers / self.n_layers) * self.weights)

    def layers_that_fit(self, free_on_gpus: int | None) -> int:
        """How many of the layers that are to be on devices have room there, by their mean size.

        Args:
            free_on_gpus: bytes free on all devices together; None: unknown, all have room.
        """
        if free_on_gpus is None or self.on_gpu <= free_on_gpus:
            return self.gpu_layers
        layer = (self.weights + self.cache + self.adapters) / self.n_layers
        return max(0, int((_MARGIN * free_on_gpus - self.gpu_buffers) / layer))

    def refusal(self, free: int | None, free_on_gpus: int | None) -> str | None:
        """Why there is no room for it and what would fit; None: there is, as far as is known.

        Args:
            free: bytes of RAM that can be had; None: unknown.
            free_on_gpus: bytes free on all devices together; None: unknown.
        """
        fit = self.layers_that_fit(free_on_gpus)
        if fit < self.gpu_layers:
            return (
                f"{self.shortage(free_on_gpus)}; {fit} GPU layers would fit, or a smaller context "
                "size or quantisation"
            )
        if free is not None and self.on_host > free:
            n_ctx = int(_MARGIN * self.n_ctx * free / self.on_host) // 256 * 256
            instead = f"a context size of {n_ctx} would fit" if n_ctx else "use a smaller model"
            return (
                f"a KV cache of {self.n_ctx:,} tokens and its compute buffers need "
                f"{_size(self.on_host)} of memory and {_size(free)} are free; {instead}"
            )
        return None

    def shortage(self, free_on_gpus: int | None) -> str:
        """What devices lack, in numbers."""
        return f"{_size(self.on_gpu)} are needed on the GPU and {_size(free_on_gpus or 0)} are free"

    def warning(self, free: int | None) -> str | None:
        """Why it would run slowly; None: it would not, as far as is known."""
        if free is None or self.mapped + self.on_host <= free:
            return None
        return (
            f"the weights in RAM take {_size(self.mapped)} and {_size(free)} are free, "
            f"{_size(self.on_host)} of them for the KV cache and computing: weights will be read "
            "from the disk again and again, which is slow; a smaller quantisation would fit"
        )


def of_model(preview: Model, params: ContextParams) -> Footprint:
    """Ask llama.cpp.

    Args:
        preview: opened without its weights.
        params: of the context that is to be made.

    Raises:
        ModelLoadError: llama.cpp would not make the context.
    """

    def plan(n_ctx: int) -> Footprint:
        return _plan(preview, lambda: Context(preview, replace(params, n_ctx=n_ctx)), n_ctx)

    if params.n_ctx <= _LONGEST_PLAN:
        return plan(params.n_ctx)
    half, whole = (plan(n_ctx) for n_ctx in (_LONGEST_PLAN // 2, _LONGEST_PLAN))
    further = (params.n_ctx - _LONGEST_PLAN) / (_LONGEST_PLAN // 2)

    def at(half: int, whole: int) -> int:
        return int(whole + further * (whole - half))

    return replace(
        whole,
        cache=at(half.cache, whole.cache),
        host_buffers=at(half.host_buffers, whole.host_buffers),
        gpu_buffers=at(half.gpu_buffers, whole.gpu_buffers),
        n_ctx=params.n_ctx,
    )


def of_embedding_model(preview: Model, max_tokens: int, max_texts: int) -> Footprint:
    """The same for a PooledContext of these sizes.

    Raises:
        ModelLoadError: see `of_model`.
    """
    make = partial(PooledContext, preview, max_tokens, max_texts, n_threads=1)
    return _plan(preview, make, max_tokens)


def _plan(preview: Model, make: Callable[[], Context | PooledContext], n_ctx: int) -> Footprint:
    with runtime.keep_log() as log:
        make().close()
    cache = sum(_mib(found[1]) for found in map(_CACHE.search, log.messages) if found)
    buffers = [found.groups() for found in map(_BUFFER.search, log.messages) if found]
    on_host = [size for name, size in buffers if name == "CPU" or name.endswith("_Host")]
    on_gpu = [size for name, size in buffers if not (name == "CPU" or name.endswith("_Host"))]
    embeddings = preview.size_bytes * preview.n_vocab * preview.n_embd // preview.n_params
    return Footprint(
        weights=preview.size_bytes - embeddings,
        cache=cache,
        host_buffers=sum(map(_mib, on_host)),
        gpu_buffers=sum(map(_mib, on_gpu)),
        n_ctx=n_ctx,
        n_layers=preview.n_offloadable,
        gpu_layers=preview.offloaded_layers,
    )


def _mib(number: str) -> int:
    return int(float(number) * 2**20)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
