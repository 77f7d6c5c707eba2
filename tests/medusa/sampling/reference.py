"""The filters as one would write them down: all sorted, in double precision."""

import numpy as np


def top_k(row: np.ndarray, count: int) -> list[int]:
    order = np.argsort(-row, kind="stable")
    return sorted(order[:count].tolist())


def top_p(row: np.ndarray, likely: np.ndarray, share: float, min_keep: int) -> list[int]:
    order = np.argsort(-likely, kind="stable")
    running = np.cumsum(likely[order], dtype=np.float64)
    count = int(np.searchsorted(running, share * running[-1])) + 1
    return sorted(order[:count].tolist()) if count >= min_keep else top_k(row, min_keep)


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
