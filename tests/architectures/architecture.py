"""What the writer needs to know of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import gguf

Shape = tuple[int, ...]
"""A tensor's sizes in llama.cpp's order: the input of a matrix comes first."""
Tensors = dict[str, Shape]
Metadata = dict[str, int | float | bool | str | list[int]]


@dataclass(frozen=True)
class Architecture:
    """A tiny model of one architecture, as src/models/*.cpp of llama.cpp reads it.

    Args:
        name: general.architecture.
        families: models that people know it by.
        metadata: keys without the architecture's prefix.
        layers: tensors of each layer, without `blk.N.`.
        others: tensors outside of the layers.
        formats: weights in another format than the rest, by the end of their names.
        scales: factors of weights whose size the architecture counts on, likewise.
    """

    name: str
    families: str
    metadata: Metadata
    layers: tuple[Tensors, ...]
    others: Tensors
    formats: Mapping[str, gguf.GGMLQuantizationType] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def tensors(self) -> Tensors:
        """All tensors by their whole names."""
        layers = {
            f"blk.{i}.{name}": shape
            for i, layer in enumerate(self.layers)
            for name, shape in layer.items()
        }
        return {**self.others, **layers}
