"""The same arithmetic in float64, from the definition of the formats."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt

from medusa.llama.gguf_files import Kind

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


def attention(
    q: npt.NDArray[np.float32],
    k: npt.NDArray[np.float16],
    v: npt.NDArray[np.float16],
    mask: npt.NDArray[np.float16],
    scale: float,
) -> Float64Array:
    """Shapes as in operations.attention."""
    group = len(q) // len(k)
    keys, values = (np.repeat(t.astype(np.float64), group, axis=0) for t in (k, v))
    scores = np.einsum("hnd,hcd->hnc", q.astype(np.float64), keys) * scale + mask.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    result: Float64Array = np.einsum("hnc,hcd->nhd", weights, values)
    return result
