"""STCH: a smooth maximum of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.errors import AccordError
from accord.methods import checks, windows
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.windows import Windows


@dataclass(eq=False, repr=False)
class STCH(Weighting):
    """Smooth Tchebycheff scalarisation.

    ``mode="bare"``: the objective is ``μ log Σ exp(λ_i (L_i − z_i)/μ)``, so ``w_i = λ_i p_i`` with
    ``p = softmax(λ(L − z)/μ)``; as μ → 0 it tends to the weighted maximum.

    ``mode="mtl"``, the one of the paper's experiments with networks: at first ``Σ log L_i``, so ``w_i = 1/L_i``; then
    ``K μ log Σ exp(log(L_i/m_i)/μ)``, so ``w_i = K p_i/L_i`` with ``p = softmax(log(L/m)/μ)``, where the nadir ``m`` is
    the mean loss in the last window of the warm-up. A task that appears later takes its first loss as nadir.

    Source: Lin et al. 2024 (ICML), "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
    [arXiv 2402.19078](https://arxiv.org/abs/2402.19078), section 3; the mode ``mtl`` from its code.

    The original's windows are epochs: ``window="epoch"``, with a call of ``method.epoch()`` at the end of each. It adds
    1e-20 to a loss before the logarithm; ours refuses losses that are not positive.

    Args:
        mode: ``mtl`` or ``bare``.
        mu: μ > 0; the smaller, the closer to the maximum.
        pref: λ, one positive preference per task, used as given; None: 1/K. Only for ``bare``.
        ideal: z, the least value of each loss; None: 0. Only for ``bare``.
        warmup: how many windows of the warm-up come before the one that gives the nadir (mode ``mtl``).
        window: length of a window in steps, or ``"epoch"`` (mode ``mtl``).

    Example:
        >>> import torch
        >>> weights = STCH(mode="bare", mu=0.01)(losses=torch.tensor([1.0, 4.0]))
        >>> weights.numpy().round(6).tolist()  # only the larger one counts
        [0.0, 0.5]
    """

    mode: str = "mtl"
    mu: float = 1.0
    pref: Sequence[float] | None = None
    ideal: Sequence[float] | None = None
    warmup: int = 4
    window: int | str = 25

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.choice(self, "mode", ("mtl", "bare"))
        checks.number(self, "mu", above=0.0)
        for name in ("pref", "ideal"):
            if getattr(self, name) is not None:
                if self.mode == "mtl":
                    raise AccordError(
                        f"STCH: {name}={getattr(self, name)!r} has no meaning in mode='mtl'; leave it out."
                    )
                checks.vector(self, name)
        if self.pref is not None and min(self.pref) <= 0:
            raise AccordError(f"STCH: pref={self.pref!r}, expected positive preferences.")
        checks.whole(self, "warmup", least=0)
        windows.check(self)
        self._windows = Windows(self.window)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The gradient of the smooth maximum. See the class."""
        return self._bare(checks.present(self, losses), context) if self.mode == "bare" else self._mtl(losses, context)

    def _bare(self, losses: Array, context: Context) -> Array:
        ideal = 0.0 if self.ideal is None else checks.pick(self, "ideal", context.active, context.total)
        pref = np.full(len(losses), 1 / len(losses))  # (k,)
        if self.pref is not None:
            pref = checks.pick(self, "pref", context.active, context.total)
        return pref * self._shares(pref * (losses - ideal))

    def _mtl(self, losses: Array | None, context: Context) -> Array:
        losses, seen = checks.positive(self, losses), self._windows
        seen.begin(context.total)
        if seen.done <= self.warmup:
            seen.add(context.active, losses)
            return 1 / losses
        # Nothing is added any more, so the last window stays that of the nadir.
        nadir = np.where(np.isnan(seen.last[context.active]), losses, seen.last[context.active])  # (k,)
        seen.last[context.active] = nadir
        return len(losses) * self._shares(np.log(losses) - np.log(nadir)) / losses

    def _shares(self, values: Array) -> Array:
        powers = np.exp((values - values.max()) / self.mu)  # (k,)
        return powers / powers.sum()

    def epoch(self) -> None:
        """An epoch has ended, and with it a window of ``"epoch"``."""
        self._windows.epoch()

    def state_dict(self) -> dict[str, Any]:
        """The windows, the last of which holds the nadir after the warm-up."""
        return self._windows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._windows.load_state_dict(state)
