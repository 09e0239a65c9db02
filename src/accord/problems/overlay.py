"""Two digit images on one canvas: what ``digits`` and ``multimnist`` have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from accord.problems.problem import Examples

TASKS = ("left", "right", "sum")
CLASSES = {"left": 10, "right": 10, "sum": 19}
Images = NDArray[np.uint8]


def overlay(left: Images, right: Images, size: int) -> Images:
    """The pixel-wise maximum of one image at the top left and one at the bottom right.

    Args:
        left: (N, S, S).
        right: (N, S, S).
        size: of the canvas, at least S.

    Returns:
        (N, size, size).

    Example:
        >>> overlay(np.full((1, 2, 2), 5, np.uint8), np.full((1, 2, 2), 7, np.uint8), 3)[0]
        array([[5, 5, 0],
               [5, 7, 7],
               [0, 7, 7]], dtype=uint8)
    """
    count, side = len(left), left.shape[-1]
    canvas = np.zeros((count, size, size), np.uint8)  # (N, size, size)
    canvas[:, :side, :side] = left
    corner = canvas[:, size - side :, size - side :]  # a view
    np.maximum(corner, right, out=corner)
    return canvas


def composites(
    images: Images, labels: NDArray[np.integer], pool: Sequence[int] | NDArray[np.integer], count: int, size: int,
    full: int, batch: int, rng: np.random.Generator,
) -> Examples:  # fmt: skip
    """Draw pairs from a pool of scans and lay each over the other.

    Args:
        images: (M, S, S) all scans.
        labels: (M,) 0 to 9.
        pool: the scans that may be used.
        count: N, how many pairs.
        size: of the canvas.
        full: the pixel value that becomes 1.
        batch: size of the batches.
        rng: draws the pairs, with replacement.

    Returns:
        ``image`` (N, 1, size, size) in [0, 1], and the classes ``left``, ``right`` and ``sum`` (N,).
    """
    first, second = rng.choice(np.asarray(pool), (2, count))  # (N,) each
    image = torch.from_numpy(overlay(images[first], images[second], size)).float() / full  # (N, size, size)
    left, right = (torch.from_numpy(labels[chosen].astype(np.int64)) for chosen in (first, second))  # (N,) each
    return Examples({"image": image[:, None], "left": left, "right": right, "sum": left + right}, batch)
