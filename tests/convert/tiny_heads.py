"""Official Medusa heads as PyTorch modules: the reference, and the source of their files."""

import torch
from torch import nn


class ResBlock(nn.Module):
    """x + SiLU(W x + b), as in FasterDecoding/Medusa."""

    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_embd, n_embd)
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.linear(x))


def tiny_heads(n_heads: int, n_layers: int, n_embd: int, n_vocab: int) -> nn.ModuleList:
    """Heads whose state dict has the official names: 0.0.linear.weight, ..., 0.1.weight."""
    torch.manual_seed(7)
    return nn.ModuleList(
        nn.Sequential(
            *(ResBlock(n_embd) for _ in range(n_layers)), nn.Linear(n_embd, n_vocab, bias=False)
        )
        for _ in range(n_heads)
    ).requires_grad_(False)
