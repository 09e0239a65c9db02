"""Looks: the gradient of what is not trained, now and then, without touching the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from accord.balancer.write import drop
from accord.errors import AccordError
from accord.monitor import Monitor
from accord.step import Step

TRAINED, FROZEN = "trained", "frozen"


class Looks:
    """An observer of a Balancer: measures the Gramians of the trained and of the other shared scalars.

    A gradient has to be wanted before the forward pass: at the end of the step before a look, the rest of the shared
    parameters is told to require one; after the look, before the Balancer sees the losses, no longer.

    Args:
        rest: shared parameters that are not trained.
        monitor: looks every few steps, in the blocks ``trained`` and ``frozen``; None: never.
        always: the rest requires gradients in every step, as the method is to see them.
        keep: leave ``.grad`` of the rest to the optimiser.
    """

    def __init__(self, rest: Sequence[Tensor], monitor: Monitor | None, *, always: bool, keep: bool) -> None:
        self.rest, self.monitor, self.always, self.keep = rest, monitor, always, keep
        self._open = False  # a step whose losses have been seen
        self._wanted = always

    def begin(self) -> None:
        """The next forward pass may be one to look at."""
        due = self.monitor is not None and self.monitor.pace.next <= self.monitor.pace.steps
        self._want(self.always or due)

    def before(self, losses: Mapping[str, Tensor]) -> None:
        """See ``probe.Observer``. Of several micro-batches the first is looked at.

        Args:
            losses: of a step.

        Raises:
            AccordError: if the forward pass came before the Balancer was attached.
        """
        if self._open:
            return
        self._open = True
        if self.monitor is not None:
            pace = self.monitor.pace
            if pace.next <= pace.steps and not self._wanted:
                pace.next += 1  # the step before this one failed, so nobody asked for these gradients: look later
            step = self.monitor.observe(losses)
            if step is not None and self.rest and TRAINED in step.blocks and FROZEN not in step.blocks:
                raise AccordError(
                    "a look is due, but these losses were computed before attach(balancer), or before the last "
                    "backward pass had ended; attach first, and compute the losses of a step after the step before."
                )
        if not self.always:
            self._want(False)

    def after(self, step: Step) -> None:
        """See ``probe.Observer``.

        Args:
            step: what happened.
        """
        self._open = False
        if not self.keep:
            drop(self.rest)
        self.begin()

    def _want(self, wanted: bool) -> None:
        self._wanted = wanted
        for p in self.rest:
            p.requires_grad_(wanted)

    def state_dict(self) -> dict[str, Any] | None:
        """Where the looks stand."""
        return None if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from there.

        Args:
            state: what ``state_dict`` gave.
        """
        if self.monitor is not None and state is not None:
            self.monitor.load_state_dict(state)
        self.begin()
