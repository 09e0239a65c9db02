"""GCond: conflicting pairs are turned away from each other, softly and with a winner, then momentum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from accord.errors import AccordError
from accord.linalg.scaling import scaled
from accord.methods import checks
from accord.methods.memory import Memory
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.state import PerTask
from accord.rows import Rows

STABILITY, STRENGTH = 0.8, 0.2  # how much either counts in who wins
RESOLUTION = 1e-6  # so much less than t_weak changes no gradient, but would decide by rounding who has won


@dataclass(eq=False, repr=False)
class GCond(Aggregation):
    """Gradient conductor.

    Up to 2K times the pair with the most negative cosine x < t_weak is taken. Its winner has the higher
    ``0.8 max(0, cos(g, g_before)) + 0.2 s``, with s the share of its ``‖g‖/EMA(‖g‖)`` in the pair's; a task that won
    the last ``window`` times loses. With the angle ``φ = ½π(1 − (x − t_main)/(t_weak − t_main))`` for ``x ≥ t_main``,
    ``½π + ½π((x − t_main)/(t_crit − t_main))²`` for ``x > t_crit`` and π below, and with e the inner product, at once:
    ``g_winner −= sin(φ) e/‖g_loser‖² g_loser``, ``g_loser −= sin(min(φ, ½π)) e/‖g_winner‖² g_winner``. d is the sum,
    with bias-corrected momentum.

    Source: Limarenko et al. 2025, [arXiv 2509.07252](https://arxiv.org/abs/2509.07252), and the authors' code
    (AlevLab-dev/GCond), whose defaults these are.

    We follow the mathematics of the code: g_before is the gradient after the last step's surgery, and constant winners
    lose (its README says that they win, and has t_crit = -0.85). Not taken over: bfloat16 state (ours is float32 at
    least), thresholds on absolute norms (a row that has lost all but rounding is out), evaluation mode in training.
    Losses summed over micro-batches are for the caller to hand over. Momentum counts the steps of each parameter.

    Args:
        thresholds: cosines (t_crit, t_main, t_weak), increasing, in [-1, 1].
        momentum: in [0, 1); the optimiser should have none of its own. 0: off.
        norm_ema: in [0, 1), how much of the average norm stays; it starts at 1.
        window: how many wins in a row are enough; 0: no limit.

    Example:
        >>> import torch
        >>> J = torch.tensor([[3.0, 0.0], [-1.0, 0.1]], dtype=torch.float64)
        >>> GCond().aggregate(J).numpy().round(9).tolist()  # nearly opposite: the stronger one stays as it is
        [3.0, 0.1]
    """

    thresholds: Sequence[float] = (-0.8, -0.5, 0.0)
    momentum: float = 0.85
    norm_ema: float = 0.95
    window: int = 3

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"RS"})  # permutation: only without ties among pairs and scores

    def __post_init__(self) -> None:
        checks.vector(self, "thresholds")
        if len(self.thresholds) != 3 or not -1 <= self.thresholds[0] < self.thresholds[1] < self.thresholds[2] <= 1:
            raise AccordError(f"GCond: thresholds={self.thresholds!r}, expected three increasing cosines.")
        checks.number(self, "momentum", least=0.0, below=1.0)
        checks.number(self, "norm_ema", least=0.0, below=1.0)
        checks.whole(self, "window", least=0)
        self._memory = Memory()  # the last gradients by task, and the momentum
        self._state = PerTask(norm=1.0)
        self._winners: list[int] = []  # the last ones, by column
        self._steps: dict[str, int] = {}  # by parameter

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """Surgery, sum, momentum. See the class."""
        norms, cosines = scaled(gramian)
        active = context.active
        self._state.grow(context.total)
        self._state["norm"][active] = self.norm_ema * self._state["norm"][active] + (1 - self.norm_ema) * norms
        before = self._memory.over(active.tolist(), rows)
        coefficients = np.eye(len(rows))  # (k, k), of g_i in the gradients after surgery
        if cosines.min() < self.thresholds[2]:
            both = Rows([*rows.rows, *before.rows]).gramian().cpu().numpy()  # (2k, 2k)
            lengths = np.sqrt(np.diagonal(both)[len(rows) :])  # (k,)
            lengths = np.where(lengths > 0, lengths, np.inf)  # nothing before: no stability
            recalled = both[: len(rows), len(rows) :] / norms[:, None] / lengths  # (k, k), cosines with g_before
            turned = self._surgery(norms, cosines, recalled, context)
            coefficients = norms[:, None] * turned / norms
        for own, weights in zip(before.rows, coefficients.tolist(), strict=True):
            changed = rows.combine([w or None for w in weights], keep=True)
            for kept, gradient in zip(own, changed, strict=True):
                if kept is not None:
                    kept.zero_() if gradient is None else kept.copy_(gradient)
        return self._moving(rows, rows.combine(coefficients.sum(0).tolist(), keep=True))

    def _surgery(self, norms: Array, cosines: Array, recalled: Array, context: Context) -> Array:
        """The gradients after surgery as combinations (k, k) of unit gradients, each in units of its own norm."""
        k = len(norms)
        relative = norms / self._state["norm"][context.active]  # (k,)
        coefficients = np.eye(k)
        for _ in range(2 * k):
            products = coefficients @ cosines @ coefficients.T  # (k, k)
            squares = np.diagonal(products)
            alive = squares > 4 * context.epsilon  # the rest is rounding
            lengths = np.sqrt(np.where(alive, squares, np.inf))
            pairs = np.where(np.triu(np.outer(alive, alive), 1), products / lengths[:, None] / lengths, np.inf)
            i, j = divmod(int(pairs.argmin()), k)
            if pairs[i, j] >= self.thresholds[2] - RESOLUTION:
                break
            stability = [max(0.0, float(coefficients[n] @ recalled[:, n])) / lengths[n] for n in (i, j)]
            winner, loser = (i, j) if self._first_wins(stability, relative[[i, j]] * lengths[[i, j]]) else (j, i)
            winner, loser = self._overrule(winner, loser, context)
            angle = self._angle(float(pairs[i, j]))
            step = np.eye(k)
            step[winner, loser] = -math.sin(angle) * products[i, j] / squares[loser]
            step[loser, winner] = -math.sin(min(angle, math.pi / 2)) * products[i, j] / squares[winner]
            coefficients = step @ coefficients
        return coefficients

    def _first_wins(self, stability: Sequence[float], sizes: Array) -> bool:
        """Whether the first of a pair has at least the score of the second."""
        first, second = STABILITY * np.array(stability) + STRENGTH * sizes / sizes.sum()
        return bool(first >= second)

    def _overrule(self, winner: int, loser: int, context: Context) -> tuple[int, int]:
        """Let a task lose that won the last times; then keep the winner in mind."""
        for place, rival in ((winner, loser), (loser, winner)):
            if self.window and self._winners == [int(context.active[place])] * self.window:
                winner, loser = rival, place
                break
        self._winners = [*self._winners, int(context.active[winner])][-self.window :] if self.window else []
        return winner, loser

    def _angle(self, cosine: float) -> float:
        """φ, from 0 where conflict begins to π where only one can stay as it is."""
        critical, main, weak = self.thresholds
        if cosine >= main:
            return math.pi / 2 * (1 - (cosine - main) / (weak - main))
        if cosine > critical:
            return math.pi / 2 * (1 + ((cosine - main) / (critical - main)) ** 2)
        return math.pi

    def _moving(self, rows: Rows, total: list[Tensor | None]) -> list[Tensor | None]:
        """The average of this and all earlier sums, corrected for its start at zero."""
        (average,) = self._memory.over(["momentum"], rows).rows
        for p, (mean, gradient, name) in enumerate(zip(average, total, rows.names, strict=True)):
            if mean is not None and gradient is not None:
                steps = self._steps[name] = self._steps.get(name, 0) + 1
                mean.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
                total[p] = mean / (1 - self.momentum**steps)
        return total

    def state_dict(self) -> dict[str, Any]:
        """The last gradients, the momentum, the average norms, the last winners and the numbers of steps."""
        return {
            "steps": dict(self._steps),
            "winners": list(self._winners),
            "tasks": self._state.state_dict(),
            "gradients": self._memory.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps, self._winners = dict(state["steps"]), list(state["winners"])
        self._state.load_state_dict(state["tasks"])
        self._memory.load_state_dict(state["gradients"])
