"""Recorded answers as arrays to learn from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from medusa.training.shards import Answer, ShardStore

SEGMENT = 16
"""Positions that are learnt from together: neighbours share the model's own distributions."""


@dataclass(frozen=True)
class Window:
    """Positions of some segments, flattened, and what lies ahead of them.

    Head k of position i guesses the token that the model wrote at i + k + 1, having seen those at
    i .. i + k.
    """

    hidden: torch.Tensor  # [n, n_embd] float32
    tokens: torch.Tensor  # [n_heads, n] int64: head k sees tokens[: k + 1]
    targets: torch.Tensor  # [n_heads, n] int64
    valid: torch.Tensor  # [n_heads, n] bool: the target is in the same answer
    hidden_ahead: torch.Tensor  # [m, n_embd] float32: hidden states of the segments and beyond
    ahead: torch.Tensor  # [n_heads, n] int64: the row of hidden_ahead that wrote the target


@dataclass(frozen=True)
class Dataset:
    """Answers one after the other: the model wrote token i from hidden state i."""

    hidden: np.ndarray  # [n, n_embd] float16
    tokens: np.ndarray  # [n] int32
    ends: np.ndarray  # [n] int64: where the answer of position i ends

    @classmethod
    def join(cls, answers: list[Answer]) -> "Dataset":
        """Put answers together."""
        lengths = np.array([len(a.tokens) for a in answers])
        return cls(
            np.concatenate([a.hidden for a in answers]),
            np.concatenate([a.tokens for a in answers]),
            np.repeat(lengths.cumsum(), lengths),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def hidden_sample(self, count: int) -> torch.Tensor:
        """At most `count` hidden states from everywhere, [n, n_embd] float32."""
        rows = self.hidden[:: -(-len(self) // count)]
        return torch.from_numpy(rows.astype(np.float32))

    def n_batches(self, batch_size: int) -> int:
        """Batches of a pass over all whole segments."""
        segments = max(1, len(self) // SEGMENT)
        return -(-segments // max(1, batch_size // SEGMENT))

    def shuffled_batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Starts of segments, about batch_size positions at a time, each once."""
        starts = rng.permutation(max(1, len(self) // SEGMENT)) * SEGMENT
        if len(self) > SEGMENT:
            starts += rng.integers(0, len(self) % SEGMENT + 1)
        yield from np.array_split(starts, self.n_batches(batch_size))

    def window(self, starts: np.ndarray, n_heads: int) -> Window:
        """The segments at `starts`, and what heads should guess there."""
        last = len(self) - 1
        span = SEGMENT + n_heads
        wide = np.minimum(starts[:, None] + np.arange(span), last)  # [segments, span]
        here = np.minimum(starts[:, None] + np.arange(SEGMENT), last).ravel()
        place = (np.arange(len(starts))[:, None] * span + np.arange(SEGMENT)).ravel()
        heads = np.arange(n_heads)[:, None]
        ahead = here + heads + 1
        valid = ahead < self.ends[here]

        def tokens_at(places: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(self.tokens[np.minimum(places, last)].astype(np.int64))

        return Window(
            hidden=torch.from_numpy(self.hidden[here].astype(np.float32)),
            tokens=tokens_at(here + heads),
            targets=tokens_at(ahead),
            valid=torch.from_numpy(valid),
            hidden_ahead=torch.from_numpy(self.hidden[wide.ravel()].astype(np.float32)),
            ahead=torch.from_numpy(place + heads + 1),
        )


def load_datasets(store: ShardStore) -> tuple[Dataset, Dataset]:
    """Training and held-out positions from recorded answers.

    Raises:
        ValueError: there is nothing to train on or nothing to measure on.
    """
    parts: tuple[list[Answer], list[Answer]] = ([], [])
    for answer in store.read():
        parts[answer.held_out].append(answer)
    if not parts[False] or not parts[True]:
        raise ValueError(f"{store.folder} holds too few answers to train and to measure on")
    return Dataset.join(parts[False]), Dataset.join(parts[True])


def frequent_tokens(tokens: np.ndarray, count: int, n_vocab: int) -> np.ndarray:
    """The `count` tokens seen most often, ascending by id."""
    seen = np.bincount(tokens, minlength=n_vocab)
    return np.sort(np.argsort(-seen, kind="stable")[:count]).astype(np.int32)
