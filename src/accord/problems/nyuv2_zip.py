"""The archive of small NYUv2 images: read, checked, cut to the part without frame, reduced, with normals."""

from __future__ import annotations

import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError
from accord.problems.normals import Camera, normals

STORED = (144, 192)
ROWS, COLUMNS = slice(3, 142), slice(4, 189)  # without the white frame: 139 x 185 pixels
CAMERA = Camera(fx=155.66, fy=155.84, cx=97.3 - COLUMNS.start, cy=75.8 - ROWS.start)
METRE = 25.5  # value of one metre
CLASSES = 13
WINDOW = 11  # pixels: steps of 3.9 cm in depth show as stripes in smaller ones, larger ones round off furniture
CHUNK = 32  # images made at a time
KINDS = {"rgb.jpg": "RGB", "depth.png": "L", "seg13.png": "L"}
MEMBER = re.compile(r"(train|test)/(\d{4})_(rgb\.jpg|depth\.png|seg13\.png)")
Bytes = NDArray[np.uint8]
Arrays = dict[str, NDArray[np.generic]]


@lru_cache(maxsize=4)
def listing(path: Path) -> dict[str, tuple[int, ...]]:
    """The numbers of the images of the parts ``train`` and ``test``.

    Args:
        path: an archive with ``{train,test}/NNNN_{rgb.jpg,depth.png,seg13.png}``.

    Raises:
        AccordError: if it is no such archive, or an image lacks one of the three.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise AccordError(f"{path} cannot be read as a zip archive ({error}); get it anew.") from None
    kinds: dict[tuple[str, int], set[str]] = {}
    for match in filter(None, map(MEMBER.fullmatch, names)):
        kinds.setdefault((match[1], int(match[2])), set()).add(match[3])
    for (part, number), found in sorted(kinds.items()):
        if found != set(KINDS):
            missing = min(set(KINDS) - found)
            raise AccordError(f"{path} lacks {part}/{number:04d}_{missing}; get it anew.")
    parts = {part: tuple(number for name, number in sorted(kinds) if name == part) for part in ("train", "test")}
    empty = next((part for part, numbers in parts.items() if not numbers), None)
    if empty:
        raise AccordError(f"{path} holds no image {empty}/NNNN_rgb.jpg; expected the parts train and test.")
    return parts


@lru_cache(maxsize=2)
def images(path: Path, members: tuple[tuple[str, int], ...], size: tuple[int, int]) -> Arrays:
    """Images with their targets, in the order asked for.

    Colours are averaged over areas; labels and depth are those of the nearest pixel; normals come from the depth at
    its stored size, by ``accord.problems.normals``, and are averaged over areas and normalised.

    Args:
        path: the archive.
        members: part and number of each image.
        size: (H, W) of the results.

    Returns:
        ``image`` (N, 3, H, W), ``segmentation`` (N, H, W) with 0 for no label, ``depth`` (N, 1, H, W) in 1 / ``METRE``
        metres, all uint8; ``normals`` (N, 3, H, W) float16.

    Raises:
        AccordError: if a picture is damaged, has another size, a label out of range or a depth of 0.
    """
    height, width = size
    before = ROWS.stop - ROWS.start, COLUMNS.stop - COLUMNS.start
    down, across = area(before[0], height), area(before[1], width)  # (H, 139), (W, 185)
    row, column = np.ix_(nearest_places(before[0], height), nearest_places(before[1], width))
    count = len(members)
    image, segmentation = np.empty((count, 3, height, width), np.uint8), np.empty((count, height, width), np.uint8)
    depth, direction = np.empty((count, 1, height, width), np.uint8), np.empty((count, 3, height, width), np.float16)
    with zipfile.ZipFile(path) as archive:
        for start in range(0, count, CHUNK):
            read = [_three(archive, path, part, number) for part, number in members[start : start + CHUNK]]
            colours, deep, labels = (np.stack(kind)[:, ROWS, COLUMNS] for kind in zip(*read, strict=True))
            some = slice(start, start + len(read))
            smooth = down @ colours.transpose(0, 3, 1, 2).astype(np.float32, order="C") @ across.T  # (n, 3, H, W)
            image[some] = np.rint(smooth)
            segmentation[some], depth[some, 0] = labels[:, row, column], deep[:, row, column]
            found = down @ normals(deep, CAMERA, WINDOW).astype(np.float32) @ across.T  # (n, 3, H, W)
            direction[some] = found / np.sqrt(np.square(found).sum(1, keepdims=True))
    return {"image": image, "segmentation": segmentation, "depth": depth, "normals": direction}


def _three(archive: zipfile.ZipFile, path: Path, part: str, number: int) -> list[Bytes]:
    """Colours (144, 192, 3), depth (144, 192) and labels (144, 192) of one image."""
    colours, deep, labels = (_picture(archive, path, f"{part}/{number:04d}_{kind}", kind) for kind in KINDS)
    if labels.max() > CLASSES:
        name = f"{part}/{number:04d}_seg13.png"
        raise AccordError(f"{path}: {name} has the label {labels.max()}, expected 0 to {CLASSES}; get it anew.")
    if not deep[ROWS, COLUMNS].all():
        raise AccordError(f"{path}: {part}/{number:04d}_depth.png has a depth of 0, expected 1 to 255; get it anew.")
    return [colours, deep, labels]


def _picture(archive: zipfile.ZipFile, path: Path, name: str, kind: str) -> Bytes:
    from PIL import Image, UnidentifiedImageError

    try:
        with archive.open(name) as file, Image.open(file) as picture:
            if (picture.height, picture.width) != STORED or picture.mode != KINDS[kind]:
                raise AccordError(
                    f"{path}: {name} has {picture.height} x {picture.width} pixels of mode {picture.mode}, expected "
                    f"{STORED[0]} x {STORED[1]} of mode {KINDS[kind]}."
                )
            return np.asarray(picture)
    except (OSError, SyntaxError, zlib.error, zipfile.BadZipFile, UnidentifiedImageError) as error:
        raise AccordError(f"{path}: {name} is damaged ({error}); get the archive anew.") from None


def area(before: int, after: int) -> NDArray[np.float32]:
    """(after, before) what averages a line of pixels over the areas of fewer, or more, pixels.

    Example:
        >>> area(3, 2) * 3
        array([[2., 1., 0.],
               [0., 1., 2.]], dtype=float32)
    """
    edge = np.arange(after + 1)[:, None] * before / after  # (after + 1, 1) in pixels of the line
    start = np.arange(before)  # (before,)
    overlap = np.minimum(edge[1:], start + 1) - np.maximum(edge[:-1], start)  # (after, before)
    return (np.maximum(overlap, 0) * after / before).astype(np.float32)


def nearest_places(before: int, after: int) -> NDArray[np.intp]:
    """(after,) the pixels of a line in whose areas the centres of fewer, or more, pixels fall.

    Example:
        >>> nearest_places(9, 3)
        array([1, 4, 7])
    """
    return (2 * np.arange(after) + 1) * before // (2 * after)
