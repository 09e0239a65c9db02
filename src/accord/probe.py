"""Probe and Observer: what a Balancer expects of whoever looks at its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from accord.blocks import Granularity
from accord.engines import Engine
from accord.step import Step


class Probe(Protocol):
    """What a Monitor is to the Balancer."""

    def due(self) -> Granularity | Mapping[Tensor, str] | None:
        """The blocks to measure in this step, or None to leave it alone."""

    def receive(self, step: Step, engine: Engine | None, columns: Sequence[int]) -> None:
        """Every step with, on probe steps, the engine, whose rows (if it has any) are still in place.

        ``columns`` says where the engine's tasks stand on the step's task axis.
        """


class Observer(Protocol):
    """Who wants to do something before and after each backward pass, such as sparse training."""

    def before(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of a step (or of a micro-batch), whose graphs are still whole."""

    def after(self, step: Step) -> None:
        """What happened; ``.grad`` is filled in. Not called for a micro-batch that is only added."""
