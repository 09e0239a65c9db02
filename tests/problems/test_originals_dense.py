"""NYUv2 and CityScapes in the layout of MTAN, on generated files; and files that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord.bench.config import configure
from accord.bench.training import Training
from accord.data import VARIABLE
from accord.errors import AccordError
from accord.problems import Examples, crop_flip
from accord.problems.cityscapes import Cityscapes
from accord.problems.npy_folder import CHANNELS, checked
from accord.problems.nyuv2_mtan import NYUv2MTAN

BOTH = [NYUv2MTAN, Cityscapes]
COUNTS = {"train": 7, "val": 5}


def arrays(problem, number):
    """By folder, one image with its targets, some pixels without."""
    rng = np.random.default_rng(number)
    height, width = problem.shape
    direction = rng.standard_normal((height, width, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    missing = rng.random((height, width, 1)) < 0.2
    made = {
        "image": rng.random((height, width, 3), np.float32),
        "segmentation": rng.integers(-1, problem.classes, (height, width)).astype(np.float64),
        "depth": np.where(missing, 0, rng.uniform(0.5, 4, (height, width, 1))).astype(np.float32),
        "normals": np.where(missing, 0, direction),
    }
    return {kind: made[name] for kind, name in problem.kinds.items()}


def folder(root, problem):
    place = root / "originals" / problem.name
    for shift, (part, count) in enumerate(COUNTS.items()):
        for kind in problem.kinds:
            (place / part / kind).mkdir(parents=True)
        for number in range(count):
            for kind, array in arrays(problem, 100 * shift + number).items():
                np.save(place / part / kind / f"{number}.npy", array)
    return place


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, {problem: folder(root, problem) for problem in BOTH}


@pytest.fixture(params=BOTH, ids=lambda problem: problem.name)
def problem(request, places, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(places[0]))
    return request.param.tiny()


def test_the_default_is_the_published_network_and_is_spelled_by_its_name():
    for kind in BOTH:
        assert repr(kind()) == kind.name
        assert (kind().architecture, kind().encoder, kind().lr) == ("mtan", "segnet", 1e-4)


def test_batches_hold_what_the_files_hold(problem):
    data = problem.data(0)
    assert data.origin["train"] | data.origin["validation"] <= set(range(7))
    assert not data.origin["train"] & data.origin["validation"]
    assert sorted(data.origin["test"]) == [7, 8, 9, 10]  # limit=4
    seen = 0
    for examples, name in ((data.validation, "validation"), (data.test, "test")):
        for row, number in enumerate(sorted(data.origin[name])):
            batch = next(iter(examples))
            for kind, array in arrays(problem, number if number < 7 else 100 + number - 7).items():
                key = problem.kinds[kind]
                found = batch[key][row].movedim(0, 2) if key in CHANNELS else batch[key][row]
                np.testing.assert_allclose(found.numpy(), array, atol=1e-6)
                seen += 1
    assert seen == len(problem.kinds) * 6


def test_seeds_decide_the_validation_part_alone(problem):
    splits = [problem.data(seed).origin for seed in range(6)]
    assert len({split["validation"] for split in splits}) > 1
    assert len({split["test"] for split in splits}) == 1
    assert problem.data(0).origin == splits[0]


def test_training_is_augmented_from_the_generator(problem):
    train = problem.data(0).train
    first, again, other = (next(train.shuffled(torch.Generator().manual_seed(seed))) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])
    assert first["image"].shape == (2, 3, *problem.shape)
    assert set(first) == set(next(iter(train)))


def test_augmented_normals_have_length_1_or_0(places, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(places[0]))
    train = NYUv2MTAN.tiny().data(0).train
    for seed in range(4):  # scales 1 to 1.5
        for batch in train.shuffled(torch.Generator().manual_seed(seed)):
            length = batch["normals"].square().sum(1).sqrt()  # (N, H, W)
            there = batch["normals"].any(1)  # (N, H, W)
            torch.testing.assert_close(length, there.float())


def test_a_normal_that_is_missing_stays_so_where_nothing_is_enlarged(places, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(places[0]))
    monkeypatch.setattr(crop_flip, "SCALES", (1.0,))
    train = NYUv2MTAN.tiny().data(0).train
    stored = {number: arrays(NYUv2MTAN, number)["normal"].any(2) for number in train.tensors["row"].tolist()}
    batches = list(train.shuffled(torch.Generator().manual_seed(0)))
    found = [each.numpy() for batch in batches for each in batch["normals"].any(1)]  # (H, W) each
    for mask in found:
        assert any(np.array_equal(mask, known) or np.array_equal(mask, known[:, ::-1]) for known in stored.values())


def test_losses_reach_every_parameter_and_metrics_do_not_depend_on_batches(problem):
    model, data = problem.model(0), problem.data(0)
    losses = problem.losses(model, next(iter(data.train)))
    assert tuple(losses) == problem.tasks
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    model.eval()
    found = [problem.metrics(model, Examples(data.test.tensors, size, data.test.prepare)) for size in (4, 3)]
    for task in problem.tasks:
        assert set(problem.measures[task]) | {"loss"} == set(found[0][task])
        assert found[0][task] == pytest.approx(found[1][task], rel=1e-4)


def test_a_run(places, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(places[0]))
    problem = Cityscapes.tiny()
    training = Training(configure(problem=repr(problem), method="UPGrad()", monitor_every=0), tmp_path)
    training.epoch()
    assert training.steps == 2
    assert set(training.history[0]["validation"]) == set(problem.tasks)


def read_all(problem):
    data = problem.data(0)
    return [*data.train, *data.validation]


def refused(problem, message):
    with pytest.raises(AccordError) as error:
        read_all(problem)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def change(array, index, value):
    array[index] = value
    return array


MISTAKES = {
    "a wrong size": ("image", lambda a: a[:, :200], "holds float32 (128, 200, 3), expected numbers (128, 256, 3)"),
    "no channel": ("depth", lambda a: a[..., 0], "holds float32 (128, 256), expected numbers (128, 256, 1)"),
    "a label too high": ("label_7", lambda a: change(a, (0, 0), 7), "labels from -1 to 7, expected whole numbers"),
    "a label too low": ("label_7", lambda a: change(a, (0, 0), -2), "labels from -2 to 6, expected whole numbers"),
    "255 for none": ("label_7", lambda a: np.where(a < 0, 255, a).astype(np.uint8), "labels from 0 to 255"),
    "half a label": ("label_7", lambda a: change(a, (3, 3), 0.5), "expected whole numbers from -1 (none) to 6"),
    "no number as label": ("label_7", lambda a: change(a, (3, 3), np.nan), "labels from nan to nan"),
    "no number": ("image", lambda a: change(a, (0, 0, 0), np.nan), "values that are not finite"),
    "infinite depth": ("depth", lambda a: change(a, (0, 0, 0), np.inf), "values that are not finite"),
    "negative depth": ("depth", lambda a: change(a, (0, 0, 0), -1), "a depth of -1, expected 0 (none) or more"),
    "texts": ("image", lambda a: a.astype("U4"), "expected numbers (128, 256, 3)"),
    "pickled objects": (
        "image",
        lambda a: a.astype(object),
        "cannot be read (Array can't be memory-mapped: Python objects",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_files(tmp_path, monkeypatch, mistake):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    place = folder(tmp_path, Cityscapes)
    kind, alter, message = MISTAKES[mistake]
    path = place / "train" / kind / "3.npy"
    np.save(path, alter(np.load(path)), allow_pickle=True)
    refused(Cityscapes.tiny(), f"{kind}/3.npy")
    refused(Cityscapes.tiny(), message)


def test_damaged_and_missing_files(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    tiny = Cityscapes.tiny()
    refused(tiny, "accord data link cityscapes FOLDER")
    place = folder(tmp_path, Cityscapes)
    path = place / "train" / "depth" / "0.npy"
    whole = path.read_bytes()
    for content in (whole[:1000], b"", b"text", b"\x80\x04."):
        path.write_bytes(content)
        refused(tiny, "depth/0.npy cannot be read")
    path.unlink()
    refused(tiny, "depth/0.npy is missing, though 7 files of another kind are there")
    path.write_bytes(whole)
    for number in range(COUNTS["val"]):
        (place / "val" / "label_7" / f"{number}.npy").unlink()
    refused(tiny, "label_7/0.npy is missing")
    for path in (place / "val").rglob("*.npy"):
        path.unlink()
    refused(tiny, "holds no image/0.npy; expected image/0.npy, 1.npy, ..., label_7/0.npy")


def test_an_archive_of_arrays_is_no_array(tmp_path):
    with (tmp_path / "0.npy").open("wb") as file:
        np.savez(file, a=np.zeros((2, 2)))
    with pytest.raises(AccordError, match="holds NpzFile, expected numbers"):
        checked(tmp_path / "0.npy", (2, 2), "image", 1)
