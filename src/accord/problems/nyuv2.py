"""NYUv2: what is in each pixel of a room, how far away it is, and which way its surface faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from accord.data import find
from accord.errors import AccordError
from accord.problems import dense, nyuv2_zip
from accord.problems.dense_problem import DenseProblem
from accord.problems.problem import Batch, Data

FILE = "mtl/nyuv2/nyuv2_144x192.zip"
SMALLEST, LARGEST = 16, nyuv2_zip.STORED


@dataclass(frozen=True, repr=False)
class NYUv2(DenseProblem):
    """Segmentation into 13 classes, depth in metres, and surface normals, of 1449 pictures of rooms.

    795 pictures are for training, 654 for testing, as published; each seed keeps ``validation`` of the former apart.
    Of the stored 144 x 192 pixels the white frame is cut off, rows 3 to 141 and columns 4 to 188 stay; they are then
    brought to ``height`` x ``width``. Normals are derived from depth by fitting planes, not measured. The white frame,
    the small size and those normals make figures incomparable with published ones; ``nyuv2-mtan`` is for those.

    Data: Silberman, Hoiem, Kohli & Fergus 2012, "Indoor Segmentation and Support Inference from RGBD Images"; classes:
    Couprie et al. 2013, https://arxiv.org/abs/1301.3572; tasks, losses and measures: Liu, Johns & Davison 2019 (MTAN),
    https://arxiv.org/abs/1803.10704.

    Args:
        encoder: see ``ComposedProblem``.
        augmentation: ``crop-flip`` or ``none``; of the training part alone.
        validation: images that each seed takes from the training part.
        limit: at most so many images in each part.
        epochs: passes over the training part.
        batch: images per step.
        lr: learning rate.
        height: of the images, 16 to 144 pixels.
        width: of the images, 16 to 192 pixels; 4 : 3 keeps the proportions.
    """

    encoder: str = "segnet(width=16)"
    height: int = 96
    width: int = 128

    name: ClassVar[str] = "nyuv2"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "depth", "normals")
    metric: ClassVar[dict[str, tuple[str, bool]]] = dense.METRIC
    measures: ClassVar[dict[str, dict[str, bool]]] = dense.MEASURES
    dataset: ClassVar[str] = "nyuv2"
    classes: ClassVar[int] = nyuv2_zip.CLASSES

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, most in zip(("height", "width"), self.size(), LARGEST, strict=True):
            if not SMALLEST <= value <= most:
                raise AccordError(f"{self.name}: {name}={value}, expected {SMALLEST} to {most} pixels.")

    @classmethod
    def tiny(cls) -> NYUv2:
        """Two steps per epoch, two epochs, pictures of 24 x 32 pixels."""
        return cls(encoder="conv(channels=4)", validation=8, limit=8, epochs=2, batch=4, height=24, width=32)

    def size(self) -> tuple[int, int]:
        """(H, W) of images and outputs."""
        return self.height, self.width

    def data(self, seed: int) -> Data:
        """Other pictures for validation for each seed; always the same test part."""
        path = find(FILE)
        listed = nyuv2_zip.listing(path)
        rows = self.parts(len(listed["train"]), seed)
        numbers = {part: [listed["train"][row] for row in chosen] for part, chosen in rows.items()}
        numbers["test"] = [listed["test"][row] for row in self.spread(len(listed["test"]))]
        # the same pictures in the same order for every seed, so that they are decoded once: test, then the others
        others = sorted(numbers["train"] + numbers["validation"])
        members = (*(("test", number) for number in numbers["test"]), *(("train", number) for number in others))
        stored = {name: torch.from_numpy(a) for name, a in nyuv2_zip.images(path, members, self.size()).items()}
        tests = len(numbers["test"])
        tensors = {"test": {name: tensor[:tests] for name, tensor in stored.items()}}  # a view, nothing is copied
        for part in ("train", "validation"):
            index = tests + torch.from_numpy(np.searchsorted(others, numbers[part]))  # (N,)
            tensors[part] = {name: tensor[index] for name, tensor in stored.items()}
        return self.handed_out(tensors, numbers, prepare=_prepare)


def _prepare(batch: Batch) -> Batch:
    """Bytes, or what became of them by augmentation, to what the losses take."""
    return {
        "image": batch["image"].float() / 255,  # (N, 3, H, W)
        "segmentation": batch["segmentation"].long() - 1,  # (N, H, W); the stored 0 is no label
        "depth": batch["depth"].float() / nyuv2_zip.METRE,  # (N, 1, H, W) metres
        "normals": dense.unit(batch["normals"].float()),  # (N, 3, H, W)
    }
