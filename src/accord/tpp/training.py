"""What moves in a training run: model, optimisers, early stopping; one call is one epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

from accord.tpp.batch import Batch, batches, eligible
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits
from accord.tpp.model import TASKS, PointProcess
from accord.tpp.stopping import Stopping

Backward = Callable[[dict[str, Tensor]], object]
MakeOptimizer = Callable[[Iterable[Parameter]], Optimizer]
CHECK = 50  # steps between looks at whether the losses are finite; each look waits for the device
BUDGET = 1 << 17  # padded tokens of a batch for evaluation


class Training:
    """A training run that can go on where it stopped.

    Args:
        model: changed in place.
        splits: training and validation parts.
        batch: sequences per step.
        optimizer: makes one for given parameters.
        backward: puts gradients of the losses into ``.grad``; None: those of their sum.
        seed: of the order of batches.
        patience: see ``fit``.
        stopping: ``joint`` or ``tasks``.
        paper_compat: see ``fit``.
    """

    def __init__(
        self,
        model: PointProcess,
        splits: Splits,
        batch: int,
        optimizer: MakeOptimizer | None,
        backward: Backward | None,
        seed: int,
        patience: int,
        stopping: str,
        paper_compat: bool,
    ) -> None:
        self.model, self.splits, self.batch, self.seed = model, splits, batch, seed
        self.backward = total if backward is None else backward
        self.first, self.reduction = not paper_compat, "sum" if paper_compat else "mean"
        self.separate = stopping == "tasks"
        make = Adam if optimizer is None else optimizer  # PyTorch's defaults are those of the study: 1e-3, eps 1e-8
        self.optimizers = {
            tag: make(p for name, p in model.named_parameters() if tags[name] == tag or not self.separate)
            for tags in [model.task_of()]
            for tag in (TASKS if self.separate else ("joint",))
        }
        self.rules = {name: Stopping(patience) for name in ("joint", *TASKS)}
        self.best: dict[str, dict[str, Tensor]] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def active(self) -> list[str]:
        """The tasks that are still trained."""
        if not self.separate:
            return [] if self.rules["joint"].over else list(TASKS)
        return [task for task in TASKS if not self.rules[task].over]

    def epoch(self) -> None:
        """Train for one epoch, evaluate on the validation part, and add a line to the history."""
        began = time.perf_counter()
        active, number = self.active, len(self.history)
        generator = np.random.default_rng([self.seed, number])  # a function of seed and epoch only: runs are paired
        sums: dict[str, Tensor] = {}
        events = 0
        self.model.train()
        for index, batch in enumerate(
            batches(self.splits.train, self.batch, generator, dtype=self.model.dtype, first=self.first)
        ):
            losses = self.step(batch.to(self.model.device), active)
            weight = 1 if self.reduction == "sum" else batch.count
            for task, loss in losses.items():
                sums[task] = sums.get(task, 0) + loss.detach() * weight
            events += batch.count
            if index % CHECK == 0:
                refuse(sums, number)
        refuse(sums, number)
        self._close(sums, events, time.perf_counter() - began)

    def step(self, batch: Batch, active: list[str]) -> dict[str, Tensor]:
        """One training step; the losses before it."""
        losses = {task: loss for task, loss in self.model(batch).losses(self.reduction).items() if task in active}
        moving = [self.optimizers[tag] for tag in (active if self.separate else ["joint"])]
        for optimizer in moving:
            optimizer.zero_grad()
        self.backward(losses)
        for optimizer in moving:
            optimizer.step()
        self.model.project_()
        return losses

    def _close(self, sums: Mapping[str, Tensor], events: int, seconds: float) -> None:
        """Validation, early stopping, and the line of the history."""
        active = self.active
        found = nll(self.model, self.splits.validation, first=self.first)
        refuse(found, len(self.history), "validation loss")
        found["joint"] = found["time"] + found["mark"]
        for name, rule in self.rules.items():
            if (name == "joint" or name in active) and rule.better(found[name]):
                self.best[name] = {key: value.clone() for key, value in self.model.state_dict().items()}
        train = {task: float(value) / max(events, 1) for task, value in sums.items()}  # nats per event
        self.history.append(
            {"epoch": len(self.history) + 1, "seconds": seconds, "events": events, "train": train, "validation": found}
        )

    @torch.no_grad()
    def restore(self, kind: str) -> None:
        """Put the parameters of a best epoch into the model.

        Args:
            kind: by which loss: ``joint``, ``time`` or ``mark``; ``tasks``: the time part of the one and the mark part
                of the other, for a model that shares nothing.
        """
        if kind != "tasks":
            self.model.load_state_dict(self.best[kind])
            return
        tags = self.model.task_of()
        chosen = {name: self.best[tags[name]][name] for name in tags}
        self.model.load_state_dict({**self.best[TASKS[0]], **chosen})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and everything else that an unbroken run would go on with."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for kind, best in self.best.items():
            tensors |= {f"best/{kind}/{name}": value for name, value in best.items()}
        for tag, optimizer in self.optimizers.items():
            for index, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{tag}/{index}/{key}": torch.as_tensor(value) for key, value in entries.items()}
        return tensors, {"history": self.history, "rules": {k: rule.state() for k, rule in self.rules.items()}}

    def load(self, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.model.load_state_dict(below(tensors, "model"))
        self.best = {kind: found for kind in self.rules if (found := below(tensors, f"best/{kind}"))}
        for tag, optimizer in self.optimizers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in below(tensors, f"optimizer/{tag}").items():
                index, _, name = key.partition("/")
                entries.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
        self.history = list(rest["history"])
        for name, rule in self.rules.items():
            rule.load(rest["rules"][name])


def total(losses: Mapping[str, Tensor]) -> None:
    """The gradient of the sum of the losses."""
    torch.stack(list(losses.values())).sum().backward()


def refuse(losses: Mapping[str, Tensor | float], epoch: int, what: str = "loss") -> None:
    """Stop where a loss is NaN or infinite."""
    for task, value in losses.items():
        if not math.isfinite(value):
            raise TPPError(
                f"the {task} {what} became {float(value)} in epoch {epoch + 1}; look at the data with `check`, or "
                "lower the learning rate."
            )


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose name starts with ``prefix/``, without it."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


@torch.no_grad()
def nll(model: PointProcess, events: Events, *, first: bool = True, batch: int = 256) -> dict[str, float]:
    """Negative log likelihoods of time and mark in nats per sequence with at least one scored event.

    Args:
        model: in evaluation mode afterwards.
        events: to score.
        first: as in ``collate``.
        batch: sequences scored together.
    """
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=model.device)
    for part in batches(events, batch, dtype=model.dtype, first=first, tokens=BUDGET):
        likelihood = model(part.to(model.device))
        time = likelihood.window.double().sum() - likelihood.time.double().sum()
        sums += torch.stack([time, -likelihood.mark.double().sum()])
    per_sequence = (sums / max(len(eligible(events, first=first)), 1)).tolist()
    return dict(zip(TASKS, per_sequence, strict=True))
