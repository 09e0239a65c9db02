"""FORUM: the validation losses of all tasks fall, and the training loss stays near its optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from accord.elsewhere import Elsewhere
from accord.linalg.hinge_qp import hinge_qp
from accord.linalg.scaling import is_stationary, scaled
from accord.linalg.simplex import softmax
from accord.methods import checks, windows
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.call import active_tasks
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.outcomes import checked, zeros
from accord.methods.state import PerTask
from accord.rows import Rows

Vector = list[Tensor | None]  # one tensor per parameter, None: zero
Columns = NDArray[np.intp]


@dataclass(eq=False, repr=False)
class FORUM(Aggregation):
    """First-order multi-gradient method for bi-level problems: weights of the training losses and all parameters.

    ``f(x, θ) = Σ softmax(x)_i L_i(θ)`` is to be near its minimum in θ, while the validation losses fall together. With
    ``θ_T`` after T steps of gradient descent from θ, ``q = ∇f(x, θ) − (∇_x f(x, θ_T), 0)`` is the gradient of the gap
    to that minimum; ``F_i`` are the normalised validation gradients, zero in x. λ minimises
    ``‖Σλ_iF_i + νq‖² − νφ‖q‖²`` over ``λ ∈ Δ``, ``ν ≥ max(πᵀλ, 0)``, ``π_i = φ − q·F_i/‖q‖²``; then
    ``λ̄ ← λ̄ + (epoch + 1)^{−3/4}(λ − λ̄)`` and ``d = Σλ̄_iF_i + max(πᵀλ̄, 0)q``, so that always ``d·q ≥ φ‖q‖²``. The
    part of d in x goes to an Adam of its own.

    Source: Ye et al. 2024 (ECAI), "A First-Order Multi-Gradient Algorithm for Multi-Objective Bi-Level Optimization",
    [arXiv 2401.09257](https://arxiv.org/abs/2401.09257), algorithm 1; form and defaults of the official code.

    The code adds 1e-8 to ``‖q‖²`` and hands the problem to a conic solver; ours is exact. For given λ the least
    allowed ν is optimal, which leaves a convex problem in λ (``linalg/hinge_qp.py``). λ̄ is brought to the sum 1 over
    the tasks that take part. Where the losses at θ_T are not finite, an event says so, and q has no part in x.

    Args:
        phi: φ ≥ 0, how much of the step goes to the training loss at least.
        inner_steps: T.
        inner_lr: of those steps.
        lr: of Adam on x.
        window: length of an "epoch" in steps, or ``"epoch"``: until ``method.epoch()`` is called, as in the code.

    Example:
        >>> import torch
        >>> from accord.engines.displaced import Displaced
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.constant_(net.weight, 1.0)
        >>> both = lambda: {"a": net.weight[0, 0] ** 2, "b": net.weight[0, 1] ** 2}
        >>> context = Context(np.array([0, 1]), 2, torch.Generator(), elsewhere=Displaced(net, both, both, ["a", "b"]))
        >>> (d,) = FORUM().combine(Rows([[], []]), np.eye(2), None, context)
        >>> d.numpy().round(6).tolist()
        [[0.5, 0.5]]
    """

    phi: float = 0.1
    inner_steps: int = 5
    inner_lr: float = 0.1
    lr: float = 1e-3
    window: int | str = "epoch"

    needs_validation: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        checks.number(self, "phi", least=0.0)
        checks.whole(self, "inner_steps", least=1)
        checks.number(self, "inner_lr", above=0.0)
        checks.number(self, "lr", least=0.0)
        windows.check(self)
        self._state = PerTask(logit=0.0, share=0.0, **MOMENTS)
        self._steps, self._epochs = 0, 0

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> Vector:
        """The direction in ``context.elsewhere.parameters``; what else is handed over is not read. See the class."""
        elsewhere, active = context.elsewhere, context.active
        assert elsewhere is not None
        self._state.grow(context.total)
        weights = softmax(self._state["logit"][active])  # (k,)
        descent = elsewhere.gradient("training", weights)  # q in the parameters
        fall = self._fall(elsewhere, weights, descent)  # (k,)
        inside = weights * (fall - weights @ fall)  # (k,), q in x
        everything = Rows([*elsewhere.gradients("validation").rows, descent])
        products = everything.gramian().cpu().numpy()  # (k + 1, k + 1)
        length = math.sqrt(products[-1, -1] + inside @ inside)  # ‖q‖
        if not math.isfinite(length):
            self.report("solver", "the training gradient elsewhere is not finite; the direction is zero")
            return [None] * len(elsewhere.parameters)
        live = active_tasks(products[:-1, :-1])
        if len(live) < len(active):
            self.report("solver", f"{len(active) - len(live)} validation gradients are zero or not finite; left out")
        coefficients, push = self._solve(products, live, length, elsewhere.epsilon, active[live])
        adam_step(self._state, "logit", active, push * inside, self.lr)
        chosen: list[float | None] = [None] * len(active)
        for place, coefficient in zip(live, coefficients, strict=True):
            chosen[place] = float(coefficient)
        return everything.combine([*chosen, push])

    def _fall(self, elsewhere: Elsewhere, weights: Array, descent: Vector) -> Array:
        """(k,) ``L(θ) − L(θ_T)``."""
        before, gradient = elsewhere.values("training"), descent
        moved: Vector = [None] * len(descent)
        for left in reversed(range(self.inner_steps)):
            moved = [_less(m, g, self.inner_lr) for m, g in zip(moved, gradient, strict=True)]
            if left:
                gradient = elsewhere.gradient("training", weights, moved)
        fall = before - elsewhere.values("training", moved)
        if np.isfinite(fall).all():
            return fall
        self.report("solver", f"the losses after inner_steps={self.inner_steps} are not finite; x is left out of q")
        return np.zeros(len(weights))

    def _solve(
        self, products: Array, live: Columns, length: float, epsilon: float, columns: Columns
    ) -> tuple[Array, float]:
        """(m,) coefficients of the validation gradients at hand, and that of q."""
        if not len(live):
            return np.zeros(0), self.phi
        norms, cosines = scaled(products[np.ix_(live, live)])
        along = products[live, -1] / norms / (length or 1.0)  # (m,), cosines of F_i with q
        found = checked(self, hinge_qp(cosines, along, self.phi * length, epsilon))  # (m,), λ
        kept = self._state["share"]
        kept[columns] += self._rate() * (found - kept[columns])
        shares = kept[columns] / kept[columns].sum()  # (m,), λ̄
        push = max(self.phi - float(along @ shares) / length, 0.0) if length else 0.0  # max(πᵀλ̄, 0)
        bordered = np.block([[cosines, along[:, None]], [along[None], np.ones((1, 1))]])
        if is_stationary(bordered, np.append(shares, push * length), epsilon):
            return zeros(self, len(live)), 0.0
        return shares / norms, push

    def _rate(self) -> float:
        """How far λ̄ follows λ in this step."""
        if self._steps == self.window:
            self._close()
        self._steps += 1
        return (self._epochs + 1) ** -0.75

    def _close(self) -> None:
        self._steps, self._epochs = 0, self._epochs + 1

    def epoch(self) -> None:
        """An epoch has ended; without steps in it, and for windows of so many steps, that means nothing."""
        if self.window == "epoch" and self._steps:
            self._close()

    def state_dict(self) -> dict[str, Any]:
        """X with the moments of Adam, λ̄, and the counts of steps and epochs."""
        return {"steps": self._steps, "epochs": self._epochs, "tasks": self._state.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps, self._epochs = state["steps"], state["epochs"]
        self._state.load_state_dict(state["tasks"])


def _less(moved: Tensor | None, gradient: Tensor | None, rate: float) -> Tensor | None:
    """One step of gradient descent in a displacement."""
    if gradient is None:
        return moved
    return -rate * gradient if moved is None else moved - rate * gradient
