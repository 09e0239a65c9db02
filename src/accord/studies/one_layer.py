"""One layer, two tasks: cosines that follow from the activation alone, for E07 and its unit test."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import accord


class Layer(nn.Module):
    """``h = act(W x)`` without bias.

    Args:
        weight: (D, P).
        act: the activation.
    """

    def __init__(self, weight: torch.Tensor, act: nn.Module) -> None:
        super().__init__()
        self.weight, self.act = nn.Parameter(weight), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(P,) -> (D,)."""
        return self.act(self.weight @ x)  # (D,)


def exact(name: str, act: nn.Module) -> dict[str, Any]:
    """Part A: two cases in which the cosine follows from the activation alone.

    The same unit, wanted above and below what it gives: the gradients are ``±c act'(w·x) x``, the cosine is −1 for
    every activation. Inputs x and −x, both to be pulled to 0 by ``|h|²/2``: unit j has ``a_j = h(z_j) h'(z_j)`` times x
    and ``−b_j`` times x with ``b_j = h(−z_j) h'(−z_j)``. ReLU: ``a_j b_j = 0``; tanh: ``b_j = −a_j``, cosine +1;
    sigmoid: a_j and b_j are positive, so that each unit by itself has −1.

    Example:
        >>> found = exact("ReLU", nn.ReLU())
        >>> found["same unit"], found["opposite inputs, layer"]
        (-1.0, 0.0)
    """
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(6, generator=draw, dtype=torch.float64)  # (P,)
    weight = torch.randn(64, 6, generator=draw, dtype=torch.float64)  # (D, P)
    unit = Layer(x[None] / x.norm() ** 2 * 0.5, act)  # z = 1/2, where every one of the activations has a slope
    layer = Layer(weight, act)
    h = unit(x).sum()
    return {
        "kind": "exact",
        "activation": name,
        "same unit": _exactly(unit, {"up": -h, "down": h}),
        "opposite inputs, unit": _exactly(unit, {"x": unit(x).square().sum(), "-x": unit(-x).square().sum()}),
        "opposite inputs, layer": _exactly(layer, {"x": layer(x).square().sum(), "-x": layer(-x).square().sum()}),
    }


def _exactly(model: nn.Module, losses: dict[str, torch.Tensor]) -> float:
    """The cosine, and exactly 0 where the gradients of two tasks are at disjoint places, even if one of them is 0."""
    step = accord.Monitor(model, every=1, blocks="total").observe(losses)
    assert step is not None  # every=1
    assert step.gramians is not None
    gramian = step.gramians.sum(0).numpy()  # (2, 2)
    return 0.0 if gramian[0, 1] == 0 else round(float(accord.conflict.cosine(gramian)[0, 1]), 12)
