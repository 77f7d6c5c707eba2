"""The weights of Medusa heads and their file format: GGUF with architecture "medusa".

Metadata: medusa.head_count, medusa.layer_count (ResBlocks of a head), medusa.embedding_length,
medusa.vocab_size, medusa.variant, medusa.base.name, medusa.base.fingerprint.
Tensors, as NumPy shapes: head.K.block.L.weight [n_embd, n_embd], head.K.block.L.bias [n_embd],
head.K.output.weight [n_draft, n_embd] in the "full" variant, draft_tokens [n_draft] int32 where
proposals are limited to a part of the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

import gguf
import numpy as np

from medusa.errors import HeadsMismatchError, ModelLoadError
from medusa.gguf_stream import PlannedTensor, Progress, write_tensors

ARCHITECTURE = "medusa"


class Variant(StrEnum):
    """Where a head's output matrix comes from."""

    FULL = "full"  # its own Linear(n_embd, n_vocab), the official layout
    SHARED = "shared"  # the base model's lm_head


@dataclass(frozen=True)
class HeadsHeader:
    """What a heads file says of its tensors. Fields as in `HeadWeights`."""

    n_heads: int
    n_layers: int
    n_embd: int
    n_vocab: int
    variant: Variant
    base_name: str
    base_fingerprint: str
    draft_tokens: np.ndarray | None  # [n_draft] int32
    name: str

    @property
    def n_draft(self) -> int:
        """How many tokens the heads can propose."""
        return self.n_vocab if self.draft_tokens is None else len(self.draft_tokens)


class HeadTensors(Protocol):
    """The tensors of heads, one at a time."""

    def block_weight(self, head: int, layer: int) -> np.ndarray:
        """W of a ResBlock, [n_embd, n_embd] float32."""
        ...

    def block_bias(self, head: int, layer: int) -> np.ndarray:
        """The bias of a ResBlock, [n_embd] float32."""
        ...

    def output(self, head: int) -> np.ndarray:
        """The output matrix of a head, [n_draft, n_embd] float32; the full variant's only."""
        ...


@dataclass(frozen=True)
class HeadWeights:
    """K heads of L ResBlocks, x + SiLU(W x + b), each followed by a Linear to the vocabulary.

    The layout of Cai et al. 2024, "Medusa: Simple LLM inference acceleration framework with
    multiple decoding heads", section 2.1.1.
    """

    block_weights: np.ndarray  # [n_heads, n_layers, n_embd, n_embd] float32
    block_biases: np.ndarray  # [n_heads, n_layers, n_embd] float32
    n_vocab: int
    base_name: str
    base_fingerprint: str
    outputs: np.ndarray | None = None  # [n_heads, n_draft, n_embd] float32; None: shared lm_head
    draft_tokens: np.ndarray | None = None  # [n_draft] int32; None: the whole vocabulary
    name: str = "Medusa heads"

    @property
    def n_heads(self) -> int:
        """How many tokens ahead the heads guess."""
        return int(self.block_weights.shape[0])

    @property
    def n_layers(self) -> int:
        """ResBlocks of each head."""
        return int(self.block_weights.shape[1])

    @property
    def n_embd(self) -> int:
        """Width of the base model's hidden state."""
        return int(self.block_biases.shape[-1])

    @property
    def variant(self) -> Variant:
        """Whether the heads carry output matrices of their own."""
        return Variant.SHARED if self.outputs is None else Variant.FULL

    @property
    def n_draft(self) -> int:
        """How many tokens the heads can propose."""
        return self.n_vocab if self.draft_tokens is None else len(self.draft_tokens)

    @property
    def header(self) -> HeadsHeader:
        """Everything but the tensors."""
        return HeadsHeader(
            self.n_heads,
            self.n_layers,
            self.n_embd,
            self.n_vocab,
            self.variant,
            self.base_name,
            self.base_fingerprint,
            self.draft_tokens,
            self.name,
        )

    def block_weight(self, head: int, layer: int) -> np.ndarray:
        """W of a ResBlock, [n_embd, n_embd] float32."""
        return self.block_weights[head, layer]

    def block_bias(self, head: int, layer: int) -> np.ndarray:
        """The bias of a ResBlock, [n_embd] float32."""
        return self.block_biases[head, layer]

    def output(self, head: int) -> np.ndarray:
        """The output matrix of a head, [n_draft, n_embd] float32; only the full variant has it."""
        if self.outputs is None:
            raise ValueError("these heads share the base model's lm_head")
        return self.outputs[head]

    def check_fits(
        self, *, n_embd: int, n_vocab: int, base_fingerprint: str, base_name: str
    ) -> None:
        """Compare with a base model.

        Raises:
            HeadsMismatchError: names everything that does not fit.
        """
        problems = []
        if self.n_embd != n_embd:
            problems.append(f"they read hidden states of width {self.n_embd}, not {n_embd}")
        if self.n_vocab != n_vocab:
            problems.append(f"they guess from {self.n_vocab} tokens, not {n_vocab}")
        if not problems and self.base_fingerprint != base_fingerprint:
            problems.append(
                f"they were made for another model (fingerprint {self.base_fingerprint}, "
                f"this one is {base_fingerprint})"
            )
        if problems:
            raise HeadsMismatchError(
                f"heads made for {self.base_name!r} do not fit {base_name!r}: "
                + "; ".join(problems)
            )


def write_heads(
    path: Path,
    heads: HeadWeights,
    *,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F16,
) -> None:
    """Write a heads file; biases stay f32, matrices get the type `kind`."""
    stream_heads(path, heads.header, heads, kind=kind)


def stream_heads(
    path: Path,
    header: HeadsHeader,
    tensors: HeadTensors,
    *,
    kind: gguf.GGMLQuantizationType,
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Write a heads file with no more than one of its tensors in memory.

    Quantised types need n_embd to be a multiple of their block size, 32.
    """
    partial_path = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(partial_path, ARCHITECTURE)
    writer.add_name(header.name)
    writer.add_uint32("medusa.head_count", header.n_heads)
    writer.add_uint32("medusa.layer_count", header.n_layers)
    writer.add_uint32("medusa.embedding_length", header.n_embd)
    writer.add_uint32("medusa.vocab_size", header.n_vocab)
    writer.add_string("medusa.variant", header.variant.value)
    writer.add_string("medusa.base.name", header.base_name)
    writer.add_string("medusa.base.fingerprint", header.base_fingerprint)
    try:
        write_tensors(writer, _plan(header, tensors, kind), on_progress)
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def _plan(
    header: HeadsHeader, tensors: HeadTensors, matrix_kind: gguf.GGMLQuantizationType
) -> list[PlannedTensor]:
    def add(
        name: str,
        shape: tuple[int, ...],
        kind: gguf.GGMLQuantizationType,
        values: Callable[[], np.ndarray],
    ) -> None:
        planned.append(PlannedTensor(name, shape, kind, lambda: gguf.quantize(values(), kind)))

    planned: list[PlannedTensor] = []
    n_embd, f32 = header.n_embd, gguf.GGMLQuantizationType.F32
    for k in range(header.n_heads):
        for i in range(header.n_layers):
            block, square = f"head.{k}.block.{i}", (n_embd, n_embd)
            add(f"{block}.weight", square, matrix_kind, partial(tensors.block_weight, k, i))
            add(f"{block}.bias", (n_embd,), f32, partial(tensors.block_bias, k, i))
        if header.variant is Variant.FULL:
            shape = (header.n_draft, n_embd)
            add(f"head.{k}.output.weight", shape, matrix_kind, partial(tensors.output, k))
    if header.draft_tokens is not None:
        draft = header.draft_tokens.astype(np.int32)
        planned.append(
            PlannedTensor("draft_tokens", draft.shape, gguf.GGMLQuantizationType.I32, lambda: draft)
        )
    return planned


def read_heads(path: Path) -> HeadWeights:
    """Read a heads file.

    Raises:
        ModelLoadError: it is missing, not a GGUF of Medusa heads, or incomplete.
    """
    if not path.is_file():
        raise ModelLoadError(f"heads file not found: {path}")
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise ModelLoadError(f"cannot read {path} as GGUF: {error}") from error
    return _HeadsReader(path, reader).read()


class _HeadsReader:
    def __init__(self, path: Path, reader: gguf.GGUFReader) -> None:
        self._path = path
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    def read(self) -> HeadWeights:
        architecture = self._field("general.architecture")
        if architecture != ARCHITECTURE:
            raise ModelLoadError(
                f"{self._path} is a GGUF of architecture {architecture!r}, not of Medusa heads"
            )
        variant = Variant(str(self._field("medusa.variant")))
        n_heads = int(self._field("medusa.head_count"))
        n_layers = int(self._field("medusa.layer_count"))
        n_embd = int(self._field("medusa.embedding_length"))
        heads, layers = range(n_heads), range(n_layers)
        blocks = [[self._tensor(f"head.{k}.block.{i}.weight") for i in layers] for k in heads]
        biases = [[self._tensor(f"head.{k}.block.{i}.bias") for i in layers] for k in heads]
        outputs = None
        if variant is Variant.FULL:
            outputs = np.stack([self._tensor(f"head.{k}.output.weight") for k in heads])
        draft = self._tensors.get("draft_tokens")
        return HeadWeights(
            block_weights=np.array(blocks, np.float32).reshape(n_heads, n_layers, n_embd, n_embd),
            block_biases=np.array(biases, np.float32).reshape(n_heads, n_layers, n_embd),
            n_vocab=int(self._field("medusa.vocab_size")),
            base_name=str(self._field("medusa.base.name")),
            base_fingerprint=str(self._field("medusa.base.fingerprint")),
            outputs=outputs,
            draft_tokens=None if draft is None else np.array(draft.data, np.int32),
            name=str(self._field("general.name")),
        )

    def _field(self, key: str) -> str | int:
        field = self._fields.get(key)
        if field is None:
            raise ModelLoadError(f"{self._path} lacks the metadata {key}")
        value: str | int = field.contents()
        return value

    def _tensor(self, name: str) -> np.ndarray:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelLoadError(f"{self._path} lacks the tensor {name}")
        return gguf.dequantize(tensor.data, tensor.tensor_type)
