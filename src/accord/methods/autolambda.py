"""AutoLambda: weights for the sake of what the primary tasks lose on a validation batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from accord.elsewhere import Elsewhere
from accord.errors import AccordError
from accord.methods import checks
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask
from accord.rows import Rows

Vector = list[Tensor | None]  # one tensor per parameter, None: zero


@dataclass(eq=False, repr=False)
class AutoLambda(Weighting):
    """Auto-λ: weights learned through one step of the optimiser, for the primary tasks' validation losses.

    A virtual step ``θ' = θ − α(μb + Σ λ_j ∇L_j + δθ)``, with b, μ, δ momentum buffer, momentum and weight decay of SGD.
    With ``v = ∇_{θ'} Σ_primary L^val`` the slope of those losses in λ_i is ``−α v·∇L_i(θ)``, as central difference
    ``−α(L_i(θ + εv) − L_i(θ − εv))/(2ε)``, ``ε = 0.01/‖v‖``: two forward passes for any number of tasks. Adam follows
    it, and the new λ weight the losses.

    Source: Liu et al. 2022 (TMLR), "Auto-λ: Disentangling Dynamic Task Relationships",
    [arXiv 2202.03091](https://arxiv.org/abs/2202.03091), eq. 5 to 8; virtual step and defaults from the official code.

    As there, Nesterov's form and dampening of SGD are not followed, and λ may become negative. Where groups of
    parameters have learning rates α of their own, so has the virtual step (there: that of the first group), and
    ``αv`` stands for v. For another optimiser than SGD, the virtual step is a plain one with its learning rate.

    Args:
        primary: columns of the primary tasks, in the order in which tasks were first seen; None: all.
        lr: learning rate of Adam on λ.
        init: λ of a new task.
        inner_lr: α where no optimiser is known.
        form: ``finite-difference``, or ``exact``: one backward pass per task in place of the two forward passes.

    Example:
        >>> from accord.engines.displaced import Displaced
        >>> w = torch.nn.Linear(1, 1, bias=False)
        >>> up, down = (lambda: {"up": -w.weight.sum(), "down": w.weight.sum()}), (lambda: {"up": -w.weight.sum()})
        >>> method = AutoLambda(primary=(0,), lr=0.05)
        >>> look = Displaced(w, up, up, ["up", "down"])
        >>> context = Context(np.array([0, 1]), 2, torch.Generator(), elsewhere=look)
        >>> method.solve(None, None, context).round(6).tolist()  # what helps the first task gains
        [0.15, 0.05]
    """

    primary: Sequence[int] | None = None
    lr: float = 1e-4
    init: float = 0.1
    inner_lr: float = 0.1
    form: str = "finite-difference"

    needs_validation: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        if self.primary is not None:
            self.primary = _columns(self.primary)
        checks.number(self, "lr", least=0.0)
        checks.number(self, "init")
        checks.number(self, "inner_lr", above=0.0)
        checks.choice(self, "form", ("finite-difference", "exact"))
        self._state = PerTask(weight=self.init, **MOMENTS)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights after this step's look at the validation batch. See the class."""
        self._state.grow(context.total)
        primary = np.ones(len(context.active))  # (k,), 0 or 1
        if self.primary is not None:
            primary[~np.isin(context.active, self.primary)] = 0.0
        if not primary.any():
            self.report("missing", "no primary task takes part in this step; λ stays as it is")
        else:
            slope = self._slope(context, primary)  # (k,)
            if np.isfinite(slope).all():
                adam_step(self._state, "weight", context.active, slope, self.lr)
            else:
                self.report("solver", "what the losses look like elsewhere is not finite; λ stays as it is")
        return self._state["weight"][context.active]

    def _slope(self, context: Context, primary: Array) -> Array:
        """(k,) the slope of the primary tasks' validation losses in λ."""
        elsewhere = context.elsewhere
        assert elsewhere is not None
        weights = self._state["weight"][context.active]  # (k,)
        rows = elsewhere.gradients("training") if self.form == "exact" else None
        gradient = elsewhere.gradient("training", weights) if rows is None else rows.combine(weights.tolist(), True)
        step, rates = _virtual_step(elsewhere, gradient, self.inner_lr)
        found = elsewhere.gradient("validation", primary, step)  # v
        way = [None if v is None or not rate else rate * v for v, rate in zip(found, rates, strict=True)]  # αv
        if rows is not None:
            return -rows.cross(Rows([way])).cpu().numpy()[:, 0]
        length = math.sqrt(float(Rows([way]).gramian()))
        if not length or not math.isfinite(length):  # flat, or undefined
            return np.full(len(weights), 0.0 * length)
        small = 0.01 / length
        ahead, behind = (
            elsewhere.values("training", [None if v is None else sign * small * v for v in way]) for sign in (1, -1)
        )
        return -(ahead - behind) / (2 * small)

    def state_dict(self) -> dict[str, Any]:
        """Λ and the moments of Adam."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)


def _columns(primary: Sequence[int]) -> tuple[int, ...]:
    """The field as a tuple, or an error."""
    good = isinstance(primary, list | tuple) and all(isinstance(i, int) and not isinstance(i, bool) for i in primary)
    if not good or not primary or min(primary) < 0 or len(set(primary)) < len(primary):
        raise AccordError(
            f"AutoLambda: primary={primary!r}, expected columns of tasks, counted from 0, as in primary=(0, 2)."
        )
    return tuple(primary)


def _virtual_step(elsewhere: Elsewhere, gradient: Vector, inner_lr: float) -> tuple[Vector, list[float]]:
    """What the next step of the optimiser would be, and the learning rate of every parameter."""
    optimizer = elsewhere.optimizer
    groups = [] if optimizer is None else optimizer.param_groups
    own = {p: group for group in groups for p in group["params"]}
    step: Vector = []
    rates: list[float] = []
    for p, g in zip(elsewhere.parameters, gradient, strict=True):
        group = own.get(p, {"lr": inner_lr if optimizer is None else 0.0})  # what is in no group does not move
        rates.append(float(group["lr"]))
        if g is not None and optimizer is not None and isinstance(optimizer, torch.optim.SGD) and p in own:
            g = g + group["weight_decay"] * p.detach()
            buffer = optimizer.state.get(p, {}).get("momentum_buffer")
            g = g if buffer is None else g + group["momentum"] * buffer
        step.append(None if g is None else -rates[-1] * g)
    return step, rates
