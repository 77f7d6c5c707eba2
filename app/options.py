"""What the user chose on the command line, checked once and then passed on as plain values."""

from dataclasses import dataclass
from pathlib import Path

from medusa.llama.params import CacheType
from medusa.speculation.heads.header import Variant
from models import DEFAULT_MODEL


@dataclass(frozen=True)
class ModelOptions:
    """How a model is run. None means: decide by machine and model."""

    model: str = DEFAULT_MODEL
    parallel: int = 8
    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    heads: str = "auto"  # auto, none, or a path
    draft_nodes: int = 16
    lookup: bool = True
    tree: Path | None = None  # JSON list of Medusa choices; None: grown by what guesses are worth
    max_queue: int = 128
    max_stall_ms: float = 250.0
    chat_template: Path | None = None
    cache_type: CacheType = CacheType.F16


@dataclass(frozen=True)
class ServerOptions:
    """How the HTTP server behaves."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    model_name: str | None = None  # None: the catalogue's or the file's name


@dataclass(frozen=True)
class TrainOptions:
    """What heads are trained, on what."""

    prompts: Path
    out: Path
    tokens: int
    variant: Variant
    n_heads: int
    n_layers: int
    width: int
    rank: int
    draft_vocab: int | None
    epochs: int
