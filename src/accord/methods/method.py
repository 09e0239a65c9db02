"""The kinds of method, each a small typed map; a concrete method is final and lives in its own file.

``Weighting``:   (gramian (K, K), losses (K,)) -> weights (K,)
``Aggregation``: rows (K, P) of gradients -> combined gradient (P,); ``Elementwise`` does so tensor by tensor
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.elsewhere import Elsewhere
from accord.errors import AccordError
from accord.randomness import generator as on_device
from accord.rows import Rows
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
        rows: the gradients of the active tasks, for methods with ``needs_gradients``.
        cross: (k, k), ``A_ij = g_i·g_j'`` of two independent batches, for methods with ``needs_second_batch``.
        elsewhere: losses and gradients at other parameters, for methods with ``needs_validation``.
    """

    active: NDArray[np.intp]
    total: int
    generator: torch.Generator
    epsilon: float = 1e-10
    rows: Rows | None = None
    cross: Array | None = None
    elsewhere: Elsewhere | None = None


class Method(ABC):  # noqa: B024 - abstract by its two kinds below
    """A rule for combining the gradients of several tasks; configured by its dataclass fields.

    Capabilities are class attributes, so that nothing ever asks for a method by name:

    - ``needs_gramian``: the rule reads inner products of the task gradients.
    - ``needs_gradients``: the rule reads the gradients themselves.
    - ``needs_losses_after``: it learns from the losses after the optimiser's step (``Balancer.after_step``).
    - ``needs_second_batch``: it needs the losses of an independent batch (``backward(losses, second=...)``).
    - ``needs_validation``: it looks at losses of a validation batch at other parameters than the present ones
      (``backward(compute, validation=...)``).
    - ``plain``: the weights are always 1, so the step is left to PyTorch, bit for bit.
    - ``native_scale``: ``sum`` (d is like Σ g_i), ``mean``, ``unit-free``, or ``objective`` (never rescaled).
    - ``group``: ``total`` (one problem for all shared parameters), or the blocks that the authors solve for apart.
    - ``default_heads``: whether a task's own parameters get their gradient ``plain`` or ``weighted``, as the authors do
      it in methods that read gradients; loss weightings always weight them.
    - ``laws``: the names of the theorems (tests/laws.py) that hold for every input in the default configuration.
    """

    needs_gramian: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    needs_losses_after: bool = False  # may depend on the configuration
    needs_second_batch: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    plain: ClassVar[bool] = False
    native_scale: ClassVar[Scale] = "sum"
    group: ClassVar[Literal["total", "module", "tensor"]] = "total"
    default_heads: ClassVar[Literal["plain", "weighted"]] = "plain"
    laws: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        """The configuration: at once the repr, the CLI argument, the run folder and the legend."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in fields if v is not None)})"

    @property
    def events(self) -> list[Event]:
        """Events since the last ``take_events``; kept apart from the configuration and from the state."""
        return self.__dict__.setdefault("_events", [])

    def report(self, kind: Literal["solver", "stationary", "scale", "missing"], message: str) -> None:
        """Record an event for the Step and say it in the log; what one step finds many times is said once."""
        event = Event(kind, f"{self!r}: {message}")
        if event not in self.events:
            self.events.append(event)
            log.warning("%r: %s", self, message)

    def take_events(self) -> tuple[Event, ...]:
        """The events since the last call, which forgets them."""
        events = tuple(self.events)
        self.events.clear()
        return events

    def epoch(self) -> None:  # noqa: B027 - most methods count no epochs
        """An epoch has ended: to be called by the user, for methods that were given ``window="epoch"``."""

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
        self,
        gramian: Tensor | None = None,
        losses: Tensor | None = None,
        *,
        gradients: Tensor | None = None,
        cross: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The native weights, on the device and in the dtype of the input.

        Tasks whose gradient is zero or not finite get weight 0 and do not disturb the others.

        Args:
            gramian: (K, K) inner products of the task gradients; may be None if the method does not use it.
            losses: (K,); may be None if the method does not use them.
            gradients: (K, P) in place of the Gramian; required by methods with ``needs_gradients``.
            cross: (K, K) inner products ``g_i·g_j'`` of two independent batches, for ``needs_second_batch``.
            generator: a CPU generator for random methods; by default torch's global one.

        Raises:
            ValueError: on a missing or wrongly shaped argument.
        """
        from accord.methods.call import call  # the checks live apart from the contract

        return call(self, gramian, losses, gradients, cross, generator)

    def corrected(self, gramian: Tensor | Array, *, generator: torch.Generator | None = None) -> Array:
        """Every gradient as this method leaves it before it adds them up: ``g_i' = Σ_j C_ij g_j``.

        The native weights are ``Σ_i p_i C_ij`` with ``p`` the preferences (1 for methods without). Nothing is
        remembered: targets and other state stay as they are. How much of a gradient is left says
        ``accord.conflict.survival``.

        Args:
            gramian: (..., K, K), any axes in front.
            generator: a CPU generator for random orders; by default torch's global one. Of three and more tasks PCGrad
                and GradVac draw an order, so this is *a* correction, not that of a step in the past.

        Returns:
            (..., K, K) float64 coefficients C; rows and columns of tasks without a gradient are zero.

        Raises:
            AccordError: for methods that weigh gradients as they are, or correct the sum alone.
        """
        from accord.methods.call import corrected  # the checks live apart from the contract

        return corrected(self, gramian, generator)

    def correct(self, gramian: Array, context: Context) -> Array:
        """Coefficients (k, k) of the corrected gradients of the active tasks, for methods that have some.

        Args:
            gramian: (k, k) float64, of finite gradients that are not zero.
            context: as in ``solve``.

        Raises:
            AccordError: for methods that do not correct each gradient by itself.
        """
        raise AccordError(f"{self!r} does not correct each gradient by itself; PCGrad, UPGrad, AGEM and others do.")

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

    def finish(self, weights: Array, context: Context) -> Array:
        """The last word on the weights, after scaling; only wrappers that smooth have one.

        Args:
            weights: (k,) scaled weights of the active tasks.
            context: as in ``solve``.

        Returns:
            (k,)
        """
        return weights

    def after_step(self, losses: Array, context: Context) -> None:
        """Losses of the same batch after the optimiser's step; only called if ``needs_losses_after``."""
        raise TypeError(f"{self!r} does not learn from the losses after the step; do not call after_step")


class Aggregation(Method):
    """A method that combines whole gradients: rows (K, P) -> (P,), where P is spread over many tensors."""

    needs_gradients: ClassVar[bool] = True

    def aggregate(
        self, gradients: Tensor, losses: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The combined gradient in the native scale, on the device and in the dtype of the input.

        Args:
            gradients: (K, ...), one row per task; tasks whose row is zero or not finite take no part.
            losses: (K,); may be None if the method does not use them.
            generator: a CPU generator for random methods; by default torch's global one.

        Returns:
            (...)

        Raises:
            ValueError: on a missing or wrongly shaped argument.
        """
        from accord.methods.call import aggregate  # the checks live apart from the contract

        return aggregate(self, gradients, losses, generator)

    @abstractmethod
    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """The combined gradient in the native scale, tensor by tensor.

        Args:
            rows: the k active tasks' gradients, all finite and none zero; belongs to the caller: not to be changed.
            gramian: (k, k) float64, their inner products.
            losses: (k,) float64, finite; None if the caller has none.
            context: which tasks these are, how many there are, and the source of randomness.

        Returns:
            For each parameter a fresh tensor that nobody else holds; None where no task reaches it.
        """


class Elementwise(Aggregation):
    """An aggregation whose result in one tensor depends on the gradients of that tensor alone."""

    @abstractmethod
    def reduce(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Combine the gradients of one tensor.

        Args:
            rows: (k', ...), the gradients of the active tasks that reach this tensor, all finite.
            generator: on the device of ``rows``.

        Returns:
            (...), in the native scale.
        """

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """See ``Aggregation.combine``; tasks that do not reach a tensor take no part in it."""
        generators: dict[torch.device, torch.Generator] = {}
        combined: list[Tensor | None] = []
        for gradients in zip(*rows.rows, strict=True):
            present = [g.to_dense() if g.is_sparse else g for g in gradients if g is not None]
            if not present:
                combined.append(None)
                continue
            device = present[0].device
            if device not in generators:
                generators[device] = on_device(device, context.generator)
            combined.append(self.reduce(torch.stack(present), generators[device]))
        return combined
