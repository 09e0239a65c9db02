"""ETH-80: eighty objects photographed from 41 sides each; what it is, from where it is seen, and its silhouette."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from accord.architectures import Form, Head, dense, vector
from accord.data import find
from accord.errors import AccordError
from accord.problems import seeds
from accord.problems.composed import ComposedProblem
from accord.problems.pixels import first_channel, floats, resized
from accord.problems.problem import Batch, Data, Examples, Metrics
from accord.problems.stored import Column, read

FILE = "mtl/eth80/eth80_64.npz"
SIDE = 64  # pixels of the stored images
COLUMNS = {
    "image": Column((SIDE, SIDE, 3), "u", 0, 255),
    "mask": Column((SIDE * SIDE // 8,), "u", 0, 255),
    "category": Column((), "u", 0, 7),
    "instance": Column((), "u", 0, 9),
    "elevation": Column((), "u", 0, 90),
    "azimuth": Column((), "u", 0, 359),
}
ELEVATIONS = (0, 22, 35, 45, 66, 68, 90)  # degrees from the view from above
ROUND = (0, 6, 7)  # apple, pear, tomato look alike from all sides
TESTED = (8, 9)  # instances


@dataclass(frozen=True, repr=False)
class ETH80(ComposedProblem):
    """What is it, from how high and from which side is it seen, and which pixels belong to it?

    | Task | Loss | Metric |
    |---|---|---|
    | category | cross entropy, 8 classes | accuracy |
    | elevation | cross entropy, 7 classes | accuracy; ``degrees``: mean error of the class in degrees |
    | azimuth | ``((sin - s)^2 + (cos - c)^2) / 2`` | ``degrees``: mean angular error; ``degrees_round`` |
    | silhouette | binary cross entropy per pixel | ``iou`` of all pixels of the object |

    From above (elevation 0) there is no azimuth: those images take no part in its loss or metric. Apples, pears and
    tomatoes have hardly any: they are trained on, and reported apart as ``degrees_round``. Two elevations, 66 and 68
    degrees, look alike, and for round objects nothing tells them apart.

    Objects 8 and 9 of each category are for testing; of the others one in each category, drawn by the seed, is for
    validation. So no object is in two parts, whatever its views.

    Data: Leibe & Schiele 2003, https://doi.org/10.1109/CVPR.2003.1211497; research use with citation.

    Args:
        size: of the images in pixels: 64, or 32, 16, 8 by area averaging.
        limit: at most so many images in each part, drawn by the seed.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    size: int = SIDE
    limit: int = 1_000_000
    epochs: int = 10
    batch: int = 64
    lr: float = 2e-3

    name: ClassVar[str] = "eth80"
    dataset: ClassVar[str] = "eth80"
    tasks: ClassVar[tuple[str, ...]] = ("category", "elevation", "azimuth", "silhouette")
    metric: ClassVar[dict[str, tuple[str, bool]]] = {
        "category": ("accuracy", True),
        "elevation": ("accuracy", True),
        "azimuth": ("degrees", False),
        "silhouette": ("iou", True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in (64, 32, 16, 8):
            raise AccordError(f"{self.name}: size={self.size}, expected 64, 32, 16 or 8.")

    @classmethod
    def tiny(cls) -> ETH80:
        """Four steps per epoch, two epochs, small images."""
        return cls(encoder="conv(channels=4, layers=3)", size=16, limit=128, epochs=2, batch=32)

    def data(self, seed: int) -> Data:
        """One object of each category for validation, other ones for each seed."""
        tensors, category, instance = _images(find(FILE), self.size)
        rng = np.random.default_rng(seeds.number(seed, "eth80"))
        kept = rng.integers(min(TESTED), size=8)  # (8,) by category
        tested, validated = np.isin(instance, TESTED), instance == kept[category]  # (N,) each
        rows = {"train": ~tested & ~validated, "validation": validated, "test": tested}
        parts, origin = {}, {}
        for name, inside in rows.items():
            chosen = inside.nonzero()[0]
            if not len(chosen):
                raise AccordError(f"{FILE} has no images for {name}, expected objects 0 to 9 of each category.")
            chosen = np.sort(rng.permutation(chosen)[: self.limit])
            cut = {column: tensor[chosen] for column, tensor in tensors.items()}
            parts[name] = Examples(cut, self.batch if name == "train" else 256, _prepare)
            origin[name] = frozenset((category[chosen] * 10 + instance[chosen]).tolist())  # objects
        return Data(parts["train"], parts["validation"], parts["test"], origin)

    def inputs(self) -> Form:
        """Colour images."""
        return Form("map", 3, (self.size, self.size))

    def heads(self) -> dict[str, Head]:
        """Three vectors and a value for each pixel."""
        return {
            "category": vector(8),
            "elevation": vector(len(ELEVATIONS)),
            "azimuth": vector(2),
            "silhouette": dense(1, (self.size, self.size), hidden=32),
        }

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Means over the batch; that of the azimuth over images that have one."""
        out = model(batch["image"])
        turned = _turned(out["azimuth"], batch)  # (N,)
        return {
            "category": cross_entropy(out["category"], batch["category"]),
            "elevation": cross_entropy(out["elevation"], batch["elevation"]),
            "azimuth": turned.sum() / batch["sideways"].sum().clamp(min=1),
            "silhouette": binary_cross_entropy_with_logits(out["silhouette"][:, 0], batch["silhouette"]),
        }

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """As in the table."""
        with torch.no_grad():
            total = sum((_sums(model(batch["image"]), batch) for batch in batches), torch.zeros(len(SUMS)).double())
        found = dict(zip(SUMS, total.tolist(), strict=True))

        def mean(name: str, count: str) -> float:
            return found[name] / found[count] if found[count] else float("nan")

        return {
            "category": {"accuracy": mean("named", "images"), "loss": mean("category", "images")},
            "elevation": {
                "accuracy": mean("levelled", "images"),
                "degrees": mean("tilt", "images"),
                "loss": mean("elevation", "images"),
            },
            "azimuth": {
                "degrees": mean("turn", "directed"),
                "degrees_round": mean("turn_round", "round"),
                "loss": mean("azimuth", "sideways"),
            },
            "silhouette": {"iou": mean("inter", "union"), "loss": mean("silhouette", "pixels")},
        }


SUMS = (
    "images", "named", "category", "levelled", "tilt", "elevation", "directed", "turn", "round", "turn_round",
    "sideways", "azimuth", "inter", "union", "pixels", "silhouette",
)  # fmt: skip


def angular_error(vectors: Tensor, degrees: Tensor) -> Tensor:
    """The angle between predicted and true directions in degrees, the shorter way round.

    Args:
        vectors: (N, 2) predicted sine and cosine, of any length.
        degrees: (N,) true angles.

    Returns:
        (N,) from 0 to 180.

    Example:
        >>> angular_error(torch.tensor([[0.0, 2.0]]), torch.tensor([350.0]))  # 0 degrees, and 350
        tensor([10.])
    """
    found = torch.rad2deg(torch.atan2(vectors[:, 0], vectors[:, 1]))  # (N,)
    return 180 - ((found - degrees).remainder(360) - 180).abs()


def _turned(vectors: Tensor, batch: Batch) -> Tensor:
    """(N,) squared errors of sine and cosine; 0 where there is no azimuth."""
    radians = torch.deg2rad(batch["azimuth"])  # (N,)
    wanted = torch.stack([radians.sin(), radians.cos()], 1)  # (N, 2)
    return torch.where(batch["sideways"], (vectors - wanted).square().mean(1), 0)


def _sums(out: dict[str, Tensor], batch: Batch) -> Tensor:
    """(S,) what ``SUMS`` names, over one batch."""
    category, elevation, sideways = batch["category"], batch["elevation"], batch["sideways"]
    level = out["elevation"].argmax(1)  # (N,)
    heights = torch.tensor(ELEVATIONS)  # (7,)
    turn = angular_error(out["azimuth"].double(), batch["azimuth"].double())  # (N,)
    alike = torch.isin(category, torch.tensor(ROUND)) & sideways  # (N,)
    directed = sideways & ~alike  # (N,)
    logits, mask = out["silhouette"][:, 0], batch["silhouette"]  # (N, H, W) each
    inside, true = logits > 0, mask > 0.5
    found = [
        len(category),
        (out["category"].argmax(1) == category).sum(),
        cross_entropy(out["category"].double(), category, reduction="sum"),
        (level == elevation).sum(),
        (heights[level] - heights[elevation]).abs().sum(),
        cross_entropy(out["elevation"].double(), elevation, reduction="sum"),
        directed.sum(),
        turn[directed].sum(),
        alike.sum(),
        turn[alike].sum(),
        sideways.sum(),
        _turned(out["azimuth"], batch).double().sum(),
        (inside & true).sum(),
        (inside | true).sum(),
        mask.numel(),
        binary_cross_entropy_with_logits(logits, mask, reduction="none").sum(dtype=torch.float64),
    ]
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in found])


def _prepare(batch: Batch) -> Batch:
    return {
        "image": floats(batch["image"]),
        "silhouette": batch["silhouette"].float(),
        "azimuth": batch["azimuth"].float(),
        "category": batch["category"],
        "elevation": batch["elevation"],
        "sideways": batch["sideways"],
    }


@cache
def _images(path: Path, size: int) -> tuple[dict[str, Tensor], NDArray[np.int64], NDArray[np.int64]]:
    """Columns of all images, and which category and which of its objects each shows, (N,) each."""
    stored = read(path, COLUMNS)
    elevation = stored["elevation"].astype(np.int64)
    unknown = set(elevation.tolist()) - set(ELEVATIONS)
    if unknown:
        raise AccordError(
            f"{path}: elevation {min(unknown)} is none of {', '.join(map(str, ELEVATIONS))}; get the file anew."
        )
    bits = np.unpackbits(np.asarray(stored["mask"], np.uint8), axis=1).reshape(-1, SIDE, SIDE)  # (N, 64, 64)
    mask = bits if size == SIDE else resized(bits * 255, (size, size)) >= 128  # (N, size, size)
    category, instance = stored["category"].astype(np.int64), stored["instance"].astype(np.int64)
    tensors = {
        "image": first_channel(resized(np.asarray(stored["image"], np.uint8), (size, size))),
        "silhouette": torch.from_numpy(mask.astype(np.uint8)),
        "category": torch.from_numpy(category),
        "elevation": torch.from_numpy(np.searchsorted(ELEVATIONS, elevation)),
        "azimuth": torch.from_numpy(stored["azimuth"].astype(np.int64)),
        "sideways": torch.from_numpy(elevation > 0),
    }
    return tensors, category, instance
