"""The number formats a converted model can be written in.

gguf is loaded only where it is asked: the command line shows these names in its help texts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gguf


class OutType(StrEnum):
    """Names as users type them."""

    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"

    @property
    def is_float(self) -> bool:
        """Whether it is written directly, without llama.cpp's quantiser."""
        return self in (OutType.F16, OutType.BF16)

    @property
    def file_type(self) -> gguf.LlamaFileType:
        """The number that llama.cpp knows it by."""
        import gguf

        return gguf.LlamaFileType[f"MOSTLY_{self.name}"]

    @property
    def bytes_per_weight(self) -> float:
        """Size of a model divided by its weights, roughly."""
        return {
            OutType.F16: 2.0,
            OutType.BF16: 2.0,
            OutType.Q8_0: 1.07,
            OutType.Q6_K: 0.83,
            OutType.Q5_K_M: 0.72,
            OutType.Q4_K_M: 0.62,
            OutType.Q4_0: 0.58,
        }[self]


class HeadsOutType(StrEnum):
    """Formats of a heads file's matrices."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"

    @property
    def tensor_type(self) -> gguf.GGMLQuantizationType:
        """The type of each matrix."""
        import gguf

        return gguf.GGMLQuantizationType[self.name]
