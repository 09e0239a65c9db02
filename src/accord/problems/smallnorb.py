"""SmallNORB: toys on a turntable; from which side and how high they are seen. Read from the user's own copy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accord.architectures import Form, Head, vector
from accord.data import original
from accord.errors import AccordError
from accord.problems import classify
from accord.problems.composed import ComposedProblem
from accord.problems.norb_files import labels, left_images
from accord.problems.pixels import floats
from accord.problems.problem import Batch, Data, Examples, Metrics

STEMS = {"train": "smallnorb-5x46789x9x18x6x2x96x96-training", "test": "smallnorb-5x01235x9x18x6x2x96x96-testing"}
CLASSES = {"azimuth": 18, "elevation": 9}


@dataclass(frozen=True, repr=False)
class SmallNORB(ComposedProblem):
    """The direction in steps of 20 degrees (18 classes) and the height of the camera in steps of 5 (9 classes).

    Cross entropy; ``top1`` and ``top5`` are the shares of images whose class is the likeliest, or among the five
    likeliest. As in VTAB-1k, with the left image of each pair: the first 800 of the training file are trained on, the
    first 200 of the test file are for validation, its second half is for testing: the same for all seeds. Here "first"
    means the order of the files; VTAB reads them in an order of its own. So validation shows the very toys that are
    tested on, and training shows others. Grey images stay grey: copies in three channels would tell no more.

    ``accord data link smallnorb FOLDER`` says where the files ``smallnorb-...-{dat,info}.mat`` are, packed
    (``.mat.gz``) or not. They are shrunk once, by area averaging, into ``~/.cache/accord/decoded``.

    Source: LeCun, Huang & Bottou 2004, https://doi.org/10.1109/CVPR.2004.1315150, research use; tasks: Zhai et al.
    2019, https://arxiv.org/abs/1910.04867.

    Args:
        size: height and width of the images.
        train: training images.
        validation: images for validation, at most half of the test file.
        test: images for testing, at most the other half.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    size: int = 48
    train: int = 800
    validation: int = 200
    test: int = 12_150
    epochs: int = 20
    batch: int = 32
    lr: float = 1e-3

    name: ClassVar[str] = "smallnorb"
    dataset: ClassVar[str] = "smallnorb"
    tasks: ClassVar[tuple[str, ...]] = tuple(CLASSES)
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(CLASSES, ("top1", True))
    measures: ClassVar[dict[str, dict[str, bool]]] = {task: {"top1": True, "top5": True} for task in CLASSES}

    @classmethod
    def tiny(cls) -> SmallNORB:
        """Four steps per epoch, two epochs."""
        return cls(encoder="conv(channels=4)", train=64, validation=32, test=64, epochs=2, batch=16)

    def data(self, seed: int) -> Data:
        """Always the same images."""
        place = original("smallnorb")
        images = {part: left_images(place, stem, self.size) for part, stem in STEMS.items()}
        views = {part: labels(place, stem) for part, stem in STEMS.items()}
        for part, stem in STEMS.items():
            if len(images[part]) != len(views[part]):
                raise AccordError(f"{stem}: {len(images[part])} pairs of images, but {len(views[part])} lines of info.")
        before, half = len(images["train"]), len(images["test"]) // 2
        cuts = {
            "train": ("train", slice(self.train)),
            "validation": ("test", slice(min(self.validation, half))),
            "test": ("test", slice(half, half + self.test)),
        }
        parts, origin = {}, {}
        for part, (source, cut) in cuts.items():
            tensors = {task: torch.from_numpy(views[source][cut, k]) for k, task in enumerate(CLASSES)}
            tensors["image"] = torch.from_numpy(images[source][cut])
            count = len(tensors["image"])
            if not count:
                raise AccordError(f"the files in {place} are too short: no images for {part}.")
            parts[part] = Examples(tensors, self.batch if part == "train" else 256, _prepare)
            first = (cut.start or 0) + (before if source == "test" else 0)
            origin[part] = frozenset(range(first, first + count))
        return Data(parts["train"], parts["validation"], parts["test"], origin)

    def inputs(self) -> Form:
        """Grey images."""
        return Form("map", 1, (self.size, self.size))

    def heads(self) -> dict[str, Head]:
        """The classes."""
        return {task: vector(classes) for task, classes in CLASSES.items()}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropies."""
        return classify.losses(model, batch, self.tasks)

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Shares of right answers, and cross entropy."""
        total: dict[str, Tensor] = {task: torch.zeros(3, dtype=torch.float64) for task in CLASSES}
        count = 0
        for batch in batches:
            out = model(batch["image"])
            count += len(batch["image"])
            for task in CLASSES:
                logits, wanted = out[task].double(), batch[task]  # (N, C), (N,)
                hit = logits.topk(5).indices == wanted[:, None]  # (N, 5)
                loss = cross_entropy(logits, wanted, reduction="sum")
                total[task] += torch.stack([hit[:, 0].sum(), hit.sum(), loss])
        names = ("top1", "top5", "loss")
        return {task: dict(zip(names, (found / count).tolist(), strict=True)) for task, found in total.items()}


def _prepare(batch: Batch) -> Batch:
    return batch | {"image": floats(batch["image"])}
