"""Training Medusa heads on recorded answers (PyTorch, the [train] extra)."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from medusa.files import whole_file
from medusa.speculation.heads.guessing import BaseRows
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import HeadWeights
from medusa.training.config import FitConfig
from medusa.training.dataset import Dataset, Window, frequent_tokens, load_datasets
from medusa.training.evaluate import Evaluation, evaluate
from medusa.training.modules import BaseMatrices, HeadsModule, make_module
from medusa.training.shards import ShardStore

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

_BFLOAT16_IS_FAST = _DEVICE.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
"""Where the CPU multiplies bfloat16 itself, a step takes a quarter of the time."""

_BLOCK = 32  # of the quantised types

_SAMPLE = 32_768
"""Hidden states that the low-rank output matrix is fitted to at the start."""


@dataclass(frozen=True)
class Base:
    """The model that the heads are for."""

    rows: BaseRows
    n_vocab: int
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Fitted:
    """Trained weights and how well they guess held-out tokens."""

    weights: HeadWeights
    evaluation: Evaluation
    n_trained: int
    n_held_out: int


def fit(
    store: ShardStore,
    base: Base,
    config: FitConfig,
    checkpoint: Path,
    on_progress: Callable[[float, str], None] = lambda _fraction, _note: None,
    *,
    start: HeadWeights | None = None,
) -> Fitted:
    """Train heads, on the GPU that PyTorch sees or on the CPU.

    An interrupted run goes on from its last whole epoch.

    Args:
        store: recorded answers.
        base: the model that wrote them.
        config: what to train.
        checkpoint: file that holds the state between epochs.
        on_progress: told the fraction done (0 to 1) and a short note.
        start: heads of the same model to go on from. What they are they stay, whatever `config`
            says of variant, sizes and draft vocabulary.

    Raises:
        ValueError: too little data.
    """
    train, held_out = load_datasets(store)
    header = _new_header(base, config, train) if start is None else start.header
    torch.manual_seed(config.seed)
    matrices = BaseMatrices.read(base.rows, header)
    module = make_module(header, matrices, train.hidden_sample(_SAMPLE))
    if start is not None:
        module.load(start)
    module = module.to(_DEVICE)
    matrices, train, held_out = matrices.to(_DEVICE), train.to(_DEVICE), held_out.to(_DEVICE)
    settings = f"{config} {len(train)} {None if start is None else _checksum(start)}"
    trainer = _Trainer(module, matrices, config, _Checkpoint(checkpoint, settings))
    trainer.run(train, held_out, on_progress)
    evaluation = evaluate(module, matrices, held_out)
    weights = HeadWeights.of(evaluation.calibrated(header), module.tensors())
    return Fitted(weights, evaluation, len(train), len(held_out))


def _new_header(base: Base, config: FitConfig, train: Dataset) -> HeadsHeader:
    draft_tokens = None
    if config.draft_vocab is not None and config.draft_vocab < base.n_vocab:
        draft_tokens = frequent_tokens(train.tokens.numpy(), config.draft_vocab, base.n_vocab)
    hydra, n_embd = config.variant is Variant.HYDRA, train.hidden.shape[1]
    return HeadsHeader(
        variant=config.variant,
        n_heads=config.n_heads,
        n_layers=config.n_layers,
        n_embd=n_embd,
        n_vocab=base.n_vocab,
        base_name=base.name,
        base_fingerprint=base.fingerprint,
        draft_tokens=draft_tokens,
        name=f"Medusa heads for {base.name}",
        width=config.width if hydra else 0,
        rank=_fitting_rank(config.rank, n_embd, config.draft_vocab) if hydra else 0,
    )


def _checksum(heads: HeadWeights) -> int:
    return zlib.crc32(b"".join(heads.values(name).tobytes() for name in sorted(heads.tensors)))


def _fitting_rank(wanted: int, n_embd: int, n_draft: int | None) -> int:
    """At most what the matrix has, in whole blocks of quantised types where it has that many."""
    rank = min(wanted, n_embd, n_draft or n_embd)
    return rank - rank % _BLOCK if rank > _BLOCK else rank


class _Trainer:
    """AdamW over epochs of shuffled segments, with a checkpoint after each."""

    def __init__(
        self,
        module: HeadsModule,
        matrices: BaseMatrices,
        config: FitConfig,
        checkpoint: "_Checkpoint",
    ) -> None:
        self._module = module
        self._matrices = matrices
        self._config = config
        self._checkpoint = checkpoint

    def run(
        self, train: Dataset, held_out: Dataset, on_progress: Callable[[float, str], None]
    ) -> None:
        config = self._config
        steps_per_epoch = train.n_batches(config.batch_size)
        total = steps_per_epoch * config.epochs
        optimizer = torch.optim.AdamW(
            self._module.parameters(), config.learning_rate, weight_decay=0.01
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=total, pct_start=0.05
        )
        parts: Mapping[str, _Stateful] = {
            "module": self._module,
            "optimizer": optimizer,
            "schedule": schedule,
        }
        first_epoch = self._checkpoint.load(parts)
        note = ""
        for epoch in range(first_epoch, config.epochs):
            for step, batch in enumerate(self._batches(train, epoch)):
                loss = self._loss(train, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                on_progress((epoch * steps_per_epoch + step + 1) / total, note)
            top1 = evaluate(self._module, self._matrices, held_out).accuracy[:, 0]
            note = "held-out top-1 " + "/".join(f"{100 * a:.1f}" for a in top1) + " %"
            self._checkpoint.save(epoch + 1, parts)

    def _batches(self, train: Dataset, epoch: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng((self._config.seed, epoch))
        return train.shuffled_batches(self._config.batch_size, rng)

    def _loss(self, data: Dataset, starts: np.ndarray) -> torch.Tensor:
        """Weighted cross entropy of all heads on some segments.

        The target of head k at position i is what the model says at position i + k + 1: its
        distribution over the draft vocabulary (its own hidden state times lm_head), or the token.
        """
        config, n_heads = self._config, self._module.n_heads
        window = data.window(starts, n_heads)
        with torch.autocast(_DEVICE.type, torch.bfloat16, enabled=_BFLOAT16_IS_FAST):
            scores = self._module(window.hidden, self._matrices.embeddings(window.tokens))
            teacher = self._teacher(window) if config.soft_targets else None
        total = torch.zeros((), device=_DEVICE)
        for head in range(n_heads):
            rows = scores[head].float()
            if teacher is not None:
                likely = (teacher[window.ahead[head]] * rows).sum(dim=1)
                counts = window.valid[head]
            else:
                wanted = self._matrices.to_draft[window.targets[head]]
                likely = rows.gather(1, wanted.clamp(min=0)[:, None])[:, 0]
                counts = window.valid[head] & (wanted >= 0)
            losses = (rows.logsumexp(dim=1) - likely) * counts
            total = total + config.head_decay**head * losses.sum() / counts.sum().clamp(min=1)
        return total

    def _teacher(self, window: Window) -> torch.Tensor:
        """[m, n_draft] what the model itself says at every position of a window."""
        with torch.no_grad():
            return torch.softmax((window.hidden_ahead @ self._matrices.lm_head.T).float(), dim=1)


class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


@dataclass(frozen=True)
class _Checkpoint:
    """The state between epochs, which a run of the same settings goes on from."""

    path: Path
    settings: str

    def load(self, parts: Mapping[str, _Stateful]) -> int:
        """Restores the state after the last whole epoch; returns how many were finished."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True, map_location=_DEVICE)
        if state["settings"] != self.settings:
            return 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["epoch"])

    def save(self, epoch: int, parts: Mapping[str, _Stateful]) -> None:
        """Writes the state after so many epochs."""
        states = {name: part.state_dict() for name, part in parts.items()}
        with whole_file(self.path) as partial:
            torch.save({"settings": self.settings, "epoch": epoch, **states}, partial)
