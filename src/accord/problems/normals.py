"""Surface normals from depth: a plane is fitted around every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: the point ``(X, Y, Z)`` falls on column ``fx X / Z + cx`` and row ``fy Y / Z + cy``.

    ``X`` points to the right, ``Y`` down, ``Z`` into the scene.

    Args:
        fx: focal length in columns.
        fy: focal length in rows.
        cx: column of the optical axis; the centre of the first pixel is 0.
        cy: its row.
    """

    fx: float
    fy: float
    cx: float
    cy: float


def normals(depth: NDArray[np.generic], camera: Camera, window: int) -> Floats:
    """Unit normals that point towards the camera, of the plane that fits best within a window around each pixel.

    On a plane ``a X + b Y + c Z = 1`` the inverse depth is affine in the pixel, ``1 / Z = a x + b y + c`` with
    ``x = (column - cx) / fx`` and ``y = (row - cy) / fy``. The fit minimises the squared error of ``1 / Z`` over the
    window, of which only the part inside the image counts; the normal is ``-(a, b, c)``, normalised. Rows and columns
    of a rectangle are uncorrelated, so both slopes are fits along one axis, averaged along the other.

    Args:
        depth: (N, H, W), in any unit, greater than 0 everywhere.
        camera: of these pixels.
        window: side of the window in pixels, an odd number.

    Returns:
        (N, 3, H, W): to the right, down, into the scene; a wall that faces the camera has (0, 0, -1).

    Example:
        >>> wall = normals(np.full((1, 5, 7), 2.0), Camera(9.0, 9.0, 3.0, 2.0), 3)
        >>> bool(np.allclose(wall[0, :, 2, 3], [0, 0, -1]))
        True
    """
    inverse = 1 / np.asarray(depth, np.float64)  # (N, H, W)
    rows, columns = inverse.shape[1:]
    mean_row, slope_row = _fits(rows, window)  # (H, H) each
    mean_column, slope_column = _fits(columns, window)  # (W, W) each
    averaged = mean_row @ inverse  # (N, H, W) over the rows of the window
    right = averaged @ slope_column.T  # (N, H, W) slope of 1 / Z by column
    down = slope_row @ inverse @ mean_column.T  # (N, H, W) by row
    # the fit passes through the mean at the middle of the window: from there to the optical axis
    there_row, there_column = mean_row @ np.arange(rows), mean_column @ np.arange(columns)  # (H,), (W,)
    ahead = averaged @ mean_column.T + right * (camera.cx - there_column) + down * (camera.cy - there_row[:, None])
    found = -np.stack([right * camera.fx, down * camera.fy, ahead], axis=1)  # (N, 3, H, W)
    return np.asarray(found / np.sqrt(np.square(found).sum(1, keepdims=True)))


def _fits(size: int, window: int) -> tuple[Floats, Floats]:
    """What makes of the values on a line the mean and the slope of a fit around each place; (size, size) each."""
    place = np.arange(size)
    inside = (abs(place - place[:, None]) <= window // 2).astype(np.float64)  # (size, size)
    mean = inside / inside.sum(1, keepdims=True)
    centred = inside * (place - (mean @ place)[:, None])
    return mean, centred / np.square(centred).sum(1, keepdims=True)
