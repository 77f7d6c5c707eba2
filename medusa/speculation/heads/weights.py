"""The weights of Medusa heads and their file format: GGUF with architecture "medusa".

Metadata: medusa.variant, medusa.head_count, medusa.layer_count, medusa.feed_forward_length and
medusa.output_rank (Hydra), medusa.embedding_length, medusa.vocab_size, medusa.base.name,
medusa.base.fingerprint.
Tensors: those of `layout`, draft_tokens [n_draft] int32 where proposals are limited to a part of
the vocabulary, and calibration as `HeadsHeader` has it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa.llama.gguf_files import (
    Kind,
    PlannedTensor,
    Progress,
    StoredTensor,
    quantise,
    write_gguf,
)
from medusa.speculation.heads.header import HeadsHeader, Variant

ARCHITECTURE = "medusa"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a variant has."""

    name: str
    shape: tuple[int, ...]  # as in NumPy
    needs_bits: bool = False  # Q4_0 would spoil it

    @property
    def is_matrix(self) -> bool:
        """Matrices may be quantised, vectors stay f32."""
        return len(self.shape) > 1

    def kind(self, wanted: Kind) -> Kind:
        """The type it gets where matrices are wanted in that one."""
        if not self.is_matrix:
            return Kind.F32
        return Kind.Q8_0 if self.needs_bits and wanted is Kind.Q4_0 else wanted


def layout(header: HeadsHeader) -> Iterator[TensorSpec]:
    """The tensors of heads, in file order.

    Full and shared: head.K.block.L.weight and .bias are W and b of x + SiLU(W x + b), and
    head.K.output.weight the full variant's Linear. Layout of Cai et al. 2024, "Medusa: Simple LLM
    inference acceleration framework with multiple decoding heads", section 2.1.1.

    Hydra: cell.J.in.weight, .bias and cell.J.out.weight are U, b and V of one step of
        state + V SiLU(U [norm(state), norm(embedding of the token before)] + b)
    with RMS norms without weights. The state is the hidden state at first. Heads that depend on the
    tokens before theirs: Ankner et al. 2024, "Hydra: sequentially-dependent draft heads for Medusa
    decoding"; handing on a state, with shared weights: Cheng et al. 2024, "Recurrent drafter".
    Scores are lm_head state or, where the header has a rank, output.up output.down state. The first
    of the rank's dimensions carry far more than the last, too much for blocks of 4-bit numbers.
    """
    n = header.n_embd
    if header.variant is Variant.HYDRA:
        for j in range(header.n_layers):
            yield TensorSpec(f"cell.{j}.in.weight", (header.width, 2 * n))
            yield TensorSpec(f"cell.{j}.in.bias", (header.width,))
            yield TensorSpec(f"cell.{j}.out.weight", (n, header.width))
        if header.rank:
            yield TensorSpec("output.down.weight", (header.rank, n), needs_bits=True)
            yield TensorSpec("output.up.weight", (header.n_draft, header.rank), needs_bits=True)
        return
    for k in range(header.n_heads):
        for i in range(header.n_layers):
            yield TensorSpec(f"head.{k}.block.{i}.weight", (n, n))
            yield TensorSpec(f"head.{k}.block.{i}.bias", (n,))
        if header.variant is Variant.FULL:
            yield TensorSpec(f"head.{k}.output.weight", (header.n_draft, n))


@dataclass(frozen=True)
class HeadWeights:
    """Heads in memory."""

    header: HeadsHeader
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def of(cls, header: HeadsHeader, values: Mapping[str, np.ndarray]) -> "HeadWeights":
        """From float32 tensors."""
        return cls(header, {name: StoredTensor(Kind.F32, array) for name, array in values.items()})

    def values(self, name: str) -> np.ndarray:
        """A tensor of `layout`, float32."""
        return self.tensors[name].values


def write_heads(path: Path, heads: HeadWeights, *, kind: Kind = Kind.F16) -> None:
    """Write a heads file; each tensor gets the type that `TensorSpec.kind` makes of `kind`."""
    sources = {name: _values_of(tensor) for name, tensor in heads.tensors.items()}
    stream_heads(path, heads.header, sources, kind=kind)


def _values_of(tensor: StoredTensor) -> Callable[[], np.ndarray]:
    return lambda: tensor.values


def stream_heads(
    path: Path,
    header: HeadsHeader,
    sources: Mapping[str, Callable[[], np.ndarray]],
    *,
    kind: Kind,
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Write a heads file with no more than one of its tensors in memory.

    Args:
        path: the file.
        header: what the heads are.
        sources: gives each tensor of `layout`, float32, by name.
        kind: of matrices. Quantised types need rows that are a multiple of their block size, 32.
        on_progress: told how far it is.
    """
    metadata: dict[str, str | int] = {
        "general.name": header.name,
        "medusa.variant": header.variant.value,
        "medusa.head_count": header.n_heads,
        "medusa.layer_count": header.n_layers,
        "medusa.feed_forward_length": header.width,
        "medusa.output_rank": header.rank,
        "medusa.embedding_length": header.n_embd,
        "medusa.vocab_size": header.n_vocab,
        "medusa.base.name": header.base_name,
        "medusa.base.fingerprint": header.base_fingerprint,
    }
    write_gguf(path, ARCHITECTURE, metadata, list(_plan(header, sources, kind)), on_progress)


def _plan(
    header: HeadsHeader, sources: Mapping[str, Callable[[], np.ndarray]], matrix_kind: Kind
) -> Iterator[PlannedTensor]:
    def quantised(source: Callable[[], np.ndarray], kind: Kind) -> Callable[[], np.ndarray]:
        return lambda: quantise(kind, source())

    def plain(values: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: values

    for spec in layout(header):
        kind = spec.kind(matrix_kind)
        yield PlannedTensor(spec.name, spec.shape, kind, quantised(sources[spec.name], kind))
    if header.draft_tokens is not None:
        draft = header.draft_tokens.astype(np.int32)
        yield PlannedTensor("draft_tokens", draft.shape, Kind.I32, plain(draft))
    if header.calibration is not None:
        table = header.calibration.astype(np.float32)
        yield PlannedTensor("calibration", table.shape, Kind.F32, plain(table))
