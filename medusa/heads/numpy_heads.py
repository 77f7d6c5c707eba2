"""The forward pass of Medusa heads in NumPy: the reference for every faster one."""

from collections.abc import Callable

import numpy as np

from medusa.heads.weights import HeadWeights
from medusa.tree import Proposals

DEFAULT_TOP_K = 6


class NumpyHeads:
    """Heads ready to propose.

    Args:
        weights: the heads.
        lm_head: gives rows of the base model's output matrix, [n] ids (None: all) ->
            [n, n_embd] float32; needed by the shared variant only.
        top_k: guesses per head.
    """

    def __init__(
        self,
        weights: HeadWeights,
        lm_head: Callable[[np.ndarray | None], np.ndarray] | None = None,
        top_k: int = DEFAULT_TOP_K,
    ) -> None:
        self.weights = weights
        self.n_heads = weights.n_heads
        self._top_k = min(top_k, weights.n_draft)
        # [n_layers, n_heads, n_embd, n_embd], transposed once so that rows multiply from the left
        self._blocks = np.ascontiguousarray(weights.block_weights.transpose(1, 0, 3, 2))
        self._biases = np.ascontiguousarray(weights.block_biases.transpose(1, 0, 2))[:, :, None]
        if weights.outputs is not None:
            outputs = weights.outputs
        elif lm_head is not None:
            outputs = lm_head(weights.draft_tokens)[None]
        else:
            raise ValueError("heads that share the base model's lm_head need it")
        # [1 or n_heads, n_embd, n_draft]
        self._outputs = np.ascontiguousarray(outputs.transpose(0, 2, 1))

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """Scores of the draft tokens. [n_slots, n_embd] -> [n_heads, n_slots, n_draft] float32."""
        n_slots, n_embd = hidden.shape
        x = np.broadcast_to(hidden, (self.n_heads, n_slots, n_embd))
        for weight, bias in zip(self._blocks, self._biases, strict=True):
            x = x + _silu(x @ weight + bias)
        if len(self._outputs) == 1:
            rows = x.reshape(-1, n_embd) @ self._outputs[0]
            return rows.reshape(self.n_heads, n_slots, -1)
        return x @ self._outputs

    def propose(self, hidden: np.ndarray) -> list[Proposals]:
        """The best guesses of every head for every slot. hidden: [n_slots, n_embd] float32."""
        scores = self.logits(hidden)
        top = scores.max(axis=-1, keepdims=True)
        mass = np.exp(scores - top).sum(axis=-1, keepdims=True)
        ids, values = _top_k(scores, self._top_k)
        probs = np.exp(values - top) / mass
        if self.weights.draft_tokens is not None:
            ids = self.weights.draft_tokens[ids]
        return [Proposals(ids[:, slot], probs[:, slot]) for slot in range(len(hidden))]


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest k along the last axis, descending. `scores` is overwritten.

    k passes of argmax beat a partition for the small k used here.
    """
    flat = scores.reshape(-1, scores.shape[-1])
    rows = np.arange(len(flat))
    ids = np.empty((len(flat), k), np.int32)
    values = np.empty((len(flat), k), np.float32)
    for rank in range(k):
        best = flat.argmax(axis=1)
        ids[:, rank] = best
        values[:, rank] = flat[rows, best]
        flat[rows, best] = -np.inf
    shape = (*scores.shape[:-1], k)
    return ids.reshape(shape), values.reshape(shape)
