"""How well heads guess held-out tokens, and how far their probabilities can be trusted."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from medusa.speculation.calibration import BINS, bin_of
from medusa.speculation.heads.guessing import DEFAULT_TOP_K
from medusa.speculation.heads.header import HeadsHeader
from medusa.training.dataset import SEGMENT, Dataset
from medusa.training.modules import BaseMatrices, HeadsModule


@dataclass(frozen=True)
class Evaluation:
    """Counts over held-out positions. Head k is judged where the tokens before its own are right,
    which in recorded answers they always are."""

    accuracy: np.ndarray  # [n_heads, top_k]: the target is among the best 1, 2, ... guesses
    hits: np.ndarray  # [n_heads, top_k, bins]: guesses of that rank and probability that were right
    trials: np.ndarray  # [n_heads, top_k, bins]

    def calibrated(self, header: HeadsHeader) -> HeadsHeader:
        """The header with the counts as its calibration."""
        return replace(header, calibration=np.stack([self.hits, self.trials]).astype(np.float32))


def evaluate(module: HeadsModule, matrices: BaseMatrices, data: Dataset) -> Evaluation:
    """Let heads guess all of `data`."""
    counts: list[np.ndarray] = []
    with torch.no_grad():
        for starts in np.array_split(np.arange(0, len(data), SEGMENT), -(-len(data) // 2048)):
            counts.append(_count(module, matrices, data, starts))
    hits, trials = np.sum(counts, axis=0)
    right = hits.sum(axis=2).cumsum(axis=1)
    tried = np.maximum(trials.sum(axis=2), 1)
    return Evaluation(right / tried, hits, trials)


def _count(
    module: HeadsModule, matrices: BaseMatrices, data: Dataset, starts: np.ndarray
) -> np.ndarray:
    """[2, n_heads, top_k, bins]: hits and trials."""
    n_heads = module.n_heads
    window = data.window(starts, n_heads)
    scores = module(window.hidden, matrices.embeddings(window.tokens))
    counts = np.zeros((2, n_heads, DEFAULT_TOP_K, BINS))
    for head in range(n_heads):
        valid = window.valid[head]
        probs = torch.softmax(scores[head][valid], dim=1)
        best = probs.topk(min(DEFAULT_TOP_K, probs.shape[1]), dim=1)
        wanted = matrices.to_draft[window.targets[head][valid]][:, None]
        right = (best.indices == wanted).cpu().numpy()
        bins = bin_of(best.values.cpu().numpy())
        for rank in range(right.shape[1]):
            np.add.at(counts[0, head, rank], bins[:, rank], right[:, rank])
            np.add.at(counts[1, head, rank], bins[:, rank], 1)
    return counts
