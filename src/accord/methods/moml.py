"""MOML: weights that no validation loss would change, by MGDA on their hypergradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.linalg.min_norm import min_norm
from accord.linalg.scaling import is_stationary, scaled
from accord.linalg.simplex import softmax
from accord.methods import checks
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.call import active_tasks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class MOML(Weighting):
    """Multi-objective meta learning, of the weights of the losses.

    ``w = softmax(x)``, ``θ' = θ − ηJᵀw`` with the training gradients J. With the validation gradients J' at θ', the
    slopes of the validation losses in x are the rows of ``H = −η J'Jᵀ (diag(w) − wwᵀ)``: products of gradients, no
    second derivative. The shortest vector in the convex hull of the normalised rows drives Adam on x, and the new w
    weights the losses.

    Source: Ye et al. 2021 (NeurIPS), "Multi-Objective Meta Learning", [arXiv 2102.07121](https://arxiv.org/abs/2102.07121),
    algorithm 1; loss weighting, normalisation and η of the authors' later code for one inner step.

    The slopes are exact for one inner step; the authors' first code differentiated through the step instead, which is
    the same. ``H1 = 0``, so K rows live in K − 1 dimensions. Two rows are parallel or opposite: for two tasks, w moves
    only where both validation losses want it to.

    Args:
        lr: learning rate of Adam on x.
        inner_lr: η of the step that is looked through.

    Example:
        >>> import torch
        >>> from accord.engines.displaced import Displaced
        >>> net = torch.nn.Linear(1, 2, bias=False)
        >>> train = lambda: {"good": net.weight.sum(), "bad": -net.weight.sum()}
        >>> validate = lambda: {"good": net.weight[0, 0], "bad": net.weight[1, 0]}  # both want the first one trained
        >>> look = Displaced(net, train, validate, ["good", "bad"])
        >>> context = Context(np.array([0, 1]), 2, torch.Generator(), elsewhere=look)
        >>> MOML(lr=0.5).solve(None, None, context).round(6).tolist()
        [0.731059, 0.268941]
    """

    lr: float = 1e-3
    inner_lr: float = 0.1

    needs_validation: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        checks.number(self, "lr", least=0.0)
        checks.number(self, "inner_lr", above=0.0)
        self._state = PerTask(logit=0.0, **MOMENTS)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights after this step's look at the validation batch. See the class."""
        elsewhere, active = context.elsewhere, context.active
        assert elsewhere is not None
        self._state.grow(context.total)
        weights = softmax(self._state["logit"][active])  # (k,)
        rows = elsewhere.gradients("training")  # J
        step = [None if d is None else -self.inner_lr * d for d in rows.combine(weights.tolist(), keep=True)]
        cross = elsewhere.gradients("validation", step).cross(rows).cpu().numpy()  # (k, k), J'Jᵀ
        if not np.isfinite(cross).all():
            self.report("solver", "the gradients elsewhere are not finite; the weights stay as they are")
            return weights
        change = cross - (cross @ weights)[:, None]  # (k, k)
        change[np.abs(change).max(1) <= 10 * elsewhere.epsilon * np.abs(cross).max(1)] = 0.0  # only rounding is left
        slopes = -self.inner_lr * weights * change  # (k, k), H
        adam_step(self._state, "logit", active, self._common(slopes, elsewhere.epsilon), self.lr)
        return softmax(self._state["logit"][active])

    def _common(self, slopes: Array, epsilon: float) -> Array:
        """(k,) the shortest vector in the convex hull of the normalised rows; rows of zero take no part."""
        products = slopes @ slopes.T  # (k, k)
        live = active_tasks(products)
        if not len(live):
            return np.zeros(len(slopes))
        norms, cosines = scaled(products[np.ix_(live, live)])
        shares = checked(self, min_norm(np.ones(len(live)), cosines, epsilon))
        if is_stationary(cosines, shares, epsilon):  # Adam would make full steps of the rounding that is left
            return np.zeros(len(slopes))
        return shares @ (slopes[live] / norms[:, None])

    def state_dict(self) -> dict[str, Any]:
        """X and the moments of Adam."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)
