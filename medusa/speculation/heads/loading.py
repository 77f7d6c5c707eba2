"""From a heads file to something that proposes."""

import logging
from pathlib import Path

from medusa.errors import HeadsMismatchError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.ggml import GgmlUnavailableError
from medusa.llama.model import Model
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads

log = logging.getLogger(__name__)


def load_heads(path: Path, model: Model, n_threads: int = 1) -> Heads:
    """Read Medusa heads for `model`, to be run by ggml or, where that cannot be used, by NumPy.

    Raises:
        ModelLoadError: the file cannot be read, or something in it is not as it should be.
        HeadsMismatchError: the heads were made for another base model, or it can have none.
    """
    can = model.capabilities
    if not can.gives_hidden_states:
        raise HeadsMismatchError(
            f"{can.architecture} can have no Medusa heads: they read the input of lm_head, which "
            "llama.cpp does not give for this model beside logits"
        )
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
