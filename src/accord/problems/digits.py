"""Digits (MultiDigits): two handwritten digits on one small image, from scans that scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from accord.problems import classify, overlay, seeds
from accord.problems.cut import split
from accord.problems.problem import Batch, Data, Metrics, Problem

SIZE, FULL = 12, 16  # canvas; the brightest pixel of the scans


@dataclass(frozen=True, repr=False)
class Digits(Problem):
    """Read the left digit, the right digit, and their sum off one image of 12 x 12 pixels.

    Two of 1797 real scans of 8 x 8 pixels are laid over each other (pixel-wise maximum), one at the top left, one at
    the bottom right, so that they overlap in the middle. Train, validation and test images are made of disjoint scans
    (60, 15 and 25 %). ``sum`` has 19 classes and needs both digits, so it pulls on both of the other tasks.

    The trunk (two convolutions and ``width`` features) is shared; each task has one linear head of its own. Eight
    features are enough for each task alone and scarce for all three: they compete for them. ``digits(width=64)`` is
    the same problem with room for all.

    Data: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI (CC BY 4.0), the copy in
    scikit-learn. The overlay follows Sabour, Frosst & Hinton 2017, https://arxiv.org/abs/1710.09829, section 6.

    Args:
        train: number of training images.
        validation: number of validation images.
        test: number of test images.
        width: number of features that all tasks share.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.

    Example:
        >>> problem = Digits.tiny()
        >>> batch = next(iter(problem.data(seed=0).train))
        >>> {task: loss.ndim for task, loss in problem.losses(problem.model(seed=0), batch).items()}
        {'left': 0, 'right': 0, 'sum': 0}
    """

    train: int = 6000
    validation: int = 1000
    test: int = 2000
    width: int = 8
    epochs: int = 12
    batch: int = 128
    lr: float = 3e-3

    name: ClassVar[str] = "digits"
    tasks: ClassVar[tuple[str, ...]] = overlay.TASKS
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(overlay.TASKS, ("accuracy", True))
    dataset: ClassVar[str] = "digits"

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def tiny(cls) -> Digits:
        """Four steps per epoch, two epochs."""
        return cls(train=256, validation=64, test=64, epochs=2, batch=64)

    def data(self, seed: int) -> Data:
        """Other scans in each part, and other pairs, for each seed."""
        images, labels = scans()
        rng = np.random.default_rng(seeds.number(seed, "digits"))
        pools = split(len(images), (0.6, 0.15), rng)
        counts = (self.train, self.validation, self.test)
        sizes = (self.batch, 1000, 1000)
        parts = [
            overlay.composites(images, labels, pool, count, SIZE, FULL, size, rng)
            for pool, count, size in zip(pools, counts, sizes, strict=True)
        ]
        train, validation, test = parts
        names = ("train", "validation", "test")
        origin = {name: frozenset(pool.tolist()) for name, pool in zip(names, pools, strict=True)}
        return Data(train, validation, test, origin)

    def model(self, seed: int) -> nn.Module:
        """The trunk and three linear heads."""
        with seeds.seeded(seed, "digits", "model"):
            heads = {task: nn.Linear(self.width, classes) for task, classes in overlay.CLASSES.items()}
            return classify.Branched(classify.trunk(SIZE, 2, self.width), heads)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropies."""
        return classify.losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Accuracy and cross entropy."""
        return classify.metrics(model, batches, self.tasks)


@cache
def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All scans (1797, 8, 8) with values 0 to 16, and which digit each shows (1797,)."""
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import

    bundled = load_digits()
    return bundled.images.astype(np.uint8), bundled.target.astype(np.int64)
