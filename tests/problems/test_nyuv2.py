"""NYUv2: normals from depth, the archive and what is made of it, wrong archives, the real one where it is at hand."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from accord.data import VARIABLE
from accord.errors import AccordError
from accord.problems import NYUv2, NYUv2MTAN, nyuv2_zip, parse
from accord.problems.cityscapes import Cityscapes
from accord.problems.normals import Camera, normals
from accord.problems.nyuv2 import FILE

BESIDE = Path(__file__).parents[3] / "shared" / "data"
CAMERA = Camera(fx=30.0, fy=28.0, cx=9.3, cy=6.1)


def slow_normals(depth, camera, window):
    """Least squares for 1 / depth in every window, by a general solver."""
    height, width = depth.shape
    found = np.zeros((3, height, width))
    for h in range(height):
        for w in range(width):
            near = [
                (i, j)
                for i in range(h - window // 2, h + window // 2 + 1)
                for j in range(w - window // 2, w + window // 2 + 1)
                if 0 <= i < height and 0 <= j < width
            ]
            place = np.array([((j - camera.cx) / camera.fx, (i - camera.cy) / camera.fy, 1.0) for i, j in near])
            plane = np.linalg.lstsq(place, np.array([1 / depth[i, j] for i, j in near]), rcond=None)[0]
            found[:, h, w] = -plane / np.linalg.norm(plane)
    return found


def rays(height, width, camera):
    """(3, H, W) directions of pixels, with depth 1."""
    row, column = np.mgrid[:height, :width].astype(float)
    return np.stack([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, np.ones_like(row)])


@pytest.mark.parametrize("window", [3, 5, 9])
def test_normals_are_those_of_least_squares_in_every_window(window):
    depth = np.random.default_rng(0).uniform(0.7, 9.0, (2, 13, 19))
    found = normals(depth, CAMERA, window)
    assert found.shape == (2, 3, 13, 19)
    for one, many in zip(depth, found, strict=True):
        np.testing.assert_allclose(many, slow_normals(one, CAMERA, window), atol=1e-9)


def test_normals_of_planes_are_exact_and_face_the_camera():
    rng = np.random.default_rng(1)
    ray = rays(13, 19, CAMERA)
    for _ in range(20):
        true = rng.standard_normal(3)
        true[2] = -abs(true[2]) - 2
        true /= np.linalg.norm(true)
        depth = 2.0 / -np.einsum("c,chw->hw", true, ray)  # the points with true . X = -2
        assert (depth > 0).all()
        found = normals(depth[None], CAMERA, 9)[0]
        np.testing.assert_allclose(found, np.broadcast_to(true[:, None, None], found.shape), atol=1e-10)
        assert (np.einsum("chw,chw->hw", found, ray) < 0).all()


def test_mirroring_a_picture_mirrors_its_normals():
    depth = np.random.default_rng(2).uniform(0.7, 9.0, (1, 13, 19))
    across = Camera(CAMERA.fx, CAMERA.fy, 18 - CAMERA.cx, CAMERA.cy)
    mirrored = normals(depth[..., ::-1], across, 5)
    np.testing.assert_allclose(mirrored, normals(depth, CAMERA, 5)[..., ::-1] * [[[[-1]], [[1]], [[1]]]], atol=1e-9)


def test_scaling_the_depth_keeps_the_normals():
    depth = np.random.default_rng(3).integers(18, 255, (1, 13, 19))
    np.testing.assert_allclose(normals(depth, CAMERA, 5), normals(depth / 25.5, CAMERA, 5), atol=1e-9)


def test_areas_and_nearest_places():
    line = np.random.default_rng(4).random(139)
    fine = np.repeat(line, 96).reshape(96, 139).mean(1)  # 96 equal pieces of the line, each pixel cut in 96
    np.testing.assert_allclose(nyuv2_zip.area(139, 96) @ line, fine, atol=1e-5)
    np.testing.assert_array_equal(nyuv2_zip.area(7, 7), np.eye(7))
    for before, after in ((139, 96), (185, 128), (5, 9)):
        expected = [int(np.floor((i + 0.5) * before / after)) for i in range(after)]
        np.testing.assert_array_equal(nyuv2_zip.nearest_places(before, after), expected)


# The archive


def picture(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG" if kind.endswith("jpg") else "PNG")
    return file.getvalue()


def contents(train=6, test=3):
    """Members of a small archive: colours that vary slowly, a wall at 2 m with a frame, labels in squares."""
    rng = np.random.default_rng(5)
    found = {}
    for number in range(1, train + test + 1):
        part = "train" if number <= train else "test"
        colours = np.kron(rng.integers(0, 255, (9, 12, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        depth = np.full((144, 192), 51, np.uint8)
        depth[:3], depth[:, :4], depth[142:], depth[:, 189:] = 18, 18, 18, 18  # a frame
        labels = np.kron(rng.integers(0, 14, (9, 12)), np.ones((16, 16))).astype(np.uint8)
        for kind, array in zip(nyuv2_zip.KINDS, (colours, depth, labels), strict=True):
            found[f"{part}/{number:04d}_{kind}"] = picture(array, kind)
    return found


def write(folder, members):
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def small(**settings):
    return NYUv2(**{"encoder": "conv(channels=4)", "validation": 2, "batch": 2, **settings})


def test_what_is_made_of_an_archive(folder):
    write(folder, contents())
    problem = small(height=139, width=185, augmentation="none")  # nothing is reduced
    data = problem.data(0)
    assert [len(part.tensors["image"]) for part in (data.train, data.validation, data.test)] == [4, 2, 3]
    assert data.origin["test"] == {7, 8, 9}
    assert data.origin["train"] | data.origin["validation"] == set(range(1, 7))
    batch = next(iter(data.test))
    with zipfile.ZipFile(folder / FILE) as archive:
        for row, number in enumerate((7, 8, 9)):
            colours, labels = (
                np.asarray(Image.open(archive.open(f"test/{number:04d}_{kind}"))) for kind in ("rgb.jpg", "seg13.png")
            )
            image = batch["image"][row].movedim(0, 2).numpy() * 255
            np.testing.assert_allclose(image, colours[3:142, 4:189], atol=1e-3)
            np.testing.assert_array_equal(batch["segmentation"][row], labels[3:142, 4:189].astype(int) - 1)
    torch.testing.assert_close(batch["depth"], torch.full((3, 1, 139, 185), 2.0))  # no frame is left
    wall = torch.tensor([0.0, 0.0, -1.0])[:, None, None].expand(3, 3, 139, 185)
    torch.testing.assert_close(batch["normals"], wall, atol=1e-3, rtol=0)


def test_smaller_pictures(folder):
    write(folder, contents())
    whole, half = small(height=139, width=185).data(0).test, small(height=24, width=32).data(0).test
    large, little = next(iter(whole)), next(iter(half))
    assert little["image"].shape == (3, 3, 24, 32)
    for name, value in little.items():
        assert value.shape[-2:] == (24, 32)
        assert value.dtype == (torch.int64 if name == "segmentation" else torch.float32)
    down, across = torch.tensor(nyuv2_zip.area(139, 24)), torch.tensor(nyuv2_zip.area(185, 32))
    torch.testing.assert_close(little["image"], down @ large["image"] @ across.T, atol=0.5 / 255 + 1e-5, rtol=0)
    rows, columns = nyuv2_zip.nearest_places(139, 24), nyuv2_zip.nearest_places(185, 32)
    assert torch.equal(little["segmentation"], large["segmentation"][:, rows][:, :, columns])
    torch.testing.assert_close(little["normals"].norm(dim=1), torch.ones(3, 24, 32))


def test_parts_depend_on_the_seed_and_only_training_is_augmented(folder):
    write(folder, contents())
    problem = small(height=24, width=32)
    splits = {problem.data(seed).origin["validation"] for seed in range(8)}
    assert len(splits) > 1
    data = problem.data(0)
    assert data.validation.augment is None
    assert data.test.augment is None
    same = [next(data.train.shuffled(torch.Generator().manual_seed(seed)))["image"] for seed in (0, 0, 1)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    plain = small(height=24, width=32, augmentation="none").data(0).train
    assert plain.augment is None
    assert all(torch.equal(plain.tensors[name], value) for name, value in data.train.tensors.items())
    limited = small(height=24, width=32, limit=1).data(0)
    assert [len(found) for found in limited.origin.values()] == [1, 1, 1]


def test_every_picture_keeps_its_number(folder):
    members = contents()
    for number in range(1, 10):
        kind = f"{'train' if number <= 6 else 'test'}/{number:04d}_seg13.png"
        members[kind] = picture(np.full((144, 192), number, np.uint8), kind)
    write(folder, members)
    for settings in ({}, {"limit": 2}):
        data = small(height=24, width=32, **settings).data(1)
        for part, numbers in data.origin.items():
            batches = list(getattr(data, part))
            found = torch.cat([batch["segmentation"] for batch in batches])[:, 0, 0] + 1
            assert found.tolist() == sorted(numbers)
    assert data.origin["test"] == {7, 8}
    assert small(height=24, width=32, limit=2).spread(9).tolist() == [0, 4]


def damaged(name):
    """Contents with one mistake."""
    members = contents(4, 2)
    grey, wide = np.full((144, 192), 30, np.uint8), np.full((72, 96, 3), 30, np.uint8)
    hole, label = grey.copy(), grey.copy()
    hole[50, 50], label[0, 0] = 0, 14
    label[1:] = 3
    label[0, 1:] = 3
    changes = {
        "lacks": lambda: members.pop("train/0003_depth.png"),
        "no part": lambda: [members.pop(key) for key in list(members) if key.startswith("test")],
        "size": lambda: members.update({"train/0002_rgb.jpg": picture(wide, "rgb.jpg")}),
        "mode": lambda: members.update({"train/0002_rgb.jpg": picture(grey, "rgb.jpg")}),
        "label": lambda: members.update({"train/0001_seg13.png": picture(label, "seg13.png")}),
        "hole": lambda: members.update({"test/0005_depth.png": picture(hole, "depth.png")}),
        "truncated": lambda: members.update({"train/0001_rgb.jpg": members["train/0001_rgb.jpg"][:300]}),
        "text": lambda: members.update({"train/0001_depth.png": b"not a picture"}),
    }
    changes[name]()
    return members


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("lacks", "lacks train/0003_depth.png"),
        ("no part", "holds no image test/NNNN_rgb.jpg"),
        ("size", "train/0002_rgb.jpg has 72 x 96 pixels of mode RGB, expected 144 x 192"),
        ("mode", "train/0002_rgb.jpg has 144 x 192 pixels of mode L, expected 144 x 192 of mode RGB"),
        ("label", "train/0001_seg13.png has the label 14, expected 0 to 13"),
        ("hole", "test/0005_depth.png has a depth of 0"),
        ("truncated", "train/0001_rgb.jpg is damaged"),
        ("text", "train/0001_depth.png is damaged"),
    ],
)
def test_wrong_archives(folder, mistake, message):
    write(folder, damaged(mistake))
    refused(small(height=24, width=32), message)


def refused(problem, message):
    with pytest.raises(AccordError) as error:
        problem.data(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_archives(folder):
    path = write(folder, contents(4, 2))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(small(), "cannot be read as a zip archive")
    path.unlink()
    refused(small(), "is not in")


def test_flipped_bits_are_noticed(folder):
    path = write(folder, contents(4, 2))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("train/0002_depth.png")
    content = bytearray(path.read_bytes())
    content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 255
    path.write_bytes(content)
    refused(small(height=24, width=32), "train/0002_depth.png is damaged")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nyuv2(height=8)", "height=8, expected 16 to 144 pixels"),
        ("nyuv2(width=400)", "width=400, expected 16 to 192 pixels"),
        ("nyuv2(augmentation='rotate')", "augmentation='rotate', expected one of crop-flip, none"),
        ("nyuv2(augmentation=1)", "expected a text"),
        ("nyuv2(validation=0)", "expected a whole number greater than 0"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(AccordError, match=message):
        parse(text)


def test_validation_must_leave_something(folder):
    write(folder, contents())
    refused(small(validation=6), "validation=6 of them leave none to train on")


def test_heads_have_the_width_of_the_features():
    model = NYUv2(encoder="segnet(width=4)", height=32, width=48).model(0)
    found = {name: tuple(p.shape) for name, p in model.named_parameters() if name.startswith("heads.") and p.ndim > 1}
    assert sorted(found.values()) == sorted([(4, 4, 3, 3)] * 3 + [(13, 4, 1, 1), (1, 4, 1, 1), (3, 4, 1, 1)])


@pytest.mark.parametrize(("problem", "count"), [(NYUv2MTAN, 44_229_073), (Cityscapes, 41_206_984)])
def test_the_published_networks_have_the_published_size(problem, count):
    with torch.device("meta"):
        model = problem().model(0)
    assert sum(p.numel() for p in model.parameters()) == count


def test_the_real_archive(monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))
    problem = NYUv2(limit=16, encoder="conv")
    try:
        data = problem.data(0)
    except AccordError as error:
        pytest.skip(str(error))
    path = Path(os.environ[VARIABLE]) / FILE
    assert {part: len(numbers) for part, numbers in nyuv2_zip.listing(path).items()} == {"train": 795, "test": 654}
    for part in (data.train, data.validation, data.test):
        batch = next(iter(part))
        assert batch["image"].min() >= 0
        assert batch["image"].max() <= 1
        assert set(batch["segmentation"].unique().tolist()) <= set(range(-1, 13))
        assert 0.7 < batch["depth"].min() < batch["depth"].max() < 10
        torch.testing.assert_close(batch["normals"].norm(dim=1), torch.ones(batch["depth"][:, 0].shape))
    test = next(iter(data.test))
    floor, ceiling = (test["normals"][:, 1][test["segmentation"] == kind].mean() for kind in (4, 2))
    assert floor < -0.7  # up
    assert ceiling > 0.5  # down
