"""One training step under way: what it was given, and the parts that every kind of step is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from accord import scale as scaling
from accord.balancer.refresh import Refresh
from accord.balancer.settings import Heads
from accord.balancer.solving import Blockwise, solve
from accord.balancer.write import write, write_heads
from accord.blocks import Granularity
from accord.engines import Accumulated, Displaced, Engine, Held, Starter, cross_products, meet, plain
from accord.methods import Aggregation, Context, Method, Weighting
from accord.rows import Rows
from accord.step import Event, Step

Active = NDArray[np.intp]


@dataclass(frozen=True)
class Setup:
    """What a Balancer was told at construction, and the parts that it works with.

    Args:
        outside: names for parameters that are not the model's, in the order in which they were met.
    """

    model: nn.Module
    method: Method
    scale: scaling.Choice
    heads: Heads
    starter: Starter
    blocks: Granularity | Mapping[Tensor, str]
    blockwise: Blockwise | None
    refresh: Refresh
    outside: dict[Tensor, str] = field(default_factory=dict)


def unit_of(scaler: GradScaler, losses: Mapping[str, Tensor]) -> Tensor:
    """What a GradScaler multiplies losses with, on their device: nobody waits for the number.

    Args:
        scaler: one that is enabled.
        losses: of a step.
    """
    scaled: Tensor = scaler.scale(torch.ones((), device=next(iter(losses.values())).device))
    return scaled


@dataclass
class Pass:
    """The losses of one step and what they were given with.

    Args:
        setup: of the Balancer.
        losses: k scalars by task name.
        tasks: all K names so far.
        columns: where the k stand among them.
        index: of the step.
        probe: the blocks that a Monitor wants to see in this step, or None.
        generator: a source of randomness for a device.
        unit: what a GradScaler multiplies losses with, or None.
        features: the shared representation, where the user named it.
        second: losses of independent batches.
        elsewhere: looks at other parameters.
        held: gradients of earlier micro-batches.
    """

    setup: Setup
    losses: dict[str, Tensor]
    tasks: tuple[str, ...]
    columns: list[int]
    index: int
    probe: Granularity | Mapping[Tensor, str] | None
    generator: Callable[[torch.device], torch.Generator]
    unit: Tensor | None = None
    features: Sequence[Tensor] | None = None
    second: Sequence[dict[str, Tensor]] = ()
    elsewhere: Displaced | None = None
    held: Held | None = None

    def engine(self, *, rows: bool) -> tuple[Engine, Tensor | None]:
        """The task gradients of this step, and the (k, k) products of two batches where the method wants them."""
        setup, cross = self.setup, None
        blocks = setup.blocks if setup.blocks != "total" else self.probe or "total"
        if self.held is not None:
            engine: Engine = Accumulated(self.held, blocks, reduce=setup.starter.reduce)
        else:
            start, probe = setup.starter.start, self.probe is not None
            rows, again = rows or bool(self.second), bool(self.second) and meet([self.losses, *self.second])
            engine = start(self.scaled(self.losses), blocks, self.features, probe=probe, rows=rows, retain_graph=again)
        if self.second:
            others = [start(self.scaled(losses), blocks, rows=True, retain_graph=again) for losses in self.second]
            cross = cross_products(*(engine, *others)[-2:])
            cross = cross if self.unit is None else cross / self.unit.double() ** 2
            if len(others) == 1:  # of two batches the direction is taken on both, of three on the first
                engine = self._mean(engine, others[0], blocks)
        engine.unit = self.unit
        return engine, cross

    def _mean(self, first: Engine, second: Engine, blocks: Granularity | Mapping[Tensor, str]) -> Engine:
        """The mean of two batches; both were averaged over ranks already."""
        both = Held(self.setup.model, self.setup.starter.shared)
        for engine in (first, second):
            assert engine.rows is not None
            both.take(list(self.losses), engine.sharing, engine.rows.rows, engine.heads, 0.5)
        return Accumulated(both, blocks)

    def places(self, engine: Engine) -> list[int]:
        """The shared tensors whose gradients the method reads: no inputs, whose shape may change with the batch."""
        counted = zip(engine.sharing.shared, engine.sharing.measured, strict=True)
        whole = isinstance(self.setup.method, Aggregation)  # it combines what is left out of the Gramian, too
        return [p for p, (t, measured) in enumerate(counted) if measured or (whole and isinstance(t, nn.Parameter))]

    def rows(self, engine: Engine, active: Active) -> Rows:
        """The rows as the method knows them: of the losses without the GradScaler's factor."""
        assert engine.rows is not None
        known: dict[Tensor, str] = {p: name for name, p in self.setup.model.named_parameters()}
        outside, names = self.setup.outside, []
        for p in (places := self.places(engine)):
            tensor = engine.sharing.shared[p]
            if tensor not in known:
                outside.setdefault(tensor, f"(outside {len(outside)})")
            names.append(known.get(tensor) or outside[tensor])
        rows = [[engine.rows.rows[i][p] for p in places] for i in active]
        if self.unit is not None:
            rows = [[None if g is None else g / self.unit for g in row] for row in rows]
        return Rows(rows, names)

    def overflow(self, step: Step, engine: Engine, numbers: Tensor, gramian: Tensor) -> bool:
        """Under a GradScaler, gradients that are not finite mean that its factor is too large: it must see that."""
        broken = ~(numbers.isfinite() & gramian.diagonal().isfinite())  # (k,)
        if self.unit is None or not bool(broken.any()):
            return False
        nothing: list[float | None] = [float("nan")] * len(self.columns)
        write(engine.sharing.shared, engine.combine(nothing))
        write_heads(engine.sharing.heads, engine.heads, nothing)
        names = [name for name, bad in zip(self.losses, broken.tolist(), strict=True) if bad]
        text = f"the gradient of {', '.join(names)} is not finite at this loss scale; the GradScaler will skip the step"
        others = (event for event in step.events if event.kind != "nonfinite")  # nobody is left out
        step.events = (*others, Event("overflow", text))
        return True

    def begin(self, numbers: Tensor) -> Step:
        """The Step of these losses."""
        return Step.begin(self.index, self.tasks, self.columns, numbers)

    def scaled(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses as they are differentiated."""
        if self.unit is None:
            return losses
        with torch.enable_grad():
            return {name: loss * self.unit.to(loss.device, loss.dtype) for name, loss in losses.items()}

    def context(self, active: Active, epsilon: float = 1e-10, engine: Engine | None = None, **known: Any) -> Context:
        """What the method may know beside Gramian and losses."""
        columns = np.array(self.columns, dtype=np.intp)[active]
        source = self.generator(torch.device("cpu"))
        if engine is not None and self.setup.method.needs_gradients:
            known["rows"] = self.rows(engine, active)
        if self.elsewhere is not None:
            self.elsewhere.tasks = tuple(list(self.losses)[i] for i in active)
            known["elsewhere"] = self.elsewhere
        return Context(columns, len(self.tasks), source, epsilon, **known)

    def solve(
        self,
        step: Step,
        active: Active,
        numbers: Tensor,
        gramian: Tensor | None = None,
        engine: Engine | None = None,
        cross: Tensor | None = None,
    ) -> None:
        """Weights of the active tasks into the Step."""
        assert isinstance(self.setup.method, Weighting)
        epsilon = 1e-10 if engine is None else engine.epsilon
        products = None if cross is None else cross.numpy()[np.ix_(active, active)]
        context = self.context(active, epsilon, engine, cross=products)
        own = None if gramian is None else gramian.numpy()[np.ix_(active, active)]  # (k, k)
        solve(self.setup.method, self.setup.scale, step, context, own, numbers.numpy()[active])

    def weights(self, step: Step, active: Active) -> list[float | None]:
        """The weights of the k tasks at hand, None for those that take no part."""
        assert step.weights is not None
        own: list[float | None] = [None] * len(self.columns)
        for i in active:
            own[i] = float(step.weights[self.columns[i]])
        return own

    def sum_up(self, active: Active, step: Step) -> None:
        """One backward pass of the weighted losses."""
        apart = self.setup.starter.parts is not None
        if apart or (self.setup.starter.reduce is not None and len(active) < len(self.columns)):
            self.once(active, step)  # a distributed wrapper would wait for the parameters of who is left out
            return
        scaled = list(self.scaled(self.losses).values())
        weights = self.weights(step, active)
        if len(active):
            with torch.enable_grad():
                plain.backward([scaled[i] for i in active], [w for w in weights if w is not None])

    def once(self, active: Active, step: Step) -> None:
        """One backward pass of the weighted losses, the heads apart from it."""
        engine = self.setup.starter.once(self.scaled(self.losses))
        own = self.weights(step, active)
        write(engine.sharing.shared, engine.combine(own))
        self.write_heads(engine, step, own)

    def write_heads(self, engine: Engine, step: Step, weights: Sequence[float | None]) -> None:
        """Each task's own parameters: plain, or times its weight; nothing for a task that is not finite."""
        taking_part = step.active[self.columns].tolist()
        own = [1.0 if self.setup.heads == "plain" else w for w in weights]
        write_heads(
            engine.sharing.heads, engine.heads, [w if t else None for w, t in zip(own, taking_part, strict=True)]
        )
