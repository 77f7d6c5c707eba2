"""Reading a heads file, checked in full: what passes here cannot fail while it computes."""

from pathlib import Path

import numpy as np

from medusa.errors import ModelLoadError
from medusa.llama.gguf_files import GgufFile, Kind, StoredTensor
from medusa.speculation.calibration import BINS
from medusa.speculation.heads.guessing import DEFAULT_TOP_K
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import ARCHITECTURE, HeadWeights, TensorSpec, layout

MAX_HEADS = 64
"""More tokens ahead than any tree reaches; also the limit of layers."""

MATRIX_KINDS = frozenset(
    {
        *(Kind.F32, Kind.F16, Kind.BF16),
        *(Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0),
        *(Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
    }
)
"""What matrices are multiplied as; ggml aborts the process on some of the others."""


def read_heads(path: Path) -> HeadWeights:
    """Read a heads file.

    Raises:
        ModelLoadError: it is missing, not a GGUF of Medusa heads, incomplete, or something in it is
            not as `layout` and `HeadsHeader` have it; names the file and what is wrong.
    """
    if not path.is_file():
        raise ModelLoadError(f"heads file not found: {path}")
    file = GgufFile(path)
    architecture = file.text("general.architecture")
    if architecture != ARCHITECTURE:
        raise ModelLoadError(
            f"{path} is a GGUF of architecture {architecture!r}, not of Medusa heads"
        )
    header = _header(file)
    return HeadWeights(header, {spec.name: _tensor(file, spec) for spec in layout(header)})


def _header(file: GgufFile) -> HeadsHeader:
    variant = _variant(file)
    n_heads = _count(file, "medusa.head_count", MAX_HEADS)
    n_vocab = _count(file, "medusa.vocab_size")
    draft_tokens = _draft_tokens(file, n_vocab)
    n_draft = n_vocab if draft_tokens is None else len(draft_tokens)
    hydra = variant is Variant.HYDRA
    return HeadsHeader(
        variant=variant,
        n_heads=n_heads,
        n_layers=_count(file, "medusa.layer_count", MAX_HEADS),
        n_embd=_count(file, "medusa.embedding_length"),
        n_vocab=n_vocab,
        base_name=file.text("medusa.base.name"),
        base_fingerprint=file.text("medusa.base.fingerprint"),
        draft_tokens=draft_tokens,
        name=file.text("general.name"),
        width=file.integer("medusa.feed_forward_length", default=0) if hydra else 0,
        rank=file.integer("medusa.output_rank", default=0) if hydra else 0,
        calibration=_calibration(file, n_heads, min(DEFAULT_TOP_K, n_draft)),
    )


def _variant(file: GgufFile) -> Variant:
    variant = file.text("medusa.variant")
    try:
        return Variant(variant)
    except ValueError:
        raise ModelLoadError(f"{file.path}: unknown variant of heads {variant!r}") from None


def _count(file: GgufFile, key: str, most: int = 2**31 - 1) -> int:
    count = file.integer(key)
    if not 1 <= count <= most:
        raise ModelLoadError(f"{file.path}: {key} is {count}, not from 1 to {most}")
    return count


def _tensor(file: GgufFile, spec: TensorSpec) -> StoredTensor:
    tensor = file.tensor(spec.name)
    if tensor.shape != spec.shape or not tensor.data.size:
        raise ModelLoadError(
            f"{file.path}: the tensor {spec.name} is {tensor.shape}, not {spec.shape}"
        )
    _check_kind(file, spec.name, tensor, MATRIX_KINDS if spec.is_matrix else {Kind.F32})
    return tensor


def _check_kind(
    file: GgufFile, name: str, tensor: StoredTensor, kinds: frozenset[Kind] | set[Kind]
) -> None:
    if tensor.kind not in kinds:
        wanted = ", ".join(sorted(kind.name for kind in kinds))
        raise ModelLoadError(
            f"{file.path}: the tensor {name} is {tensor.kind.name}, not one of {wanted}"
        )


def _draft_tokens(file: GgufFile, n_vocab: int) -> np.ndarray | None:
    """[n_draft] int32, or None where all tokens are proposed."""
    tensor = file.tensors.get("draft_tokens")
    if tensor is None:
        return None
    _check_kind(file, "draft_tokens", tensor, {Kind.I32})
    tokens = np.array(tensor.data)
    if tokens.ndim != 1 or not len(tokens):
        raise ModelLoadError(f"{file.path}: the tensor draft_tokens is {tokens.shape}, not a list")
    if not 0 <= tokens.min() <= tokens.max() < n_vocab:
        raise ModelLoadError(f"{file.path} has draft tokens beyond its vocabulary")
    if len(np.unique(tokens)) < len(tokens):
        raise ModelLoadError(f"{file.path} has a draft token twice")
    return tokens


def _calibration(file: GgufFile, n_heads: int, top_k: int) -> np.ndarray | None:
    """[2, n_heads, top_k or more, BINS] float32, or None where nothing was counted."""
    tensor = file.tensors.get("calibration")
    if tensor is None:
        return None
    _check_kind(file, "calibration", tensor, {Kind.F32})
    table = np.array(tensor.data)
    fits = table.ndim == 4 and table.shape == (2, n_heads, table.shape[2], BINS)
    if not fits or table.shape[2] < top_k:
        raise ModelLoadError(
            f"{file.path}: the tensor calibration is {table.shape}, "
            f"not (2, {n_heads}, {top_k} or more, {BINS})"
        )
    hits, trials = table
    if not (np.isfinite(table).all() and (hits >= 0).all() and (hits <= trials).all()):
        raise ModelLoadError(f"{file.path}: the tensor calibration does not hold hits and trials")
    return table
