"""Tiny models for what depends on more than there being one: long answers, exact ones."""

import struct
from pathlib import Path

from medusa.llama.quantising import quantize
from tests.app.tiny_model import write_tiny_model

FTYPE_Q8_0 = 7  # LLAMA_FTYPE_MOSTLY_Q8_0


def write_long_model(path: Path, n_ctx: int) -> None:
    """Write a tiny model that answers until so many tokens are reached."""
    write_tiny_model(path)
    data = bytearray(path.read_bytes())
    key = b"llama.context_length"
    struct.pack_into("<I", data, data.index(key) + len(key) + 4, n_ctx)
    path.write_bytes(data)


def write_exact_model(path: Path) -> None:
    """Write one that our kernels compute in every part, so that no answer depends on the batch."""
    f32 = path.with_suffix(".f32")
    write_tiny_model(f32)
    quantize(f32, path, FTYPE_Q8_0, threads=1)
    f32.unlink()
