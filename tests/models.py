"""Small models whose sharing is known by construction, one per kind of trouble."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Losses = dict[str, Tensor]


class HardSharing(nn.Module):
    """One trunk, one head per task: the clean cut."""

    def __init__(self, tasks: int = 3, norm: str = "none") -> None:
        super().__init__()
        norms = {"none": nn.Identity, "batch": lambda: nn.BatchNorm1d(8), "layer": lambda: nn.LayerNorm(8)}
        self.trunk = nn.Sequential(
            nn.Linear(5, 8), norms[norm](), nn.Tanh(), nn.Linear(8, 8), norms[norm](), nn.Tanh(), nn.Linear(8, 6)
        )
        self.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(tasks))

    def losses(self, x: Tensor) -> Losses:
        z = self.trunk(x)  # (N, 6)
        return {f"t{i}": ((-1) ** i * head(z).to(x.dtype) - i).square().mean() for i, head in enumerate(self.heads)}


class Hierarchy(nn.Module):
    """Heads on several levels, a part shared by two of three tasks, a tied weight, a frozen and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(5, 6) / 2)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.low = nn.Linear(6, 6)
        self.high = nn.Linear(6, 6)
        self.unused = nn.Linear(3, 3)
        self.a, self.b = nn.Linear(6, 2), nn.Linear(6, 2)

    def losses(self, x: Tensor) -> Losses:
        z = self.low(self.frozen((x @ self.embed).tanh())).tanh()  # (N, 6)
        y = self.high(z).tanh()  # (N, 6)
        tied = y @ self.embed.T  # (N, 5), the embedding again
        return {
            "low": self.a(z).square().mean(),
            "high": (self.b(y) - 1).square().mean(),
            "tied": (tied - x).abs().mean(),
        }


class Residual(nn.Module):
    """Skip connections: every block's output is a place to cut at."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.inside = nn.Linear(5, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)) for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(2))

    def losses(self, x: Tensor) -> Losses:
        z = self.inside(x)  # (N, 8)
        for block in self.blocks:
            z = z + block(z)
        return {"up": self.heads[0](z).mean(), "down": self.heads[1](z).square().mean() - z.mean()}


class Recurrent(nn.Module):
    """An LSTM trunk; every weight is used at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.a, self.b = nn.Linear(6, 1), nn.Linear(6, 1)

    def losses(self, x: Tensor) -> Losses:
        z, _ = self.lstm(x.view(-1, 4, 5))  # (N/4, 4, 6)
        return {"a": self.a(z).square().mean(), "b": (self.b(z[:, -1]) - 1).square().mean()}


class Checkpointed(HardSharing):
    """The trunk recomputed in the backward pass, with dropout inside."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 6))
        self.use_reentrant = use_reentrant

    def losses(self, x: Tensor) -> Losses:
        x = x.detach().requires_grad_(self.use_reentrant)  # a reentrant checkpoint needs an input with a gradient
        z = checkpoint(self.trunk, x, use_reentrant=self.use_reentrant)
        return {f"t{i}": ((-1) ** i * head(z) - i).square().mean() for i, head in enumerate(self.heads)}
