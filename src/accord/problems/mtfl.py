"""MTFL: faces in everyday photographs; five landmarks, gender, smile, glasses and pose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accord.architectures import Form, Head, vector
from accord.data import find
from accord.errors import AccordError
from accord.problems import seeds
from accord.problems.composed import ComposedProblem
from accord.problems.pixels import first_channel, floats
from accord.problems.problem import Batch, Data, Examples, Metrics
from accord.problems.stored import Column, read

FILE = "mtl/mtfl/mtfl_train_40.npz"
SIDE = 40
COLUMNS = {
    "image": Column((SIDE, SIDE), "u", 0, 255),
    "landmarks": Column((10,), "f", 0, 1),
    "attributes": Column((4,), "u", 1, 5),
}
CLASSES = {"gender": 2, "smile": 2, "glasses": 2, "pose": 5}  # in the order of the attributes, which start at 1
TEST, VALIDATION = 0.2, 0.1  # of all faces; of the others
LEAST = 0.1  # the distance between the eyes counts as at least this much of the crop


@dataclass(frozen=True, repr=False)
class MTFL(ComposedProblem):
    """Find eyes, nose and corners of the mouth, and tell gender, smile, glasses and pose.

    | Task | Loss | Metric |
    |---|---|---|
    | landmarks | squared error in tenths of the crop | ``nme``: error over distance of the eyes; ``failures`` |
    | gender, smile | cross entropy | accuracy |
    | glasses | cross entropy | ``balanced``: mean of both recalls; accuracy |
    | pose | cross entropy, 5 classes | accuracy; ``balanced`` |

    86 % wear no glasses, so that accuracy hardly tells a model from a constant, and F1 would be 0 for all that never
    say "glasses"; the mean recall is one half for every constant. ``nme`` is the mean over faces of the mean distance
    of the five points from where they are, divided by the distance between the eyes. In a profile that distance
    shrinks, and it counts as a tenth of the crop at least; in these faces the smallest is 0.158. ``failures`` is the
    share of faces with an error above 0.1.

    The test part is fixed (one fifth of all faces, as the data's description says); one tenth of the others, drawn by
    the seed, is for validation. One person may be in two parts: names are not known.

    Data: Zhang, Luo, Loy & Tang 2014, https://doi.org/10.1007/978-3-319-10599-4_7; photographs of real people, research
    use with citation, not to be passed on or shown.

    Args:
        limit: at most so many faces in each part, drawn by the seed.
        epochs: passes over the training faces.
        batch: faces per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    limit: int = 1_000_000
    epochs: int = 8
    batch: int = 128
    lr: float = 2e-3

    name: ClassVar[str] = "mtfl"
    dataset: ClassVar[str] = "mtfl"
    tasks: ClassVar[tuple[str, ...]] = ("landmarks", *CLASSES)
    metric: ClassVar[dict[str, tuple[str, bool]]] = {
        "landmarks": ("nme", False),
        "gender": ("accuracy", True),
        "smile": ("accuracy", True),
        "glasses": ("balanced", True),
        "pose": ("accuracy", True),
    }

    @classmethod
    def tiny(cls) -> MTFL:
        """Four steps per epoch, two epochs."""
        return cls(encoder="conv(channels=4, layers=3)", limit=128, epochs=2, batch=32)

    def data(self, seed: int) -> Data:
        """Other faces for validation, for each seed."""
        tensors = _faces(find(FILE))
        count = len(tensors["image"])
        fitted, tested = np.split(np.random.default_rng(0).permutation(count), [count - round(TEST * count)])
        rng = np.random.default_rng(seeds.number(seed, "mtfl"))
        validated, trained = np.split(rng.permutation(fitted), [round(VALIDATION * len(fitted))])
        parts, origin = {}, {}
        for name, rows in {"train": trained, "validation": validated, "test": tested}.items():
            chosen = np.sort(rng.permutation(rows)[: self.limit])
            cut = {column: tensor[chosen] for column, tensor in tensors.items()}
            parts[name] = Examples(cut, self.batch if name == "train" else 500, _prepare)
            origin[name] = frozenset(chosen.tolist())
        return Data(parts["train"], parts["validation"], parts["test"], origin)

    def inputs(self) -> Form:
        """Grey images."""
        return Form("map", 1, (SIDE, SIDE))

    def heads(self) -> dict[str, Head]:
        """Ten coordinates, and the classes."""
        return {"landmarks": vector(10), **{task: vector(classes) for task, classes in CLASSES.items()}}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Means over the batch."""
        out = model(batch["image"])
        losses = {"landmarks": (out["landmarks"] - batch["landmarks"]).square().mean()}
        return losses | {task: cross_entropy(out[task], batch[task]) for task in CLASSES}

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """As in the table."""
        confused = {task: torch.zeros(k, k, dtype=torch.int64) for task, k in CLASSES.items()}  # (true, said)
        loss, errors = dict.fromkeys(self.tasks, 0.0), []
        for batch in batches:
            out = model(batch["image"])
            found, wanted = out["landmarks"].double(), batch["landmarks"].double()  # (N, 10) each
            errors.append(normalised_errors(found / 10, wanted / 10))
            loss["landmarks"] += float((found - wanted).square().mean(1).sum())
            for task, classes in CLASSES.items():
                loss[task] += float(cross_entropy(out[task].double(), batch[task], reduction="sum"))
                pairs = batch[task] * classes + out[task].argmax(1)  # (N,)
                confused[task] += torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
        error = torch.cat(errors)  # (N,)
        metrics = {"landmarks": {"nme": float(error.mean()), "failures": float((error > 0.1).double().mean())}}
        for task, table in confused.items():
            metrics[task] = {"accuracy": int(table.trace()) / int(table.sum()), "balanced": mean_recall(table)}
        for task, total in loss.items():
            metrics[task]["loss"] = total / len(error)
        return metrics


def normalised_errors(found: Tensor, wanted: Tensor) -> Tensor:
    """The mean distance of five points from where they are, over the distance between the eyes (at least ``LEAST``).

    Args:
        found: (N, 10) five x, then five y; the eyes come first.
        wanted: (N, 10) where they are, in the same unit, shares of the crop.

    Returns:
        (N,)

    Example:
        >>> eyes = torch.tensor([[0.0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0]])
        >>> normalised_errors(eyes + 0.1, eyes)  # 0.1 in x and in y
        tensor([0.2828])
    """
    offset = (found - wanted).unflatten(1, (2, 5))  # (N, 2, 5)
    eyes = wanted.unflatten(1, (2, 5))[:, :, :2]  # (N, 2, 2)
    apart = torch.linalg.vector_norm(eyes[:, :, 0] - eyes[:, :, 1], dim=1)  # (N,)
    return torch.linalg.vector_norm(offset, dim=1).mean(1) / apart.clamp(min=LEAST)


def mean_recall(confused: Tensor) -> float:
    """Balanced accuracy: the mean over the classes that occur of the share that was recognised.

    Args:
        confused: (C, C) counts by true class and by what was said.

    Example:
        >>> mean_recall(torch.tensor([[8, 2], [1, 1]]))
        0.65
    """
    occurring = confused.sum(1)  # (C,)
    seen = occurring > 0
    return float((confused.diagonal()[seen].double() / occurring[seen]).mean())


def _prepare(batch: Batch) -> Batch:
    return batch | {"image": floats(batch["image"])}


@cache
def _faces(path: Path) -> dict[str, Tensor]:
    """Columns of all faces."""
    stored = read(path, COLUMNS)
    attributes = stored["attributes"].astype(np.int64) - 1  # (N, 4)
    for column, (task, classes) in zip(attributes.T, CLASSES.items(), strict=True):
        if column.max() >= classes:
            raise AccordError(f"{path}: {task} goes up to {column.max() + 1}, expected 1 to {classes}.")
    landmarks = torch.from_numpy(stored["landmarks"].astype(np.float32))  # (N, 10)
    tensors = {
        "image": first_channel(np.asarray(stored["image"], np.uint8)),
        "landmarks": 10 * (landmarks - 0.5),  # tenths of the crop from its middle: as large as the other losses
    }
    return tensors | {task: torch.from_numpy(column.copy()) for task, column in zip(CLASSES, attributes.T, strict=True)}
