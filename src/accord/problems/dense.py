"""Losses and metrics of dense prediction: a class, a depth and a surface normal for every pixel.

All are pooled over the valid pixels of all images, so that they do not depend on how images are cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accord.problems.problem import Batch, Metrics

IGNORE = -1  # class of pixels without label
MEASURES: dict[str, dict[str, bool]] = {  # task -> measure -> whether higher is better
    "segmentation": {"miou": True, "pixel_accuracy": True},
    "depth": {"abs_error": False, "rel_error": False},
    "normals": {"mean_angle": False, "median_angle": False, "within_11": True, "within_22": True, "within_30": True},
}
METRIC = {task: next(iter(measures.items())) for task, measures in MEASURES.items()}
WITHIN = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}  # degrees


def unit(direction: Tensor) -> Tensor:
    """Vectors of length 1; those of length 0 stay 0.

    Args:
        direction: (N, 3, H, W).

    Example:
        >>> unit(torch.tensor([0.0, 3.0, -4.0]).view(1, 3, 1, 1)).flatten()
        tensor([ 0.0000,  0.6000, -0.8000])
    """
    # not by torch.norm, which takes a hundred times as long over three channels on a CPU
    return direction * direction.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt()


def segmentation_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean negative log-likelihood of the labelled pixels; 0 if there are none.

    Args:
        logits: (N, C, H, W).
        label: (N, H, W), classes from 0, or ``IGNORE``.

    Example:
        >>> segmentation_loss(torch.zeros(1, 4, 1, 2), torch.tensor([[[3, IGNORE]]])).exp()
        tensor(4.)
    """
    total = cross_entropy(logits, label, ignore_index=IGNORE, reduction="sum")
    return total / (label != IGNORE).sum().clamp(min=1)


def depth_loss(depth: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error where the target is not 0; 0 if it is 0 everywhere.

    Args:
        depth: (N, 1, H, W).
        target: (N, 1, H, W), 0 where there is none.

    Example:
        >>> depth_loss(torch.tensor([[[[3.0, 9.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
        tensor(2.)
    """
    valid = target != 0
    return ((depth - target).abs() * valid).sum() / valid.sum().clamp(min=1)


def normals_loss(direction: Tensor, target: Tensor) -> Tensor:
    """``1 - mean cosine`` of the angle between predicted and true normals; 0 if there are no true ones.

    Args:
        direction: (N, 3, H, W), of any length.
        target: (N, 3, H, W), of length 1, or 0 where there is none.

    Example:
        >>> normals_loss(torch.tensor([0.0, 0.0, -5.0]).view(1, 3, 1, 1), torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1))
        tensor(0.)
    """
    valid = target.any(1)  # (N, H, W)
    missing = 1 - (unit(direction) * target).sum(1)  # (N, H, W)
    return (missing * valid).sum() / valid.sum().clamp(min=1)


def losses(model: nn.Module, batch: Batch, tasks: Iterable[str]) -> dict[str, Tensor]:
    """The losses by task, for a batch with ``image (N, 3, H, W)`` and the targets under the names of the tasks."""
    each = {"segmentation": segmentation_loss, "depth": depth_loss, "normals": normals_loss}
    found = model(batch["image"])
    return {task: each[task](found[task], batch[task]) for task in tasks}


def confusion(logits: Tensor, label: Tensor) -> Tensor:
    """(C, C) how many pixels of each class (rows) were taken for which (columns), without those to ignore.

    Args:
        logits: (N, C, H, W).
        label: (N, H, W).

    Example:
        >>> confusion(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]), torch.tensor([[[0, 0]]]))
        tensor([[1, 1],
                [0, 0]])
    """
    classes, valid = logits.shape[1], label != IGNORE
    pairs = classes * label[valid] + logits.max(1).indices[valid]  # argmax takes five times as long
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def segmentation_measures(counts: Tensor) -> dict[str, float]:
    """Mean intersection over union, of the classes that occur in labels or predictions, and share of right pixels.

    Args:
        counts: (C, C) from ``confusion``.

    Example:
        >>> segmentation_measures(torch.tensor([[1, 1], [0, 2]]))["pixel_accuracy"]
        0.75
    """
    counts = counts.double()
    right = counts.diag()  # (C,)
    union = counts.sum(0) + counts.sum(1) - right  # (C,)
    return {
        "miou": float((right / union)[union > 0].mean()),  # nan where nothing is labelled at all
        "pixel_accuracy": float(right.sum() / counts.sum()),
    }


def angles(direction: Tensor, target: Tensor) -> Tensor:
    """(M,) angles in degrees between predicted and true normals, of the M pixels that have a true one.

    ``2 atan2(|a - b|, |a + b|)`` of unit vectors a and b, which near 0 is far more exact than the arc cosine.

    Args:
        direction: (N, 3, H, W), of any length.
        target: (N, 3, H, W), of length 1, or 0 where there is none.

    Example:
        >>> angles(torch.tensor([0.0, 2.0, 0.0]).view(1, 3, 1, 1), torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1))
        tensor([90.])
    """
    found = unit(direction)  # (N, 3, H, W)
    apart, along = ((found + sign * target).square().sum(1).sqrt() for sign in (-1, 1))  # (N, H, W) each
    angle = 2 * torch.atan2(apart, along)  # (N, H, W)
    return torch.rad2deg(angle[target.any(1)])


def normals_measures(angle: Tensor) -> dict[str, float]:
    """Mean and median angle in degrees, and the shares of pixels below 11.25, 22.5 and 30 degrees.

    Args:
        angle: (M,) from ``angles``.

    Example:
        >>> normals_measures(torch.tensor([10.0, 20.0, 60.0]))["median_angle"]
        20.0
    """
    found = angle.numpy(force=True)
    if not found.size:
        return dict.fromkeys(MEASURES["normals"], float("nan"))
    shares = {name: float((found < limit).mean()) for name, limit in WITHIN.items()}
    return {"mean_angle": float(found.mean(dtype=np.float64)), "median_angle": float(np.median(found)), **shares}


@torch.no_grad()
def metrics(model: nn.Module, batches: Iterable[Batch], tasks: Iterable[str]) -> Metrics:
    """All measures and the loss of each task, over the valid pixels of all batches; nan where there are none.

    Args:
        model: outputs by task of images.
        batches: as for ``losses``.
        tasks: of ``segmentation``, ``depth`` and ``normals`` those that there are.
    """
    tasks = tuple(tasks)
    counts: Tensor | None = None  # (C, C)
    likelihood = 0.0
    depth = np.zeros(3)  # sums of absolute and relative errors, number of pixels
    angle: list[Tensor] = []  # (M,) each
    for batch in batches:
        found = model(batch["image"])
        if "segmentation" in tasks:
            logits, label = found["segmentation"], batch["segmentation"]
            several = confusion(logits, label)
            counts = several if counts is None else counts + several
            likelihood += float(segmentation_loss(logits, label)) * int(several.sum())
        if "depth" in tasks:
            depth += depth_sums(found["depth"], batch["depth"])
        if "normals" in tasks:
            angle.append(angles(found["normals"], batch["normals"]))
    result: Metrics = {}
    if counts is not None:
        result["segmentation"] = {**segmentation_measures(counts), "loss": _ratio(likelihood, int(counts.sum()))}
    if "depth" in tasks:
        error, relative, pixels = map(float, depth)
        error, relative = _ratio(error, pixels), _ratio(relative, pixels)
        result["depth"] = {"abs_error": error, "rel_error": relative, "loss": error}
    if "normals" in tasks:
        pooled = torch.cat(angle)
        loss = 1 - float(torch.deg2rad(pooled).cos().mean(dtype=torch.float64))
        result["normals"] = {**normals_measures(pooled), "loss": loss}
    return result


def depth_sums(depth: Tensor, target: Tensor) -> tuple[float, float, int]:
    """Sums of absolute and of relative errors over the pixels whose target is not 0, and how many these are.

    Args:
        depth: (N, 1, H, W).
        target: (N, 1, H, W), 0 where there is none.

    Example:
        >>> depth_sums(torch.tensor([3.0, 9.0]).view(1, 1, 1, 2), torch.tensor([2.0, 0.0]).view(1, 1, 1, 2))
        (1.0, 0.5, 1)
    """
    valid = target != 0
    true = target[valid].double()  # (M,)
    error = (depth[valid] - true).abs()  # (M,)
    return float(error.sum()), float((error / true).sum()), error.numel()


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
