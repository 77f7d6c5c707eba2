"""All our configurations: quantisations, kernels, guesses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf

from benchmarks.compare.peers.ours import ours
from benchmarks.compare.peers.peer import Peer
from medusa.llama.quantising import quantize
from models import DEFAULT_MODEL, resolve

SHIPPED = "Q4_1"
_TYPES = ("Q4_0", SHIPPED, "Q8_0")
_STOCK, _OURS, _AVX2 = "llama.cpp's", "ours", "ours, AVX2"
_ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    _STOCK: {"LLAMA_MEDUSA_KERNELS": "off"},
    _OURS: {},
    _AVX2: {"LLAMA_MEDUSA_KERNELS_ISA": "avx2"},
}


@dataclass(frozen=True)
class Cell:
    """One configuration of the default model."""

    type: str
    kernels: str
    guesses: bool

    @property
    def name(self) -> str:
        """In results."""
        return f"{self.type}, {self.kernels} kernels, {'guesses' if self.guesses else 'plain'}"

    def peer(self, model: Path, heads: Path, version: str) -> Peer:
        """A server of this configuration; the heads serve all quantisations."""
        return ours(
            str(model),
            version,
            name=self.name,
            guesses=self.guesses,
            heads=heads,
            environment=_ENVIRONMENTS[self.kernels],
        )


CELLS = tuple(
    Cell(type_, kernels, guesses)
    for type_ in _TYPES
    for kernels in _ENVIRONMENTS
    for guesses in (False, True)
    if kernels != _AVX2 or type_ == SHIPPED
)


@contextmanager
def matrix_peers(version: str) -> Iterator[list[Peer]]:
    """Servers of all cells; what is not shipped is quantised from Q4_1 while the context lasts."""
    files = resolve(DEFAULT_MODEL)
    assert files.heads is not None
    with TemporaryDirectory() as folder:
        paths = {SHIPPED: files.model}
        for name in _TYPES:
            if name != SHIPPED:
                paths[name] = Path(folder) / f"{name}.gguf"
                file_type = int(gguf.LlamaFileType[f"MOSTLY_{name}"])
                quantize(files.model, paths[name], file_type, allow_requantize=True)
        yield [cell.peer(paths[cell.type], files.heads, version) for cell in CELLS]
