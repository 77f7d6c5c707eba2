"""LoRA adapters of a model, and how much of each is applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medusa.errors import ModelLoadError
from medusa.llama import runtime
from medusa.llama.adapter_checks import check_adapter


@dataclass(frozen=True, order=True)
class Applied:
    """An adapter, by its place among the model's, and what its changes are multiplied by."""

    id: int
    scale: float


AdapterSet = tuple[Applied, ...]
"""What a text is computed with, by id; empty: the model as it is."""


def adapter_set(scales: Mapping[int, float]) -> AdapterSet:
    """The adapters with these scales by id; those of 0 change nothing and count as left out."""
    return tuple(Applied(id, scale) for id, scale in sorted(scales.items()) if scale)


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter in memory; llama.cpp frees it with its model."""

    path: Path
    size_bytes: int
    handle: Any


def load_adapter(path: Path, model_path: Path, model_handle: Any) -> LoraAdapter:
    """Read an adapter's weights. Contexts that are to apply it must be made afterwards.

    Args:
        path: GGUF of the adapter.
        model_path: GGUF of the model, in memory as `model_handle`.
        model_handle: a llama_model.

    Raises:
        ModelLoadError: it is no adapter for this model, damaged, or of a kind that is not served.
    """
    check_adapter(path, model_path)
    with runtime.keep_log() as log:
        handle = runtime.load().llama_cpp.llama_adapter_lora_init(model_handle, str(path).encode())
    if not handle:
        raise ModelLoadError(f"llama.cpp could not load the adapter {path}: {log.cause}")
    return LoraAdapter(path, adapter_bytes(path), handle)


def adapter_bytes(path: Path) -> int:
    """Memory that an adapter takes.

    Raises:
        ModelLoadError: there is no such file.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise ModelLoadError(f"cannot read {path}: {error.strerror}") from error
