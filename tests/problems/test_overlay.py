"""The images of `digits` against a slow construction, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from accord.problems import Digits
from accord.problems.overlay import overlay


def test_overlay_is_the_pixelwise_maximum():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 17, (2, 3, 8, 8)).astype(np.uint8)
    canvas = overlay(left, right, 12)
    for n in range(3):
        for row in range(12):
            for column in range(12):
                a = left[n, row, column] if row < 8 and column < 8 else 0
                b = right[n, row - 4, column - 4] if row >= 4 and column >= 4 else 0
                assert canvas[n, row, column] == max(a, b)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_image_is_two_scans_of_its_own_part_with_their_labels(part):
    problem = Digits.tiny()
    data, bundled = problem.data(5), load_digits()
    pool = np.array(sorted(data.origin[part]))
    tensors = getattr(data, part).tensors
    assert tensors["image"].shape == (getattr(problem, part), 1, 12, 12)
    assert tensors["image"].min() == 0
    assert tensors["image"].max() == 1
    assert (tensors["left"] + tensors["right"] == tensors["sum"]).all()
    for image, left, right in zip(
        tensors["image"][:20, 0].numpy() * 16, tensors["left"], tensors["right"], strict=False
    ):
        # outside the overlap each scan is visible as it is; rows 0 to 3 and 8 to 11 belong to one scan only
        found = {}
        for name, rows, own in (("left", image[:4, :8], slice(0, 4)), ("right", image[8:, 4:], slice(4, 8))):
            same = (bundled.images[pool][:, own] == rows).all((1, 2))
            assert same.any()
            found[name] = set(bundled.target[pool][same].tolist())
        assert int(left) in found["left"]
        assert int(right) in found["right"]


def test_every_class_of_each_task_occurs():
    train = Digits().data(0).train.tensors
    assert sorted(set(train["left"].tolist())) == sorted(set(train["right"].tolist())) == list(range(10))
    assert sorted(set(train["sum"].tolist())) == list(range(19))
