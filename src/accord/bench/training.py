"""What is trained in a run, as one object with a state: model, optimiser, Balancer, Monitor, random numbers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord import problems
from accord.bench import store
from accord.bench.config import RunConfig
from accord.bench.memory import Peak
from accord.bench.prepared import Prepared
from accord.monitor import Monitor
from accord.problems import Batch, Part, seeds
from accord.sharing import discover
from accord.sparse.mask import Mask


class Training:
    """The parts of a run and how they move on by one epoch. It knows neither methods nor problems by name.

    Args:
        config: of the run.
        record: folder for what the Monitor sees.
        mask: of a sparse run that goes on; None: it is chosen now.
        looks: folder for looks at trained and frozen weights; by default beside the other record.
    """

    def __init__(self, config: RunConfig, record: Path, mask: Mask | None = None, looks: Path | None = None) -> None:
        self._began, self._earlier = time.perf_counter(), 0.0
        self.config = config
        self.problem = problems.parse(config.problem)
        self.tasks = config.tasks or self.problem.tasks
        self.data = self.problem.data(config.seed)
        self.peak = Peak()
        looks = record.with_name(store.FULL) if looks is None else looks
        self.prepared = Prepared(config, self.problem, self.data.train, mask, looks)
        kind = getattr(torch.optim, config.optimizer)
        self.optimizer: torch.optim.Optimizer = kind(self.prepared.parameters(), lr=config.lr)
        self.balancer = config.balancer(self.model)
        self.balancer.optimizer = self.optimizer
        self.monitor: Monitor | None = None
        if config.monitor_every:
            self.monitor = Monitor(
                self.model, every=config.monitor_every, blocks=config.blocks, path=record, optimizer=self.optimizer
            )
            self.monitor.attach(self.balancer)
        self.prepared.attach(self.balancer)
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.loading_seconds = 0.0
        self.steps = 0

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.prepared.model

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or all steps taken."""
        return len(self.history) >= self.config.epochs or self._spent

    @property
    def _spent(self) -> bool:
        return self.config.max_steps is not None and self.steps >= self.config.max_steps

    @property
    def wall_seconds(self) -> float:
        """Since the run began, all sittings together: loading, training, evaluation, and what is written."""
        return self._earlier + time.perf_counter() - self._began

    def epoch(self) -> None:
        """Train for one epoch, or up to the last step, evaluate, and add a line to the history."""
        number, before = len(self.history), self.steps
        if self.prepared.due == number:
            self.prepared.split(self.optimizer)
        self.peak.begin()
        began = time.perf_counter()
        self.model.train()
        total: dict[str, Tensor] = {}
        # the order of the batches is a function of seed and epoch only: comparisons between methods are paired
        batches = self.data.train.shuffled(seeds.generator(self.config.seed, "order", number))
        for batch, beside in self._loaded(zip(batches, self.beside(number), strict=False)):  # the second has no end
            for task, loss in self.step(batch, beside).items():
                total[task] = total.get(task, torch.zeros(())) + loss.detach()
            if self._spent:
                break
        self.balancer.epoch()
        seconds = time.perf_counter() - began
        self.peak.end()
        self.seconds += seconds
        count = self.steps - before
        line: dict[str, Any] = {
            "epoch": number + 1,
            "seconds": seconds,
            "train_loss": {task: float(loss) / count for task, loss in total.items()},
            "validation": self.evaluate(self.data.validation),
        }
        self.history.append(line)
        # which epoch is best on validation is known at the end only; the last one is known now
        if self.config.select == "validation" or self.done:
            line["test"] = self.evaluate(self.data.test)

    def step(self, batch: Batch, beside: Batch | None = None) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: of the training data.
            beside: the batch that the method wants beside it, if it does.

        Returns:
            The losses before it.
        """
        method = self.balancer.method
        given: dict[str, Any] = {}
        if method.needs_second_batch:
            assert beside is not None
            given["second"] = self.losses(beside)
        if method.needs_validation:
            assert beside is not None
            given["validation"] = lambda: self.losses(beside)
        self.optimizer.zero_grad()
        step = self.balancer.backward(lambda: self.losses(batch), **given)
        self.optimizer.step()
        self.prepared.after_update()
        if method.needs_losses_after:
            self.balancer.after_step()
        self.steps += 1
        return dict(zip(step.tasks, step.losses, strict=True))

    def _loaded(self, batches: Iterator[tuple[Batch, Batch | None]]) -> Iterator[tuple[Batch, Batch | None]]:
        """The batches; the time that they keep us waiting is counted."""
        while True:
            began = time.perf_counter()
            found = next(batches, None)
            self.loading_seconds += time.perf_counter() - began
            if found is None:
                return
            yield found

    def beside(self, number: int) -> Iterator[Batch | None]:
        """For every step of an epoch the batch that the method wants beside the training batch, without end."""
        method = self.balancer.method
        if not (method.needs_second_batch or method.needs_validation):
            yield from itertools.repeat(None)
        examples = self.data.validation if method.needs_validation else self.data.train
        for again in itertools.count():
            yield from examples.shuffled(seeds.generator(self.config.seed, "beside", number, again))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the tasks that are trained."""
        losses = self.prepared.losses(batch)
        return {task: losses[task] for task in self.tasks}

    @torch.no_grad()
    def evaluate(self, examples: Part) -> dict[str, dict[str, float]]:
        """The metrics of the tasks that are trained."""
        self.model.eval()
        metrics = self.prepared.metrics(examples)
        return {task: metrics[task] for task in self.tasks}

    def parameters(self) -> tuple[int, int]:
        """How many parameters the trained losses reach, and how many several of them reach."""
        self.model.eval()
        sharing = discover(self.model, self.losses(next(iter(self.data.test))))
        own = sum(self.prepared.trained(head) for head in sharing.heads)
        measured = (p for p, counts in zip(sharing.shared, sharing.measured, strict=True) if counts)
        return own + self.prepared.trained(sharing.shared), self.prepared.trained(measured)

    def close(self) -> None:
        """What was measured is on the disk afterwards."""
        if self.monitor is not None:
            self.monitor.close()
        self.prepared.close()

    def state_dict(self) -> dict[str, Any]:
        """Everything that an unbroken run would go on with; what was measured so far is on the disk afterwards."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "balancer": self.balancer.state_dict(),
            "prepared": self.prepared.state_dict(),
            "monitor": None if self.monitor is None else self.monitor.state_dict(),
            "random": torch.get_rng_state(),
            "history": self.history,
            "seconds": self.seconds,
            "loading_seconds": self.loading_seconds,
            "wall_seconds": self.wall_seconds,
            "peak_bytes": self.peak.bytes,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; what the Monitor measured later is forgotten."""
        if self.prepared.due is not None and len(state["history"]) > self.prepared.due:
            self.prepared.split(self.optimizer)
        self.prepared.load_state_dict(state.get("prepared", {}))  # checkpoints of earlier versions lack it
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.balancer.load_state_dict(state["balancer"])
        if self.monitor is not None:
            self.monitor.load_state_dict(state["monitor"])
        torch.set_rng_state(state["random"])
        self.history, self.seconds, self.steps = list(state["history"]), state["seconds"], state["steps"]
        # checkpoints of earlier versions lack these
        self.loading_seconds = state.get("loading_seconds", 0.0)
        self._earlier, self.peak.bytes = state.get("wall_seconds", 0.0), state.get("peak_bytes")
