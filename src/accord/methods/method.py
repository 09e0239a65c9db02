"""The two kinds of method, each a small typed map; a concrete method is final and lives in its own file.

``Weighting``:   (gramian (K, K), losses (K,)) -> weights (K,)
``Aggregation``: rows (K, ...) of one tensor's gradients -> combined gradient (...)
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.errors import AccordError
from accord.step import Event

Array = NDArray[np.float64]
Scale = Literal["sum", "mean", "unit-free", "objective"]
log = logging.getLogger("accord")


@dataclass(frozen=True)
class Context:
    """What a method may know beside Gramian and losses.

    Args:
        active: (k,) int, the columns of the tasks at hand among all tasks named so far; indexes per-task state.
        total: K, how many tasks have been named so far.
        generator: source of all randomness of a method.
        epsilon: relative accuracy of the Gramian's entries, which sets how strongly solvers regularise: 1e-10 for
            float64 products, 1.2e-7 for float32 products summed in float64 over column chunks, K * 1.2e-7 for a
            Gramian handed over in float32.
    """

    active: NDArray[np.intp]
    total: int
    generator: torch.Generator
    epsilon: float = 1e-10


class Method(ABC):  # noqa: B024 - abstract by its two kinds below
    """A rule for combining the gradients of several tasks; configured by its dataclass fields.

    Capabilities are class attributes, so that nothing ever asks for a method by name:

    - ``needs_gramian``: the rule reads inner products of the task gradients.
    - ``needs_gradients``: the rule reads the gradients themselves (``Aggregation``).
    - ``needs_losses_after``: it learns from the losses after the optimiser's step (``Balancer.after_step``).
    - ``needs_second_batch``: it needs the gradients of an independent batch.
    - ``plain``: the weights are always 1, so the step is left to PyTorch, bit for bit.
    - ``native_scale``: ``sum`` (d is like Σ g_i), ``mean``, ``unit-free``, or ``objective`` (never rescaled).
    - ``laws``: the names of the theorems (tests/laws.py) that hold for every input in the default configuration.
    """

    needs_gramian: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    needs_losses_after: ClassVar[bool] = False
    needs_second_batch: ClassVar[bool] = False
    plain: ClassVar[bool] = False
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        """The configuration: at once the repr, the CLI argument, the run folder and the legend."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in fields if v is not None)})"

    @property
    def events(self) -> list[Event]:
        """Events since the last ``take_events``; kept apart from the configuration and from the state."""
        return self.__dict__.setdefault("_events", [])

    def report(self, kind: Literal["solver", "stationary", "scale"], message: str) -> None:
        """Record an event for the Step and say it once in the log."""
        self.events.append(Event(kind, f"{self!r}: {message}"))
        log.warning("%r: %s", self, message)

    def take_events(self) -> tuple[Event, ...]:
        """The events since the last call, which forgets them."""
        events = tuple(self.events)
        self.events.clear()
        return events

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes from step to step: tensors, numbers, strings and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave; works on a fresh object."""
        if state:
            raise AccordError(f"{self!r} has no state, but the state to load has {sorted(state)}")


class Weighting(Method):
    """A method that is a map ``(gramian (K, K), losses (K,)) -> weights (K,)``."""

    def __call__(
        self, gramian: Tensor | None = None, losses: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The native weights, on the device and in the dtype of the input.

        Tasks whose gradient is zero or not finite get weight 0 and do not disturb the others.

        Args:
            gramian: (K, K) inner products of the task gradients; may be None if the method does not use it.
            losses: (K,); may be None if the method does not use them.
            generator: a CPU generator for random methods; by default torch's global one.

        Raises:
            ValueError: on a missing or wrongly shaped argument.
        """
        from accord.methods.call import call  # the checks live apart from the contract

        return call(self, gramian, losses, generator)

    @abstractmethod
    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The native weights of the active tasks, all of whose gradients are finite and not zero.

        Args:
            gramian: (k, k) float64, symmetric; None unless ``needs_gramian``.
            losses: (k,) float64, finite; None if the caller has none.
            context: which tasks these are, how many there are, and the source of randomness.

        Returns:
            (k,) float64 weights.
        """

    def after_step(self, losses: Array, context: Context) -> None:
        """Losses of the same batch after the optimiser's step; only called if ``needs_losses_after``."""
        raise TypeError(f"{self!r} does not learn from the losses after the step; do not call after_step")


class Aggregation(Method):
    """A method that combines whole gradients, tensor by tensor: ``rows (K, ...) -> (...)``."""

    needs_gradients: ClassVar[bool] = True

    @abstractmethod
    def aggregate(self, rows: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Combine the gradients of one tensor.

        Args:
            rows: (K, ...), the gradients of the tasks that reach this tensor, all finite.
            generator: on the device of ``rows``.

        Returns:
            (...), in the native scale.
        """

    def combine(
        self,
        rows: Sequence[Sequence[Tensor | None]],
        active: Sequence[int],
        factor: float,
        source: Callable[[torch.device], torch.Generator],
    ) -> list[Tensor | None]:
        """Combine the gradients of every tensor; tasks that do not reach a tensor take no part in it.

        Args:
            rows: ``rows[i][p]``, the gradient of task i in parameter p.
            active: the tasks that take part, whose gradients are finite.
            factor: brings the native scale to the one asked for.
            source: a generator for a device.

        Returns:
            One tensor per parameter; None where no task reaches it.
        """
        generators: dict[torch.device, torch.Generator] = {}
        combined: list[Tensor | None] = []
        for gradients in zip(*rows, strict=True):
            present = [g for i in active if (g := gradients[i]) is not None]
            if not present:
                combined.append(None)
                continue
            device = present[0].device
            if device not in generators:
                generators[device] = source(device)
            combined.append(self.aggregate(torch.stack(present), generator=generators[device]) * factor)
        return combined
