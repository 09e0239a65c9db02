"""MarkHead: marks from the history and, unless time-free, the gap, by a small network of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.tpp.decoders.part import MarkPart
from accord.tpp.errors import TPPError, nearest

# In place: the hidden layer is always a fresh product, and no backward pass needs its value before the activation.
ACTIVATIONS = {"relu": torch.relu_, "tanh": torch.tanh_, "sigmoid": torch.sigmoid_}
GROUPINGS = ("joint", "additive")


class MarkHead(MarkPart):
    r"""A softmax over the marks from one hidden layer.

    .. math:: p(k \mid \tau, h) = \mathrm{softmax}_k(W_2\, a(W_1 h + b_1 + V u) + b_2), \quad
              u = \log \max(\tau, \mathrm{floor})

    Without ``timed`` there is no V: the mark does not depend on the gap.

    Args:
        dim: D, the size of the history.
        marks: M.
        head: units of the hidden layer.
        timed: whether the gap is an input.
        activation: a; ``relu``, ``tanh`` or ``sigmoid``.
        grouping: ``joint``: [W_1 V] is one map of [h ; u]; ``additive``: V is a map of its own with its own bias,
            and its own initial scale.
        floor: smallest gap, in units of time.

    Raises:
        TPPError: for an unknown activation or grouping.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590, section 4.

    Example:
        >>> head = MarkHead(dim=4, marks=3, head=8, timed=True)
        >>> p = head.log_marks(torch.randn(5, 4), torch.rand(5)).exp()
        >>> p.shape, torch.allclose(p.sum(1), torch.ones(5))
        (torch.Size([5, 3]), True)
    """

    def __init__(
        self,
        dim: int,
        marks: int,
        head: int,
        timed: bool,
        activation: str = "relu",
        grouping: str = "joint",
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        for name, found, known in (("activation", activation, ACTIVATIONS), ("grouping", grouping, GROUPINGS)):
            if found not in known:
                raise TPPError(f"{name}={found!r} is unknown to a mark head.{nearest(found, known)}")
        self.activation = ACTIVATIONS[activation]
        self.floor = floor
        self.history = nn.Linear(dim, head)
        # Kept apart from W_1 also where the two are one map, so that [h ; u] is never copied together.
        self.gap = nn.Linear(1, head, bias=grouping == "additive") if timed else None
        self.out = nn.Linear(head, marks)
        if self.gap is not None and grouping == "joint":
            for parameter in (self.history.weight, self.history.bias, self.gap.weight):
                nn.init.uniform_(parameter, -((dim + 1) ** -0.5), (dim + 1) ** -0.5)

    def log_marks(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, M) log p(k | tau).

        Args:
            h: (n, D).
            tau: (n,).
        """
        bias = self.history.bias if self.gap is None or self.gap.bias is None else self.history.bias + self.gap.bias
        hidden = F.linear(h, self.history.weight, bias)  # (n, head)
        if self.gap is not None:
            hidden.addmm_(tau.clamp(min=self.floor).log().unsqueeze(1), self.gap.weight.t())
        return torch.log_softmax(self.out(self.activation(hidden)), 1)
