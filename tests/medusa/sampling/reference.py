"""The filters as one would write them down: all sorted, in double precision."""

import numpy as np


def weights(row: np.ndarray, temperature: float) -> np.ndarray:
    """[n] float32, as the filters see them; everything else here is about sets."""
    scaled: np.ndarray = row - row.max()
    if temperature != 1.0:
        scaled /= np.float32(temperature)
    likely: np.ndarray = np.exp(scaled)
    return likely


def top_k(row: np.ndarray, count: int) -> list[int]:
    order = np.argsort(-row, kind="stable")
    return sorted(order[:count].tolist())


def top_p(likely: np.ndarray, share: float, min_keep: int) -> list[int]:
    order = np.argsort(-likely, kind="stable")
    running = np.cumsum(likely[order], dtype=np.float64)
    count = int(np.searchsorted(running, share * running[-1])) + 1
    return sorted(order[: max(count, min_keep)].tolist())


def min_p(row: np.ndarray, likely: np.ndarray, share: float, min_keep: int) -> list[int]:
    order = np.argsort(-row, kind="stable")
    count = int(np.count_nonzero(likely >= np.float32(share) * likely.max()))
    return sorted(order[: max(count, min_keep)].tolist())


def draw(likely: np.ndarray, uniform: float) -> int:
    running = np.cumsum(likely, dtype=np.float64)
    return min(
        int(np.searchsorted(running, uniform * running[-1], side="right")),
        int(np.flatnonzero(likely)[-1]),
    )
