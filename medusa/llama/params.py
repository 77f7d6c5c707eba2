"""How a model and its context are set up: plain data, for which nothing native is loaded."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SEQUENCES = 256
"""LLAMA_MAX_SEQ: most sequence ids one context can hold."""

MAX_THREADS = 512
"""GGML_MAX_N_THREADS."""

ALL_LAYERS = -1
"""As a number of layers on devices: all there are."""

MAX_DEVICES = 16
"""llama_max_devices."""


class SplitMode(StrEnum):
    """How a model is split among devices."""

    NONE = "none"
    LAYER = "layer"
    ROW = "row"


@dataclass(frozen=True)
class Placement:
    """Which devices hold how much of a model, in llama-server's terms."""

    gpu_layers: int | None = None  # None: as many as fit
    devices: tuple[str, ...] | None = None  # names; None: all there are
    split_mode: SplitMode = SplitMode.LAYER
    tensor_split: tuple[float, ...] = ()  # each device's share; empty: by free memory
    main_gpu: int = 0  # index of the only device without a split


ON_CPU = Placement(gpu_layers=0)
"""No layers on devices; large products may still go to a GPU."""


class CacheType(StrEnum):
    """Number format of the KV cache."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"


@dataclass(frozen=True)
class ContextParams:
    """How a context is set up. Lengths are in tokens."""

    n_ctx: int
    n_seq_max: int
    n_batch: int
    n_threads: int
    flash_attention: bool | None = None  # None: llama.cpp decides, on with our CPU kernels
    cache_type: CacheType = CacheType.F16
    n_rs_seq: int = 0  # snapshots of a sequence's state, one for each token that can be taken back
    swa_full: bool = True  # sliding windows keep the cells of all tokens, not the newest only
