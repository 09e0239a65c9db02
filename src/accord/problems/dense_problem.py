"""What problems with a value for every pixel have in common: heads, losses, metrics, parts, preparation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord.architectures import Form, Head, dense
from accord.errors import AccordError
from accord.problems import dense as pixelwise
from accord.problems import seeds
from accord.problems.composed import ComposedProblem
from accord.problems.crop_flip import crop_flip
from accord.problems.problem import Batch, Data, Examples, Metrics

AUGMENTATIONS = {"crop-flip": crop_flip, "none": None}
EVALUATED = 16  # images in a batch that is not trained on
Change = Callable[[Batch], Batch]


@dataclass(frozen=True, repr=False)
class DenseProblem(ComposedProblem):
    """Segmentation, depth and, if there are any, normals of every pixel of an image.

    A head is a 3 x 3 and a 1 x 1 convolution with as many channels between as the features have. Losses and measures
    are those of ``accord.problems.dense``.

    Args:
        encoder: see ``ComposedProblem``.
        augmentation: ``crop-flip`` or ``none``; of the training part alone.
        validation: images that each seed takes from the training part.
        limit: at most so many images in each part.
        epochs: passes over the training part.
        batch: images per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    augmentation: str = "crop-flip"
    validation: int = 80
    limit: int = 1_000_000
    epochs: int = 20
    batch: int = 8
    lr: float = 1e-3

    classes: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation not in AUGMENTATIONS:
            raise AccordError(
                f"{self.name}: augmentation={self.augmentation!r}, expected one of {', '.join(AUGMENTATIONS)}."
            )

    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(H, W) of images and outputs."""

    def inputs(self) -> Form:
        """Colour images."""
        return Form("map", 3, self.size())

    def heads(self) -> dict[str, Head]:
        """Logits of the classes, a depth, a direction, for each pixel."""
        channels = {"segmentation": self.classes, "depth": 1, "normals": 3}
        return {task: _head(channels[task], self.size()) for task in self.tasks}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Negative log-likelihood, absolute error, one minus cosine; pixels without target do not count."""
        return pixelwise.losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """All measures, pooled over pixels."""
        return pixelwise.metrics(model, batches, self.tasks)

    def parts(self, train: int, seed: int) -> dict[str, NDArray[np.intp]]:
        """Rows of the training and of the validation part, in rising order.

        Args:
            train: images of the official training part.
            seed: decides which are validated on.

        Raises:
            AccordError: if nothing is left to train on.
        """
        if train <= self.validation:
            raise AccordError(
                f"{self.name}: the training part has {train} images, and validation={self.validation} of them leave "
                "none to train on; choose a smaller number."
            )
        order = np.random.default_rng(seeds.number(seed, self.name)).permutation(train)
        kept, fitted = order[: self.validation], order[self.validation :]
        return {"train": np.sort(fitted[: self.limit]), "validation": np.sort(kept[: self.limit])}

    def spread(self, count: int) -> NDArray[np.intp]:
        """Rows of the test part: at most ``limit``, evenly spread, because neighbours show the same rooms."""
        kept = min(count, self.limit)
        return np.arange(kept) * count // kept

    def handed_out(
        self, tensors: Mapping[str, Mapping[str, Tensor]], origin: Mapping[str, Iterable[int]],
        open_: Change = lambda batch: batch, prepare: Change = lambda batch: batch,
    ) -> Data:  # fmt: skip
        """The parts, in batches.

        Args:
            tensors: by part and name, the stored examples.
            origin: by part, the numbers of its images.
            open_: makes of a stored batch one with images and targets.
            prepare: makes of such a batch, augmented or not, what ``losses`` takes.
        """
        change = AUGMENTATIONS[self.augmentation]

        def augment(batch: Batch, generator: torch.Generator) -> Batch:
            assert change is not None
            return change(open_(batch), generator)

        def finish(batch: Batch) -> Batch:
            return prepare(batch if "image" in batch else open_(batch))

        parts = {
            part: Examples(
                stored,
                self.batch if part == "train" else EVALUATED,
                finish,
                augment if part == "train" and change is not None else None,
            )
            for part, stored in tensors.items()
        }
        return Data(**parts, origin={part: frozenset(int(number) for number in rows) for part, rows in origin.items()})


def _head(channels: int, size: tuple[int, int]) -> Head:
    return lambda form: dense(channels, size, hidden=form.width)(form)
