"""From a heads file to something that proposes."""

import logging
import time
from pathlib import Path

import numpy as np

from medusa.errors import HeadsMismatchError
from medusa.llama.backend import UnfitError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.ggml import GgmlUnavailableError
from medusa.llama.model import Model
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads
from medusa.speculation.heads.weights import HeadWeights

log = logging.getLogger(__name__)

_ROUNDS = 5


def load_heads(path: Path, model: Model, n_threads: int = 1) -> Heads:
    """Read Medusa heads for `model`, to be run by ggml or, where that cannot be used, by NumPy.

    They run on the device that holds the model's output layer or on the CPU, whichever is faster;
    on the CPU if that device cannot, or if they would leave less of its memory than they take.

    Args:
        path: the heads' file.
        model: what they guess for.
        n_threads: of the CPU, if that runs them.

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
    base = BaseWeights(model.path, model)
    weights = read_fitting_heads(path, model, base)
    try:
        heads = _fastest(weights, base, model.output_device, n_threads)
    except GgmlUnavailableError as error:
        log.warning("heads run in NumPy: %s", error)
        return NumpyHeads(weights, base)
    log.info("heads: %d MB on %s", heads.n_bytes >> 20, heads.device)
    return heads


def read_fitting_heads(path: Path, model: Model, base: BaseWeights) -> HeadWeights:
    """Read Medusa heads that were made for `model`.

    Args:
        path: the heads' file.
        model: what they guess for.
        base: its weights.

    Raises:
        ModelLoadError: the file cannot be read, or something in it is not as it should be.
        HeadsMismatchError: the heads were made for another base model.
    """
    weights = read_heads(path)
    weights.header.check_fits(
        n_embd=model.n_embd,
        n_vocab=model.n_vocab,
        base_fingerprint=fingerprint(model, base),
        base_name=model.metadata("general.name") or model.path.name,
    )
    return weights


def _fastest(
    weights: HeadWeights, base: BaseWeights, device: str | None, n_threads: int
) -> GgmlHeads:
    here = GgmlHeads(weights, base, n_threads=n_threads)
    if device is None:
        return here
    try:
        there = _on_device(weights, base, device)
    except (UnfitError, MemoryError) as problem:
        log.warning("heads run on the CPU: %s", problem)
        return here
    faster, slower = sorted((there, here), key=_seconds)
    slower.close()
    return faster


def _seconds(heads: GgmlHeads) -> float:
    """What guessing for one request takes there, the way there and back included."""
    hidden, roots = np.zeros((1, heads.header.n_embd), np.float32), np.zeros(1, np.int32)
    heads.propose(hidden, roots)  # the first one also warms up
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        heads.propose(hidden, roots)
        times.append(time.perf_counter() - began)
    log.info("heads on %s: %.2f ms", heads.device, 1e3 * min(times))
    return min(times)


def _on_device(weights: HeadWeights, base: BaseWeights, device: str) -> GgmlHeads:
    heads = GgmlHeads(weights, base, device=device)
    taken, left = heads.n_bytes, heads.free_bytes
    if left is not None and left < taken:
        heads.close()
        raise MemoryError(f"of {device}'s memory they take {taken >> 20} MB and leave {left >> 20}")
    return heads
