"""Writing a GGUF tensor by tensor: first what there will be, then one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gguf
import numpy as np

Kind = gguf.GGMLQuantizationType
"""How the numbers of a tensor are stored."""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes there are."""


def row_width(kind: Kind, data: np.ndarray) -> int:
    """How many numbers a row has, data [..., numbers of a row, or its bytes where quantised]."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return data.shape[-1] * data.itemsize // block_bytes * block


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF to be. `make` computes it, [*shape] in the layout of `kind`."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    make: Callable[[], np.ndarray]

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // block * block_bytes


def write_tensors(
    writer: gguf.GGUFWriter, tensors: Sequence[PlannedTensor], on_progress: Progress
) -> None:
    """Write header, metadata and tensors, holding one tensor in memory at a time. Closes the file.

    Args:
        writer: with the path, and all metadata added.
        tensors: in file order.
        on_progress: told after every tensor.
    """
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, tensor.kind
        )
    total = sum(tensor.n_bytes for tensor in tensors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, tensor in _with_bytes_done(tensors):
            writer.write_tensor_data(tensor.make())
            on_progress(done, total)
    finally:
        writer.close()


def _with_bytes_done(tensors: Sequence[PlannedTensor]) -> Iterator[tuple[int, PlannedTensor]]:
    done = 0
    for tensor in tensors:
        done += tensor.n_bytes
        yield done, tensor
