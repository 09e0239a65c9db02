"""Pixels: bytes to floats, area averaging against plain loops; what was decoded once is found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.problems import decoded
from accord.problems.pixels import CHUNK, first_channel, floats, overlaps, resized


def covered(low: float, high: float, pixel: int) -> float:
    """The length of [low, high] inside [pixel, pixel + 1]."""
    return max(0.0, min(high, pixel + 1) - max(low, pixel))


def slow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area averaging of one image (H, W), pixel by pixel."""
    height, width = image.shape
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            total = 0.0
            for y in range(height):
                tall = covered(i * height / size[0], (i + 1) * height / size[0], y)
                for x in range(width):
                    wide = covered(j * width / size[1], (j + 1) * width / size[1], x)
                    total += tall * wide * float(image[y, x])
            out[i, j] = total * size[0] * size[1] / (height * width)
    return out


@pytest.mark.parametrize("size", [(3, 2), (4, 4), (7, 5), (9, 11)])
def test_resizing_is_the_mean_over_areas(size):
    image = np.random.default_rng(0).integers(0, 256, (7, 5), np.uint8)
    assert np.abs(resized(image[None], size)[0] - slow(image, size)).max() <= 0.5 + 1e-3  # rounding to bytes


def test_channels_and_images_are_resized_apart():
    images = np.random.default_rng(1).integers(0, 256, (CHUNK + 3, 6, 8, 3), np.uint8)
    together = resized(images, (3, 4))
    assert together.shape == (CHUNK + 3, 3, 4, 3)
    for row in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        for channel in range(3):
            assert np.array_equal(together[row, ..., channel], resized(images[row : row + 1, ..., channel], (3, 4))[0])


def test_the_same_size_changes_nothing():
    images = np.random.default_rng(2).integers(0, 256, (2, 5, 5), np.uint8)
    assert resized(images, (5, 5)) is images


@given(st.integers(1, 40), st.integers(1, 40))
def test_shares_of_intervals_are_complete(before, after):
    shares = overlaps(before, after)
    assert shares.shape == (after, before)
    assert (shares >= 0).all()
    assert np.allclose(shares.sum(1), 1)
    assert np.allclose(shares.sum(0), after / before)  # every old interval counts as much as any other


def test_bytes_become_floats_between_minus_one_and_one():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.allclose(floats(values), torch.linspace(-1, 1, 256), atol=1e-6)
    assert values[255] == 255, "the bytes were changed in place"


def test_channels_first():
    images = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    assert first_channel(images)[0, 2, 1, 3] == images[0, 1, 3, 2]
    assert first_channel(images[..., 0]).shape == (1, 1, 2, 4)


def test_what_was_made_once_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = []

    def write(path):
        made.append(path)
        decoded.save(path, (3, 2), [np.full((2, 2), 7, np.uint8), np.full((1, 2), 9, np.uint8)])

    for _ in range(2):
        assert decoded.kept("x", ["key", 1], write).tolist() == [[7, 7], [7, 7], [9, 9]]
    assert len(made) == 1
    decoded.kept("x", ["key", 2], write)
    assert len(made) == 2
    (first, *_) = sorted((tmp_path / ".cache" / "accord" / "decoded").glob("*.npy"))
    first.write_bytes(first.read_bytes()[:-1])  # spoiled
    for key in (1, 2):
        assert decoded.kept("x", ["key", key], write)[2, 1] == 9
    assert len(made) == 3


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(path):
        path.write_bytes(b"half")
        raise AccordError("no")

    with pytest.raises(AccordError, match="no"):
        decoded.kept("x", [], write)
    assert not list((tmp_path / ".cache" / "accord" / "decoded").iterdir())


def test_changing_what_is_mapped_changes_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(path):
        decoded.save(path, (2,), [np.zeros(2, np.uint8)])

    decoded.kept("x", [], write)[0] = 1
    assert decoded.kept("x", [], write)[0] == 0


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(AccordError, match="cannot be written") as error:
        decoded.kept("x", [], lambda path: None)
    assert "\n" not in str(error.value)
