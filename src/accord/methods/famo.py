"""FAMO: equal relative progress for all tasks, from losses alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask

SHIFT = 1e-8  # keeps the logarithm of a loss of zero finite; from the official code


@dataclass(eq=False, repr=False)
class FAMO(Weighting):
    """Fast adaptive multitask optimisation.

    ``z = softmax(ξ)``, ``D_i = L_i + 1e-8``, ``w_i = (z_i/D_i)/Σ(z_j/D_j)``. After the optimiser's step, with the
    losses of the same batch again: ``δ = log D_old − log D_new`` and Adam follows the gradient ``(∂z/∂ξ)ᵀδ``, so the
    task that improved least gains weight.

    Source: Liu et al. 2023 (NeurIPS), "FAMO: Fast Adaptive Multitask Optimization",
    [arXiv 2306.03792](https://arxiv.org/abs/2306.03792), algorithm 1; defaults from the paper.

    The official code also clips the gradient at norm 1; ours does not. Its lower bound of the losses is 0 here.
    ``amortized=True`` saves the second forward pass: D_new are the losses of the next step, on another batch.

    Args:
        lr: learning rate of Adam on ξ.
        decay: weight decay of ξ (the official experiments use 1e-5).
        amortized: learn from the losses of the next step; then ``after_step`` is not to be called.

    Example:
        >>> import torch
        >>> method = FAMO()
        >>> weights = method(losses=torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> weights.numpy().round(6).tolist()  # at first proportional to 1/L
        [0.8, 0.2]
    """

    lr: float = 0.025
    decay: float = 1e-3
    amortized: bool = False

    needs_losses_after = True  # unless amortized
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "lr", least=0.0)
        checks.number(self, "decay", least=0.0)
        if not isinstance(self.amortized, bool):
            raise AccordError(f"FAMO: amortized={self.amortized!r}, expected True or False.")
        self.needs_losses_after = not self.amortized
        self._state = PerTask(logit=0.0, before=np.nan, **MOMENTS)  # before: D of the step under way, else NaN

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights for this step; the losses are kept for ``after_step`` or the next step. See the class."""
        shifted = self._shifted(checks.present(self, losses))  # (k,)
        self._state.grow(context.total)
        if self.amortized:
            met = ~np.isnan(self._state["before"][context.active])
            self._learn(shifted[met], context.active[met])
        self._state["before"][:] = np.nan
        self._state["before"][context.active] = shifted
        weights = _softmax(self._state["logit"][context.active]) / shifted  # (k,)
        return weights / weights.sum()

    def after_step(self, losses: Array, context: Context) -> None:
        """Learn from how much every loss fell. See the class."""
        if self.amortized:
            super().after_step(losses, context)
        self._state.grow(context.total)
        met = ~np.isnan(self._state["before"][context.active])  # (k,)
        if not met.any():
            raise AccordError(f"{self!r}: losses after the step, but no step is under way; call backward first.")
        self._learn(self._shifted(losses[met]), context.active[met])
        self._state["before"][:] = np.nan

    def _learn(self, after: Array, active: NDArray[np.intp]) -> None:
        """One step of Adam on ξ from the shifted losses (k,) after the step, of tasks that took part in it."""
        if len(active):
            gain = np.log(self._state["before"][active]) - np.log(after)  # (k,), δ
            share = _softmax(self._state["logit"][active])  # (k,), z
            adam_step(self._state, "logit", active, share * (gain - share @ gain), self.lr, self.decay)

    def _shifted(self, losses: Array) -> Array:
        if losses.min() < 0:
            raise AccordError(f"{self!r} takes logarithms, but a loss is {losses.min():g}; expected losses >= 0.")
        return losses + SHIFT

    def state_dict(self) -> dict[str, Any]:
        """The logits, the moments of Adam, and the losses of a step under way."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())  # (k,)
    return powers / powers.sum()
