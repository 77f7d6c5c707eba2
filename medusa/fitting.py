"""How much of a model goes where: what there is room for, before any weight is read."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from medusa.engine.config import EngineConfig
from medusa.engine.embedding_engine import longest_text
from medusa.engine.memory import MemoryRules
from medusa.errors import DeviceMemoryError, ModelLoadError
from medusa.llama import devices, footprint, free_memory
from medusa.llama.adapters import adapter_bytes
from medusa.llama.footprint import Footprint
from medusa.llama.model import Model
from medusa.llama.params import Placement

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")

_FEWER = 0.1
"""Of the layers on devices, how many a further try leaves out."""


@dataclass(frozen=True)
class Needs:
    """What a model would take, and what its devices have."""

    footprint: Footprint
    free_on_gpus: int | None  # bytes; None: unknown, or there are none


def needs_of(
    path: Path,
    config: EngineConfig,
    placement: Placement | None = None,
    adapters: Iterable[Path] = (),
) -> Needs:
    """What a model would take in memory. Arguments and errors are those of `fitted`."""
    preview = Model(path, placement or Placement(), weights=False)
    try:
        return Needs(_footprint(preview, config, adapters), devices.free_bytes(preview.devices))
    finally:
        preview.close()


def fitted(
    path: Path,
    config: EngineConfig,
    placement: Placement | None = None,
    adapters: Iterable[Path] = (),
) -> Placement:
    """Ask whether a model can be served in the memory there is, before its weights are read.

    Args:
        path: the model's GGUF.
        config: of the engine that is to run it.
        placement: what is to be on devices.
        adapters: for it.

    Returns:
        The placement, with a number of layers: as many as fit, where it does not say how many
        and it is known what there is.

    Raises:
        ModelLoadError: it cannot, for that or another reason.
    """
    placement = placement or Placement()
    asked = needs_of(path, config, placement, adapters)
    needs, free = asked.footprint, free_memory.of_host()
    if placement.gpu_layers is None and not devices.are_hidden():
        layers = needs.layers_that_fit(asked.free_on_gpus)
        if layers < needs.gpu_layers:
            log.warning(
                "%s: %d of %d layers go to the GPU: %s",
                path, layers, needs.n_layers, needs.shortage(asked.free_on_gpus),
            )  # fmt: skip
        placement = replace(placement, gpu_layers=layers)
        needs = replace(needs, gpu_layers=layers)
    refusal = needs.refusal(free, asked.free_on_gpus)
    if refusal is not None:
        raise ModelLoadError(f"there is no room for {path}: {refusal}")
    warning = needs.warning(free)
    if warning is not None:
        log.warning("%s: %s", path, warning)
    return placement


def open_where_it_fits(
    open: Callable[[Placement], Opened],
    path: Path,
    config: EngineConfig,
    placement: Placement | None = None,
    adapters: Iterable[Path] = (),
) -> Opened:
    """Open a model, with fewer layers on devices each time that these turn out to lack memory.

    Args:
        open: is given where layers go.
        path, config, placement, adapters: as for `fitted`. A number of layers that `placement`
            says is tried once.

    Raises:
        ModelLoadError: it cannot be opened, not even without layers on devices.
    """
    where = fitted(path, config, placement, adapters)
    may_change = placement is None or placement.gpu_layers is None
    while True:
        try:
            return open(where)
        except DeviceMemoryError as error:
            layers = where.gpu_layers
            if not layers or not may_change:
                raise
            fewer = layers - max(1, int(_FEWER * layers))
            log.warning("%d layers do not fit on the GPU, trying %d: %s", layers, fewer, error)
            where = replace(where, gpu_layers=fewer)


def _footprint(preview: Model, config: EngineConfig, adapters: Iterable[Path]) -> Footprint:
    if preview.capabilities.is_embedding:
        longest = longest_text(preview, config)
        return footprint.of_embedding_model(preview, longest, config.n_slots)
    decided = config.decided(preview.n_ctx_train, preview.capabilities)
    rules = MemoryRules.of(preview.capabilities, decided)
    needs = footprint.of_model(preview, rules.context_params(decided))
    return replace(needs, adapters=sum(map(adapter_bytes, adapters)))
