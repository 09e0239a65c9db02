"""Crops at random scales and mirror images, as training data for dense prediction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from accord.problems.problem import Batch

SCALES = (1.0, 1.2, 1.5)


def crop_flip(batch: Batch, generator: torch.Generator) -> Batch:
    """Cut a window out of each image, enlarge it to the full size, and mirror it or not, together with its targets.

    The window has ``1 / s`` of height and width, with s drawn from 1, 1.2 and 1.5, at a place drawn at random; depth
    is divided by s, as if one stood nearer. Half of the images are mirrored left to right; their normals then point to
    the other side. Images and normals are interpolated (bilinear, corners aligned), classes and depth taken from the
    nearest pixel. Each image has its own draw; all of a batch are made at once.

    Source: Vandenhende et al. 2021, https://arxiv.org/abs/2004.13379; the settings of Liu et al. 2021 (CAGrad),
    https://arxiv.org/abs/2110.14048.

    Args:
        batch: ``image`` (N, 3, H, W), ``segmentation`` (N, H, W), ``depth`` (N, 1, H, W), and where there are any
            ``normals`` (N, 3, H, W).
        generator: makes all draws.

    Returns:
        The same names and shapes; what was interpolated or divided is float32.

    Example:
        >>> depth = torch.full((2, 1, 6, 6), 3.0)
        >>> batch = {"image": torch.rand(2, 3, 6, 6), "segmentation": torch.zeros(2, 6, 6), "depth": depth}
        >>> found = crop_flip(batch, torch.Generator().manual_seed(0))
        >>> set(found["depth"].unique().tolist()) <= {3.0, 2.5, 2.0}
        True
    """
    count, _, height, width = batch["image"].shape
    scale = torch.tensor(SCALES, dtype=torch.float64)[torch.randint(len(SCALES), (count,), generator=generator)]  # (N,)
    # double: a float just below 1 could be rounded up to a place outside
    down, across = torch.rand(2, count, generator=generator, dtype=torch.float64)  # (N,) each
    mirrored = torch.rand(count, generator=generator) < 0.5  # (N,)
    row, nearest_row = _places(height, scale, down)  # (N, H) each
    column, nearest_column = (
        torch.where(mirrored[:, None], places.flip(1), places) for places in _places(width, scale, across)
    )  # (N, W) each

    smooth = [name for name in ("image", "normals") if name in batch]
    stacked = torch.cat([batch[name].float() for name in smooth], 1)  # (N, 3 or 6, H, W)
    x = (2 * column / (width - 1) - 1)[:, None].expand(-1, height, -1)  # (N, H, W), -1 to 1
    y = (2 * row / (height - 1) - 1)[:, :, None].expand(-1, -1, width)  # (N, H, W)
    grid = torch.stack([x, y], 3).float()  # (N, H, W, 2)
    sampled = grid_sample(stacked, grid, padding_mode="border", align_corners=True)  # (N, 3 or 6, H, W)
    found = dict(zip(smooth, sampled.split(3, 1), strict=True))
    if "normals" in found:
        side = torch.where(mirrored, -1.0, 1.0)[:, None, None]  # (N, 1, 1)
        found["normals"] = torch.cat([found["normals"][:, :1] * side[:, None], found["normals"][:, 1:]], 1)

    image = torch.arange(count)[:, None, None]  # (N, 1, 1)
    place = image, nearest_row[:, :, None], nearest_column[:, None, :]
    depth = batch["depth"][:, 0][place] / scale[:, None, None].float()  # (N, H, W)
    return {**batch, **found, "segmentation": batch["segmentation"][place], "depth": depth[:, None]}


def _places(size: int, scale: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels of an enlarged window come from along one axis: in fractions, and the nearest; (N, size) each.

    Args:
        size: of the axis.
        scale: (N,) by how much the window is smaller.
        where: (N,) from 0 to 1, its place.
    """
    length = (size / scale).long()  # (N,)
    first = (where * (size - length + 1)).long()  # (N,)
    place = torch.arange(size)
    smooth = first[:, None] + place * ((length - 1) / (size - 1))[:, None]  # (N, size)
    return smooth, first[:, None] + place * length[:, None] // size
