"""Balancer: what stands in a training loop in place of ``sum(losses.values()).backward()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from accord import losses as checked
from accord import scale as scaling
from accord.balancer import settings
from accord.balancer.closure import evaluation
from accord.balancer.kinds import plainly, run
from accord.balancer.passes import Pass, Setup, unit_of
from accord.balancer.refresh import Refresh
from accord.balancer.settings import EngineName, Heads
from accord.balancer.solving import Blockwise
from accord.blocks import Granularity
from accord.engines import Displaced, Held, Starter, by_hand, compiled
from accord.engines.start import refuse_unreduced
from accord.errors import AccordError
from accord.methods import Context, Method, Weighting, parse
from accord.probe import Observer, Probe
from accord.randomness import generator
from accord.rows import Reduce
from accord.step import Event, Step
from accord.undisturbed import RandomState, random_state, undisturbed

Losses = Mapping[str, Tensor]
Compute = Callable[[], Losses]


class Balancer:
    """Replaces ``sum(losses.values()).backward()`` and leaves the rest of the loop as it is.

    Fills ``.grad`` of shared parameters with ``d = Σ w_i g_i`` (or what a whole-gradient method makes of them) and of
    each task's own parameters with their gradient. Existing ``.grad`` is added to, as PyTorch does.

    Args:
        model: names the parameters; which of them are shared is read off the losses' graphs in every step.
        method: a method, or its spelling: ``"CAGrad(c=0.5)"``.
        scale: ``sum`` (the learning rate means what it means for the summed loss, whatever the method), ``mean``,
            ``native`` (as the method's authors have it) or ``match-norm`` (``‖d‖ = ‖Σ g_i‖``).
        heads: ``plain`` (a task's own parameters get their own gradient) or ``weighted`` (times w_i). Default: plain
            for methods that read gradients, weighted for loss weightings, which cannot have it otherwise.
        engine: ``stacked`` (holds K·P), ``segmented`` (never does; one trunk backward more), ``features`` (Gramian at
            the shared representation; nearly free, guarantees hold there only) or ``auto``: stacked if it fits into
            half of the free memory, else segmented.
        refresh: solve for new weights every n steps and use them in between, at about the cost of a plain step.
        group: solve block by block: ``module``, ``tensor``, a block name per parameter, or ``total`` (one problem for
            all); default what the method's authors do. Needs all K gradients at once.
        blocks: in which blocks to measure Gramians in every step, as for ``group``.
        generator: source of all randomness; by default each step draws from a generator keyed by ``(seed, step)``,
            equal on all ranks and resumable.
        seed: of that default.
        shared: parameters (tensors, names or prefixes) that enter the Gramian; default all that several losses reach.
        reduce: averages a list of tensors over ranks, in place; required for wrapped (distributed) models.
        scaler: the GradScaler of a half-precision loop; ``.grad`` is then in its units, as after
            ``scaler.scale(loss).backward()``, and a gradient that overflowed makes it skip the step.
        optimizer: the one that makes the steps, for methods that look ahead along them.

    Raises:
        AccordError: for an unknown spelling, or a combination that cannot be.

    Example:
        >>> import torch, accord
        >>> model = torch.nn.Linear(2, 1)
        >>> balancer = accord.Balancer(model, "UPGrad()")
        >>> out = model(torch.eye(2))
        >>> step = balancer.backward({"up": out.mean(), "down": -3 * out.mean()})  # nothing serves both
        >>> bool(model.weight.grad.norm() < 1e-6)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method | str,
        *,
        scale: scaling.Choice = "sum",
        heads: Heads | None = None,
        engine: EngineName = "auto",
        refresh: int = 1,
        group: Granularity | Mapping[Tensor, str] | None = None,
        blocks: Granularity | Mapping[Tensor, str] = "total",
        generator: torch.Generator | None = None,
        seed: int = 0,
        shared: Iterable[str | Tensor] | None = None,
        reduce: Reduce | None = None,
        scaler: GradScaler | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.model = model
        self.method = parse(method) if isinstance(method, str) else method
        self.heads = settings.check(self.method, scale, heads, engine)
        group = self.method.group if group is None and isinstance(self.method, Method) else group
        settings.check_blocks(self.method, group, blocks, engine, refresh, self.heads)
        if self.method.needs_validation and reduce is not None:
            raise AccordError(f"{self.method!r} looks at losses that nobody averages over ranks; leave reduce= out.")
        if not self.method.plain:
            refuse_unreduced(model, reduce, one_backward=settings.from_losses(self.method))
        if engine == "features" and reduce is not None:
            raise AccordError("engine='features' does not take reduce= yet; use engine='stacked'.")
        compiled.keep_buffers(model)
        self.scale, self.engine = scale, engine
        scale = settings.effective(self.method, scale)
        shared = shared if shared is None else (shared,) if isinstance(shared, str | Tensor) else tuple(shared)
        self.starter = Starter(model, engine, shared, reduce)
        blockwise = Blockwise(self.method) if group != "total" and isinstance(self.method, Weighting) else None
        self._setup = Setup(
            model, self.method, scale, self.heads, self.starter, blocks if blockwise is None else group, blockwise,
            Refresh(refresh),
        )  # fmt: skip
        self.generator, self.seed = generator, seed
        self.scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.optimizer = optimizer
        self.tasks: tuple[str, ...] = ()
        self.index = 0
        self.probe: Probe | None = None
        self.observers: list[Observer] = []
        self._awaited: NDArray[np.intp] | None = None  # the active tasks of a step whose losses after are still to come
        self._again: tuple[Compute, RandomState] | None = None  # what computed the losses of that step
        self._held: Held | None = None  # micro-batches so far

    def __repr__(self) -> str:
        return (
            f"Balancer({self.method!r}, scale={self.scale!r}, heads={self.heads!r}, engine={self.engine!r}, "
            f"tasks={list(self.tasks)})"
        )

    def backward(
        self,
        losses: Losses | Compute,
        *,
        features: Sequence[Tensor] | None = None,
        second: Losses | Sequence[Losses] | None = None,
        validation: Compute | None = None,
        accumulate: bool = False,
    ) -> Step:
        """Fill ``.grad`` from this step's losses.

        A task whose loss or gradient is not finite is left out of this step, as if absent, and reported in the Step;
        the others are not disturbed. ``Sum()`` is exempt: it does what PyTorch does.

        Args:
            losses: scalar losses by task name; tasks may be absent in a step. Or a function that computes them, for
                methods that compute them again (FAMO, AutoLambda, FORUM).
            features: the shared representation of this step, for ``engine="features"`` where the graph's own cut is
                not wanted.
            second: the losses of an independent batch, for methods with ``needs_second_batch``; the direction is then
                the mean over both. Of two more batches only the products are used, and the direction is the first's.
            validation: a function that computes the losses of a validation batch, for methods with
                ``needs_validation``.
            accumulate: only add this micro-batch's task gradients to those before it (K·P numbers are held); the next
                call without it solves once for all of them; if it fails, they are lost. Losses add up, so divide them
                by the number of micro-batches for a mean.

        Returns:
            What happened, on the CPU; for ``Sum()`` the losses stay on their device until read.

        Raises:
            AccordError: for losses that are no scalars, packed, empty, doubled, or that reach no parameter, or for
                what the method asks for and does not get.
        """
        part = accumulate or self._held is not None
        blockwise = self._setup.blockwise is not None
        settings.check_batches(self.method, losses, features, second, validation, part, self.engine, blockwise)
        twice = (self.method.needs_losses_after or self.method.needs_validation) and not part
        again = (losses, random_state(self.model)) if callable(losses) and twice else None
        losses = checked.check(losses() if callable(losses) else losses)
        others = [checked.check(o) for o in ([second] if isinstance(second, Mapping) else second or ())]
        settings.check_second(losses, others)
        for observer in self.observers:
            observer.before(losses)
        before = self.tasks, self._awaited, self._again, self._held
        self._again, events = again, () if accumulate else self._missed()
        try:
            if part and not plainly(self._setup):
                losses = self._hold(losses)
                before = (*before[:3], None)  # these gradients are one sum: from here on the step fails as a whole
            columns = self._columns(losses)
            if accumulate and self._held is not None:
                return Step.begin(self.index, self.tasks, columns, checked.values(losses).cpu())
            look = None if self.probe is None or accumulate else self.probe.due()
            unit = None if self.scaler is None else unit_of(self.scaler, losses)
            elsewhere = None if validation is None else self._elsewhere(validation)
            given = (look, self._generator, unit, features, others, elsewhere, self._held)
            step, engine, active = run(Pass(self._setup, losses, self.tasks, columns, self.index, *given))
        except Exception:  # the user mends the losses and goes on: a refused step leaves no trace
            self.tasks, self._awaited, self._again, self._held = before
            self.method.take_events()
            raise
        if accumulate:  # PyTorch adds up by itself, and the step is not over
            return step
        self._held = None
        if self.method.needs_losses_after:
            self._awaited = active if len(active) else None
        step.events = (*events, *step.events, *self.method.take_events())
        self.index += 1
        if self.probe is not None:
            self.probe.receive(step, engine, columns)
        for observer in self.observers:
            observer.after(step)
        return step

    def after_step(self, losses: Losses | Compute | None = None) -> None:
        """Losses of the same batch after the optimiser's step, for methods with ``needs_losses_after`` (FAMO).

        Args:
            losses: by task name, or a function that computes them; gradients are not needed. None: the function that
                ``backward`` was given. A function runs without gradients and leaves no trace in BatchNorm's statistics
                or random numbers; the one of ``backward`` also draws the same dropout masks again.

        Raises:
            AccordError: if the method does not ask for them, or no backward pass came before.
        """
        if not (isinstance(self.method, Weighting) and self.method.needs_losses_after):
            raise AccordError(f"{self.method!r} does not learn from the losses after the step; leave after_step out.")
        if self._awaited is None:
            raise AccordError("after_step was called without a backward pass before it.")
        if losses is None and self._again is None:
            raise AccordError("after_step() needs the losses, or give backward, once, the function that computes all.")
        compute, noise = (losses, None) if losses is not None or self._again is None else self._again
        if callable(compute):
            with undisturbed(self.model, noise):
                losses = compute()
        losses = checked.check(losses)  # type: ignore[arg-type]  # no function any more
        numbers = np.full(len(self.tasks), np.nan)
        if unknown := [name for name in losses if name not in self.tasks]:
            raise AccordError(f"the losses after the step are of {unknown}, too, which backward has never been given.")
        numbers[self._columns(losses)] = self.starter.values(losses).cpu().numpy()
        active = self._awaited[np.isfinite(numbers[self._awaited])]
        self._awaited = None
        if len(active):
            context = Context(active, len(self.tasks), self._generator(torch.device("cpu")))
            self.method.after_step(numbers[active], context)

    def closure(self, compute: Compute) -> Callable[[], Tensor]:
        """For optimisers that evaluate several times per step: ``optimizer.step(balancer.closure(compute))``.

        The first evaluation solves for the weights; they stay until the step is over, so that the line search sees one
        function, ``Σ w_i L_i``. Its gradient weights the heads, too, hence ``heads="weighted"``.

        Args:
            compute: the losses by task name, at the present parameters.

        Returns:
            A function that clears ``.grad``, fills it, and returns ``Σ w_i L_i``.

        Raises:
            AccordError: if the method has no weights, or heads are plain.

        Example:
            >>> import torch, accord
            >>> model = torch.nn.Linear(1, 1, bias=False)
            >>> compute = lambda: {"one": (model.weight - 1).square().sum(), "three": (model.weight - 3).square().sum()}
            >>> balancer = accord.Balancer(model, "Sum()")
            >>> for _ in range(3):
            ...     loss = torch.optim.LBFGS(model.parameters()).step(balancer.closure(compute))
            >>> round(model.weight.item(), 4)
            2.0
        """
        settings.check_closure(self.method, self.heads, self._setup.blockwise is not None, self.scaler)
        return evaluation(self, compute)

    def epoch(self) -> None:
        """Tell the method that an epoch has ended; only methods that count epochs listen (DWA, STCH)."""
        self.method.epoch()
        if self._setup.blockwise is not None:
            self._setup.blockwise.epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs.

        Raises:
            AccordError: between micro-batches, whose gradients are not saved.
        """
        if self._held is not None:
            raise AccordError("gradients are being accumulated; save the state after the step that ends it.")
        blockwise = self._setup.blockwise
        return {
            "method": repr(self.method),
            "scale": self.scale,
            "heads": self.heads,
            "tasks": list(self.tasks),
            "index": self.index,
            "seed": self.seed,
            "generator": None if self.generator is None else self.generator.get_state(),
            "awaited": None if self._awaited is None else self._awaited.tolist(),
            "refresh": self._setup.refresh.state_dict(),
            "by_block": blockwise is not None,
            "state": self.method.state_dict() if blockwise is None else blockwise.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Raises:
            AccordError: if it belongs to another method or to other tasks.
        """
        settings.check_state(state, self.state_dict(), ("method", "scale", "heads", "by_block"))
        if self.tasks and self.tasks != tuple(state["tasks"]):
            raise AccordError(f"the state has tasks {state['tasks']}, but this Balancer has seen {list(self.tasks)}.")
        if (self.generator is None) != (state["generator"] is None):
            raise AccordError(
                "the state was saved with a generator= and this Balancer has none, or the other way round."
            )
        (self.method if self._setup.blockwise is None else self._setup.blockwise).load_state_dict(state["state"])
        self.tasks, self.index, self.seed = tuple(state["tasks"]), int(state["index"]), int(state["seed"])
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        self._awaited = None if state["awaited"] is None else np.array(state["awaited"], dtype=np.intp)
        self._setup.refresh.load_state_dict(state["refresh"])

    def _hold(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add a micro-batch; returns the losses so far."""
        self._held = self._held or Held(self.model, self.starter.shared, self.starter.parts)
        unit = None if self.scaler is None else unit_of(self.scaler, losses)
        with torch.enable_grad():
            scaled = losses if unit is None else {name: loss * unit.to(loss) for name, loss in losses.items()}
        with by_hand(losses):
            self._held.add(scaled, checked.values(losses))
        return dict(self._held.losses)

    def _elsewhere(self, validation: Compute) -> Displaced:
        """Made here, where autocast still is what it is for the user's losses."""
        assert self._again is not None
        compute, noise = self._again
        return Displaced(self.model, compute, validation, (), self.optimizer, noise)

    def _columns(self, losses: Mapping[str, Tensor]) -> list[int]:
        """Where the tasks of this step stand on the axis of all tasks; new ones are added at its end."""
        self.tasks += tuple(name for name in losses if name not in self.tasks)
        return [self.tasks.index(name) for name in losses]

    def _generator(self, device: torch.device) -> torch.Generator:
        return generator(device, self.generator, self.seed, self.index, self.method)

    def _missed(self) -> tuple[Event, ...]:
        awaited, self._awaited = self._awaited, None
        text = f"{self.method!r} learns from the losses after the optimiser's step; call balancer.after_step(losses)"
        return () if awaited is None else (Event("missing", text),)
