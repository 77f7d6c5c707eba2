"""An adapter's file, checked against its model's before llama.cpp sees it.

llama.cpp aborts the process on metadata of another type than it expects, and once it computes on
shapes that do not go together; what an adapter changes silently not at all is refused too.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import gguf

from medusa.errors import ModelLoadError
from medusa.llama.gguf_files import parts
from medusa.llama.gguf_header import FLOAT32, GgufHeader, TensorInfo, read_header

log = logging.getLogger("medusa.llama")

_A, _B = ".lora_a", ".lora_b"
_NORM = "_norm.weight"
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
_ALPHA = "adapter.lora.alpha"
_INVOCATION = "adapter.alora.invocation_tokens"
_KINDS = tuple(
    gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
)


def check_adapter(path: Path, model_path: Path) -> None:
    """Check the file of a LoRA adapter.

    Args:
        path: the adapter's GGUF.
        model_path: the GGUF of the model that it is to change; of a split one, the first part.

    Raises:
        ModelLoadError: says what is wrong with it, or why it is for another model.
    """
    adapter = read_header(path)
    headers = [read_header(part) for part in parts(model_path)]
    _check_metadata(adapter, headers[0])
    _check_tensors(adapter, {info.name: info for header in headers for info in header.tensors})


def _refused(adapter: GgufHeader, why: str) -> ModelLoadError:
    return ModelLoadError(f"the adapter {adapter.path} cannot be used: {why}")


def _check_metadata(adapter: GgufHeader, model: GgufHeader) -> None:
    metadata = adapter.metadata
    if metadata.get("general.type") != "adapter":
        raise _refused(adapter, "it is a GGUF, but of no adapter (general.type)")
    if metadata.get("adapter.type") != "lora":
        raise _refused(
            adapter, f"its kind (adapter.type) is {metadata.get('adapter.type')!r}, not lora"
        )
    own, base = (each.metadata.get("general.architecture") for each in (adapter, model))
    if own != base:
        raise _refused(
            adapter, f"it is for models of the architecture {own!r}; this one is {base!r}"
        )
    if _INVOCATION in metadata:
        raise _refused(adapter, "it is an activated LoRA (aLoRA), which is not supported")
    alpha = metadata.get(_ALPHA, 0.0)
    if adapter.kinds.get(_ALPHA, FLOAT32) != FLOAT32 or not math.isfinite(alpha):
        raise _refused(adapter, f"{_ALPHA} is {alpha}, not a number in 32 bits")


def _check_tensors(adapter: GgufHeader, model: Mapping[str, TensorInfo]) -> None:
    """What llama_adapter_lora_init_impl asks for, and what computing with it asks for."""
    pairs: dict[str, dict[str, TensorInfo]] = {}
    norms = [info for info in adapter.tensors if info.name.endswith(_NORM)]
    if norms:
        log.warning("%s: its %d norms are left out, as in llama.cpp", adapter.path, len(norms))
    for info in adapter.tensors:
        if info in norms:
            continue
        name, part = info.name[: -len(_A)], info.name[-len(_A) :]
        if part not in (_A, _B):
            raise _refused(adapter, f"its tensor {info.name} is no part of a LoRA")
        if info.kind not in _KINDS:
            kind = gguf.GGMLQuantizationType(info.kind).name
            known = ", ".join(each.name for each in _KINDS)
            raise _refused(adapter, f"its tensor {info.name} is {kind}; {known} are read")
        pairs.setdefault(name, {})[part] = info
    if not pairs:
        raise _refused(adapter, "it changes nothing")
    for name, pair in pairs.items():
        if len(pair) < 2:
            raise _refused(adapter, f"it has only one of the two matrices that change {name}")
        if name not in model:
            raise _refused(adapter, f"it changes {name}, which this model does not have")
        if model[name].kind == gguf.GGMLQuantizationType.NVFP4:
            raise _refused(adapter, f"it changes {name}, which is NVFP4 in this model")
        if name == _EMBEDDING and _OUTPUT not in model:
            raise _refused(adapter, "it changes embeddings that this model also has as its output")
        a, b, base = pair[_A].shape, pair[_B].shape, model[name].shape
        if not _fit(a, b, base, flipped=name == _EMBEDDING):
            shapes = f"{_text(a)} and {_text(b)}, which do not fit {_text(base)}"
            raise _refused(adapter, f"its matrices for {name} are {shapes}")


def _fit(a: tuple[int, ...], b: tuple[int, ...], base: tuple[int, ...], *, flipped: bool) -> bool:
    """Whether matrices [width, rank] and [rank, height] can change one of [width, height].

    All with the fastest dimension first, and the same further ones. Those of embeddings, whose rows
    are looked up, are [rank, height] and [rank, width].
    """
    if not len(a) == len(b) == len(base) >= 2 or not a[2:] == b[2:] == base[2:]:
        return False
    if flipped:
        return 0 < a[0] == b[0] and (b[1], a[1]) == base[:2]
    return 0 < a[1] == b[0] and (a[0], b[1]) == base[:2]


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
