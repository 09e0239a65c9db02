"""CityScapes as preprocessed by MTAN: streets; it is read from the user's own copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.problems import dense
from accord.problems.npy_folder import NpyProblem


@dataclass(frozen=True, repr=False)
class Cityscapes(NpyProblem):
    """Segmentation into 7 groups of classes and inverse depth at 128 x 256 pixels.

    The folder, see ``accord data link cityscapes FOLDER``, holds 2975 images in ``train`` and 500 in ``val``, each as
    ``image/0.npy`` (128, 256, 3) in [0, 1], ``label_7/0.npy`` (128, 256) and ``depth/0.npy`` (128, 256, 1). The depth
    is a disparity, near 0 far away: relative errors are large and say little. ``crop-flip`` divides it by the
    scale, as the public code does, though a disparity would grow. The defaults are the settings of the published
    tables: 41.2 million parameters.

    Source: Liu, Johns & Davison 2019, https://arxiv.org/abs/1803.10704; data: Cordts et al. 2016,
    https://arxiv.org/abs/1604.01685.

    Args:
        architecture: see ``ComposedProblem``.
        encoder: see ``ComposedProblem``.
        augmentation: ``crop-flip`` or ``none``; of the training part alone.
        validation: images that each seed takes from the training part.
        limit: at most so many images in each part.
        epochs: passes over the training part.
        batch: images per step.
        lr: learning rate.
    """

    architecture: str = "mtan"
    encoder: str = "segnet"
    validation: int = 300
    epochs: int = 200
    batch: int = 8
    lr: float = 1e-4

    name: ClassVar[str] = "cityscapes"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "depth")
    metric: ClassVar[dict[str, tuple[str, bool]]] = {task: dense.METRIC[task] for task in tasks}
    measures: ClassVar[dict[str, dict[str, bool]]] = {task: dense.MEASURES[task] for task in tasks}
    dataset: ClassVar[str] = "cityscapes"
    classes: ClassVar[int] = 7
    shape: ClassVar[tuple[int, int]] = (128, 256)
    kinds: ClassVar[dict[str, str]] = {"image": "image", "label_7": "segmentation", "depth": "depth"}

    @classmethod
    def tiny(cls) -> Cityscapes:
        """Two steps per epoch, two epochs, a small convolutional network."""
        return cls(architecture="hard", encoder="conv(channels=4)", validation=2, limit=4, epochs=2, batch=2)
