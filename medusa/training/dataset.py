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

    hidden: torch.Tensor  # [n, n_embd] float16
    tokens: torch.Tensor  # [n] int64
    ends: torch.Tensor  # [n] int64: where the answer of position i ends

    @classmethod
    def join(cls, answers: list[Answer]) -> "Dataset":
        """Put answers together."""
        lengths = np.array([len(a.tokens) for a in answers])
        return cls(
            torch.from_numpy(np.concatenate([a.hidden for a in answers])),
            torch.from_numpy(np.concatenate([a.tokens for a in answers])).long(),
            torch.from_numpy(np.repeat(lengths.cumsum(), lengths)),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Dataset":
        """The same in that device's memory, where windows are taken then."""
        return Dataset(self.hidden.to(device), self.tokens.to(device), self.ends.to(device))

    def hidden_sample(self, count: int) -> torch.Tensor:
        """At most `count` hidden states from everywhere, [n, n_embd] float32."""
        return self.hidden[:: -(-len(self) // count)].float()

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
        last, device = len(self) - 1, self.hidden.device
        span = SEGMENT + n_heads
        first = torch.from_numpy(starts).to(device)[:, None]
        wide = (first + torch.arange(span, device=device)).clamp(max=last)  # [segments, span]
        inside = torch.arange(SEGMENT, device=device)
        here = (first + inside).clamp(max=last).flatten()
        segments = torch.arange(len(starts), device=device)[:, None]
        place = (segments * span + inside).flatten()
        heads = torch.arange(n_heads, device=device)[:, None]
        ahead = here + heads + 1
        return Window(
            hidden=self.hidden[here].float(),
            tokens=self.tokens[(here + heads).clamp(max=last)],
            targets=self.tokens[ahead.clamp(max=last)],
            valid=ahead < self.ends[here],
            hidden_ahead=self.hidden[wide.flatten()].float(),
            ahead=place + heads + 1,
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
