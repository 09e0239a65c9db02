"""CelebA, CLEVR and SmallNORB: generated files in the layouts of their originators, right and wrong."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from accord.bench.config import configure
from accord.bench.training import Training
from accord.errors import AccordError
from accord.problems import CLEVR, CelebA, CelebA40, SmallNORB
from accord.problems.celeba import ATTRIBUTES
from accord.problems.clevr import CUTS, distance_class
from accord.problems.smallnorb import STEMS

RNG = np.random.default_rng(0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty data folder, and a home of its own for what is decoded."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("ACCORD_DATA", str(data))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return data / "originals"


def whole(part) -> dict[str, torch.Tensor]:
    batches = list(part)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def refused(problem, message: str) -> None:
    with pytest.raises(AccordError) as error:
        problem.data(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def trained(problem, folder) -> None:
    """Two steps with a method that reads every gradient; the metrics are complete, whatever the batches."""
    training = Training(configure(problem=repr(problem), method="UPGrad()"), folder)
    batches = training.data.train.shuffled(torch.Generator().manual_seed(0))
    for _ in range(2):
        training.step(next(batches))
    test = training.data.test
    found = training.evaluate(test)
    tensors, prepare = test.tensors, test.prepare
    cut = [{name: tensor[some] for name, tensor in tensors.items()} for some in (slice(3), slice(3, None))]
    again = problem.metrics(training.model, [prepare(batch) for batch in cut])
    assert set(found) == set(problem.tasks)
    for task, (name, _) in problem.metric.items():
        assert {"loss", name, *problem.measures.get(task, ())} <= set(found[task])
        for each, value in found[task].items():
            assert value == pytest.approx(again[task][each], rel=1e-5)


# CelebA ---------------------------------------------------------------------------------------------------------------

PARTITION = [0] * 12 + [1] * 6 + [2] * 6


def celeba(folder, size=(178, 218), below=("", "", "")) -> np.ndarray:
    """24 images, each of one colour; their attributes (24, 40)."""
    images, lists, parts = (folder / each for each in below)
    (images / "img_align_celeba").mkdir(parents=True)
    lists.mkdir(exist_ok=True)
    parts.mkdir(exist_ok=True)
    values = RNG.choice([-1, 1], (len(PARTITION), 40))
    values[:, 0] = 1
    names = [f"{row + 1:06d}.jpg" for row in range(len(values))]
    for row, name in enumerate(names):
        Image.new("RGB", size, (10 * row, 100, 255 - 10 * row)).save(images / "img_align_celeba" / name, quality=95)
    lines = [f"{name} {' '.join(f'{value:2d}' for value in row)}" for name, row in zip(names, values, strict=True)]
    (lists / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), " ".join(ATTRIBUTES) + " ", *lines, ""]))
    rows = [f"{name} {part}" for name, part in zip(names, PARTITION, strict=True)]
    (parts / "list_eval_partition.txt").write_text("\n".join([*rows, ""]))
    return values


@pytest.mark.parametrize("below", [("", "", ""), ("Img", "Anno", "Eval")])
def test_celeba_keeps_the_official_partition(place, below):
    values = celeba(place / "celeba", below=below)
    data = CelebA(size=8).data(0)
    assert [sorted(data.origin[part]) for part in ("train", "validation", "test")] == [
        list(range(12)), list(range(12, 18)), list(range(18, 24)),
    ]  # fmt: skip
    for part, rows in (("train", slice(12)), ("test", slice(18, 24))):
        batch = whole(getattr(data, part))
        assert batch["image"].shape[1:] == (3, 8, 8)
        assert np.array_equal(batch["attributes"].numpy(), values[rows, :10] > 0)
        red = ((batch["image"][:, 0] + 1) * 127.5).mean((1, 2))
        assert torch.allclose(red, 10.0 * torch.arange(24)[rows], atol=4)  # JPEG
    assert torch.equal(
        whole(CelebA40(size=8).data(0).test)["attributes"], torch.from_numpy((values[18:] > 0).astype(np.float32))
    )


def test_celeba_limit_draws_by_the_seed(place):
    celeba(place / "celeba")
    problem = CelebA(size=8, limit=5)
    origins = [problem.data(seed).origin for seed in (0, 0, 1)]
    assert origins[0] == origins[1] != origins[2]
    assert all(len(rows) == 5 for rows in origins[0].values())
    assert origins[0]["train"] <= set(range(12))


def test_celeba_trains(place, tmp_path):
    celeba(place / "celeba")
    trained(CelebA(encoder="conv(channels=2, layers=2)", size=8, batch=4), tmp_path / "run")
    CelebA40(size=8).data(0)
    decoded = tmp_path / "home" / ".cache" / "accord" / "decoded"
    assert len(list(decoded.iterdir())) == 1  # both read what was decoded once


def test_celeba_scores_against_loops(place):
    values = celeba(place / "celeba")[18:] > 0
    problem = CelebA(size=8)
    logits = torch.from_numpy(RNG.normal(size=(6, 10))).float()

    def says(image):
        return {task: logits[: len(image), [k]] for k, task in enumerate(problem.tasks)}

    found = problem.metrics(says, problem.data(0).test)
    for k, task in enumerate(problem.tasks):
        pairs = list(zip((logits[:, k] > 0).tolist(), values[:, k].tolist(), strict=True))
        hits = pairs.count((True, True))
        precision, recall = (hits / max(1, sum(pair[side] for pair in pairs)) for side in (0, 1))
        harmonic = 2 * precision * recall / (precision + recall) if hits else 0
        assert found[task]["f1"] == pytest.approx(harmonic)
        assert found[task]["accuracy"] == pytest.approx(sum(said == true for said, true in pairs) / 6)


def edited(path, line: int, change) -> None:
    lines = path.read_text().split("\n")
    lines[line] = change(lines[line])
    path.write_text("\n".join(line for line in lines if line is not None))


@pytest.mark.parametrize(
    ("file", "line", "change", "message"),
    [
        ("list_attr_celeba.txt", 0, lambda text: "25", "line 1 of"),
        ("list_attr_celeba.txt", 1, lambda text: text.replace("Bald", "Hairy"), "line 2 of"),
        ("list_attr_celeba.txt", 5, lambda text: text.replace(" 1", " 2", 1), "40 times -1 or 1"),
        ("list_attr_celeba.txt", 5, lambda text: text[:-3], "lines that are not"),
        ("list_attr_celeba.txt", 5, lambda text: text.replace(" 1", " x", 1), "lines that are not"),
        ("list_attr_celeba.txt", 5, lambda text: "000004.jpg", "lines that are not"),
        ("list_eval_partition.txt", 3, lambda text: "000004.jpg 3", "1 times 0 or 1 or 2"),
        ("list_eval_partition.txt", 3, lambda text: "000099.jpg 0", "in their order"),
        ("list_eval_partition.txt", 3, lambda text: None, "lists 23 images, expected the 24"),
    ],
)
def test_celeba_wrong_lists(place, file, line, change, message):
    celeba(place / "celeba")
    edited(place / "celeba" / file, line, change)
    refused(CelebA(size=8), message)


def test_celeba_wrong_images(place):
    celeba(place / "celeba", size=(218, 178))
    refused(CelebA(size=8), "has 218 x 178 pixels, expected 178 x 218")
    path = place / "celeba" / "img_align_celeba" / "000001.jpg"
    Image.new("RGB", (178, 218)).save(path)
    path.write_bytes(path.read_bytes()[:600])
    refused(CelebA(size=8), "000001.jpg is no whole image")
    path.unlink()
    refused(CelebA(size=8), "000001.jpg is missing")
    (path.parent / "000009.jpg").unlink()
    refused(CelebA40(size=16), "000001.jpg is missing, and 1 more")


def test_celeba_missing_lists(place):
    refused(CelebA(), "accord data link celeba FOLDER")
    celeba(place / "celeba")
    (place / "celeba" / "list_eval_partition.txt").unlink()
    refused(CelebA(size=8), "list_eval_partition.txt is not in")


# CLEVR ----------------------------------------------------------------------------------------------------------------


def clevr(folder, size=(480, 320), train=20, val=6, drawn=True) -> dict[str, list[list[float]]]:
    """Plain images, each of its own red, with scenes; the distances of all objects."""
    depths = {}
    for split, count in (("train", train), ("val", val)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "scenes").mkdir(exist_ok=True)
        depths[split] = [RNG.uniform(7, 12, 3 + row % 8).tolist() for row in range(count)]
        scenes = []
        for row, each in enumerate(depths[split]):
            name = f"CLEVR_{split}_{row:06d}.png"
            if drawn:
                image = Image.new("RGBA", size, (9 * row, 0, 0, 255))
                image.save(folder / "images" / split / name, compress_level=1)
            objects = [{"pixel_coords": [10, 20, depth], "shape": "cube"} for depth in each]
            scenes.append({"image_index": row, "image_filename": name, "split": split, "objects": objects})
        (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"info": {}, "scenes": scenes}))
    return depths


def test_clevr_has_the_tasks_and_parts_of_vtab(place):
    depths = clevr(place / "clevr")
    data = CLEVR(size=8, train=10, validation=1).data(0)
    rows = {"train": list(range(10)), "validation": [18], "test": list(range(20, 26))}
    assert {part: sorted(data.origin[part]) for part in rows} == rows
    for part, chosen in rows.items():
        batch = whole(getattr(data, part))
        split, before = ("val", 20) if part == "test" else ("train", 0)
        for k, row in enumerate(chosen):
            scene = depths[split][row - before]
            assert batch["count"][k] == len(scene) - 3
            assert batch["distance"][k] == np.digitize(min(scene), CUTS, right=True)
            assert float((batch["image"][k, 0, 0, 0] + 1) * 127.5) == pytest.approx(9 * (row - before), abs=0.01)


def test_clevr_distances_on_a_cut_belong_below():
    thresholds = np.array([0.0, *CUTS, 100.0])  # as VTAB has it: the last threshold that is smaller
    for distance in (7.9, 8.0, 8.2, 8.5, 9.0, 9.4, 9.5, 10.0, 10.01, 12.0):
        assert distance_class(distance) == np.flatnonzero(thresholds < distance).max()


def test_clevr_never_validates_on_what_it_trains_on(place):
    clevr(place / "clevr")
    data = CLEVR(size=8, train=1000, validation=1000).data(0)
    assert data.origin["train"] == set(range(18))
    assert data.origin["validation"] == {18, 19}


def test_clevr_trains(place, tmp_path):
    clevr(place / "clevr")
    trained(CLEVR(encoder="conv(channels=2, layers=2)", size=8, batch=4), tmp_path / "run")


def changed(path, change) -> None:
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("scenes"), "expected the scenes of CLEVR"),
        (lambda s: s["scenes"].clear(), "has no scenes"),
        (lambda s: s["scenes"][0]["objects"].clear(), "scene 0 has 0 objects"),
        (lambda s: s["scenes"][7]["objects"].append(s["scenes"][7]["objects"][0]), "scene 7 has 11 objects"),
        (lambda s: s["scenes"][2]["objects"][1].pop("pixel_coords"), "scene 2 lacks"),
        (lambda s: s["scenes"][2]["objects"][1].update(pixel_coords=[1, 2]), "scene 2 lacks"),
        (lambda s: s["scenes"][2]["objects"][1].update(pixel_coords=[1, 2, float("nan")]), "at distance"),
        (lambda s: s["scenes"].reverse(), "expected 'CLEVR_train_000000.png'"),
    ],
)
def test_clevr_wrong_scenes(place, change, message):
    clevr(place / "clevr", drawn=False)
    changed(place / "clevr" / "scenes" / "CLEVR_train_scenes.json", change)
    refused(CLEVR(size=8), message)


def test_clevr_wrong_files(place):
    refused(CLEVR(), "accord data link clevr FOLDER")
    clevr(place / "clevr", size=(320, 240))
    refused(CLEVR(size=8), "has 320 x 240 pixels, expected 480 x 320")
    path = place / "clevr" / "images" / "train" / "CLEVR_train_000000.png"
    Image.fromarray(RNG.integers(0, 256, (320, 480, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    refused(CLEVR(size=8), "CLEVR_train_000000.png is no whole image")
    path.unlink()
    refused(CLEVR(size=8), "CLEVR_train_000000.png is missing")
    scenes = place / "clevr" / "scenes" / "CLEVR_val_scenes.json"
    scenes.write_text(scenes.read_text()[:100])
    refused(CLEVR(size=8), "cannot be read")
    scenes.unlink()
    refused(CLEVR(size=8), "CLEVR_val_scenes.json cannot be read")


# SmallNORB ------------------------------------------------------------------------------------------------------------


def matrix(magic: int, array: np.ndarray) -> bytes:
    lengths = [*array.shape, *[1] * (3 - array.ndim)]
    return struct.pack(f"<{2 + len(lengths)}i", magic, array.ndim, *lengths) + array.tobytes()


def write(folder, stem: str, kind: str, content: bytes, packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{stem}-{kind}.mat"
    (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def smallnorb(folder, packed=False, counts=(12, 16)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    stored = {}
    for (part, stem), count in zip(STEMS.items(), counts, strict=True):
        pairs = RNG.integers(0, 256, (count, 2, 96, 96), np.uint8)
        columns = [RNG.integers(0, 10, count), RNG.integers(0, 9, count), 2 * RNG.integers(0, 18, count)]
        info = np.stack([*columns, RNG.integers(0, 6, count)], 1).astype("<i4")
        write(folder, stem, "dat", matrix(0x1E3D4C55, pairs), packed)
        write(folder, stem, "info", matrix(0x1E3D4C54, info), packed)
        write(folder, stem, "cat", matrix(0x1E3D4C54, np.zeros(count, "<i4")), packed)
        stored[part] = pairs, info
    return stored


@pytest.mark.parametrize("packed", [False, True])
def test_smallnorb_has_the_parts_of_vtab(place, packed):
    stored = smallnorb(place / "smallnorb", packed)
    data = SmallNORB(size=48, train=10, validation=4).data(0)
    rows = {"train": ("train", range(10), 0), "validation": ("test", range(4), 12), "test": ("test", range(8, 16), 12)}
    for part, (source, chosen, before) in rows.items():
        assert data.origin[part] == {row + before for row in chosen}
        batch = whole(getattr(data, part))
        pairs, info = (array[chosen.start : chosen.stop] for array in stored[source])
        assert np.array_equal(batch["azimuth"].numpy(), info[:, 2] // 2)
        assert np.array_equal(batch["elevation"].numpy(), info[:, 1])
        means = pairs[:, :1].astype(float).reshape(-1, 1, 48, 2, 48, 2).mean((3, 5))
        assert np.abs((batch["image"].numpy() + 1) * 127.5 - means).max() < 0.51


def test_smallnorb_validates_on_the_half_that_is_not_tested_on(place):
    smallnorb(place / "smallnorb")
    origin = SmallNORB(validation=1000).data(0).origin
    assert origin["validation"] == set(range(12, 20))
    assert origin["test"] == set(range(20, 28))


def test_smallnorb_trains(place, tmp_path):
    smallnorb(place / "smallnorb")
    trained(SmallNORB(encoder="conv(channels=2, layers=2)", size=12, batch=4), tmp_path / "run")


def test_smallnorb_shares_among_the_likeliest(place):
    smallnorb(place / "smallnorb")
    problem = SmallNORB(size=12)
    batch = whole(problem.data(0).test)
    outputs = {
        task: torch.from_numpy(RNG.normal(size=(8, classes))) for task, classes in (("azimuth", 18), ("elevation", 9))
    }
    found = problem.metrics(lambda image: outputs, [batch])
    for task, logits in outputs.items():
        ranks = [
            sum(float(other) > float(row[wanted]) for other in row)
            for row, wanted in zip(logits, batch[task].tolist(), strict=True)
        ]
        assert found[task]["top1"] == sum(rank == 0 for rank in ranks) / 8
        assert found[task]["top5"] == sum(rank < 5 for rank in ranks) / 8


def test_smallnorb_wrong_files(place):
    folder, stem = place / "smallnorb", STEMS["train"]
    refused(SmallNORB(), "accord data link smallnorb FOLDER")
    pairs, info = smallnorb(folder)["train"]
    good = {"dat": matrix(0x1E3D4C55, pairs), "info": matrix(0x1E3D4C54, info)}
    wrong = [
        ("dat", matrix(0x1E3D4C54, pairs), "begins with 0x1E3D4C54, expected 0x1E3D4C55"),
        ("dat", matrix(0x1E3D4C55, pairs[:, 0]), "has 3 axes, expected 4"),
        ("dat", matrix(0x1E3D4C55, pairs[..., :48]), "is (12, 2, 96, 48), expected (N, 2, 96, 96)"),
        ("dat", good["dat"][:-1], "ends too early"),
        ("dat", good["dat"][:6], "ends too early"),
        ("dat", good["dat"] + b"x", "goes on after the last"),
        ("info", matrix(0x1E3D4C55, info), "begins with 0x1E3D4C55, expected 0x1E3D4C54"),
        ("info", good["info"][:-4], "ends too early"),
        ("info", matrix(0x1E3D4C54, info[:-1]), "12 pairs of images, but 11 lines of info"),
        ("info", matrix(0x1E3D4C54, np.where(np.arange(4) == 1, 9, info).astype("<i4")), "elevation 9, expected 0, 1"),
        ("info", matrix(0x1E3D4C54, np.where(np.arange(4) == 2, 35, info).astype("<i4")), "azimuth 35, expected 0, 2"),
    ]
    for kind, content, message in wrong:
        write(folder, stem, kind, content)
        refused(SmallNORB(size=12), message)
        write(folder, stem, kind, good[kind])
    SmallNORB(size=12).data(0)
    (folder / f"{stem}-dat.mat").unlink()
    refused(SmallNORB(size=12), f"{stem}-dat.mat is not in")


def test_smallnorb_damaged_packing(place):
    folder, stem = place / "smallnorb", STEMS["train"]
    smallnorb(folder, packed=True)
    path = folder / f"{stem}-dat.mat.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    refused(SmallNORB(size=12), "is damaged")
    path.write_bytes(b"no gzip at all")
    refused(SmallNORB(size=12), "is damaged")
