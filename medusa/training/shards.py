"""Recorded answers on disk: what the model wrote and the hidden states it wrote it from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medusa.files import whole_file

HELD_OUT_EVERY = 20
"""Every 20th prompt is never trained on."""


@dataclass(frozen=True)
class Answer:
    """One recorded answer: token i was sampled from hidden state i."""

    number: int  # counts up over all answers ever asked for
    prompt: int  # index of its prompt
    tokens: np.ndarray  # [n] int32
    hidden: np.ndarray  # [n, n_embd] float16

    @property
    def held_out(self) -> bool:
        """Whether the answer is kept for measuring; a split by prompt."""
        return self.prompt % HELD_OUT_EVERY == 0


def load_prompts(path: Path) -> list[str]:
    """Read prompts from JSON lines, one object with a string "prompt" a line.

    Raises:
        ValueError: a line is something else; says which.
    """
    prompts = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                prompt = json.loads(line)["prompt"]
            except (ValueError, KeyError, TypeError):
                prompt = None
            if not isinstance(prompt, str) or not prompt:
                raise ValueError(f'{path}:{number}: expected {{"prompt": "text"}}')
            prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{path} holds no prompts")
    return prompts


class ShardStore:
    """A folder of shards. A shard is written at once, so an interrupted run loses one at most."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, answers: Sequence[Answer]) -> None:
        """Add a shard."""
        path = self.folder / f"shard-{len(self._paths()):05d}.npz"
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                numbers=np.array([a.number for a in answers], np.int32),
                prompts=np.array([a.prompt for a in answers], np.int32),
                lengths=np.array([len(a.tokens) for a in answers], np.int32),
                tokens=np.concatenate([a.tokens for a in answers]),
                hidden=np.concatenate([a.hidden for a in answers]),
            )

    def read(self) -> Iterator[Answer]:
        """All answers, shard by shard."""
        for path in self._paths():
            with np.load(path) as shard:
                numbers, prompts = shard["numbers"].tolist(), shard["prompts"].tolist()
                ends = np.cumsum(shard["lengths"]).tolist()
                tokens, hidden = shard["tokens"], shard["hidden"]
            start = 0
            for number, prompt, end in zip(numbers, prompts, ends, strict=True):
                yield Answer(number, prompt, tokens[start:end], hidden[start:end])
                start = end

    def progress(self) -> tuple[int, int]:
        """Tokens recorded so far, and the number of the next answer."""
        n_tokens, number = 0, 0
        for path in self._paths():
            with np.load(path) as shard:
                n_tokens += int(shard["lengths"].sum())
                number = max(number, int(shard["numbers"].max()) + 1)
        return n_tokens, number

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.npz"))
