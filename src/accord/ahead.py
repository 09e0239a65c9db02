"""probe_ahead: the conflict here and at displaced parameters, on the same mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from accord import conflict
from accord.blocks import Granularity
from accord.displacement import displaced
from accord.errors import AccordError
from accord.monitor import Monitor
from accord.step import Step
from accord.undisturbed import random_state, undisturbed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AheadProbe:
    """What one mini-batch says here and at each displaced point; see ``probe_ahead``.

    Args:
        here: the Step at the parameters as they are.
        there: the Step at each displaced point, by its name.

    Example:
        >>> import torch
        >>> step = Step.begin(0, ("a",), [0], torch.zeros(1))
        >>> AheadProbe(step, {"ahead": step}).there["ahead"].tasks
        ('a',)
    """

    here: Step
    there: Mapping[str, Step]

    def cosine(self, name: str | None = None) -> Array:
        """Cosines between the tasks' gradients.

        Args:
            name: of a displaced point; None: here.

        Returns:
            (K, K), NaN where a gradient is zero or not finite.
        """
        step = self.here if name is None else self.there[name]
        return conflict.cosine(step.gramian)

    def change(self, name: str) -> Array:
        """``cos(g_i, g_j)`` at the displaced point minus that here, of the same mini-batch: above 0, better aligned.

        Args:
            name: of a displaced point.

        Returns:
            (K, K).
        """
        return self.cosine(name) - self.cosine()


def probe_ahead(
    model: nn.Module,
    compute: Callable[[], Mapping[str, Tensor]],
    displacements: Mapping[str, Mapping[Tensor, Tensor]],
    *,
    shared: Iterable[str | Tensor] | None = None,
    blocks: Granularity | Mapping[Tensor, str] = "total",
) -> AheadProbe:
    """The tasks' Gramian at ``θ`` and at ``θ + d`` for each displacement ``d``, on one mini-batch.

    ``change = cos(g_1(θ + d), g_2(θ + d)) − cos(g_1(θ), g_2(θ))``.

    The difference is paired: the same examples and, because all looks draw the same random numbers, the same dropout
    masks. The parameters come back bit for bit; gradients, buffers and random numbers are left as they were. It costs
    a look of ``accord.Monitor`` for each point, one more for ``θ`` itself.

    Args:
        model: names the blocks; its buffers are kept.
        compute: the losses of the mini-batch by task name, from a forward pass of its own at each call.
        displacements: ``d`` by parameter, under a name of your choice, such as ``momentum_displacement(optimizer)``
            and ``random_displacement`` of it, its control.
        shared: as in ``accord.Monitor``.
        blocks: as in ``accord.Monitor``.

    Raises:
        AccordError: without displacements, or for one of another shape than its parameter.

    Source:
        Accord's own part; the question whether gradients agree better at ``θ + μv`` is that of Nesterov's method.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
        >>> model = torch.nn.ParameterList([w])
        >>> compute = lambda: {"a": w.square().sum(), "b": (w - torch.tensor([0.0, 2.0])).square().sum()}
        >>> found = probe_ahead(model, compute, {"up": {w: torch.tensor([0.0, 1.0])}})
        >>> round(float(found.cosine()[0, 1]), 3), round(float(found.change("up")[0, 1]), 3), w.tolist()
        (0.447, -0.447, [1.0, 0.0])
    """
    if not displacements:
        raise AccordError("probe_ahead has no displacement to look at; hand over momentum_displacement(optimizer).")
    monitor = Monitor(model, every=1, blocks=blocks, shared=shared)
    noise = random_state(model)

    def look(displacement: Mapping[Tensor, Tensor]) -> Step:
        with undisturbed(model, noise, grad=True), displaced(displacement):
            step = monitor.observe(compute())
        assert step is not None  # every=1
        return step

    here = look({})
    return AheadProbe(here, {name: look(d) for name, d in displacements.items()})
