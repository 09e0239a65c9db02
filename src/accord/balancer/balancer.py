"""Balancer: engine -> method -> .grad, returns the Step; the only writer of ``.grad``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord import losses as checked
from accord import scale as scaling
from accord import settings
from accord.blocks import Granularity
from accord.engines import Engine, Starter, by_hand, compiled, plain
from accord.rows import Reduce, Rows
from accord.engines.start import refuse_unreduced
from accord.errors import AccordError
from accord.methods import Aggregation, Context, Method, Weighting, parse
from accord.probe import Probe
from accord.randomness import generator
from accord.settings import EngineName, Heads
from accord.solving import participants, solve
from accord.step import Event, Step, spread


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
        generator: source of all randomness; by default each step draws from a generator keyed by ``(seed, step)``,
            equal on all ranks and resumable.
        seed: of that default.
        shared: parameters (tensors, names or prefixes) that enter the Gramian; default all that several losses reach.
        reduce: averages a list of tensors over ranks, in place; required for wrapped (distributed) models.

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
        generator: torch.Generator | None = None,
        seed: int = 0,
        shared: Iterable[str | Tensor] | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        self.model = model
        self.method = parse(method) if isinstance(method, str) else method
        self.heads = settings.check(self.method, scale, heads, engine)
        if not self.method.plain:
            refuse_unreduced(model, reduce, one_backward=self.heads == "weighted" and not self.method.needs_gramian)
        if engine == "features" and reduce is not None:
            raise AccordError("engine='features' does not take reduce= yet; use engine='stacked'.")
        compiled.keep_buffers(model)
        self.scale, self.engine = scale, engine
        self.starter = Starter(model, engine, None if shared is None else tuple(shared), reduce)
        self.generator, self.seed = generator, seed
        self.tasks: tuple[str, ...] = ()
        self.index = 0
        self.probe: Probe | None = None
        self._awaited: NDArray[np.intp] | None = None  # the active tasks of a step whose losses after are still to come

    def __repr__(self) -> str:
        return (
            f"Balancer({self.method!r}, scale={self.scale!r}, heads={self.heads!r}, engine={self.engine!r}, "
            f"tasks={list(self.tasks)})"
        )

    def backward(self, losses: Mapping[str, Tensor], *, features: Sequence[Tensor] | None = None) -> Step:
        """Fill ``.grad`` from this step's losses.

        A task whose loss or gradient is not finite is left out of this step, as if absent, and reported in the Step;
        the others are not disturbed. ``Sum()`` is exempt: it does what PyTorch does.

        Args:
            losses: scalar losses by task name; tasks may be absent in a step.
            features: the shared representation of this step, for ``engine="features"`` where the graph's own cut is
                not wanted.

        Returns:
            What happened, on the CPU; for ``Sum()`` the losses stay on their device until read.

        Raises:
            AccordError: for losses that are no scalars, packed, empty, doubled, or that reach no parameter.
        """
        losses = checked.check(losses)
        if features is not None and not self.method.needs_gramian:
            raise AccordError(f"features= was given, but {self.method!r} reads no Gramian that could be taken there.")
        before = self.tasks, self._awaited
        try:
            step, engine, columns = self._one(losses, features)
        except AccordError:  # the user mends the losses and goes on: a refused step leaves no trace
            self.tasks, self._awaited = before
            raise
        self.index += 1
        if self.probe is not None:
            self.probe.receive(step, engine, columns)
        return step

    def _one(
        self, losses: dict[str, Tensor], features: Sequence[Tensor] | None
    ) -> tuple[Step, Engine | None, list[int]]:
        """The step of whichever kind; the engine only where somebody looks."""
        columns = self._columns(losses)
        granularity = None if self.probe is None else self.probe.due()
        events = self._missed()
        engine: Engine | None = None
        if self.method.plain and self.scale in ("sum", "native"):
            step, engine = self._plain(losses, columns, granularity)
        else:
            with by_hand(losses):
                if isinstance(self.method, Aggregation):
                    step, engine = self._aggregate(losses, columns, granularity)
                elif self.method.needs_gramian:
                    step, engine = self._weigh(losses, columns, granularity, features)
                else:
                    step, engine = self._scalarise(losses, columns, granularity)
        step.events = (*events, *step.events, *self.method.take_events())
        return step, engine if granularity is not None else None, columns

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Losses of the same batch after the optimiser's step, for methods with ``needs_losses_after`` (FAMO).

        Args:
            losses: by task name; gradients are not needed.

        Raises:
            AccordError: if the method does not ask for them, or no backward pass came before.
        """
        losses = checked.check(losses)
        if not (isinstance(self.method, Weighting) and self.method.needs_losses_after):
            raise AccordError(f"{self.method!r} does not learn from the losses after the step; leave after_step out.")
        if self._awaited is None:
            raise AccordError("after_step was called without a backward pass before it.")
        numbers = np.full(len(self.tasks), np.nan)
        numbers[self._columns(losses)] = self.starter.values(losses).cpu().numpy()
        active = self._awaited[np.isfinite(numbers[self._awaited])]
        self._awaited = None
        if len(active):
            self.method.after_step(numbers[active], self._context(active))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "method": repr(self.method),
            "scale": self.scale,
            "heads": self.heads,
            "tasks": list(self.tasks),
            "index": self.index,
            "seed": self.seed,
            "generator": None if self.generator is None else self.generator.get_state(),
            "awaited": None if self._awaited is None else self._awaited.tolist(),
            "state": self.method.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Raises:
            AccordError: if it belongs to another method or to other tasks.
        """
        settings.check_state(state, self.state_dict(), ("method", "scale", "heads"))
        if self.tasks and self.tasks != tuple(state["tasks"]):
            raise AccordError(f"the state has tasks {state['tasks']}, but this Balancer has seen {list(self.tasks)}.")
        self.tasks, self.index, self.seed = tuple(state["tasks"]), int(state["index"]), int(state["seed"])
        if (self.generator is None) != (state["generator"] is None):
            raise AccordError(
                "the state was saved with a generator= and this Balancer has none, or the other way round."
            )
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        self._awaited = None if state["awaited"] is None else np.array(state["awaited"], dtype=np.intp)
        self.method.load_state_dict(state["state"])

    # The four kinds of step.

    def _plain(
        self, losses: dict[str, Tensor], columns: list[int], granularity: Granularity | None
    ) -> tuple[Step, Engine | None]:
        """PyTorch itself; a probe looks first and leaves the graph as it was."""
        engine = self.starter.look(losses, granularity)
        plain.backward(list(losses.values()))
        step = Step.begin(self.index, self.tasks, columns, checked.values(losses))
        step.weights = step.active.double()  # (K,)
        if engine is not None:
            step.measure(engine.blocks.names, engine.gramians.cpu(), columns)
        # Asking a GPU whether a loss is finite would make it wait, and the plain step must cost nothing.
        if step.losses.device.type == "cpu":
            step.note_not_finite(list(losses), columns)
        return step, engine

    def _scalarise(
        self, losses: dict[str, Tensor], columns: list[int], granularity: Granularity | None
    ) -> tuple[Step, Engine | None]:
        """Weights from the losses alone, then one backward pass."""
        assert isinstance(self.method, Weighting)
        numbers = self.starter.values(losses).cpu()  # (k,), the one copy
        engine = self.starter.look(losses, granularity)
        step = Step.begin(self.index, self.tasks, columns, numbers)
        active = participants(step, list(losses), columns, numbers, None)
        if len(active):
            self._solve(step, columns, active, numbers)
            chosen = [list(losses.values())[i] for i in active]
            assert step.weights is not None
            with torch.enable_grad():
                plain.backward(chosen, step.weights[[columns[i] for i in active]].tolist())
        if engine is not None:
            step.measure(engine.blocks.names, engine.gramians.cpu(), columns)
        return step, engine

    def _weigh(
        self,
        losses: dict[str, Tensor],
        columns: list[int],
        granularity: Granularity | None,
        features: Sequence[Tensor] | None,
    ) -> tuple[Step, Engine]:
        """Gramian, weights, combination."""
        engine = self.starter.start(losses, granularity, features)
        numbers, gramians = engine.together(self.starter.values(losses))
        step = Step.begin(self.index, self.tasks, columns, numbers)
        active = participants(step, list(losses), columns, numbers, gramians.sum(0))
        step.weights = torch.zeros(len(self.tasks), dtype=torch.float64)  # (K,)
        if not engine.sharing.shared:  # nothing to weigh: every task has parameters of its own only
            step.weights[step.active] = 1.0
            step.events = tuple(event for event in step.events if event.kind != "zero")
        elif len(active):
            self._solve(step, columns, active, numbers, gramians.sum(0), engine.epsilon)
        weights: list[float | None] = [None] * len(losses)
        for i in active:
            weights[i] = float(step.weights[columns[i]])
        write(engine.sharing.shared, engine.combine(weights, keep=granularity is not None))
        self._write_heads(engine, step.active[columns].tolist(), weights)
        step.space = engine.space
        step.measure(engine.blocks.names, gramians, columns)
        return step, engine

    def _aggregate(
        self, losses: dict[str, Tensor], columns: list[int], granularity: Granularity | None
    ) -> tuple[Step, Engine]:
        """Whole gradients, tensor by tensor; tasks that do not reach a tensor take no part in it."""
        assert isinstance(self.method, Aggregation)
        engine = self.starter.start(losses, granularity, rows=True)
        assert engine.rows is not None
        numbers, gramians = engine.together(self.starter.values(losses))
        step = Step.begin(self.index, self.tasks, columns, numbers)
        active = participants(step, list(losses), columns, numbers, gramians.sum(0))
        factor = scaling.factor(self.scale, self.method.native_scale, len(active))
        context = self._context(np.array(columns, dtype=np.intp)[active], engine.epsilon)
        own = gramians.sum(0).numpy()[np.ix_(active, active)]  # (k, k)
        combined = self.method.combine(engine.rows.pick(active.tolist()), own, numbers.numpy()[active], context)
        if factor != 1:
            torch._foreach_mul_([c for c in combined if c is not None], factor)
        step.measure(engine.blocks.names, gramians, columns)
        vectors = engine.rows.inner(combined, engine.blocks)  # (B, k)
        lengths = Rows([combined]).inner(combined, engine.blocks)  # (B, 1)
        measured = torch.cat([vectors, lengths], 1).cpu()  # (B, k + 1), the second copy
        step.descent = spread(measured[:, :-1], columns, len(self.tasks))  # (B, K)
        step.descent[:, ~step.active] = 0
        step.direction_norm = float(measured[:, -1].sum().sqrt())
        write(engine.sharing.shared, combined)
        self._write_heads(engine, step.active[columns].tolist(), [1.0] * len(losses))
        return step, engine

    # Parts of a step.

    def _solve(
        self,
        step: Step,
        columns: Sequence[int],
        active: NDArray[np.intp],
        numbers: Tensor,
        gramian: Tensor | None = None,
        epsilon: float = 1e-10,
    ) -> None:
        """Weights of the active tasks into the Step."""
        assert isinstance(self.method, Weighting)
        context = self._context(np.array(columns, dtype=np.intp)[active], epsilon)
        own = None if gramian is None else gramian.numpy()[np.ix_(active, active)]  # (k, k)
        solve(self.method, self.scale, step, context, own, numbers.numpy()[active])
        if self.method.needs_losses_after:
            self._awaited = context.active

    def _write_heads(self, engine: Engine, taking_part: Sequence[bool], weights: Sequence[float | None]) -> None:
        """Each task's own parameters: plain, or times its weight; nothing for a task that is not finite."""
        for i, (own, gradients) in enumerate(zip(engine.sharing.heads, engine.heads, strict=True)):
            weight = 1.0 if self.heads == "plain" else weights[i]
            if taking_part[i] and weight is not None:
                write(own, [None if g is None else g * weight if weight != 1.0 else g.clone() for g in gradients])

    def _columns(self, losses: Mapping[str, Tensor]) -> list[int]:
        """Where the tasks of this step stand on the axis of all tasks; new ones are added at its end."""
        self.tasks += tuple(name for name in losses if name not in self.tasks)
        return [self.tasks.index(name) for name in losses]

    def _context(self, active: NDArray[np.intp], epsilon: float = 1e-10) -> Context:
        return Context(active, len(self.tasks), self._generator(torch.device("cpu")), epsilon)

    def _generator(self, device: torch.device) -> torch.Generator:
        return generator(device, self.generator, self.seed, self.index, self.method)

    def _missed(self) -> tuple[Event, ...]:
        awaited, self._awaited = self._awaited, None
        text = f"{self.method!r} learns from the losses after the optimiser's step; call balancer.after_step(losses)"
        return () if awaited is None else (Event("missing", text),)


def write(parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
    """Add gradients to ``.grad`` as autograd does, giving the list's memory back on the way.

    Args:
        parameters: leaves.
        gradients: fresh tensors that nobody else holds; None leaves ``.grad`` alone.
    """
    for i, p in enumerate(parameters):
        gradient, gradients[i] = gradients[i], None
        if gradient is None:
            continue
        if p.grad is None:
            p.grad = gradient.to(p.dtype)
        else:
            p.grad.add_(gradient)
