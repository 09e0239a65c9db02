"""What is trained in a run, as one object with a state: model, optimiser, Balancer, Monitor, random numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord import problems
from accord.bench.config import RunConfig
from accord.monitor import Monitor
from accord.problems import Batch, Examples, seeds
from accord.sharing import discover


class Training:
    """The parts of a run and how they move on by one epoch. It knows neither methods nor problems by name.

    Args:
        config: of the run.
        record: folder for what the Monitor sees.
    """

    def __init__(self, config: RunConfig, record: Path) -> None:
        self.config = config
        self.problem = problems.parse(config.problem)
        self.tasks = config.tasks or self.problem.tasks
        self.data = self.problem.data(config.seed)
        self.model = self.problem.model(config.seed)
        self.optimizer: torch.optim.Optimizer = getattr(torch.optim, config.optimizer)(
            self.model.parameters(), lr=config.lr
        )
        self.balancer = config.balancer(self.model)
        self.monitor: Monitor | None = None
        if config.monitor_every:
            self.monitor = Monitor(
                self.model, every=config.monitor_every, blocks=config.blocks, path=record, optimizer=self.optimizer
            )
            self.monitor.attach(self.balancer)
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.steps = 0

    def epoch(self) -> None:
        """Train for one epoch, evaluate, and add a line to the history."""
        number = len(self.history)
        began = time.perf_counter()
        self.model.train()
        total: dict[str, Tensor] = {}
        # the order of the batches is a function of seed and epoch only: comparisons between methods are paired
        for batch in self.data.train.shuffled(seeds.generator(self.config.seed, "order", number)):
            for task, loss in self.step(batch).items():
                total[task] = total.get(task, torch.zeros(())) + loss.detach()
        seconds = time.perf_counter() - began
        self.seconds += seconds
        count = len(self.data.train)
        self.history.append(
            {
                "epoch": number + 1,
                "seconds": seconds,
                "train_loss": {task: float(loss) / count for task, loss in total.items()},
                "validation": self.evaluate(self.data.validation),
                "test": self.evaluate(self.data.test),
            }
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One training step.

        Returns:
            The losses before it.
        """
        learns_after = self.balancer.method.needs_losses_after
        noise = torch.get_rng_state() if learns_after else None
        losses = self.losses(batch)
        self.optimizer.zero_grad()
        self.balancer.backward(losses)
        self.optimizer.step()
        if noise is not None:
            with undisturbed(self.model, noise):
                self.balancer.after_step(self.losses(batch))
        self.steps += 1
        return losses

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the tasks that are trained."""
        losses = self.problem.losses(self.model, batch)
        return {task: losses[task] for task in self.tasks}

    @torch.no_grad()
    def evaluate(self, examples: Examples) -> dict[str, dict[str, float]]:
        """The metrics of the tasks that are trained."""
        self.model.eval()
        metrics = self.problem.metrics(self.model, examples)
        return {task: metrics[task] for task in self.tasks}

    def parameters(self) -> tuple[int, int]:
        """How many parameters the trained losses reach, and how many several of them reach."""
        self.model.eval()
        sharing = discover(self.model, self.losses(next(iter(self.data.test))))
        own = sum(p.numel() for head in sharing.heads for p in head)
        return own + sum(p.numel() for p in sharing.shared), sharing.size

    def state_dict(self) -> dict[str, Any]:
        """Everything that an unbroken run would go on with; what was measured so far is on the disk afterwards."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "balancer": self.balancer.state_dict(),
            "monitor": None if self.monitor is None else self.monitor.state_dict(),
            "random": torch.get_rng_state(),
            "history": self.history,
            "seconds": self.seconds,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; what the Monitor measured later is forgotten."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.balancer.load_state_dict(state["balancer"])
        if self.monitor is not None:
            self.monitor.load_state_dict(state["monitor"])
        torch.set_rng_state(state["random"])
        self.history, self.seconds, self.steps = list(state["history"]), state["seconds"], state["steps"]


@contextmanager
def undisturbed(model: nn.Module, noise: Tensor) -> Iterator[None]:
    """For losses after the step: no gradients, the same dropout masks as before it, and no trace left behind.

    Args:
        model: its buffers (running statistics of BatchNorm) are put back.
        noise: state of PyTorch's generator before the step's forward pass.
    """
    kept = [buffer.clone() for buffer in model.buffers()]
    now = torch.get_rng_state()
    torch.set_rng_state(noise)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_rng_state(now)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), kept, strict=True):
                buffer.copy_(value)
