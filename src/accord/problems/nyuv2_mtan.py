"""NYUv2 as preprocessed by MTAN, which most published tables are about; it is read from the user's own copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.problems import dense
from accord.problems.npy_folder import NpyProblem


@dataclass(frozen=True, repr=False)
class NYUv2MTAN(NpyProblem):
    """Segmentation into 13 classes, depth in metres and surface normals at 288 x 384 pixels.

    The folder, see ``accord data link nyuv2-mtan FOLDER``, holds 795 images in ``train`` and 654 in ``val``, each as
    ``image/0.npy`` (288, 384, 3) in [0, 1], ``label/0.npy`` (288, 384), ``depth/0.npy`` (288, 384, 1) and
    ``normal/0.npy`` (288, 384, 3). The defaults are the settings of the published tables, and a matter for a GPU: 44.2
    million parameters.

    Source: Liu, Johns & Davison 2019, https://arxiv.org/abs/1803.10704; data: Silberman et al. 2012. The published
    runs take all 795 images and the mean of the last ten epochs on ``val``; ours keep some for choosing.

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
    epochs: int = 200
    batch: int = 2
    lr: float = 1e-4

    name: ClassVar[str] = "nyuv2-mtan"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "depth", "normals")
    metric: ClassVar[dict[str, tuple[str, bool]]] = dense.METRIC
    measures: ClassVar[dict[str, dict[str, bool]]] = dense.MEASURES
    dataset: ClassVar[str] = "nyuv2-mtan"
    classes: ClassVar[int] = 13
    shape: ClassVar[tuple[int, int]] = (288, 384)
    kinds: ClassVar[dict[str, str]] = {
        "image": "image", "label": "segmentation", "depth": "depth", "normal": "normals",
    }  # fmt: skip

    @classmethod
    def tiny(cls) -> NYUv2MTAN:
        """Two steps per epoch, two epochs, a small convolutional network."""
        return cls(architecture="hard", encoder="conv(channels=4)", validation=2, limit=4, epochs=2)
