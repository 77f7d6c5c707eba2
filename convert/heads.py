"""Official Medusa heads -> a heads file for one base model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gguf
import numpy as np

from convert.draft_vocabulary import choose_draft_tokens
from convert.errors import CheckpointError, ConversionError
from convert.files.disk import require_disk
from convert.files.official_heads import OfficialHeads, read_official_heads
from convert.files.tensors import StoredTensor
from convert.outtypes import HeadsOutType
from medusa.errors import HeadsMismatchError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.gguf_files import Progress
from medusa.llama.model import Model
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import layout, stream_heads


@dataclass(frozen=True)
class HeadsConversion:
    """What to convert, to what.

    `source` is a folder or a file, `base` the GGUF of the model that the heads belong to.
    `draft_vocab` limits the heads to that many tokens, the most frequent ones of `draft_text`.
    """

    source: Path
    base: Path
    out: Path
    outtype: HeadsOutType
    name: str
    draft_vocab: int | None = None
    draft_text: str = ""


def convert_heads(job: HeadsConversion, on_progress: Progress = lambda done, total: None) -> None:
    """Write the heads file.

    Raises:
        CheckpointError: the heads' file is missing or damaged.
        ConversionError: the hidden size does not fit the type asked for.
        HeadsMismatchError: the heads do not fit the base model.
        ModelLoadError: the base model cannot be read.
        DiskSpaceError: there is no room for the output.
    """
    official = read_official_heads(job.source)
    base = Model(job.base)
    try:
        header = _header(official, base, job)
    finally:
        base.close()
    require_disk(job.out.parent, _n_bytes(header, job.outtype), f"writing {job.out.name}")
    job.out.parent.mkdir(parents=True, exist_ok=True)
    stream_heads(
        job.out,
        header,
        _sources(official, header),
        kind=job.outtype.tensor_type,
        on_progress=on_progress,
    )


def _header(official: OfficialHeads, base: Model, job: HeadsConversion) -> HeadsHeader:
    base_name = base.metadata("general.name") or job.base.stem
    _check_fits(official, base, base_name)
    _check_block_size(job.outtype, official.n_embd)
    draft_tokens = None
    if job.draft_vocab is not None and job.draft_vocab < base.n_vocab:
        draft_tokens = choose_draft_tokens(base, job.draft_vocab, job.draft_text)
    return HeadsHeader(
        n_heads=len(official.block_weights),
        n_layers=len(official.block_weights[0]),
        n_embd=official.n_embd,
        n_vocab=base.n_vocab,
        variant=Variant.FULL if official.outputs else Variant.SHARED,
        base_name=base_name,
        base_fingerprint=fingerprint(base, BaseWeights(job.base)),
        draft_tokens=draft_tokens,
        name=job.name,
    )


def _check_fits(official: OfficialHeads, base: Model, base_name: str) -> None:
    if official.n_embd != base.n_embd:
        raise HeadsMismatchError(
            f"the heads read hidden states of width {official.n_embd}, those of {base_name!r} "
            f"have {base.n_embd}"
        )
    rows = official.outputs[0].shape[0] if official.outputs else base.n_vocab
    if rows != base.n_vocab:
        raise HeadsMismatchError(
            f"the heads guess from {rows:,} tokens, {base_name!r} has {base.n_vocab:,}"
        )


def _check_block_size(outtype: HeadsOutType, n_embd: int) -> None:
    block, _ = gguf.GGML_QUANT_SIZES[outtype.tensor_type]
    if n_embd % block:
        raise ConversionError(
            f"{outtype.value} needs a hidden size that is a multiple of {block}, this one is "
            f"{n_embd}; use f16"
        )


def _n_bytes(header: HeadsHeader, outtype: HeadsOutType) -> int:
    weights = sum(math.prod(spec.shape) for spec in layout(header) if spec.is_matrix)
    block, block_bytes = gguf.GGML_QUANT_SIZES[outtype.tensor_type]
    return weights // block * block_bytes


def _sources(official: OfficialHeads, header: HeadsHeader) -> dict[str, Callable[[], np.ndarray]]:
    """Each tensor of the heads file; read when asked for."""
    sources: dict[str, Callable[[], np.ndarray]] = {}
    for k in range(header.n_heads):
        for i in range(header.n_layers):
            block = f"head.{k}.block.{i}"
            sources[f"{block}.weight"] = partial(_values, official.block_weights[k][i])
            sources[f"{block}.bias"] = partial(_values, official.block_biases[k][i])
        if official.outputs:
            output = partial(_values, official.outputs[k], header.draft_tokens)
            sources[f"head.{k}.output.weight"] = output
    return sources


def _values(tensor: StoredTensor, rows: np.ndarray | None = None) -> np.ndarray:
    values = tensor.float32(rows)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{tensor.name} holds numbers that are not finite")
    return values
