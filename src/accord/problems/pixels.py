"""Pixels as bytes: to floats, one batch at a time, and to smaller images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 256  # images that are floats at once


def floats(images: Tensor) -> Tensor:
    """Bytes 0..255 as floats -1..1.

    Args:
        images: (N, ...) bytes.

    Returns:
        (N, ...) floats.

    Example:
        >>> floats(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    return images.float().div_(127.5).sub_(1)


def overlaps(before: int, after: int) -> NDArray[np.float32]:
    """How much each of ``after`` equal intervals consists of each of ``before`` ones: rows sum to 1.

    Args:
        before: number of intervals now.
        after: number of intervals wanted.

    Returns:
        (after, before) shares.

    Example:
        >>> overlaps(3, 2) * 3
        array([[2., 1., 0.],
               [0., 1., 2.]], dtype=float32)
    """
    old = np.arange(before) / before  # (before,) where each begins
    new = np.arange(after)[:, None] / after  # (after, 1)
    ends = np.minimum(old + 1 / before, new + 1 / after)  # (after, before)
    shares = np.clip(ends - np.maximum(old, new), 0, None) * after
    shares[shares < 1e-9] = 0  # intervals that only touch
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Area averaging: each new pixel is the mean of the area that it covers, pixels at the rim by their share.

    Args:
        images: (N, H, W) or (N, H, W, C) bytes.
        size: new height and width.

    Returns:
        (N, *size) or (N, *size, C) bytes.

    Example:
        >>> resized(np.array([[[0, 100], [200, 100]]], np.uint8), (1, 1))
        array([[[100]]], dtype=uint8)
    """
    if images.shape[1:3] == size:
        return images
    count, height, width = images.shape[:3]
    rows, columns = overlaps(height, size[0]), overlaps(width, size[1])
    out = np.empty((count, *size, *images.shape[3:]), np.uint8)
    for begin in range(0, count, CHUNK):
        part = images[begin : begin + CHUNK].astype(np.float32)
        flat = rows @ part.reshape(len(part), height, -1)  # (n, h, W C)
        # channels stay innermost: (n h, W, C) -> (n h, w, C)
        narrow = columns @ flat.reshape(len(part) * size[0], width, -1)
        out[begin : begin + CHUNK] = np.rint(narrow).reshape(len(part), *out.shape[1:])
    return out


def first_channel(images: NDArray[np.uint8]) -> Tensor:
    """(N, C, H, W) bytes of (N, H, W, C), or (N, 1, H, W) of (N, H, W), as convolutions take them.

    Example:
        >>> first_channel(np.zeros((2, 5, 6, 3), np.uint8)).shape
        torch.Size([2, 3, 5, 6])
    """
    moved = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(moved))
