"""From a Llama checkpoint's tensors to those of its GGUF: names, order of rows, number format."""

import re
from collections.abc import Mapping
from functools import partial

import gguf
import numpy as np

from convert.errors import CheckpointError, UnsupportedModelError
from convert.files.tensors import Dtype, StoredTensor
from convert.llama.config import LlamaConfig
from convert.llama.rope import interleave_heads
from medusa.llama.gguf_files import PlannedTensor

_IGNORED = re.compile(r"rotary_emb\.inv_freq$|^medusa_head\.")
"""Buffers that older versions saved, and Medusa heads that share the model's shards."""

_QUERY, _KEY = re.compile(r"\.q_proj\."), re.compile(r"\.k_proj\.")
_EMBEDDING, _LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"

_KINDS = {
    Dtype.F32: gguf.GGMLQuantizationType.F32,
    Dtype.F16: gguf.GGMLQuantizationType.F16,
    Dtype.BF16: gguf.GGMLQuantizationType.BF16,
}


def plan_tensors(
    checkpoint: Mapping[str, StoredTensor], config: LlamaConfig, dtype: Dtype | None
) -> list[PlannedTensor]:
    """What to write for a checkpoint.

    Args:
        checkpoint: its tensors by name.
        config: its sizes.
        dtype: number format of the matrices, None for each one's own; vectors are always f32.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the config says.
        UnsupportedModelError: a tensor is none of a Llama's.
    """
    shapes = _expected_shapes(config)
    missing = [name for name in shapes if name not in checkpoint]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of the model's tensors, among them {missing[0]}"
        )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.n_layers)
    planned = []
    for name, tensor in checkpoint.items():
        if _IGNORED.search(name) or (name == _LM_HEAD and config.tied_embeddings):
            continue
        expected = shapes.get(name) or _bias_shape(name, shapes)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if expected is None or target is None:
            raise UnsupportedModelError(f"a model with a tensor {name}")
        if tensor.shape != expected:
            raise CheckpointError(
                f"{name} has the shape {_text(tensor.shape)}; by config.json it should be "
                f"{_text(expected)}"
            )
        kind = _KINDS[Dtype.F32 if len(tensor.shape) == 1 else dtype or tensor.dtype]
        planned.append(
            PlannedTensor(target, tensor.shape, kind, partial(_make, tensor, kind, config))
        )
    if config.rope_llama3 is not None:
        divisors = config.rope_llama3.divisors(config.head_dim, config.rope_theta)
        planned.append(
            PlannedTensor("rope_freqs.weight", divisors.shape, _KINDS[Dtype.F32], lambda: divisors)
        )
    return planned


def _expected_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every weight that a model of these sizes must have, by its name."""
    n_embd, n_ff = config.n_embd, config.n_ff
    n_q, n_kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        _EMBEDDING: (config.n_vocab, n_embd),
        "model.norm.weight": (n_embd,),
    }
    if not config.tied_embeddings:
        shapes[_LM_HEAD] = (config.n_vocab, n_embd)
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (n_embd,),
        "self_attn.q_proj": (n_q, n_embd),
        "self_attn.k_proj": (n_kv, n_embd),
        "self_attn.v_proj": (n_kv, n_embd),
        "self_attn.o_proj": (n_embd, n_q),
        "post_attention_layernorm": (n_embd,),
        "mlp.gate_proj": (n_ff, n_embd),
        "mlp.up_proj": (n_ff, n_embd),
        "mlp.down_proj": (n_embd, n_ff),
    }
    for index in range(config.n_layers):
        for name, shape in layer.items():
            shapes[f"model.layers.{index}.{name}.weight"] = shape
    return shapes


def _bias_shape(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Shape of a projection's bias, None for anything else."""
    if not name.endswith("_proj.bias"):
        return None
    weight = shapes.get(name.removesuffix("bias") + "weight")
    return weight[:1] if weight else None


def _make(tensor: StoredTensor, kind: gguf.GGMLQuantizationType, config: LlamaConfig) -> np.ndarray:
    """Values of a tensor in its GGUF's row order and number format."""
    if not tensor.is_finite():
        raise CheckpointError(f"{tensor.name} holds numbers that are not finite")
    values = tensor.read() if _KINDS[tensor.dtype] is kind else _cast(tensor, kind)
    if _QUERY.search(tensor.name):
        return interleave_heads(values, config.n_heads)
    if _KEY.search(tensor.name):
        return interleave_heads(values, config.n_kv_heads)
    return values


def _cast(tensor: StoredTensor, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast: np.ndarray = gguf.quantize(tensor.float32(), kind)
    if kind is gguf.GGMLQuantizationType.F16 and not np.isfinite(cast).all():
        raise CheckpointError(f"{tensor.name} holds numbers too large for f16; use bf16")
    return cast


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
