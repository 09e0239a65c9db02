"""Adam on per-task parameters with analytic gradients, for methods that learn their weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.methods.state import PerTask

Array = NDArray[np.float64]

MOMENTS = {"first_moment": 0.0, "second_moment": 0.0, "adam_steps": 0.0}


def adam_step(
    state: PerTask, name: str, active: NDArray[np.intp], gradient: Array, lr: float, weight_decay: float = 0.0
) -> None:
    """One step of Adam on ``state[name][active]``, in place.

    Kingma & Ba 2015, algorithm 1, with β = (0.9, 0.999), ε = 1e-8; weight decay is added to the gradient, as in
    ``torch.optim.Adam``. Every task counts its own steps, so an absent one is not moved.

    Args:
        state: holds ``name`` and the ``MOMENTS``.
        name: of the parameters.
        active: (k,) whose parameters.
        gradient: (k,).
        lr: learning rate.
        weight_decay: of the L2 kind.

    Example:
        >>> state = PerTask(s=1.0, **MOMENTS)
        >>> state.grow(2)
        >>> adam_step(state, "s", np.array([1]), np.array([3.0]), lr=0.1)
        >>> state["s"].round(6).tolist()
        [1.0, 0.9]
    """
    gradient = gradient + weight_decay * state[name][active]  # (k,)
    first = 0.9 * state["first_moment"][active] + 0.1 * gradient  # (k,)
    second = 0.999 * state["second_moment"][active] + 0.001 * gradient**2  # (k,)
    steps = state["adam_steps"][active] + 1  # (k,)
    state["first_moment"][active], state["second_moment"][active], state["adam_steps"][active] = first, second, steps
    unbiased = first / (1 - 0.9**steps)
    state[name][active] -= lr * unbiased / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8)
