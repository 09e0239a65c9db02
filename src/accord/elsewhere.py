"""Elsewhere: what a method that looks ahead may ask for: losses and gradients where the parameters are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from accord.rows import Rows

Array = NDArray[np.float64]
BatchName = Literal["training", "validation"]
Shift = Sequence[Tensor | None]  # one tensor per parameter, None: not moved


class Elsewhere(Protocol):
    """Losses of two batches at displaced parameters; afterwards everything is as before.

    Module modes, buffers (running statistics) and random numbers are put back, too, so that a look leaves no trace, and
    the graph of the training step stays usable.

    Attributes:
        parameters: all trainable parameters of the model, heads included.
        names: theirs.
        optimizer: the one that will make the step, if the user named it.
        epsilon: relative accuracy of inner products of the gradients seen.
    """

    parameters: Sequence[Tensor]
    names: Sequence[str]
    optimizer: Optimizer | None
    epsilon: float

    def values(self, batch: BatchName, shift: Shift | None = None) -> Array:
        """(k,) the losses of the active tasks with the parameters moved by ``shift``; no gradients."""

    def gradients(self, batch: BatchName, shift: Shift | None = None) -> Rows:
        """The k active tasks' gradients in all parameters, with the parameters moved by ``shift``."""

    def gradient(self, batch: BatchName, weights: Array, shift: Shift | None = None) -> list[Tensor | None]:
        """``Σ w_i ∇L_i`` in all parameters by one backward pass, with the parameters moved by ``shift``."""
