"""MTFL: the fixed split, normalised errors and balanced accuracy against loops, wrong files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.data import VARIABLE, find
from accord.errors import AccordError
from accord.problems.mtfl import CLASSES, FILE, LEAST, MTFL, mean_recall, normalised_errors

COUNT = 200
BESIDE = Path(__file__).parents[3] / "shared" / "data"


def stored() -> dict[str, np.ndarray]:
    """Noise in the layout of the data."""
    rng = np.random.default_rng(0)
    attributes = np.stack([rng.integers(1, classes + 1, COUNT) for classes in CLASSES.values()], 1)
    return {
        "image": rng.integers(0, 256, (COUNT, 40, 40), np.uint8),
        "landmarks": rng.uniform(0.05, 0.95, (COUNT, 10)).astype(np.float32),
        "attributes": attributes.astype(np.uint8),
    }


def put(folder, arrays) -> None:
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path))
    return tmp_path


class Says(torch.nn.Module):
    """A model that says the same whatever it sees."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, image):
        return {name: value[: len(image)] for name, value in self.outputs.items()}


def test_the_test_part_is_that_of_the_description(place):
    put(place, stored())
    expected = frozenset(np.random.default_rng(0).permutation(COUNT)[int(0.8 * COUNT) :].tolist())
    validated = set()
    for seed in range(4):
        origin = MTFL().data(seed).origin
        assert origin["test"] == expected
        assert len(origin["validation"]) == 16
        assert len(origin["train"]) == 144
        assert origin["train"] | origin["validation"] | origin["test"] == set(range(COUNT))
        validated.add(origin["validation"])
    assert len(validated) == 4


def test_columns_stay_together_and_classes_start_at_zero(place):
    arrays = stored()
    arrays["image"][:, 0, :4] = arrays["attributes"]
    arrays["image"][:, 1, :10] = np.rint(200 * arrays["landmarks"])
    put(place, arrays)
    batch = next(iter(MTFL().data(0).test))
    pixels = (batch["image"][:, 0] + 1) * 127.5  # (N, 40, 40)
    for k, task in enumerate(CLASSES):
        assert torch.equal(pixels[:, 0, k].round().long(), batch[task] + 1)
    assert torch.allclose(pixels[:, 1, :10] / 200, batch["landmarks"] / 10 + 0.5, atol=3e-3)


def test_normalised_errors_against_loops():
    generator = torch.Generator().manual_seed(0)
    found, wanted = torch.rand(2, 60, 10, generator=generator, dtype=torch.float64)
    wanted[:5, 1], wanted[:5, 6] = wanted[:5, 0], wanted[:5, 5]  # profiles: the eyes are at one place
    for i, error in enumerate(normalised_errors(found, wanted)):
        points = [(float(wanted[i, k]), float(wanted[i, k + 5])) for k in range(5)]
        said = [(float(found[i, k]), float(found[i, k + 5])) for k in range(5)]
        eyes = max(LEAST, math.dist(points[0], points[1]))
        assert float(error) == pytest.approx(sum(map(math.dist, points, said)) / 5 / eyes)


def test_balanced_accuracy_ignores_how_frequent_a_class_is():
    table = torch.tensor([[90, 10], [5, 5]])
    assert mean_recall(table) == pytest.approx((0.9 + 0.5) / 2)
    assert mean_recall(table * torch.tensor([[7], [1]])) == pytest.approx(0.7)
    assert mean_recall(torch.tensor([[4, 0], [6, 0]])) == 0.5  # a constant
    assert mean_recall(torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 2]])) == pytest.approx(
        (0.75 + 1) / 2
    )  # one is absent


def test_losses_and_metrics_against_loops(place):
    put(place, stored())
    problem = MTFL()
    batch = next(iter(problem.data(0).test))
    count = len(batch["image"])
    generator = torch.Generator().manual_seed(2)
    outputs = {task: torch.randn(count, classes, generator=generator) for task, classes in CLASSES.items()}
    outputs["landmarks"] = batch["landmarks"] + 0.4 * torch.randn(count, 10, generator=generator)
    metrics, losses = problem.metrics(Says(outputs), [batch]), problem.losses(Says(outputs), batch)
    errors, squares = [], 0.0
    for i in range(count):
        wanted, found = (tensor[i].double() / 10 for tensor in (batch["landmarks"], outputs["landmarks"]))
        far = [math.hypot(float(found[k] - wanted[k]), float(found[k + 5] - wanted[k + 5])) for k in range(5)]
        eyes = math.hypot(float(wanted[0] - wanted[1]), float(wanted[5] - wanted[6]))
        errors.append(sum(far) / 5 / max(eyes, LEAST))
        squares += sum((10 * float(found[k] - wanted[k])) ** 2 for k in range(10)) / 10
    assert metrics["landmarks"]["nme"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert metrics["landmarks"]["failures"] == pytest.approx(np.mean(np.array(errors) > 0.1))
    assert metrics["landmarks"]["loss"] == pytest.approx(squares / count, rel=1e-5)
    for task, classes in CLASSES.items():
        said, true = outputs[task].argmax(1).tolist(), batch[task].tolist()
        recalls = []
        for known in range(classes):
            of_it = [answer for answer, each in zip(said, true, strict=True) if each == known]
            if of_it:
                recalls.append(of_it.count(known) / len(of_it))
        assert metrics[task]["balanced"] == pytest.approx(np.mean(recalls))
        hits = sum(one == other for one, other in zip(said, true, strict=True))
        assert metrics[task]["accuracy"] == hits / count  # exactly, not to 32 bits
    for task, loss in losses.items():
        assert metrics[task]["loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("landmarks", None, "expected the arrays"),
        ("image", lambda a: np.repeat(a, 2, 1), "expected whole numbers (200, 40, 40)"),
        ("landmarks", lambda a: a[:, :8], "expected floats (200, 10)"),
        ("landmarks", lambda a: 40 * a, "expected 0 to 1"),
        ("landmarks", lambda a: np.where(a == a[3, 3], np.float32(np.nan), a), "goes from nan"),
        ("attributes", lambda a: a - 1, "attributes goes from 0 to 4"),
        ("attributes", lambda a: np.where(np.arange(4) == 1, a + 1, a).astype(np.uint8), "smile goes up to 3"),
        ("attributes", lambda a: a.astype(float), "expected whole numbers (200, 4)"),
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
        MTFL().data(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_file(place):
    put(place, stored())
    path = place / FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AccordError, match="cannot be read"):
        MTFL().data(0)


@pytest.fixture
def real(monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))
    try:
        find(FILE)
    except AccordError as error:
        pytest.skip(str(error))


def test_the_real_faces(real):
    data = MTFL().data(0)
    parts = [list(part) for part in (data.train, data.validation, data.test)]
    assert [sum(len(batch["pose"]) for batch in part) for part in parts] == [7200, 800, 2000]
    every = [batch for part in parts for batch in part]
    counts = {task: torch.cat([batch[task] for batch in every]).bincount().tolist() for task in CLASSES}
    assert counts["glasses"] == [1408, 8592]
    assert counts["pose"] == [136, 1113, 7445, 1111, 195]
    landmarks = torch.cat([batch["landmarks"] for batch in every]) / 10
    eyes = torch.hypot(landmarks[:, 0] - landmarks[:, 1], landmarks[:, 5] - landmarks[:, 6])
    assert eyes.min() > LEAST  # the guard changes no published figure
