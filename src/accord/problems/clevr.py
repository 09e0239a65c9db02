"""CLEVR: rendered scenes; how many objects, and how near the nearest is. Read from the user's own copy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord.architectures import Form, Head, vector
from accord.data import original
from accord.errors import AccordError
from accord.problems import classify
from accord.problems.composed import ComposedProblem
from accord.problems.decoded import images, kept, save, stamp
from accord.problems.pixels import floats
from accord.problems.problem import Batch, Data, Examples, Metrics

STATED = (480, 320)  # width and height
FEWEST, MOST = 3, 10  # objects
CUTS = (8.0, 8.5, 9.0, 9.5, 10.0)  # between the classes of distance


@dataclass(frozen=True, repr=False)
class CLEVR(ComposedProblem):
    """Count the objects (3 to 10: 8 classes), and say how near the nearest is (6 classes); cross entropy, accuracy.

    The distance is the smallest third pixel coordinate, and its class the number of cuts 8, 8.5, 9, 9.5, 10 below it.
    As in VTAB-1k, the first 800 images of the training part are trained on, the first 200 of its last tenth are for
    validation, and the whole part ``val`` is for testing: the same for all seeds. Here "first" means the order of the
    files; VTAB reads them in an order of its own, and so has other images.

    ``accord data link clevr FOLDER`` says where ``images`` and ``scenes`` of ``CLEVR_v1.0`` are. Images (480 x 320) are
    shrunk to squares once, by area averaging, into ``~/.cache/accord/decoded``.

    Source: Johnson et al. 2017, https://arxiv.org/abs/1612.06890 (CC BY 4.0); tasks: Zhai et al. 2019,
    https://arxiv.org/abs/1910.04867.

    Args:
        size: height and width of the images.
        train: training images, at most nine tenths of those that there are.
        validation: images for validation, at most one tenth.
        test: images for testing.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    size: int = 64
    train: int = 800
    validation: int = 200
    test: int = 15_000
    epochs: int = 10
    batch: int = 32
    lr: float = 1e-3

    name: ClassVar[str] = "clevr"
    dataset: ClassVar[str] = "clevr"
    tasks: ClassVar[tuple[str, ...]] = ("count", "distance")
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(("count", "distance"), ("accuracy", True))

    @classmethod
    def tiny(cls) -> CLEVR:
        """Four steps per epoch, two epochs."""
        return cls(encoder="conv(channels=4)", train=64, validation=32, test=64, epochs=2, batch=16)

    def data(self, seed: int) -> Data:
        """Always the same images."""
        place = original("clevr")
        fitted, tested = _labels(place, "train"), _labels(place, "val")  # (N, 2) each
        last = 9 * len(fitted) // 10
        rows = {
            "train": np.arange(min(self.train, last)),
            "validation": np.arange(last, min(last + self.validation, len(fitted))),
            "test": np.arange(min(self.test, len(tested))),
        }
        parts, origin = {}, {}
        for part, chosen in rows.items():
            if not len(chosen):
                raise AccordError(f"{place} has {len(fitted)} training and {len(tested)} validation images: too few.")
            split, labels, before = ("val", tested, len(fitted)) if part == "test" else ("train", fitted, 0)
            files = [_file(split, row) for row in chosen.tolist()]
            pixels = torch.from_numpy(images("clevr", place / "images" / split, files, STATED, self.size))
            count, distance = (torch.from_numpy(column.astype(np.int64)) for column in labels[chosen].T)
            tensors = {"image": pixels, "count": count, "distance": distance}
            parts[part] = Examples(tensors, self.batch if part == "train" else 256, _prepare)
            origin[part] = frozenset((chosen + before).tolist())
        return Data(parts["train"], parts["validation"], parts["test"], origin)

    def inputs(self) -> Form:
        """Colour images."""
        return Form("map", 3, (self.size, self.size))

    def heads(self) -> dict[str, Head]:
        """The classes."""
        return {"count": vector(MOST - FEWEST + 1), "distance": vector(len(CUTS) + 1)}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropies."""
        return classify.losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Accuracy and cross entropy."""
        return classify.metrics(model, batches, self.tasks)


def distance_class(nearest: float) -> int:
    """How many of the cuts lie below a distance.

    Example:
        >>> distance_class(7.2), distance_class(8.0), distance_class(8.1), distance_class(12)
        (0, 0, 1, 5)
    """
    return sum(cut < nearest for cut in CUTS)


def _prepare(batch: Batch) -> Batch:
    return batch | {"image": floats(batch["image"])}


def _file(split: str, row: int) -> str:
    return f"CLEVR_{split}_{row:06d}.png"


def _labels(place: Path, split: str) -> NDArray[np.uint8]:
    """(N, 2) classes of number and distance; the scenes are hundreds of megabytes and read only once."""
    path = place / "scenes" / f"CLEVR_{split}_scenes.json"

    def write(beside: Path) -> None:
        labels = np.array([_label(path, split, row, scene) for row, scene in enumerate(_scenes(path))], np.uint8)
        save(beside, labels.shape, [labels])

    return kept(f"clevr-{split}", stamp(path), write)


def _scenes(path: Path) -> list[Any]:
    try:
        scenes = json.loads(path.read_bytes())["scenes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise AccordError(f"{path} cannot be read ({reason}); expected the scenes of CLEVR, get it anew.") from None
    if not isinstance(scenes, list) or not scenes:
        raise AccordError(f"{path} has no scenes; get it anew.")
    return scenes


def _label(path: Path, split: str, row: int, scene: Any) -> tuple[int, int]:
    """The classes of one scene."""
    try:
        name, depths = scene["image_filename"], [float(each["pixel_coords"][2]) for each in scene["objects"]]
    except (KeyError, TypeError, IndexError, ValueError):
        raise AccordError(f"{path}: scene {row} lacks image_filename or objects with three pixel_coords.") from None
    if name != _file(split, row):
        raise AccordError(f"{path}: scene {row} is of {str(name)[:60]!r}, expected {_file(split, row)!r}.")
    if not FEWEST <= len(depths) <= MOST:
        raise AccordError(f"{path}: scene {row} has {len(depths)} objects, expected {FEWEST} to {MOST}.")
    if not all(0 < depth < float("inf") for depth in depths):
        raise AccordError(f"{path}: scene {row} has an object at distance {min(depths)}, expected numbers above 0.")
    return len(depths) - FEWEST, distance_class(min(depths))
