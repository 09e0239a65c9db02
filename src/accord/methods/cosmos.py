"""COSMOS: a weighted sum, with a penalty on the angle between losses and preferences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class COSMOS(Weighting):
    """Conditioned one-shot multi-objective search.

    The objective is ``Σ r_i L_i − λ cos(r, L)``, and its gradient in the losses gives the weights:
    ``w = r − λ (r/‖r‖ − cos(r, L) L/‖L‖)/‖L‖``. Where r or L is zero, there is no angle and the penalty is left out.

    The model must know r: draw it from a Dirichlet distribution in every step, feed it to the model, and tell the
    method by ``method.ratio = r``. The ratio of the moment is state; the spelling stays that of the start.

    Source: Ruchte & Grabocka 2021 (ICDM), "Scalable Pareto Front Approximation for Deep Multi-Objective Learning",
    [arXiv 2103.13392](https://arxiv.org/abs/2103.13392), and its code.

    Args:
        ratio: r, one number >= 0 per task; there is no default.
        penalty: λ >= 0; 0 is linear, and 2 the default of the authors' code, whose settings go from 0.01 to 8.

    Example:
        >>> import torch
        >>> method = COSMOS(ratio=(0.5, 0.5))
        >>> method.ratio = torch.distributions.Dirichlet(torch.ones(2)).sample()
        >>> weights = method(losses=2 * method.ratio)  # losses along the ratio: no penalty
        >>> bool(torch.allclose(weights, torch.tensor(method.ratio)))
        True
    """

    ratio: Sequence[float]
    penalty: float = 2.0

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"H1"})

    def __post_init__(self) -> None:
        self._check()
        checks.number(self, "penalty", least=0.0)
        self._spelling = super().__repr__()

    def __repr__(self) -> str:
        """The configuration at the start, by which a resumed run knows itself whatever the ratio is by then."""
        return self._spelling

    def _check(self) -> None:
        checks.vector(self, "ratio")
        if min(self.ratio) < 0 or not any(self.ratio):
            raise AccordError(f"COSMOS: ratio={self.ratio!r}, expected numbers >= 0 that are not all 0.")

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The gradient of sum and angle. See the class."""
        losses = checks.present(self, losses)
        self._check()  # it may have been set since the last step
        ratio = checks.pick(self, "ratio", context.active, context.total)  # (k,)
        size, length = math.sqrt(ratio @ ratio), math.sqrt(losses @ losses)
        if size == 0 or length == 0:
            return ratio
        ray, point = ratio / size, losses / length  # (k,)
        return ratio - self.penalty * (ray - (ray @ point) * point) / length

    def state_dict(self) -> dict[str, Any]:
        """The ratio of the moment."""
        return {"ratio": torch.tensor(self.ratio, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.ratio = state["ratio"].tolist()
