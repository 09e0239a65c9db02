"""Two digits on one small image: the setting of the studies in which tasks compete for a narrow layer.

The images are those of the problem ``digits`` (MultiDigits): 12 x 12 pixels, one scan at the top left (T1), one at the
bottom right (T2), with disjoint scans in training, validation and test images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import accord
from accord.problems import parse as problem

TASKS = ("T1", "T2")
PIXELS, CLASSES = 144, 10


@dataclass(frozen=True)
class Part:
    """Images and labels.

    Args:
        x: (N, 144) pixels in [0, 1].
        t1: (N,) the digit at the top left.
        t2: (N,) the digit at the bottom right; -1 where it is not known.
    """

    x: Tensor
    t1: Tensor
    t2: Tensor

    def first(self, count: int) -> Part:
        """The first images only."""
        return Part(self.x[:count], self.t1[:count], self.t2[:count])


@dataclass(frozen=True)
class Data:
    """The three parts, and the order of the batches."""

    train: Part
    validation: Part
    test: Part
    seed: int

    def indices(self, batch: int, steps: int) -> Iterator[Tensor]:
        """Which training images make up each step: (batch,) at a time, the same for whoever asks."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        count = len(self.train.x)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            while len(order) < batch:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            yield order[:batch]  # (batch,)
            order = order[batch:]


def data(seed: int, train: int = 6000, validation: int = 2000, test: int = 2000) -> Data:
    """The images of a seed.

    Example:
        >>> small = data(0, train=8, validation=4, test=4)
        >>> small.train.x.shape, len(next(small.indices(5, 1)))
        (torch.Size([8, 144]), 5)
    """
    parts = problem(f"digits(train={train}, validation={validation}, test={test})").data(seed)

    def part(examples: Any) -> Part:
        found = examples.tensors
        return Part(found["image"].flatten(1), found["left"], found["right"])  # (N, 144), (N,), (N,)

    return Data(part(parts.train), part(parts.validation), part(parts.test), seed)


class Net(nn.Module):
    """A shared body of linear layers with an activation, the last ``width`` wide, and a linear head for each task.

    Args:
        seed: of the initial weights; nets of one seed and one shape are equal.
        width: of the layer that both tasks read from: the bottleneck.
        hidden: widths of the layers before it.
        act: the activation after each.

    Example:
        >>> [tuple(logits.shape) for logits in Net(0, width=4)(torch.zeros(3, 144))]
        [(3, 10), (3, 10)]
    """

    def __init__(
        self, seed: int, width: int, hidden: Sequence[int] = (64,), act: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        sizes = [PIXELS, *hidden, width]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [nn.Sequential(nn.Linear(a, b), act()) for a, b in pairwise(sizes)]
            self.body = nn.Sequential(*layers)
            self.t1, self.t2 = nn.Linear(width, CLASSES), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both tasks.

        Args:
            x: (N, 144).

        Returns:
            (N, 10) and (N, 10).
        """
        features = self.body(x)  # (N, width)
        return self.t1(features), self.t2(features)


def losses(
    net: nn.Module, x: Tensor, t1: Tensor, t2: Tensor, weights: Sequence[float] = (1.0, 1.0),
    tasks: Sequence[str] = TASKS,
) -> dict[str, Tensor]:  # fmt: skip
    """Weighted cross entropies, means over the images that have a label.

    Args:
        net: gives two logits.
        x: (N, 144).
        t1: (N,).
        t2: (N,); -1 counts for nothing.
        weights: of T1 and T2.
        tasks: which of them.
    """
    out = {}
    for name, logits, label, weight in zip(TASKS, net(x), (t1, t2), weights, strict=True):
        if name in tasks:
            known = (label >= 0).sum().clamp(min=1)  # a batch without labels has the loss 0
            out[name] = weight * cross_entropy(logits, label, ignore_index=-1, reduction="sum") / known
    return out


@torch.no_grad()
def evaluate(net: nn.Module, part: Part) -> dict[str, float]:
    """Unweighted loss and accuracy of both tasks: ``T1 loss``, ``T1 accuracy`` and so on.

    Example:
        >>> sorted(evaluate(Net(0, 4), data(0, 8, 4, 4).test))
        ['T1 accuracy', 'T1 loss', 'T2 accuracy', 'T2 loss']
    """
    found = {}
    for name, logits, label in zip(TASKS, net(part.x), (part.t1, part.t2), strict=True):
        known = label >= 0  # (N,)
        found[f"{name} loss"] = float(cross_entropy(logits[known], label[known]))
        found[f"{name} accuracy"] = float((logits.argmax(-1) == label)[known].double().mean())
    return found


@dataclass
class Fit:
    """What a training left behind.

    Args:
        net: as it is at the end.
        steps: (T,) after how many steps it was evaluated.
        curves: validation losses and accuracies at those steps, training losses as ``T1 train loss``.
        milliseconds: of CPU time per step, evaluation and looks left out.
        record: of the steps that were looked at, or None.
    """

    net: Net
    steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    milliseconds: float = float("nan")
    record: Any = None

    def at_equal_cost(self, milliseconds: float, curve: str) -> float:
        """The value of a curve where this training has cost as much as another one, of as many steps, in whole.

        Args:
            milliseconds: per step of the other one.
            curve: its name.

        Returns:
            Interpolated between checkpoints; the last value if this one is the cheaper.
        """
        affordable = self.steps[-1] * min(1.0, milliseconds / self.milliseconds)
        return float(np.interp(affordable, self.steps, self.curves[curve]))


def train(
    net: Net,
    given: Data,
    *,
    method: str = "Sum()",
    steps: int = 1500,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = lambda p: torch.optim.Adam(p, lr=1e-3),
    weights: Sequence[float] = (1.0, 1.0),
    tasks: Sequence[str] = TASKS,
    scale: Literal["sum", "mean", "native", "match-norm"] = "sum",
    batch: int = 128,
    look_every: int = 0,
    check_every: int = 100,
    after: Callable[[accord.Step, torch.optim.Optimizer], None] | None = None,
) -> Fit:
    """The loop of a user: losses to a Balancer, a step of the optimiser, now and then a look and an evaluation.

    Args:
        net: is trained in place.
        given: the images.
        method: combines the tasks' gradients.
        steps: how many.
        optimizer: made from the parameters.
        weights: of the losses.
        tasks: one of both: single-task training.
        scale: of the combined gradient.
        batch: images per step.
        look_every: record Gramians, and what the optimiser's step did to each task, every so many steps; 0: never.
        check_every: evaluate every so many steps.
        after: is called after each backward pass, before the optimiser's step.

    Example:
        >>> images = data(0, train=64, validation=16, test=16)
        >>> fit = train(Net(0, 4), images, method="PCGrad()", steps=4, batch=16, look_every=2, check_every=2)
        >>> fit.steps, len(fit.curves["T2 loss"]), fit.record.gramian.shape
        ([2, 4], 2, (2, 2, 2))
    """
    fit = Fit(net)
    moves = optimizer(net.parameters())
    balancer = accord.Balancer(net, method, scale=scale, generator=torch.Generator().manual_seed(given.seed))
    monitor = None
    if look_every and len(tasks) > 1:  # one gradient has no angle
        monitor = accord.Monitor(net, every=look_every, blocks="total", optimizer=moves)
        monitor.attach(balancer)
    spent, counted = 0.0, 0
    part = given.train
    for number, i in enumerate(given.indices(batch, steps), 1):
        began = time.process_time()
        step = balancer.backward(losses(net, part.x[i], part.t1[i], part.t2[i], weights, tasks))
        if after is not None:
            after(step, moves)
        moves.step()
        moves.zero_grad()
        if not look_every or (number - 1) % look_every:  # a look is not part of the method
            spent, counted = spent + time.process_time() - began, counted + 1
        if number % check_every == 0 or number == steps:
            _check(fit, given, number)
    fit.milliseconds = 1000 * spent / max(counted, 1)
    fit.record = None if monitor is None else monitor.record()
    return fit


def _check(fit: Fit, given: Data, number: int) -> None:
    fit.steps.append(number)
    seen = evaluate(fit.net, given.train.first(2000))
    found = evaluate(fit.net, given.validation) | {f"{task} train loss": seen[f"{task} loss"] for task in TASKS}
    for name, value in found.items():
        fit.curves.setdefault(name, []).append(value)
