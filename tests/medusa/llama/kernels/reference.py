"""The same arithmetic in float64, from the definition of the formats."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt

from medusa.llama.gguf_files import Kind
from medusa.llama.kernels.operations import Attention

Float64Array = npt.NDArray[np.float64]


def dequantise(kind: Kind, weights: npt.NDArray[np.uint8], k: int) -> Float64Array:
    """[rows, bytes] -> [rows, k], by gguf's implementation of the formats."""
    return gguf.dequantize(weights, kind).reshape(-1, k).astype(np.float64)


def quantise_activations(x: npt.NDArray[np.float32]) -> Float64Array:
    """Blocks of 32 in 8 bits with an f32 scale, back as float64; x: [n, k]."""
    blocks = x.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    q = np.rint(blocks * inverse.astype(np.float32))
    scale = largest / np.float32(127)
    result: Float64Array = (q.astype(np.float64) * scale.astype(np.float64)).reshape(x.shape)
    return result


def attention(a: Attention) -> Float64Array:
    """The same shape as operations.attention."""
    heads, group = len(a.q), len(a.q) // len(a.k)
    keys, values = (np.repeat(cache_values(a.kind, t), group, axis=0) for t in (a.k, a.v))
    scores = np.einsum("hnd,hcd->hnc", a.q.astype(np.float64), keys) * a.scale
    if a.soft_cap:
        scores = a.soft_cap * np.tanh(scores / a.soft_cap)
    scores += slopes(a.max_bias, heads)[:, None, None] * a.mask.astype(np.float64)
    sinks = np.full(heads, -np.inf) if a.sinks is None else a.sinks.astype(np.float64)
    largest = np.maximum(scores.max(axis=-1), sinks[:, None])[:, :, None]
    weights = np.exp(scores - largest)
    weights /= weights.sum(axis=-1, keepdims=True) + np.exp(sinks[:, None, None] - largest)
    result: Float64Array = np.einsum("hnc,hcd->nhd", weights, values)
    return result


def cache_values(kind: Kind, stored: np.ndarray) -> Float64Array:
    """[kv_heads, cells, size] of what a cache of that kind stores."""
    if kind == Kind.F16:
        return stored.astype(np.float64)
    return gguf.dequantize(stored, kind).astype(np.float64)


def slopes(max_bias: float, heads: int) -> Float64Array:
    """ALiBi's, as in llama.cpp: [heads]; all 1 without."""
    if not max_bias:
        return np.ones(heads)
    n = 1 << (heads.bit_length() - 1)
    first, second = 2 ** (-max_bias / n), 2 ** (-max_bias / 2 / n)
    return np.array(
        [first ** (h + 1) if h < n else second ** (2 * (h - n) + 1) for h in range(heads)]
    )
