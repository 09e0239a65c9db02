"""Anchor: parameters held near their initial values, the control for "sparse training is only regularisation"."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Anchor:
    """A pull of some parameters towards the values that they have now.

    After each step of the optimiser they take the proximal step of ``strength * ‖θ - θ₀‖²``:

    ``θ <- (θ + 2 lr strength θ₀) / (1 + 2 lr strength)``

    For small ``lr * strength`` that is a step of gradient descent on the penalty; it never overshoots, however strong
    the pull. The penalty is decoupled, as weight decay is in AdamW: it is no task, enters no Gramian, and does not go
    through the moments of the optimiser.

    Args:
        parameters: to be held.
        strength: factor of the squared distance.
        lr: learning rate of the optimiser.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(1))
        >>> anchor = Anchor([p], strength=0.5, lr=1.0)
        >>> with torch.no_grad():
        ...     _ = p.fill_(4.0)
        >>> anchor.pull()
        >>> p.item()
        2.0
    """

    def __init__(self, parameters: Iterable[Tensor], strength: float, lr: float) -> None:
        self._held = [(p, p.detach().clone()) for p in parameters]
        self._share = 2 * lr * strength / (1 + 2 * lr * strength)

    @torch.no_grad()
    def pull(self) -> None:
        """One proximal step."""
        for p, start in self._held:
            p.lerp_(start, self._share)
