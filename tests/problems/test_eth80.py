"""ETH-80: whole objects in each part, angles that wrap, views without azimuth, wrong files."""

from __future__ import annotations

import cmath
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.data import VARIABLE, find
from accord.errors import AccordError
from accord.problems.eth80 import ELEVATIONS, ETH80, FILE, ROUND, angular_error

BESIDE = Path(__file__).parents[3] / "shared" / "data"
VIEWS = ((0, 0), (22, 90), (66, 333), (68, 180), (90, 0))  # elevation, azimuth


def stored() -> dict[str, np.ndarray]:
    """Images in the layout of the data: 8 categories, 10 objects each, five views."""
    rng = np.random.default_rng(0)
    category, instance, view = (axis.ravel() for axis in np.indices((8, 10, len(VIEWS))))
    count = len(category)
    elevation, azimuth = (np.array(column)[view].astype(np.int16) for column in zip(*VIEWS, strict=True))
    return {
        "image": rng.integers(1, 256, (count, 64, 64, 3), np.uint8),
        "mask": rng.integers(0, 256, (count, 512), np.uint8),
        "category": category.astype(np.uint8),
        "instance": instance.astype(np.uint8),
        "elevation": elevation,
        "azimuth": azimuth,
    }


def put(folder, arrays) -> None:
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path))
    return tmp_path


def only(data, part: str) -> dict[str, torch.Tensor]:
    """A whole part as one batch."""
    examples = getattr(data, part)
    batches = list(examples)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


class Says(torch.nn.Module):
    """A model that says the same whatever it sees."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in outputs.items()})

    def forward(self, image):
        return {name: value[: len(image)] for name, value in self.outputs.items()}


def guesses(count: int, size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"category": (8,), "elevation": (7,), "azimuth": (2,), "silhouette": (1, size, size)}
    return {task: torch.randn(count, *shape, generator=generator) for task, shape in shapes.items()}


def test_parts_are_whole_objects(place):
    put(place, stored())
    seen = []
    for seed in range(5):
        origin = ETH80().data(seed).origin
        assert origin["test"] == {10 * category + instance for category in range(8) for instance in (8, 9)}
        assert sorted(each // 10 for each in origin["validation"]) == list(range(8))  # one of each category
        assert all(each % 10 < 8 for each in origin["validation"] | origin["train"])
        assert len(origin["train"]) == 8 * 7
        assert not origin["train"] & origin["validation"]
        seen.append(origin["validation"])
    assert len(set(seen)) > 1
    data = ETH80().data(0)
    assert [len(only(data, part)["category"]) for part in ("train", "validation", "test")] == [280, 40, 80]


def test_columns_stay_together(place):
    arrays = stored()
    arrays["image"][:, 0, 0, 0] = arrays["category"]
    arrays["image"][:, 0, 0, 1] = arrays["azimuth"] // 2
    arrays["image"][:, 0, 0, 2] = arrays["elevation"]
    put(place, arrays)
    batch = only(ETH80(limit=100).data(0), "train")
    assert len(batch["category"]) == 100
    corner = ((batch["image"][:, :, 0, 0] + 1) * 127.5).round().long()  # (N, 3)
    assert torch.equal(corner[:, 0], batch["category"])
    assert torch.equal(corner[:, 1], batch["azimuth"].long() // 2)
    assert torch.equal(corner[:, 2], torch.tensor(ELEVATIONS)[batch["elevation"]])
    assert torch.equal(batch["sideways"], corner[:, 2] > 0)


def test_silhouettes_are_the_packed_bits(place):
    arrays = stored()
    put(place, arrays)
    mask = only(ETH80().data(0), "test")["silhouette"]
    rows = np.isin(arrays["instance"], (8, 9)).nonzero()[0]
    for k, y, x in ((0, 0, 0), (3, 10, 7), (79, 63, 63), (40, 5, 62)):
        bit = y * 64 + x
        packed = int(arrays["mask"][rows[k], bit // 8])
        assert mask[k, y, x] == packed >> (7 - bit % 8) & 1


def test_smaller_images_are_means_and_majorities(place):
    arrays = stored()
    put(place, arrays)
    whole, half = (only(ETH80(size=size).data(0), "test") for size in (64, 32))
    blocks = whole["silhouette"].unflatten(1, (32, 2)).unflatten(3, (32, 2)).mean((2, 4))
    assert torch.equal(half["silhouette"], (blocks >= 0.5).float())
    means = whole["image"].unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert torch.allclose(half["image"], means, atol=1.01 / 255)  # bytes are rounded


def test_angles_wrap():
    degrees = torch.tensor([350.0, 10.0, 180.0, 0.0, 90.0])
    said = torch.tensor([10.0, 350.0, 0.0, 180.0, 271.0])
    vectors = 3 * torch.stack([torch.deg2rad(said).sin(), torch.deg2rad(said).cos()], 1)
    expected = torch.tensor([20.0, 20.0, 180.0, 180.0, 179.0])
    assert torch.allclose(angular_error(vectors, degrees), expected, atol=1e-3)
    generator = torch.Generator().manual_seed(0)
    vectors, degrees = torch.randn(200, 2, generator=generator).double(), 360 * torch.rand(200, generator=generator)
    for (sine, cosine), true, error in zip(
        vectors.tolist(), degrees.tolist(), angular_error(vectors, degrees.double()), strict=True
    ):
        turned = complex(cosine, sine) * cmath.exp(-1j * math.radians(true))
        assert float(error) == pytest.approx(abs(math.degrees(cmath.phase(turned))), abs=1e-6)


def test_views_from_above_get_no_gradient_of_the_azimuth(place):
    put(place, stored())
    problem = ETH80(size=16)
    batch = only(problem.data(0), "test")
    model = Says(guesses(80, 16))
    problem.losses(model, batch)["azimuth"].backward()
    gradient = model.outputs["azimuth"].grad.abs().sum(1) > 0  # (N,)
    assert torch.equal(gradient, batch["elevation"] > 0)
    assert 0 < gradient.sum() < 80


def test_a_batch_from_above_alone_has_no_azimuth(place):
    put(place, stored())
    problem = ETH80(size=16)
    batch = only(problem.data(0), "test")
    above = {name: value[batch["elevation"] == 0] for name, value in batch.items()}
    losses = problem.losses(Says(guesses(80, 16)), above)
    assert losses["azimuth"] == 0
    assert all(loss.isfinite() for loss in losses.values())


def test_losses_and_metrics_against_loops(place):
    put(place, stored())
    problem = ETH80(size=8)
    batch = only(problem.data(0), "test")
    count, outputs = 80, guesses(80, 8)
    found = {name: value.double().numpy() for name, value in outputs.items()}
    sums = dict.fromkeys(("category", "elevation", "azimuth", "silhouette", "tilt", "inter", "union"), 0.0)
    right, turns, rounds, sideways = {"category": 0, "elevation": 0}, [], [], 0
    for i in range(count):
        for task in ("category", "elevation"):
            logits, wanted = found[task][i], int(batch[task][i])
            sums[task] += math.log(sum(math.exp(value) for value in logits)) - logits[wanted]
            right[task] += int(np.argmax(logits)) == wanted
        said = ELEVATIONS[int(np.argmax(found["elevation"][i]))]
        sums["tilt"] += abs(said - ELEVATIONS[int(batch["elevation"][i])])
        if ELEVATIONS[int(batch["elevation"][i])] > 0:
            sideways += 1
            true = math.radians(float(batch["azimuth"][i]))
            sine, cosine = found["azimuth"][i]
            sums["azimuth"] += ((sine - math.sin(true)) ** 2 + (cosine - math.cos(true)) ** 2) / 2
            inner = (sine * math.sin(true) + cosine * math.cos(true)) / math.hypot(sine, cosine)
            turn = math.degrees(math.acos(max(-1.0, min(1.0, inner))))
            (rounds if int(batch["category"][i]) in ROUND else turns).append(turn)
        for y in range(8):
            for x in range(8):
                logit, true = found["silhouette"][i, 0, y, x], float(batch["silhouette"][i, y, x])
                sums["silhouette"] += math.log1p(math.exp(logit)) - true * logit
                sums["inter"] += logit > 0 and true == 1
                sums["union"] += logit > 0 or true == 1
    model = Says(outputs)
    means = {task: sums[task] / count for task in ("category", "elevation")}
    means |= {"azimuth": sums["azimuth"] / sideways, "silhouette": sums["silhouette"] / (count * 64)}
    losses = problem.losses(model, batch)
    metrics = problem.metrics(model, [batch])
    for task in problem.tasks:
        assert losses[task].item() == pytest.approx(means[task], rel=1e-5)
        assert metrics[task]["loss"] == pytest.approx(means[task], rel=1e-5)
    assert metrics["category"]["accuracy"] == right["category"] / count
    assert metrics["elevation"]["accuracy"] == right["elevation"] / count
    assert metrics["elevation"]["degrees"] == pytest.approx(sums["tilt"] / count)
    assert metrics["azimuth"]["degrees"] == pytest.approx(np.mean(turns), rel=1e-5)
    assert metrics["azimuth"]["degrees_round"] == pytest.approx(np.mean(rounds), rel=1e-5)
    assert metrics["silhouette"]["iou"] == pytest.approx(sums["inter"] / sums["union"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mask", None, "expected the arrays"),
        ("image", lambda a: a[:, ::2, ::2], "expected whole numbers (400, 64, 64, 3)"),
        ("image", lambda a: a.astype(np.float32), "is float32"),
        ("category", lambda a: a + 1, "category goes from 1 to 8, expected 0 to 7"),
        ("instance", lambda a: a[:-1], "expected whole numbers (400)"),
        ("elevation", lambda a: np.where(a == 22, 23, a), "elevation 23 is none of 0, 22, 35"),
        ("azimuth", lambda a: a - 1, "azimuth goes from -1 to"),
        ("instance", lambda a: np.minimum(a, 7), "no images for test"),
    ],
)
def test_wrong_files(place, name, change, message):
    arrays = stored()
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    put(place, arrays)
    with pytest.raises(AccordError) as error:
        ETH80().data(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_file(place):
    put(place, stored())
    path = place / FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AccordError, match="cannot be read"):
        ETH80().data(0)


def test_a_missing_file(place):
    with pytest.raises(AccordError, match="eth80_64.npz"):
        ETH80().data(0)


@pytest.mark.parametrize("size", [48, 128, 4])
def test_sizes_that_do_not_divide(size):
    with pytest.raises(AccordError, match="expected 64, 32, 16 or 8"):
        ETH80(size=size)


@pytest.fixture
def real(monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))
    try:
        find(FILE)
    except AccordError as error:
        pytest.skip(str(error))


def test_the_real_images(real):
    data = ETH80(size=16).data(0)
    parts = [only(data, part) for part in ("train", "validation", "test")]
    assert [len(part["category"]) for part in parts] == [56 * 41, 8 * 41, 16 * 41]
    levels = torch.cat([part["elevation"] for part in parts]).bincount().tolist()
    assert levels == [80, 320, 320, 320, 640, 320, 1280]
    assert all(torch.equal(part["category"].bincount(), torch.full((8,), len(part["category"]) // 8)) for part in parts)
