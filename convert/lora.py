"""A LoRA adapter of PEFT's, for a Llama or Mistral -> the GGUF that llama.cpp applies."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import CheckpointError, UnsupportedModelError
from convert.files.checkpoint import read_json, read_tensor_file
from convert.files.tensors import StoredTensor
from convert.llama.rope import interleave_heads
from medusa.files import whole_file
from medusa.llama.gguf_files import GgufFile, PlannedTensor, Progress, write_tensors

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_F16 = gguf.GGMLQuantizationType.F16
_NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
_LLAMA = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA]


@dataclass(frozen=True)
class LoraConversion:
    """A folder of PEFT's, the GGUF of the model that it changes, and the one to write."""

    folder: Path
    base: Path
    out: Path
    name: str


def convert_lora(job: LoraConversion, on_progress: Progress = lambda done, total: None) -> None:
    """Write the GGUF of an adapter, in F16.

    Raises:
        CheckpointError: a file is missing or damaged, or the adapter is for another model.
        UnsupportedModelError: it is of a kind, or for an architecture, that is not converted.
        ModelLoadError: the model's GGUF cannot be read.
    """
    alpha = _read_alpha(job.folder)
    base = GgufFile(job.base)
    architecture = base.text("general.architecture")
    if architecture != _LLAMA:
        raise UnsupportedModelError(f"an adapter for a model of the architecture {architecture}")
    tensors = _plan(_read_weights(job.folder), base)
    with whole_file(job.out) as path:
        writer = gguf.GGUFWriter(path, _LLAMA)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(job.name)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        write_tensors(writer, tensors, on_progress)


def _read_alpha(folder: Path) -> float:
    """What llama.cpp, which divides it by the rank, is to scale the adapter by.

    LoRA scales by alpha / rank, rank-stabilised LoRA (https://arxiv.org/abs/2312.03732) by
    alpha / sqrt(rank).
    """
    config = read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise UnsupportedModelError(f"a PEFT adapter of the kind {config.get('peft_type')!r}")
    for key in ("use_dora", "fan_in_fan_out", "alora_invocation_tokens", "alpha_pattern"):
        if config.get(key):
            raise UnsupportedModelError(f"an adapter with {key}")
    rank, alpha = (_number(folder, config, key) for key in ("r", "lora_alpha"))
    if not config.get("use_rslora"):
        return alpha
    if config.get("rank_pattern"):
        raise UnsupportedModelError("an adapter with use_rslora and rank_pattern")
    return alpha * math.sqrt(rank)


def _number(folder: Path, config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise CheckpointError(f"{folder / CONFIG}: {key} is {value!r}, not a number above 0")
    return float(value)


def _read_weights(folder: Path) -> list[StoredTensor]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_tensor_file(folder / name)
    raise CheckpointError(f"{folder} holds no weights: none of {', '.join(WEIGHTS)}")


def _plan(stored: list[StoredTensor], base: GgufFile) -> list[PlannedTensor]:
    """What to write: both matrices of each weight, in llama.cpp's names and order of rows."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, base.integer(f"{_LLAMA}.block_count"))
    planned = []
    for tensor in stored:
        match = _NAME.fullmatch(tensor.name)
        if match is None or len(tensor.shape) != 2:
            raise UnsupportedModelError(f"an adapter with a tensor {tensor.name}")
        module, letter = match.groups()
        target = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if target is None or target not in base.tensors:
            raise CheckpointError(f"the adapter changes {module}, which {base.path} does not have")
        height, width = base.tensors[target].shape
        of_base, own = (width, tensor.shape[1]) if letter == "A" else (height, tensor.shape[0])
        if own != of_base:
            raise CheckpointError(
                f"{tensor.name} is for a weight of {own} numbers; in {base.path} it has {of_base}"
            )
        make = partial(_make, tensor, _heads(base, module) if letter == "B" else None)
        name = f"{target}.lora_{letter.lower()}"
        planned.append(PlannedTensor(name, tensor.shape, _F16, make))
    return planned


def _heads(base: GgufFile, module: str) -> int | None:
    """Heads whose rows are in another order in llama.cpp; None: all are in the same."""
    n_heads = base.integer(f"{_LLAMA}.attention.head_count")
    if module.endswith(".q_proj"):
        return n_heads
    if module.endswith(".k_proj"):
        return base.integer(f"{_LLAMA}.attention.head_count_kv", n_heads)
    return None


def _make(tensor: StoredTensor, n_heads: int | None) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = tensor.float32().astype(np.float16)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{tensor.name} holds numbers that are not finite in f16")
    return values if n_heads is None else interleave_heads(values, n_heads)
