"""Losses, measures and augmentation of dense prediction, against slow and obvious versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, log_softmax, nll_loss

from accord.problems import dense
from accord.problems.crop_flip import SCALES, crop_flip

TASKS = ("segmentation", "depth", "normals")
CLASSES = 5


class Given(nn.Module):
    """A model whose outputs lie in the channels of its images."""

    def forward(self, image):
        logits, depth, normals = image.split((CLASSES, 1, 3), 1)
        return {"segmentation": logits, "depth": depth, "normals": normals}


def example(count=7, height=6, width=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    normals = torch.randn(count, 3, height, width, generator=g)
    normals = normals / normals.norm(dim=1, keepdim=True)
    missing = torch.rand(count, 1, height, width, generator=g) < 0.3
    depth = 1 + torch.rand(count, 1, height, width, generator=g)
    return {
        "image": torch.randn(count, CLASSES + 4, height, width, generator=g),
        "segmentation": torch.randint(-1, CLASSES, (count, height, width), generator=g),
        "depth": depth.masked_fill(torch.rand(depth.shape, generator=g) < 0.2, 0),
        "normals": normals.masked_fill(missing, 0),
    }


def pixels(batch):
    """Predictions and targets, pixel by pixel: logits, label, depth, depth, direction, normal."""
    count, _, height, width = batch["image"].shape
    for n in range(count):
        for h in range(height):
            for w in range(width):
                out = batch["image"][n, :, h, w].double().numpy()
                yield (
                    out[:CLASSES], int(batch["segmentation"][n, h, w]), out[CLASSES], float(batch["depth"][n, 0, h, w]),
                    out[-3:], batch["normals"][n, :, h, w].double().numpy(),
                )  # fmt: skip


def slow(batch):
    """All measures and losses, one pixel at a time."""
    right, pairs, likelihood = 0, [], []
    errors, relative, angle, cosine = [], [], [], []
    for logits, label, depth, true, direction, normal in pixels(batch):
        if label >= 0:
            pairs.append((label, int(logits.argmax())))
            right += pairs[-1][0] == pairs[-1][1]
            likelihood.append(math.log(np.exp(logits).sum()) - logits[label])
        if true:
            errors.append(abs(depth - true))
            relative.append(errors[-1] / true)
        if normal.any():
            cosine.append(float(direction @ normal) / math.sqrt(direction @ direction))
            angle.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine[-1])))))
    overlaps = []
    for kind in range(CLASSES):
        both = sum(a == b == kind for a, b in pairs)
        either = sum(kind in pair for pair in pairs)
        if either:
            overlaps.append(both / either)
    shares = {name: np.mean([a < limit for a in angle]) for name, limit in dense.WITHIN.items()}
    loss = np.mean(likelihood)
    return {
        "segmentation": {"miou": np.mean(overlaps), "pixel_accuracy": right / len(pairs), "loss": loss},
        "depth": {"abs_error": np.mean(errors), "rel_error": np.mean(relative), "loss": np.mean(errors)},
        "normals": {
            "mean_angle": np.mean(angle), "median_angle": np.median(angle), **shares, "loss": 1 - np.mean(cosine),
        },
    }  # fmt: skip


def cut(batch, size):
    return [
        {name: tensor[start : start + size] for name, tensor in batch.items()}
        for start in range(0, len(batch["image"]), size)
    ]


@pytest.mark.parametrize("size", [7, 3, 1])
def test_measures_are_those_of_single_pixels_however_they_are_cut_into_batches(size):
    batch = example()
    batch["segmentation"][batch["segmentation"] == 2] = 1  # a class that is predicted, and never right
    found, expected = dense.metrics(Given(), cut(batch, size), TASKS), slow(batch)
    assert found.keys() == expected.keys()
    for task in TASKS:
        assert found[task] == pytest.approx(expected[task], rel=1e-5)
        assert set(dense.MEASURES[task]) | {"loss"} == set(found[task])


def test_classes_that_occur_nowhere_do_not_count():
    batch = example()
    batch["segmentation"] = torch.where(batch["segmentation"] >= 3, 0, batch["segmentation"])
    batch["image"][:, 3:CLASSES] = -9.0
    found = dense.metrics(Given(), [batch], TASKS)["segmentation"]
    assert found["miou"] == pytest.approx(slow(batch)["segmentation"]["miou"])
    assert len(dense.confusion(batch["image"][:, :CLASSES], batch["segmentation"])) == CLASSES


def test_losses_are_those_of_single_pixels_and_of_the_public_code():
    batch = example(seed=1)
    found, expected = dense.losses(Given(), batch, TASKS), slow(batch)
    for task in TASKS:
        assert float(found[task]) == pytest.approx(expected[task]["loss"], rel=1e-5)
    public = nll_loss(log_softmax(batch["image"][:, :CLASSES], 1), batch["segmentation"], ignore_index=-1)
    torch.testing.assert_close(found["segmentation"], public)


def test_perfect_predictions():
    batch = example(seed=2)
    onehot = torch.nn.functional.one_hot(batch["segmentation"].clamp(min=0), CLASSES).movedim(3, 1) * 50.0
    batch["image"] = torch.cat([onehot, batch["depth"], 3 * batch["normals"]], 1)
    found = dense.metrics(Given(), [batch], TASKS)
    for task, measures in dense.MEASURES.items():
        for name, higher in measures.items():
            assert found[task][name] == pytest.approx(1.0 if higher else 0.0, abs=1e-4)
        assert found[task]["loss"] == pytest.approx(0.0, abs=1e-6)


def test_small_angles_are_exact():
    for degrees in (0.001, 0.1, 11.25, 90.0, 179.9):
        angle = math.radians(degrees)
        found = torch.tensor([math.sin(angle), 0, math.cos(angle)], dtype=torch.float64).view(1, 3, 1, 1)
        true = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        assert float(dense.angles(found.float() * 7, true)) == pytest.approx(degrees, rel=1e-4)


def test_without_valid_pixels_losses_and_gradients_are_zero_and_measures_undefined():
    batch = example()
    batch["segmentation"].fill_(dense.IGNORE)
    batch["depth"].zero_()
    batch["normals"].zero_()
    batch["image"].requires_grad_()
    losses = dense.losses(Given(), batch, TASKS)
    assert not any(loss.any() for loss in losses.values())
    sum(losses.values()).backward()
    assert not batch["image"].grad.any()
    found = dense.metrics(Given(), [batch], TASKS)
    assert all(math.isnan(value) for measures in found.values() for value in measures.values())


def test_a_normal_whose_parts_add_up_to_zero_is_valid():
    batch = example(1, 1, 1)
    batch["normals"] = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1) / math.sqrt(2)
    batch["image"][0, -3:, 0, 0] = torch.tensor([1.0, 0.0, 1.0])
    assert float(dense.losses(Given(), batch, TASKS)["normals"]) == pytest.approx(1.0)
    assert dense.metrics(Given(), [batch], TASKS)["normals"]["mean_angle"] == pytest.approx(90.0)


def test_a_prediction_of_length_zero_has_a_finite_gradient():
    direction = torch.zeros(1, 3, 2, 2, requires_grad=True)
    dense.normals_loss(direction, example(1, 2, 2)["normals"]).backward()
    assert direction.grad.isfinite().all()


# Augmentation


def stored(count=40, height=12, width=18):
    """As problems hold it: every pixel has its own depth and class, the image is affine in the place."""
    place = torch.arange(height * width).view(1, height, width).expand(count, -1, -1)
    row, column = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    image = torch.stack([row, column, torch.zeros_like(row)]).expand(count, -1, -1, -1)
    normals = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(3)).half()
    return {"image": image, "segmentation": place, "depth": 1.0 + place[:, None], "normals": normals}


def drawn(count, seed):
    """Scale, place and mirroring of each image, drawn as ``crop_flip`` does."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor(SCALES, dtype=torch.float64)[torch.randint(3, (count,), generator=g)]
    place = torch.rand(2, count, generator=g, dtype=torch.float64)
    return scale.tolist(), place.tolist(), (torch.rand(count, generator=g) < 0.5).tolist()


def test_crops_are_those_of_the_public_code():
    batch = stored()
    count, _, height, width = batch["image"].shape
    found = crop_flip(batch, torch.Generator().manual_seed(4))
    scales, (down, across), mirrored = drawn(count, 4)
    assert set(scales) == set(SCALES)
    assert {True, False} == set(mirrored)
    for n, s in enumerate(scales):
        h, w = int(height / s), int(width / s)
        i, j = int(down[n] * (height - h + 1)), int(across[n] * (width - w + 1))
        window = slice(i, i + h), slice(j, j + w)

        def smooth(name, n=n, window=window):
            part = batch[name][n][:, *window].float()
            return interpolate(part[None], (height, width), mode="bilinear", align_corners=True)[0]

        rows = [i + r * h // height for r in range(height)]
        columns = [j + c * w // width for c in range(width)]
        image, normals = smooth("image"), smooth("normals")
        label = batch["segmentation"][n][rows][:, columns]
        depth = batch["depth"][n, 0][rows][:, columns] / s
        if mirrored[n]:
            image, normals, label, depth = (part.flip(-1) for part in (image, normals, label, depth))
            normals = normals * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        torch.testing.assert_close(found["image"][n], image, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found["normals"][n], normals, atol=1e-4, rtol=1e-4)
        assert torch.equal(found["segmentation"][n], label)
        torch.testing.assert_close(found["depth"][n, 0], depth, check_dtype=False)


def test_images_and_targets_stay_together():
    batch = stored()
    found = crop_flip(batch, torch.Generator().manual_seed(5))
    width = batch["image"].shape[3]
    row, column = found["segmentation"] // width, found["segmentation"] % width
    assert (found["image"][:, 0] - row).abs().max() <= 1.0  # bilinear and nearest differ by less than a pixel
    assert (found["image"][:, 1] - column).abs().max() <= 1.0
    scale = (1.0 + found["segmentation"]) / found["depth"][:, 0]
    assert torch.allclose(scale, scale[:, :1, :1])
    assert {round(float(s), 4) for s in scale[:, 0, 0]} == set(SCALES)


def test_augmentation_is_a_function_of_the_generator_and_leaves_its_input():
    batch = stored()
    kept = {name: tensor.clone() for name, tensor in batch.items()}
    state = torch.get_rng_state()
    first, again, other = (crop_flip(batch, torch.Generator().manual_seed(seed)) for seed in (6, 6, 7))
    assert all(torch.equal(first[name], again[name]) for name in batch)
    assert not torch.equal(first["segmentation"], other["segmentation"])
    assert all(torch.equal(batch[name], kept[name]) for name in batch)
    assert torch.equal(torch.get_rng_state(), state)
    without = {name: tensor for name, tensor in batch.items() if name != "normals"}
    assert torch.equal(crop_flip(without, torch.Generator().manual_seed(6))["image"], first["image"])
