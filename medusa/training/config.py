"""What is trained and how: plain data, for which PyTorch is not loaded."""

from dataclasses import dataclass

from medusa.speculation.heads.header import Variant


@dataclass(frozen=True)
class FitConfig:
    """What is trained and how."""

    n_heads: int = 3
    n_layers: int = 1
    variant: Variant = Variant.HYDRA
    width: int = 1536  # of a Hydra cell
    rank: int = 256  # of the Hydra heads' output matrix; 0: the model's lm_head
    draft_vocab: int | None = 8192  # None: the whole vocabulary
    soft_targets: bool = True  # learn the model's distribution, not only its choice
    epochs: int = 3
    batch_size: int = 512
    learning_rate: float = 1e-3
    head_decay: float = 0.8  # head k's loss counts head_decay^k, as in the Medusa paper
    seed: int = 0
