"""The networks of medusa/speculation/heads/weights.py in PyTorch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medusa.speculation.heads.guessing import RMS_EPSILON, BaseRows
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import HeadWeights


@dataclass(frozen=True)
class BaseMatrices:
    """The base model's matrices, which are not trained."""

    lm_head: torch.Tensor  # [n_draft, n_embd]
    table: torch.Tensor  # [n_vocab, n_embd] float16 embeddings
    to_draft: torch.Tensor  # [n_vocab] int64: place among the draft tokens, -1 if none

    @classmethod
    def read(cls, rows: BaseRows, header: HeadsHeader) -> "BaseMatrices":
        """Take what heads of this kind need."""
        to_draft = torch.arange(header.n_vocab)
        if header.draft_tokens is not None:
            to_draft = torch.full((header.n_vocab,), -1)
            to_draft[torch.from_numpy(header.draft_tokens).long()] = torch.arange(header.n_draft)
        table = rows.embeddings(np.arange(header.n_vocab)).astype(np.float16)
        return cls(
            torch.from_numpy(rows.lm_head(header.draft_tokens)), torch.from_numpy(table), to_draft
        )

    def to(self, device: torch.device) -> "BaseMatrices":
        """The same in that device's memory."""
        return BaseMatrices(
            self.lm_head.to(device), self.table.to(device), self.to_draft.to(device)
        )

    def embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """[...] token ids -> [..., n_embd] float32."""
        return self.table[tokens].float()


class HeadsModule(nn.Module, ABC):
    """Heads that can be trained."""

    n_heads: int

    @abstractmethod
    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> list[torch.Tensor]:
        """Scores of every head.

        Args:
            hidden: [n, n_embd].
            embeddings: [n_heads, n, n_embd], of the token before each head's.

        Returns:
            n_heads times [n, n_draft].
        """

    @abstractmethod
    def trained(self) -> Mapping[str, torch.Tensor]:
        """The tensors of `layout`: what is written to them, the module computes with."""

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Copies of the tensors of `layout`."""
        return {name: each.detach().cpu().numpy() for name, each in self.trained().items()}

    def load(self, weights: HeadWeights) -> None:
        """Go on from other heads, whose header is the same."""
        with torch.no_grad():
            for name, tensor in self.trained().items():
                tensor.copy_(torch.tensor(weights.values(name)))


class _MedusaModule(HeadsModule):
    """ResBlocks start as the identity, as in the Medusa paper."""

    def __init__(self, header: HeadsHeader, lm_head: torch.Tensor) -> None:
        super().__init__()
        self.n_heads = header.n_heads
        shape = (header.n_heads, header.n_layers, header.n_embd)
        self.weights = nn.Parameter(torch.zeros(*shape, header.n_embd))
        self.biases = nn.Parameter(torch.zeros(shape))
        self._own_outputs = header.variant is Variant.FULL
        if self._own_outputs:
            self.outputs = nn.Parameter(lm_head.repeat(header.n_heads, 1, 1))
        else:
            self.register_buffer("outputs", lm_head[None], persistent=False)

    def forward(self, hidden: torch.Tensor, _embeddings: torch.Tensor) -> list[torch.Tensor]:
        scores = []
        for head in range(self.n_heads):
            x = hidden
            for weight, bias in zip(self.weights[head], self.biases[head], strict=True):
                x = x + F.silu(F.linear(x, weight, bias))
            scores.append(F.linear(x, self.outputs[head if self._own_outputs else 0]))
        return scores

    def trained(self) -> Mapping[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for k, blocks in enumerate(self.weights):
            for i, weight in enumerate(blocks):
                found[f"head.{k}.block.{i}.weight"] = weight
                found[f"head.{k}.block.{i}.bias"] = self.biases[k, i]
            if self._own_outputs:
                found[f"head.{k}.output.weight"] = self.outputs[k]
        return found


_RIDGE = 1e-4
"""How much every direction counts at least, of the mean: inputs may leave some of them out."""


def low_rank(
    matrix: torch.Tensor, inputs: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A product up @ down of that rank that is closest to `matrix` on inputs like these.

    It minimises the mean of |matrix x - up down x|^2 over the inputs x, by the singular values of
    `matrix` times a root of the inputs' second moment.

    Args:
        matrix: [m, n].
        inputs: [samples, n].
        rank: at most m and n.

    Returns:
        up [m, rank] and down [rank, n], of equal mean row and column length.
    """
    matrix, inputs = matrix.double(), inputs.double()
    moment = inputs.T @ inputs / len(inputs)
    moment += _RIDGE * moment.diagonal().mean() * torch.eye(len(moment))
    root = torch.linalg.cholesky(moment)
    u, s, v = torch.linalg.svd(matrix @ root, full_matrices=False)
    up = u[:, :rank] * s[:rank]
    down = torch.linalg.solve_triangular(root, v[:rank], upper=False, left=False)
    balance = (down.norm(dim=1).mean() / up.norm(dim=0).mean()).sqrt()
    return (up * balance).float(), (down / balance).float()


class _HydraModule(HeadsModule):
    """Cells start as the identity: every head begins with what the model says of the next token,
    as far as the rank of the output allows."""

    inner: nn.ModuleList
    lm_head: torch.Tensor

    def __init__(self, header: HeadsHeader, lm_head: torch.Tensor, hidden: torch.Tensor) -> None:
        super().__init__()
        n = header.n_embd
        self.n_heads = header.n_heads
        self.inner = nn.ModuleList(nn.Linear(2 * n, header.width) for _ in range(header.n_layers))
        self.outer = nn.ParameterList(torch.zeros(n, header.width) for _ in range(header.n_layers))
        if header.rank:
            up, down = low_rank(lm_head, hidden, header.rank)
            self.outputs = nn.ParameterDict({"down": down, "up": up})
        else:
            self.outputs = nn.ParameterDict()
            self.register_buffer("lm_head", lm_head, persistent=False)

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> list[torch.Tensor]:
        state, scores = hidden, []
        for head in range(self.n_heads):
            j = min(head, len(self.inner) - 1)
            x = torch.cat([_rms_norm(state), _rms_norm(embeddings[head])], dim=1)
            inner = F.silu(self.inner[j](x))
            state = state + F.linear(inner, self.outer[j])
            scores.append(self._scores(state))
        return scores

    def _scores(self, state: torch.Tensor) -> torch.Tensor:
        if not self.outputs:
            return F.linear(state, self.lm_head)
        return F.linear(F.linear(state, self.outputs["down"]), self.outputs["up"])

    def trained(self) -> Mapping[str, torch.Tensor]:
        found = {f"output.{part}.weight": matrix for part, matrix in self.outputs.items()}
        for j, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True)):
            assert isinstance(inner, nn.Linear)
            found[f"cell.{j}.in.weight"] = inner.weight
            found[f"cell.{j}.in.bias"] = inner.bias
            found[f"cell.{j}.out.weight"] = outer
        return found


def _rms_norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x.float(), (x.shape[-1],), eps=RMS_EPSILON)


def make_module(header: HeadsHeader, matrices: BaseMatrices, hidden: torch.Tensor) -> HeadsModule:
    """An untrained network.

    Args:
        header: what the heads are.
        matrices: of the base model.
        hidden: [samples, n_embd] float32, some of its hidden states.
    """
    if header.variant is Variant.HYDRA:
        return _HydraModule(header, matrices.lm_head, hidden)
    return _MedusaModule(header, matrices.lm_head)
