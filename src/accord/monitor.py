"""Monitor: looks at some of the steps and records them. It changes nothing about the training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from accord import losses as checked
from accord.balancer import Balancer
from accord.blocks import Granularity
from accord.engines import Engine, Starter, compiled
from accord.errors import AccordError, nearest
from accord.pace import Pace
from accord.record import Record, Row, read
from accord.record.writer import Writer
from accord.step import Step, spread


@dataclass
class _Look:
    """A recorded step that waits for what the optimiser makes of it."""

    step: Step
    seconds: float  # since the start of the run
    engine: Engine | None
    columns: Sequence[int]
    before: list[Tensor] | None = None  # the shared parameters as the optimiser found them


class Monitor:
    """Records, every few steps, the losses, the Gramians per block, and what the optimiser then did to each task.

    Attach it to a Balancer, or show it the losses of a plain loop before the loop's own backward pass. It never touches
    ``.grad``, module modes, buffers or random numbers. Under ``Sum()`` and loss weightings the training is the same bit
    for bit; methods that read the Gramian see it summed block by block, which may change the last bits of their
    weights. A look costs about K backward passes, or little where the method takes task gradients anyway.

    Args:
        model: names the blocks.
        every: look at every n-th step. One of ``every`` and ``budget``; by default ``budget=0.05``.
        budget: share of the training time that looking may take; the interval adapts to it, between 10 and 200 steps.
        blocks: ``module`` (weights and bias of a layer together), ``tensor``, ``total``, or the name of each
            parameter's block.
        path: folder for Parquet parts; None keeps the steps in memory.
        optimizer: shows the Monitor the step that was really taken, for harm after momentum and preconditioning; what
            it did to each loss is exact where the engine holds the gradients (``stacked``), and estimated from
            sketches under ``segmented``.
        shared: parameters (tensors, names or prefixes) that enter the Gramian of ``observe``; default all that several
            losses reach. A Balancer has its own ``shared=``.

    Raises:
        AccordError: for both ``every`` and ``budget``, or a value out of range.

    Example:
        >>> import torch, accord
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> monitor = accord.Monitor(model, every=1, optimizer=optimizer)
        >>> for _ in range(3):
        ...     out = model(torch.eye(2))
        ...     losses = {"up": out.mean(), "down": (out**2).mean() - out.mean()}
        ...     step = monitor.observe(losses)
        ...     sum(losses.values()).backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> monitor.record().change.shape  # (T, B, K)
        (3, 1, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int | None = None,
        budget: float | None = None,
        blocks: Granularity | Mapping[Tensor, str] = "module",
        path: str | os.PathLike[str] | None = None,
        optimizer: Optimizer | None = None,
        shared: Iterable[str | Tensor] | None = None,
    ) -> None:
        if not isinstance(blocks, Mapping) and blocks not in get_args(Granularity):
            raise AccordError(f"blocks={blocks!r} is not known.{nearest(str(blocks), get_args(Granularity))}")
        compiled.keep_buffers(model)
        if any(getattr(m, "static_graph", False) is True for m in model.modules()):
            raise AccordError(
                "DistributedDataParallel(static_graph=True) counts backward passes; set static_graph=False."
            )
        self.blocks = blocks
        self.starter = Starter(model, "auto", shared if shared is None else tuple(shared), None)
        self.pace = Pace(every, 0.05 if every is None and budget is None else budget)
        self.writer = None if path is None else Writer(path)
        self.rows: list[Row] = []  # in memory, without a path
        self.tasks: tuple[str, ...] = ()
        self._seen = 0  # steps up to here are recorded, or were not due
        self._waiting: _Look | None = None
        self._earlier, self._started = 0.0, time.perf_counter()  # seconds of earlier sittings, start of this one
        self._follows = optimizer is not None
        if optimizer is not None:
            optimizer.register_step_pre_hook(self._before_update)
            optimizer.register_step_post_hook(self._after_update)

    def __repr__(self) -> str:
        pace = f"every={self.pace.every}" if self.pace.every else f"budget={self.pace.budget}"
        blocks = list(dict.fromkeys(self.blocks.values())) if isinstance(self.blocks, Mapping) else self.blocks
        return f"Monitor({pace}, blocks={blocks!r}, looks={self.pace.looks}, overhead={self.overhead:.1%})"

    @property
    def overhead(self) -> float:
        """Share of the training time that looking adds; NaN until it can be told, or if every step is looked at."""
        return self.pace.overhead

    @property
    def steps(self) -> list[Step]:
        """The steps recorded so far, without a path."""
        self._finish()
        return [row.step for row in self.rows]

    def attach(self, balancer: Balancer) -> None:
        """Look at the steps of this Balancer from now on.

        Raises:
            AccordError: if another Monitor does already.
        """
        if balancer.probe not in (None, self):
            raise AccordError("this Balancer already has a Monitor; attach only one.")
        balancer.probe = self

    def observe(self, losses: Mapping[str, Tensor]) -> Step | None:
        """Look at the losses of a loop of the user's own, before its backward pass.

        Args:
            losses: scalar losses by task name.

        Returns:
            The Step, if this one was due. Its weights are unknown to the Monitor: None.
        """
        index = self.pace.steps
        granularity = self.due()
        if granularity is None:
            return None
        losses = checked.check(losses)
        self.tasks += tuple(name for name in losses if name not in self.tasks)
        columns = [self.tasks.index(name) for name in losses]
        engine = self.starter.look(losses, granularity)
        assert engine is not None
        numbers, gramians, _ = engine.together(checked.values(losses))  # (k,), (B, k, k)
        step = Step.begin(index, self.tasks, columns, numbers)
        step.active[columns] = numbers.isfinite() & gramians.sum(0).diagonal().isfinite()
        step.measure(engine.blocks.names, gramians, columns)
        self.receive(step, engine, columns)
        return step

    def due(self) -> Granularity | Mapping[Tensor, str] | None:
        """The blocks to measure in the step that begins now, or None to leave it alone; see ``probe.Probe``."""
        self._finish()
        return self.blocks if self.pace.begin() else None

    def receive(self, step: Step, engine: Engine | None, columns: Sequence[int]) -> None:
        """Take a step's record; see ``probe.Probe``."""
        self._seen = step.index + 1
        if engine is not None:
            seconds = self._earlier + time.perf_counter() - self._started
            # Without an optimiser to wait for, the gradients can go now.
            self._waiting = _Look(step, seconds, engine if self._follows else None, columns)

    def record(self) -> Record:
        """All that was recorded, as arrays.

        Raises:
            AccordError: when nothing was recorded yet.
        """
        self.flush()
        return Record.of(self.rows) if self.writer is None else read(self.writer.folder)

    def flush(self) -> None:
        """Return when everything recorded is on the disk."""
        self._finish()
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Flush and stop writing."""
        self._finish()
        if self.writer is not None:
            self.writer.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; everything recorded so far is on the disk when this returns."""
        self.flush()
        seconds = self._earlier + time.perf_counter() - self._started
        pace = self.pace.state_dict()
        return {"pace": pace, "tasks": list(self.tasks), "seen": self._seen, "seconds": seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; rows of later steps, written before a kill, are removed."""
        self.pace.load_state_dict(state["pace"])
        self.tasks = tuple(state["tasks"])
        self._earlier, self._started = float(state["seconds"]), time.perf_counter()
        self._waiting = None
        self._seen = int(state["seen"])
        self.rows = [row for row in self.rows if row.step.index < self._seen]
        if self.writer is not None:
            self.writer.resume(self._seen)

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        look = self._waiting
        if look is not None and look.engine is not None and look.before is None:
            look.before = [p.detach().clone() for p in look.engine.sharing.shared]

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        """First-order change of each loss under the step taken: ``g_i · Δθ``."""
        look = self._waiting
        if look is None or look.before is None or look.engine is None:
            return
        blocks, shared = look.engine.blocks, look.engine.sharing.shared
        with torch.no_grad():
            moved = [p - before for p, before in zip(shared, look.before, strict=True)]
            inner = look.engine.inner(moved)  # (B, k)
            if inner is not None:
                inner = inner if look.engine.unit is None else inner / look.engine.unit
                look.step.change = spread(inner.cpu(), look.columns, len(look.step.tasks))  # (B, K)
                look.step.change[:, ~look.step.active] = 0
                measured = [v for v, block in zip(moved, blocks.index, strict=True) if block >= 0]
                look.step.update_norm = float(sum(v.double().square().sum() for v in measured) ** 0.5)
        self._finish()

    def _finish(self) -> None:
        """File the look that was waiting, with or without an optimiser's step, and give its gradients back."""
        look, self._waiting = self._waiting, None
        if look is None:
            return
        look.engine = None
        row = Row(look.step, look.seconds, self.pace.look_seconds, self.pace.step_seconds)
        if self.writer is None:
            self.rows.append(row)
        else:
            self.writer.add(row)
