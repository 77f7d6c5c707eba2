"""The official Medusa heads' files: which tensors there are and what they say about the heads.

Layout (FasterDecoding/Medusa): `{head}.{layer}.linear.weight` and `.bias` of each ResBlock, and
`{head}.{n_layers}.weight`, the head's own Linear to the vocabulary; heads without the latter use
the base model's. Version 1.0 keeps them inside the model's shards, prefixed with `medusa_head.`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.errors import CheckpointError
from convert.files.checkpoint import read_checkpoint, read_tensor_file
from convert.files.tensors import StoredTensor

HEAD_FILES = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")
"""Files that hold nothing but heads; the first that is there is taken."""

_PREFIX = "medusa_head."
_KEY = re.compile(r"(\d+)\.(\d+)\.(linear\.weight|linear\.bias|weight)")


@dataclass(frozen=True)
class OfficialHeads:
    """The tensors of K heads with L ResBlocks each."""

    block_weights: tuple[tuple[StoredTensor, ...], ...]  # [K][L], each [n_embd, n_embd]
    block_biases: tuple[tuple[StoredTensor, ...], ...]  # [K][L], each [n_embd]
    outputs: tuple[StoredTensor, ...]  # [K], each [n_vocab, n_embd]; empty: the base's lm_head

    @property
    def n_embd(self) -> int:
        """Width of the hidden state they read."""
        return self.block_weights[0][0].shape[0]


def read_official_heads(source: Path) -> OfficialHeads:
    """The heads of a folder or file; their number is counted, config.json is not asked.

    Raises:
        CheckpointError: there are none, the file is damaged, or the tensors do not form heads.
    """
    return _arrange(_head_tensors(source), source)


def _head_tensors(source: Path) -> dict[str, StoredTensor]:
    if source.is_file():
        files = [source]
    else:
        files = [source / name for name in HEAD_FILES if (source / name).is_file()][:1]
    if files:
        tensors = {tensor.name: tensor for tensor in read_tensor_file(files[0])}
    else:
        tensors = {n: t for n, t in read_checkpoint(source).items() if n.startswith(_PREFIX)}
    if not tensors:
        raise CheckpointError(
            f"{source} holds no Medusa heads: neither {' nor '.join(HEAD_FILES)}, nor tensors "
            f"named {_PREFIX}* among the model's"
        )
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def _arrange(tensors: Mapping[str, StoredTensor], source: Path) -> OfficialHeads:
    unknown = [name for name in tensors if not _KEY.fullmatch(name)]
    if unknown:
        raise CheckpointError(f"{source}: {unknown[0]} is not a tensor of Medusa heads")
    keys = [tuple(map(int, name.split(".")[:2])) for name in tensors]
    blocks = [key for key, name in zip(keys, tensors, strict=True) if "linear" in name]
    if not blocks:
        raise CheckpointError(f"{source}: the heads have no ResBlocks")
    heads = range(1 + max(head for head, _ in keys))
    layers = range(1 + max(layer for _, layer in blocks))
    has_outputs = any(f"{head}.{len(layers)}.weight" in tensors for head in heads)
    expected = [f"{k}.{i}.linear.{part}" for k in heads for i in layers for part in _PARTS]
    if has_outputs:
        expected += [f"{k}.{len(layers)}.weight" for k in heads]
    odd = set(expected) ^ set(tensors)
    if odd:
        raise CheckpointError(
            f"{source}: {len(heads)} heads of {len(layers)} ResBlocks do not go together with the "
            f"tensors there are; see {min(odd)}"
        )
    found = OfficialHeads(
        tuple(tuple(tensors[f"{k}.{i}.linear.weight"] for i in layers) for k in heads),
        tuple(tuple(tensors[f"{k}.{i}.linear.bias"] for i in layers) for k in heads),
        tuple(tensors[f"{k}.{len(layers)}.weight"] for k in heads) if has_outputs else (),
    )
    _check_shapes(found, source)
    return found


_PARTS = ("weight", "bias")


def _check_shapes(heads: OfficialHeads, source: Path) -> None:
    n_embd = heads.n_embd
    n_vocab = heads.outputs[0].shape[0] if heads.outputs else 0
    expected = [
        *((tensor, (n_embd, n_embd)) for head in heads.block_weights for tensor in head),
        *((tensor, (n_embd,)) for head in heads.block_biases for tensor in head),
        *((tensor, (n_vocab, n_embd)) for tensor in heads.outputs),
    ]
    for tensor, shape in expected:
        if tensor.shape != shape:
            raise CheckpointError(
                f"{source}: {tensor.name} has the shape {tensor.shape}, the other tensors ask "
                f"for {shape}"
            )
