"""E08: weights against their formulas, patches that do not leak, claims that flip, sabotages that show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import accord
from accord.studies import e08_image_to_image as e08
from accord.studies.photo_gan import Critic, Generator, coarse, draws, photos, quality, texture, tiles
from accord.studies.study import Results, Work


def made(*, gain=0.0, shortened=0.0, conflict=0.9, cosine=-0.5):
    """Results by hand: sums lie on a line of error and texture, priorities ``gain`` above it, at every ratio."""
    rows = []
    for seed in range(5):
        wiggle = 0.0001 * seed
        rows += [
            {"seed": seed, "method": "input", "L1": 0.2},
            {"seed": seed, "method": "L1 alone", "ratio": 0.0, "L1": 0.10, "texture": 0.1},
        ]
        for method, ratios in e08.RATIOS.items():
            for r in ratios:
                more = {e08.FIRST: gain, e08.MATCHED: shortened}.get(method, 0.0)
                error = 0.10 + 0.02 * min(r, 1.0)
                row = {"seed": seed, "method": method, "ratio": r, "L1": error}
                known = {"conflict": conflict - wiggle, "excess": conflict - 0.3 + wiggle, "cosine": cosine - wiggle}
                rows.append(row | known | {"texture": 0.1 + 20 * (error - 0.10) + more * (1 + wiggle)})
    return Results(rows)


def words(results):
    return {claim.name: claim.test.word for claim in e08.judge(results)}


def test_claims_can_turn_out_both_ways():
    names = ("conflict", "both", "chord", "direction")
    assert words(made(gain=0.1)) == dict.fromkeys(names, "supported")
    worse = made(gain=-0.09, shortened=0.1, conflict=0.2, cosine=0.3)
    assert words(worse) == dict.fromkeys(names, "not supported")


def test_points_on_the_line_of_the_sums_are_no_gain():
    """Equality is no gain worth having: that is known then, and not open; few seeds leave it open."""
    on = made()
    assert e08.above_the_chord(on) == pytest.approx(0.0, abs=1e-12)
    assert words(on)["chord"] == words(on)["direction"] == words(on)["both"] == "not supported"
    assert words(made(gain=e08.MORE / 2))["chord"] == "not supported"
    assert set(words(Results([r for r in made(gain=0.1).rows if r["seed"] < 4])).values()) == {"inconclusive"}


def test_conflict_that_noise_explains_is_none():
    rows = [row | {"excess": 0.001 * row["seed"] - 0.1} for row in made(gain=0.1).rows]
    assert words(Results(rows))["conflict"] == "not supported"


def test_a_priority_beyond_all_sums_has_no_chord():
    rows = [dict(row, L1=0.5) if row["method"] == e08.FIRST else row for row in made().rows]
    assert np.isnan(e08.above_the_chord(Results(rows))).all()
    assert words(Results(rows))["chord"] == "inconclusive"
    assert e08.volumes(Results(rows), e08.FIRST, e08.RATIOS[e08.FIRST]).tolist() == [0.0] * 5  # far too wrong


def test_too_much_texture_is_as_wrong_as_too_little():
    assert e08.missing(np.array([0.9, 1.1, 1.0])).round(12).tolist() == [0.1, 0.1, 0.0]


def rows_of(seed):
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ratio", [0.2, 1.0, 3.0])
def test_rescaled_is_what_vectors_give(seed, ratio):
    a, b = J = rows_of(seed)
    b = b * (ratio * a.norm() / b.norm())
    away = b - min(float(a @ b), 0.0) * a / (a @ a)  # what of b does not work against a
    direction = {rule: e08.Rescaled(rule, ratio)(J @ J.T) @ J for rule in (e08.SUM, e08.FIRST, e08.SURGERY)}
    assert torch.allclose(direction[e08.SUM], a + b)
    assert torch.allclose(direction[e08.FIRST], a + away)
    other = a - min(float(a @ b), 0.0) * b / (b @ b)
    assert torch.allclose(direction[e08.SURGERY], other + away)
    short = e08.Rescaled(e08.SUM, ratio, shortened=True)(J @ J.T) @ J
    assert torch.allclose(short, a + b * (away.norm() / b.norm()))


def test_rescaled_with_one_gradient_is_that_gradient():
    assert e08.Rescaled()(torch.ones(1, 1, dtype=torch.float64)).tolist() == [1.0]


def test_upgrad_is_pcgrad_for_two_tasks():
    """Why it is no control of its own: on the scale of a sum they are one direction."""
    for seed in range(6):
        J = rows_of(seed)
        G = J @ J.T
        assert torch.allclose(2 * accord.UPGrad()(G), accord.PCGrad()(G), atol=1e-8)


def test_no_pixel_of_validation_is_seen_in_training():
    one = photos(0)
    assert one.train.shape == (48 * 9, 1, 16, 16)
    assert one.validation.shape == (12 * 9, 1, 16, 16)
    assert one.elsewhere.shape == (60 * 9, 1, 16, 16)
    every = tiles("china.jpg")
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.validation, every[order[:12]].flatten(0, 1))
    assert not set(order[:12].tolist()) & set(order[12:].tolist())
    assert torch.equal(every[0, 0, 0, :, 8:], every[0, 1, 0, :, :8])  # neighbours in a tile overlap
    assert -1 <= one.train.min() < one.train.max() <= 1
    assert not torch.equal(one.validation, photos(1).validation)


def test_texture_is_that_of_a_slow_mean():
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    total = 0.0
    for i in range(1, 15):
        for j in range(1, 15):
            total += float(x[0, 0, i, j] - x[0, 0, i - 1 : i + 2, j - 1 : j + 2].mean()) ** 2
    assert float(texture(x)) == pytest.approx(total)
    truth = photos(0).validation
    assert float(texture(coarse(truth)).sum() / texture(truth).sum()) < 0.1  # coarse patches have little of it


def test_quality_of_a_generator_that_does_nothing():
    generator, truth = Generator(0), photos(0).validation
    for parameter in generator.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    error, share = quality(generator, truth)
    given = coarse(truth)
    assert error == pytest.approx(float((given - truth).abs().mean()))
    assert share == pytest.approx(float(texture(given).sum() / texture(truth).sum()))
    assert quality(generator, truth) == (error, share)  # the noise is the same in every call


def test_every_arm_has_the_same_batches_and_the_same_start():
    train = photos(0).train
    for a, b in zip(draws(train, 4, 3, 7), draws(train, 4, 3, 7), strict=True):
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("truth", "given", "first", "second"))
    assert all(torch.equal(a, b) for a, b in zip(Critic(3).parameters(), Critic(3).parameters(), strict=True))


def test_what_is_no_noise_does_not_change_it():
    """Two losses that oppose each other on every draw, agree with themselves, and grow longer a thousand times."""
    vectors = np.array([[1.0, 0.0], [-0.6, 0.8]] * 2)
    gramians = np.array([length * (vectors @ vectors.T) for length in (1e-3, 1e-1, 1.0, 10.0) for _ in range(3)])
    found = e08.without_noise(gramians)
    assert found["corrected cosine"] == pytest.approx(-0.6)
    assert (found["null conflict"], found["excess"]) == (0.0, 1.0)


def test_looks_for_the_null_change_nothing(monkeypatch):
    def arm():
        work = Work("sum", 0, smoke=True)
        return e08.train(work, photos(0), e08.SUM, 0.5, (e08.RECONSTRUCTION, e08.ADVERSARIAL))

    whole = arm()
    monkeypatch.setattr(e08, "twice", lambda generator, critic, batch: e08.losses(generator, critic, batch, ("L1",)))
    monkeypatch.setattr(e08, "without_noise", lambda gramians: {"looks": len(gramians)})
    other = arm()
    assert other["looks"] == 2
    assert (whole["L1"], whole["texture"]) == (other["L1"], other["texture"])


def test_what_is_broken_shows():
    def arm(broken="", label=e08.FIRST):
        work = Work("priority", 0, smoke=True, broken=broken)
        return e08.train(work, photos(0), label, 1.0, (e08.RECONSTRUCTION, e08.ADVERSARIAL))

    whole, alike = arm(), arm(e08.NO_OPPONENT)
    assert whole["cosine"] < 0 < alike["cosine"]  # two losses of one aim agree
    assert alike["conflict"] == 0.0
    off, plain = arm(e08.NO_PROJECTION), arm(label=e08.SUM)
    assert (off["L1"], off["texture"]) == (plain["L1"], plain["texture"])
    assert whole["texture"] != plain["texture"]
    assert not math.isnan(whole["ms/step"])
