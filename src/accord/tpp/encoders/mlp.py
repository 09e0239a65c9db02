"""What stands between a recurrent or attentive state and the history vector h: unit length, then a small network."""

from __future__ import annotations

from torch import Tensor, nn

LEAST = 1e-12  # squared length below which a state is not stretched to unit length: gradients at 0 stay finite


def mlp(size: int, mid: int, dim: int) -> nn.Sequential:
    """``Linear(size -> mid)``, ReLU, ``Linear(mid -> dim)``."""
    return nn.Sequential(nn.Linear(size, mid), nn.ReLU(), nn.Linear(mid, dim))


def summary(network: nn.Sequential, state: Tensor) -> Tensor:
    """(m, D) histories from states (m, size): the network on ``state / max(|state|, 1e-6)``."""
    square = (state * state).sum(1, keepdim=True)  # (m, 1); this form takes half the time of F.normalize
    return network(state * square.clamp(min=LEAST).rsqrt())
