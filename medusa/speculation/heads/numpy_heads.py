"""The forward pass of Medusa heads in NumPy: the reference for every faster one."""

import functools

import numpy as np

from medusa.speculation.heads.guessing import DEFAULT_TOP_K, RMS_EPSILON, BaseRows, Proposals
from medusa.speculation.heads.header import Variant
from medusa.speculation.heads.weights import HeadWeights


class NumpyHeads:
    """Heads ready to propose.

    Args:
        weights: the heads.
        base: the base model's matrices.
        top_k: guesses per head.
    """

    def __init__(self, weights: HeadWeights, base: BaseRows, top_k: int = DEFAULT_TOP_K) -> None:
        self.header = weights.header
        network = _Hydra if self.header.variant is Variant.HYDRA else _Medusa
        self._network: _Hydra | _Medusa = network(weights, base)
        self._top_k = min(top_k, self.header.n_draft)
        self.device = "CPU"
        self.n_bytes = self._network.n_bytes

    def logits(self, hidden: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """Scores of the draft tokens.

        Args:
            hidden: [n_slots, n_embd] float32.
            roots: [n_slots] int32, the token sampled from each.

        Returns:
            [n_heads, n_slots, n_draft] float32. A Hydra head sees the best guess of the one before.
        """
        return self._network.logits(hidden, roots)

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        """The best guesses of every head for every slot. Arguments as for `logits`."""
        return proposals_from(self.logits(hidden, roots), self._top_k, self.header.draft_tokens)


class _Medusa:
    """Heads that see the hidden state alone."""

    def __init__(self, weights: HeadWeights, base: BaseRows) -> None:
        header = weights.header
        heads, layers = range(header.n_heads), range(header.n_layers)
        # per layer [n_heads, n_embd, n_embd], transposed so that rows multiply from the left
        self._blocks = [
            np.stack([weights.values(f"head.{k}.block.{i}.weight").T for k in heads])
            for i in layers
        ]
        self._biases = [
            np.stack([weights.values(f"head.{k}.block.{i}.bias")[None] for k in heads])
            for i in layers
        ]
        if header.variant is Variant.FULL:
            outputs = np.stack([weights.values(f"head.{k}.output.weight") for k in heads])
        else:
            outputs = base.lm_head(header.draft_tokens)[None]
        self._outputs = np.ascontiguousarray(outputs.transpose(0, 2, 1))
        self._n_heads = header.n_heads
        self.n_bytes = _size(*self._blocks, *self._biases, self._outputs)

    def logits(self, hidden: np.ndarray, _roots: np.ndarray) -> np.ndarray:
        n_slots, n_embd = hidden.shape
        x = np.broadcast_to(hidden, (self._n_heads, n_slots, n_embd))
        for weight, bias in zip(self._blocks, self._biases, strict=True):
            x = x + _silu(x @ weight + bias)
        if len(self._outputs) == 1:
            rows = x.reshape(-1, n_embd) @ self._outputs[0]
            return rows.reshape(self._n_heads, n_slots, -1)
        return x @ self._outputs


class _Hydra:
    """Heads that see the tokens before theirs."""

    def __init__(self, weights: HeadWeights, base: BaseRows) -> None:
        header = weights.header
        cells = range(header.n_layers)
        self._in = [np.ascontiguousarray(weights.values(f"cell.{j}.in.weight").T) for j in cells]
        self._bias = [weights.values(f"cell.{j}.in.bias") for j in cells]
        self._out = [np.ascontiguousarray(weights.values(f"cell.{j}.out.weight").T) for j in cells]
        if header.rank:
            outputs = [weights.values(f"output.{part}.weight") for part in ("down", "up")]
        else:
            outputs = [base.lm_head(header.draft_tokens)]
        self._outputs = [np.ascontiguousarray(matrix.T) for matrix in outputs]
        self._draft_tokens = header.draft_tokens
        self._embeddings = base.embeddings
        self._n_heads = header.n_heads
        self.n_bytes = _size(*self._in, *self._bias, *self._out, *self._outputs)

    def logits(self, hidden: np.ndarray, roots: np.ndarray) -> np.ndarray:
        state, tokens, scores = hidden, roots, []
        for head in range(self._n_heads):
            j = min(head, len(self._in) - 1)
            x = np.concatenate([_rms_norm(state), _rms_norm(self._embeddings(tokens))], axis=1)
            state = state + _silu(x @ self._in[j] + self._bias[j]) @ self._out[j]
            scores.append(functools.reduce(np.matmul, self._outputs, state))
            best = scores[-1].argmax(axis=1)
            tokens = best if self._draft_tokens is None else self._draft_tokens[best]
        return np.stack(scores)


def proposals_from(
    scores: np.ndarray, top_k: int, draft_tokens: np.ndarray | None
) -> list[Proposals]:
    """Scores [n_heads, n_slots, n_draft] -> proposals of every slot. `scores` is overwritten."""
    top = scores.max(axis=-1, keepdims=True)
    mass = np.exp(scores - top).sum(axis=-1, keepdims=True)
    ids, values = _top_k(scores, top_k)
    probs = np.exp(values - top) / mass
    if draft_tokens is not None:
        ids = draft_tokens[ids]
    return [Proposals(ids[:, slot], probs[:, slot]) for slot in range(scores.shape[1])]


def _size(*arrays: np.ndarray) -> int:
    return sum(array.nbytes for array in arrays)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _rms_norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + RMS_EPSILON)


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
