"""MultiMNIST: two handwritten digits on one image, from the full MNIST."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from accord.architectures import Form, Head, vector
from accord.data import arrays, find
from accord.problems import classify, overlay, seeds
from accord.problems.composed import ComposedProblem
from accord.problems.cut import split
from accord.problems.problem import Batch, Data, Examples, Metrics

FILE = "mtl/mnist/mnist.npz"
NAMES = ("train_image", "train_label", "test_image", "test_label")
SIZE, FULL = 36, 255  # canvas; the brightest pixel


@dataclass(frozen=True, repr=False)
class MultiMNIST(ComposedProblem):
    """Read the left digit, the right digit, and their sum off one image of 36 x 36 pixels.

    As ``Digits``, from the 70000 images of MNIST (28 x 28). Test images are made of MNIST's test part; of its training
    part, one tenth, drawn anew for each seed, is kept for validation.

    Source: Sabour, Frosst & Hinton 2017, https://arxiv.org/abs/1710.09829, section 6; as two tasks: Sener & Koltun
    2018, https://arxiv.org/abs/1810.04650, section 5.1. Theirs shift at random and shrink the canvas to 28 x 28; ours
    keeps both places and the full size. Data: LeCun & Cortes.

    Args:
        train: number of training images.
        validation: number of validation images.
        test: number of test images.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of; ``bottleneck(width=64)`` has room for all.
    """

    train: int = 20000
    validation: int = 2000
    test: int = 5000
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-3
    encoder: str = "bottleneck"

    name: ClassVar[str] = "multimnist"
    tasks: ClassVar[tuple[str, ...]] = overlay.TASKS
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(overlay.TASKS, ("accuracy", True))
    dataset: ClassVar[str] = "mnist"

    @classmethod
    def tiny(cls) -> MultiMNIST:
        """Two steps per epoch, two epochs."""
        return cls(train=64, validation=32, test=32, epochs=2, batch=32)

    def data(self, seed: int) -> Data:
        """Other images for validation, and other pairs, for each seed."""
        stored = {name: np.asarray(array) for name, array in arrays(find(FILE), NAMES).items()}
        rng = np.random.default_rng(seeds.number(seed, "multimnist"))
        fitted, kept = split(len(stored["train_image"]), (0.9,), rng)

        def part(source: str, pool: np.ndarray, count: int, batch: int) -> Examples:
            images, labels = stored[f"{source}_image"], stored[f"{source}_label"]
            return overlay.composites(images, labels, pool, count, SIZE, FULL, batch, rng)

        tests = np.arange(len(stored["test_image"]))
        offset = len(stored["train_image"])  # so that a number stands for one image of MNIST
        origin = {"train": fitted, "validation": kept, "test": tests + offset}
        return Data(
            part("train", fitted, self.train, self.batch),
            part("train", kept, self.validation, 500),
            part("test", tests, self.test, 500),
            {name: frozenset(pool.tolist()) for name, pool in origin.items()},
        )

    def inputs(self) -> Form:
        """Grey images."""
        return Form("map", 1, (SIZE, SIZE))

    def heads(self) -> dict[str, Head]:
        """A linear head for each task."""
        return {task: vector(classes) for task, classes in overlay.CLASSES.items()}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropies."""
        return classify.losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Accuracy and cross entropy."""
        return classify.metrics(model, batches, self.tasks)
