"""MoCo: the min-norm weights followed slowly, on gradients that are averaged over steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from accord.errors import AccordError
from accord.linalg.simplex import onto_simplex
from accord.methods import checks
from accord.methods.memory import Memory
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.state import PerTask
from accord.rows import Rows


@dataclass(eq=False, repr=False)
class MoCo(Aggregation):
    """Multi-objective gradient correction.

    ``y_i ← y_i − β_t(y_i − g_i)`` tracks the gradients, ``λ ← Π_Δ(λ − γ_k(YYᵀ + ρI)λ)`` the weights of MGDA for them,
    ``d = Yᵀλ``, with ``β_t = β/t^σ`` and ``γ_k = γ/k^σ``; y starts at zero, λ at the mean.

    Source: Fernando et al. 2023 (ICLR), "Mitigating Gradient Bias in Multi-objective Learning",
    [arXiv 2210.12624](https://arxiv.org/abs/2210.12624), algorithm 1; defaults of the authors' code as LibMTL has it.

    The paper keeps y in a ball whose radius is a Lipschitz constant, which nobody knows in training; we do not. Every
    step uses the y and λ that it has just made, as that code does. There, λ goes through a softmax in place of the
    projection Π_Δ, which pins it near the mean. t counts the steps of the task, k all steps; among the active tasks,
    λ is brought to the sum 1 before its step, and a task that is met for the first time begins with 1/K.

    Args:
        beta: β in (0, 1].
        beta_sigma: how fast β_t falls; 0: not at all.
        gamma: γ >= 0, the learning rate of λ.
        gamma_sigma: how fast γ_k falls.
        rho: ρ >= 0, draws λ towards the mean.
        normalise: track ``L_i g_i/n_i`` in place of g_i, as that code does.

    Example:
        >>> import torch
        >>> method = MoCo(beta=1.0, beta_sigma=0.0, gamma=0.1, gamma_sigma=0.0)
        >>> J = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> for _ in range(200):
        ...     d = method.aggregate(J)
        >>> d.numpy().round(6).tolist()  # that of MGDA, on gradients that stay as they are
        [0.4, 0.8]
    """

    beta: float = 0.5
    beta_sigma: float = 0.5
    gamma: float = 0.1
    gamma_sigma: float = 0.5
    rho: float = 0.0
    normalise: bool = False

    native_scale: ClassVar[Scale] = "mean"
    # No laws: permutation does not matter, but where ``γ‖y‖²`` is far above 1, rounding decides between equal tasks.

    def __post_init__(self) -> None:
        checks.number(self, "beta", above=0.0, most=1.0)
        for name in ("beta_sigma", "gamma", "gamma_sigma", "rho"):
            checks.number(self, name, least=0.0)
        if not isinstance(self.normalise, bool):
            raise AccordError(f"MoCo: normalise={self.normalise!r}, expected True or False.")
        self._memory = Memory()  # y by task
        self._state = PerTask(weight=np.nan, steps=0.0)  # NaN: not met yet
        self._steps = 0

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """One step of y and λ, and their combination. See the class."""
        state, active = self._state, context.active
        state.grow(context.total)
        state["steps"][active] += 1
        self._steps += 1
        share = self.beta / state["steps"][active] ** self.beta_sigma  # (k,), β_t
        size = np.ones(len(rows))  # (k,)
        if self.normalise:
            size = checks.present(self, losses) / np.sqrt(np.diagonal(gramian))
        tracked = self._memory.blend(active.tolist(), rows, (1 - share).tolist(), (share * size).tolist())
        products = tracked.gramian().cpu().numpy()  # (k, k), YYᵀ

        weights = state["weight"][active]  # (k,), λ
        weights = np.where(np.isnan(weights), 1 / len(rows), weights)
        weights = weights / weights.sum() if weights.any() else np.full(len(rows), 1 / len(rows))
        step = self.gamma / self._steps**self.gamma_sigma  # γ_k
        weights = onto_simplex(weights - step * (products @ weights + self.rho * weights))
        state["weight"][active] = weights
        return tracked.combine(weights.tolist(), keep=True)

    def state_dict(self) -> dict[str, Any]:
        """The tracked gradients, λ, and the numbers of steps."""
        return {"steps": self._steps, "tasks": self._state.state_dict(), "gradients": self._memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps = state["steps"]
        self._state.load_state_dict(state["tasks"])
        self._memory.load_state_dict(state["gradients"])
