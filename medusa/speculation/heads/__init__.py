"""Medusa heads: small networks on the model's last hidden state that guess the next tokens.

`load_heads` reads a heads file, checks that it fits the base model, and gives back something that
proposes. header.py and weights.py hold the file format, numpy_heads.py the forward pass as the
reference and ggml_heads.py the one that serves.
"""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np

from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.ggml import GgmlUnavailableError
from medusa.llama.model import Model
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.weights import HeadWeights, read_heads
from medusa.speculation.tree import Proposals

__all__ = [
    "GgmlHeads",
    "HeadWeights",
    "Heads",
    "HeadsHeader",
    "NumpyHeads",
    "Variant",
    "load_heads",
]

log = logging.getLogger(__name__)


class Heads(Protocol):
    """Something that guesses the tokens after the next one."""

    @property
    def header(self) -> HeadsHeader:
        """What the heads are."""
        ...

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        """Guesses for several slots at once.

        Args:
            hidden: [n_slots, n_embd] float32, each slot's last hidden state.
            roots: [n_slots] int32, the token sampled from each.
        """
        ...


def load_heads(path: Path, model: Model, n_threads: int = 1) -> Heads:
    """Read Medusa heads for `model`, to be run by ggml or, where that cannot be used, by NumPy.

    Raises:
        ModelLoadError: the file cannot be read.
        HeadsMismatchError: the heads were made for another base model.
    """
    weights = read_heads(path)
    base = BaseWeights(model.path)
    weights.header.check_fits(
        n_embd=model.n_embd,
        n_vocab=model.n_vocab,
        base_fingerprint=fingerprint(model, base),
        base_name=model.metadata("general.name") or model.path.name,
    )
    try:
        return GgmlHeads(weights, base, n_threads)
    except GgmlUnavailableError as error:
        log.warning("heads run in NumPy: %s", error)
        return NumpyHeads(weights, base)
