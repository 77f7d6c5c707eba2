"""Training Medusa heads on recorded answers (PyTorch, the [train] extra)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medusa.heads.weights import HeadWeights, Variant
from medusa.training.shards import ShardStore

TOP_K = 5
_IGNORE = -100  # PyTorch's ignore_index
_BFLOAT16_IS_FAST = torch.cpu._is_avx512_bf16_supported()
"""Where the CPU multiplies bfloat16 itself, a step takes a quarter of the time."""


@dataclass(frozen=True)
class FitConfig:
    """What is trained and how."""

    n_heads: int = 4
    n_layers: int = 1
    variant: Variant = Variant.SHARED
    draft_vocab: int | None = 8192  # None: the whole vocabulary
    epochs: int = 8
    batch_size: int = 512
    learning_rate: float = 1e-3
    head_decay: float = 0.8  # head k's loss counts head_decay^k, as in the Medusa paper
    seed: int = 0


@dataclass(frozen=True)
class Dataset:
    """Positions to learn from. Target k of a position is the token that head k should guess."""

    hidden: np.ndarray  # [n, n_embd] float16
    targets: np.ndarray  # [n, n_heads] int64, -1 past the end of the answer

    def __len__(self) -> int:
        return len(self.hidden)


@dataclass(frozen=True)
class Fitted:
    """Trained weights and how well they guess held-out tokens."""

    weights: HeadWeights
    accuracy: np.ndarray  # [n_heads, TOP_K]: the target is among the best 1, 2, ... guesses
    n_trained: int
    n_held_out: int


def load_datasets(store: ShardStore, n_heads: int) -> tuple[Dataset, Dataset]:
    """Training and held-out positions from recorded answers.

    Raises:
        ValueError: there is nothing to train on or nothing to measure on.
    """
    hidden: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    targets: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for answer in store.read():
        n = len(answer.tokens)
        rows = np.full((n, n_heads), -1, np.int64)
        for head in range(n_heads):
            ahead = answer.tokens[head + 1 :]
            rows[: len(ahead), head] = ahead
        hidden[answer.held_out].append(answer.hidden)
        targets[answer.held_out].append(rows)
    if not hidden[False] or not hidden[True]:
        raise ValueError(f"{store.folder} holds too few answers to train and to measure on")
    train, held_out = (
        Dataset(np.concatenate(hidden[part]), np.concatenate(targets[part]))
        for part in (False, True)
    )
    return train, held_out


def frequent_tokens(targets: np.ndarray, count: int, n_vocab: int) -> np.ndarray:
    """The `count` tokens seen most often, ascending by id. targets: any shape, -1 ignored."""
    seen = np.bincount(targets[targets >= 0].ravel(), minlength=n_vocab)
    return np.sort(np.argsort(-seen, kind="stable")[:count]).astype(np.int32)


class _HeadsModule(nn.Module):
    """The network of `HeadWeights`; ResBlocks start as the identity, as in the Medusa paper."""

    def __init__(self, config: FitConfig, lm_head: torch.Tensor) -> None:
        super().__init__()
        n_embd = lm_head.shape[1]
        shape = (config.n_heads, config.n_layers, n_embd)
        self.weights = nn.Parameter(torch.zeros(*shape, n_embd))
        self.biases = nn.Parameter(torch.zeros(shape))
        if config.variant is Variant.FULL:
            self.outputs = nn.Parameter(lm_head.repeat(config.n_heads, 1, 1))
        else:
            self.register_buffer("outputs", lm_head[None], persistent=False)

    def forward(self, hidden: torch.Tensor, head: int) -> torch.Tensor:
        """[n, n_embd] -> scores [n, n_draft] of one head."""
        x = hidden
        for weight, bias in zip(self.weights[head], self.biases[head], strict=True):
            x = x + F.silu(F.linear(x, weight, bias))
        return F.linear(x, self.outputs[head if len(self.outputs) > 1 else 0])


def fit(
    store: ShardStore,
    lm_head: Callable[[np.ndarray | None], np.ndarray],
    n_vocab: int,
    config: FitConfig,
    checkpoint: Path,
    *,
    base_name: str,
    base_fingerprint: str,
    on_progress: Callable[[float, str], None] = lambda _fraction, _note: None,
) -> Fitted:
    """Train heads; an interrupted run goes on from its last whole epoch.

    Args:
        store: recorded answers.
        lm_head: rows of the base model's output matrix, as `BaseWeights.lm_head`.
        n_vocab: the base model's vocabulary size.
        config: what to train.
        checkpoint: file that holds the state between epochs.
        base_name: name of the base model, written into the heads.
        base_fingerprint: `medusa.base_weights.fingerprint` of the base model.
        on_progress: told the fraction done (0 to 1) and a short note.

    Raises:
        ValueError: too little data.
    """
    train, held_out = load_datasets(store, config.n_heads)
    draft_tokens = None
    if config.draft_vocab is not None and config.draft_vocab < n_vocab:
        draft_tokens = frequent_tokens(train.targets, config.draft_vocab, n_vocab)
    torch.manual_seed(config.seed)
    module = _HeadsModule(config, torch.from_numpy(lm_head(draft_tokens)))
    to_draft = _draft_index(draft_tokens, n_vocab)
    _train(module, train, held_out, to_draft, config, checkpoint, on_progress)
    return Fitted(
        HeadWeights(
            block_weights=module.weights.detach().numpy(),
            block_biases=module.biases.detach().numpy(),
            n_vocab=n_vocab,
            base_name=base_name,
            base_fingerprint=base_fingerprint,
            outputs=(module.outputs.detach().numpy() if config.variant is Variant.FULL else None),
            draft_tokens=draft_tokens,
            name=f"Medusa heads for {base_name}",
        ),
        accuracy(module, held_out, to_draft),
        len(train),
        len(held_out),
    )


def accuracy(module: "_HeadsModule", data: Dataset, to_draft: torch.Tensor) -> np.ndarray:
    """[n_heads, TOP_K]: how often the target is among the best 1, 2, ... guesses."""
    n_heads = data.targets.shape[1]
    hits = np.zeros((n_heads, TOP_K))
    counts = np.zeros((n_heads, 1))
    with torch.no_grad():
        for start in range(0, len(data), 2048):
            hidden = torch.from_numpy(data.hidden[start : start + 2048]).float()
            targets = torch.from_numpy(data.targets[start : start + 2048])
            for head in range(n_heads):
                valid = targets[:, head] >= 0
                wanted = to_draft[targets[valid, head]][:, None]
                best = module(hidden[valid], head).topk(TOP_K, dim=1).indices
                hits[head] += (best == wanted).cumsum(1).sum(0).numpy()
                counts[head] += int(valid.sum())
    return hits / np.maximum(counts, 1)


def _draft_index(draft_tokens: np.ndarray | None, n_vocab: int) -> torch.Tensor:
    """[n_vocab] int64: place of each token among the draft tokens, or _IGNORE."""
    if draft_tokens is None:
        return torch.arange(n_vocab)
    index = torch.full((n_vocab,), _IGNORE, dtype=torch.int64)
    index[torch.from_numpy(draft_tokens).long()] = torch.arange(len(draft_tokens))
    return index


def _train(
    module: "_HeadsModule",
    train: Dataset,
    held_out: Dataset,
    to_draft: torch.Tensor,
    config: FitConfig,
    checkpoint: Path,
    on_progress: Callable[[float, str], None],
) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), config.learning_rate, weight_decay=0.01)
    steps_per_epoch = -(-len(train) // config.batch_size)
    total = steps_per_epoch * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=total, pct_start=0.05
    )
    first_epoch = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["settings"] == _settings(config, len(train)):
            module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            first_epoch = state["epoch"]
    note = ""
    for epoch in range(first_epoch, config.epochs):
        order = np.random.default_rng((config.seed, epoch)).permutation(len(train))
        for step in range(steps_per_epoch):
            rows = order[step * config.batch_size : (step + 1) * config.batch_size]
            loss = _loss(module, train, rows, to_draft, config)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            on_progress((epoch * steps_per_epoch + step + 1) / total, note)
        first = accuracy(module, held_out, to_draft)[:, 0]
        note = "held-out top-1 " + "/".join(f"{100 * a:.1f}" for a in first) + " %"
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {
                "settings": _settings(config, len(train)),
                "epoch": epoch + 1,
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            },
            partial,
        )
        partial.replace(checkpoint)


def _settings(config: FitConfig, n_train: int) -> str:
    """What must be equal for a checkpoint to be resumed."""
    return f"{config} {n_train}"


def _loss(
    module: "_HeadsModule",
    data: Dataset,
    rows: np.ndarray,
    to_draft: torch.Tensor,
    config: FitConfig,
) -> torch.Tensor:
    """Weighted cross entropy of all heads; targets outside the draft vocabulary do not count."""
    hidden = torch.from_numpy(data.hidden[rows]).float()
    targets = torch.from_numpy(data.targets[rows])
    total = torch.zeros(())
    for head in range(config.n_heads):
        wanted = targets[:, head]
        wanted = torch.where(wanted >= 0, to_draft[wanted.clamp(min=0)], _IGNORE)
        if bool((wanted != _IGNORE).any()):
            with torch.autocast("cpu", torch.bfloat16, enabled=_BFLOAT16_IS_FAST):
                scores = module(hidden, head)
            loss = F.cross_entropy(scores.float(), wanted, ignore_index=_IGNORE)
            total = total + config.head_decay**head * loss
    return total
