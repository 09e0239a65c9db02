"""E09a, E09b and E09c: the judgement on numbers made by hand, the parts by slow formulas, and what sabotage changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import accord
from accord.studies import e09a_acgan, e09b_feature_matching, e09c_perceptual
from accord.studies.digit_gan import CLASSES, Batch, Fit, Gan, Generator, adversarial_g, constant, draw, features, scans
from accord.studies.digit_gan import train as train_gan
from accord.studies.gan_auxiliary import Strength, classifier_features, matching, paired
from accord.studies.gan_measures import Judge, at_equal_cost, conflict_row, corrected, over_the_sweep
from accord.studies.study import Results, Work

SEEDS = range(5)
WIGGLE = (-0.01, 0.005, 0.0, -0.005, 0.01)  # of the seeds, around each mean
TIMED = {"ms/step": 8.0, "steps": [500.0, 1000.0], "diversity curve": [1.2, 1.2]}  # twice as dear as a sum of 4 ms


def results(arms):
    """Rows of five seeds from means by arm and measure."""
    rows = []
    for seed in SEEDS:
        for arm, row in arms.items():
            noisy = {
                name: value if isinstance(value, list) else value + WIGGLE[seed] * (1 + i)
                for i, (name, value) in enumerate(row.items())
            }
            rows.append({"seed": seed, "arm": arm, **noisy})
    return Results(rows)


def words(study, arms):
    return {claim.name: claim.test.word for claim in study.STUDY.judge(results(arms))}


def acgan(**changes):
    """Numbers as the survey would have them; with changes of single arms by measure."""
    arms = {
        e09a_acgan.sweep(weight): {
            "diversity": 0.6 - 0.08 * weight, "class accuracy": 0.8 + 0.03 * weight,
            "G cosine": -0.1 * weight, "G corrected": -0.12 * weight, "D corrected": -0.3,
        }
        for weight in e09a_acgan.WEIGHTS
    }  # fmt: skip
    arms[e09a_acgan.PROTECT] = {"diversity": 0.55, "class accuracy": 0.94} | TIMED
    arms[e09a_acgan.MATCHED] = {"diversity": 0.55, "class accuracy": 0.94}
    arms[e09a_acgan.sweep(5.0)] |= {"ms/step": 4.0}
    names = {
        "PROTECT": e09a_acgan.PROTECT, "MATCHED": e09a_acgan.MATCHED,
        "ONE": e09a_acgan.sweep(1.0), "HIGH": e09a_acgan.sweep(5.0),
    }  # fmt: skip
    for arm, changed in changes.items():
        arms[names[arm]] |= changed
    return words(e09a_acgan, arms)


def test_acgan_as_the_survey_says():
    assert set(acgan().values()) == {"supported"}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("diversity", {"HIGH": {"diversity": 0.7}}),
        ("conflict in the generator", {"HIGH": {"G cosine": 0.2}}),
        ("conflict in the discriminator", {"ONE": {"D corrected": 0.0}}),
        ("projection", {"PROTECT": {"diversity": 0.2}}),
        ("projection", {"PROTECT": {"diversity": 0.45, "class accuracy": 0.8}}),  # a smaller weight does as well
        ("projection", {"PROTECT": {"diversity curve": [0.2, 0.55]}}),  # good, but too dear
        ("projection", {"MATCHED": {"diversity": 0.2}}),  # good, as its steps are shorter
        ("projection", {"MATCHED": {"diversity": 0.45, "class accuracy": 0.8}}),
    ],
)
def test_acgan_otherwise(claim, changes):
    assert acgan(**changes)[claim] == "not supported"


def test_undefined_numbers_decide_nothing():
    found = acgan(ONE={"D corrected": math.nan})
    assert found["conflict in the discriminator"] == "inconclusive"


def feature_matching(**changes):
    study = e09b_feature_matching
    curve = {"steps": [100.0, 200.0], "ms/step": 1.0}
    arms = {
        study.ALONE: {"distance": 1.0, "distance curve": [1.5, 1.0]} | curve,
        study.sweep(1.0): {
            "distance": 0.5, "distance curve": [0.7, 0.5], "G cosine": 0.9, "G corrected": 0.9, "G conflict": 0.0,
        } | curve,
        study.SURGERY: {"distance": 0.5},
    }  # fmt: skip
    for arm, changed in changes.items():
        arms[{"ONE": study.sweep(1.0), "SURGERY": study.SURGERY}[arm]] |= changed
    rows = []
    for seed in SEEDS:
        for arm, row in arms.items():
            noisy = {k: v if isinstance(v, list) else v * (1 + WIGGLE[seed] / 10) for k, v in row.items()}
            rows.append({"seed": seed, "arm": arm, **noisy})
    return {claim.name: claim.test.word for claim in study.judge(Results(rows))}


def test_feature_matching_as_the_survey_says():
    assert set(feature_matching().values()) == {"supported"}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("synergy", {"ONE": {"G cosine": 0.1}}),
        ("synergy", {"ONE": {"G corrected": 0.1}}),  # what is agreement of noise only
        ("no conflict", {"ONE": {"G conflict": 0.4}}),
        ("nothing for surgery", {"SURGERY": {"distance": 0.8}}),
        ("better samples", {"ONE": {"distance curve": [2.0, 2.0]}}),
        ("better samples", {"ONE": {"ms/step": 100.0, "distance curve": [2.0, 0.5]}}),  # good, but too dear
    ],
)
def test_feature_matching_otherwise(claim, changes):
    assert feature_matching(**changes)[claim] == "not supported"


def perceptual(**changes):
    study = e09c_perceptual
    arms = {
        "matching, 256 points": {"ratio": 0.05},
        "perceptual, 256 points": {"ratio": 0.5},
        study.ALONE: {
            "early perceptual": 0.9, "late perceptual": -0.3, "late matching": 0.4, "diversity": 0.9, "nearness": -0.5,
        },
        study.MATCHING: {"diversity": 0.9, "missing": 0.1},
        study.PROTECT: {"diversity": 0.85, "nearness": -0.55} | TIMED,
        study.MATCHED: {"diversity": 0.85, "nearness": -0.55},
        **{study.sweep(w): {"diversity": 0.6 - 0.2 * w, "nearness": -0.7, "missing": 0.9} for w in study.WEIGHTS},
    }  # fmt: skip
    arms[study.ONE] |= {"ms/step": 4.0}
    names = {
        "RATIO": "perceptual, 256 points", "ALONE": study.ALONE, "ONE": study.ONE, "PROTECT": study.PROTECT,
        "MATCHED": study.MATCHED,
    }  # fmt: skip
    for arm, changed in changes.items():
        arms[names[arm]] |= changed
    return words(study, arms)


def test_perceptual_loss_as_the_survey_says():
    found = perceptual()
    assert found.pop("projection") == "not supported"  # no better than no perceptual loss at all
    assert set(found.values()) == {"supported"}
    better = {"PROTECT": {"diversity": 1.2}, "MATCHED": {"diversity": 1.2}}
    assert perceptual(**better)["projection"] == "supported"
    for arm, worse in (("MATCHED", {"diversity": 0.6}), ("PROTECT", {"diversity": 1.2, "diversity curve": [0.2, 1.2]})):
        assert perceptual(**{**better, arm: worse})["projection"] == "not supported"  # shorter steps, or dearer ones


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("equilibrium", {"RATIO": {"ratio": 0.05}}),  # what the sabotage does
        ("no conflict early", {"ALONE": {"early perceptual": -0.2}}),
        ("less agreement later", {"ALONE": {"late perceptual": 0.6}}),
        ("variety", {"ONE": {"diversity": 1.2}}),
        ("missing digits", {"ONE": {"missing": 0.0}}),
    ],
)
def test_perceptual_loss_otherwise(claim, changes):
    assert perceptual(**changes)[claim] == "not supported"


def test_the_noise_of_the_draw_is_taken_out():
    """Signals with cosine -0.6 under noise three times as long: the raw cosine is near 0, the corrected one is not."""
    generator = np.random.default_rng(0)
    first, second = np.array([1.0, *[0.0] * 49]), np.array([-0.6, 0.8, *[0.0] * 48])
    halves = []
    for _ in range(4000):
        rows = np.stack([first, second, first, second]) + 3 * generator.standard_normal((4, 50)) / 50**0.5
        halves.append(rows @ rows.T)
    assert abs(np.mean([h[0, 1] / math.sqrt(h[0, 0] * h[1, 1]) for h in halves]) + 0.06) < 0.02
    assert corrected(np.array(halves)) == pytest.approx(-0.6, abs=0.05)
    assert math.isnan(corrected(-np.eye(4)[None] - 1))  # a loss that does not agree with itself


def test_rows_of_looks():
    """Cosine -1 with norms 2 and 1: the projection leaves nothing, and half of the losses agree with themselves."""
    gramian = np.array([[[4.0, -2.0], [-2.0, 1.0]]] * 4)
    halves = np.array([[[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [-1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]] * 4)
    row = conflict_row(Fit(looks={"D": gramian}, halves={"D": halves}), "D")
    assert (row["D conflict"], row["D norm ratio"], row["D floor"]) == (1.0, 2.0, 0.5)
    assert row["D survival"] == pytest.approx(0.0, abs=1e-6)


def test_losses_and_measures_by_slow_formulas():
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real, fake = x[:3], x[3:]
    slow = sum(float((real[i] - fake[i]).square().sum()) for i in range(3)) / 3
    assert float(paired(real, fake)) == pytest.approx(slow)
    assert float(matching(real, fake)) == pytest.approx(sum(float((real - fake)[:, j].mean()) ** 2 for j in range(4)))
    data = scans(3)
    judge = Judge(data, 0)
    assert judge.missing(data.x) < 0.01
    assert judge.missing(data.x[:1].expand(500, 64)) > 2  # one digit only
    assert judge.distance(data.x) < 0.02 < judge.distance(data.x * 0.5)
    assert judge.diversity(data.x[:1].expand(50, 64) + 1e-3 * torch.rand(50, 64), torch.zeros(50)) < 0.01


def test_equal_cost_and_the_sweep():
    rows = [
        {"arm": "dear", "ms/step": 2.0, "steps": [100, 200], "y curve": [1.0, 3.0]},
        {"arm": "cheap", "ms/step": 1.0, "steps": [100, 200], "y curve": [0.0, 1.0]},
        {"arm": "low", "x": 0.0, "y": 1.0}, {"arm": "high", "x": 1.0, "y": 0.0}, {"arm": "mine", "x": 0.5, "y": 0.75},
    ]  # fmt: skip
    found = Results({"seed": 0, **row} for row in rows)
    assert at_equal_cost(found, "y curve", "dear", "cheap").tolist() == [1.0]  # after half of its steps
    assert at_equal_cost(found, "y curve", "cheap", "dear").tolist() == [1.0]  # never longer than it ran
    assert over_the_sweep(found, "mine", ["low", "high"], "x", "y").tolist() == [0.25]


def test_arms_see_the_same_and_looks_change_nothing():
    data = scans(0)
    one, two = Gan(5, told=True), Gan(5, told=True, method="PCGrad()")
    assert all(torch.equal(a, b) for a, b in zip(one.g.parameters(), two.g.parameters(), strict=True))
    first, second = (draw(gan, data, torch.Generator().manual_seed(1)) for gan in (one, two))
    assert torch.equal(first.real, second.real)
    assert torch.equal(first.fake, second.fake)

    def end(look):
        gan = Gan(0)
        losses = e09b_feature_matching.GeneratorLosses("sum", Strength(1.0), nn.Identity(), "")
        train_gan(gan, data, 0, losses, e09b_feature_matching.losses_d, steps=6, look_every=look, check_every=6)
        return torch.cat([p.flatten() for p in gan.g.parameters()])

    assert torch.equal(end(2), end(5))


def test_a_copy_goes_on_as_the_original_does():
    data = scans(0)
    losses = e09b_feature_matching.GeneratorLosses(e09b_feature_matching.ALONE, Strength(0.0), nn.Identity(), "")

    def go(gan):  # an arm that goes on must not change what the next one starts from
        train_gan(gan, data, 1, losses, e09b_feature_matching.losses_d, steps=4, look_every=10, check_every=4)
        return torch.cat([p.flatten() for p in gan.g.parameters()])

    gan = Gan(0)
    go(gan)
    copy = Gan(9).go_on(gan)
    assert torch.equal(go(copy), go(gan))


def test_the_discriminator_is_a_constant_for_the_generator():
    gan, data = Gan(0), scans(0)
    batch = draw(gan, data, torch.Generator().manual_seed(0))
    with constant(gan.d):
        gan.balance_g.backward({"adversarial": adversarial_g(gan, features(gan, batch)[1])})
    assert all(p.grad is None for p in gan.d.parameters())
    assert all(p.grad is not None for p in gan.g.parameters())
    assert all(p.requires_grad for p in gan.d.parameters())


def test_halves_have_nothing_in_common():
    x = torch.arange(8.0)[:, None].expand(8, 64)
    batch = Batch(x, torch.arange(8), x, torch.arange(8), torch.zeros(2, 8, 64))
    first, second = batch.halves()
    assert set(first.labels.tolist()) | set(second.labels.tolist()) == set(range(8))
    assert not set(first.labels.tolist()) & set(second.labels.tolist())
    assert Generator(told=True)(torch.zeros(2, 16), torch.tensor([0, CLASSES - 1])).shape == (2, 64)


def test_shuffled_labels_say_nothing():
    """E09a, broken on purpose: the discriminator's class head no longer learns which digit it sees."""
    data = scans(0)

    def seen(broken):
        gan = Gan(0, told=True)
        losses = e09a_acgan.losses(e09a_acgan.CLASSES_ALONE, broken)
        train_gan(gan, data, 0, *losses, steps=60, look_every=1000, check_every=60)
        with torch.no_grad():
            return float((gan.d.digit(gan.d.trunk(data.x)).argmax(1) == data.y).double().mean())

    assert seen("") > 0.5
    assert seen("labels shuffled") < 0.3


def test_matching_negatives_pulls_elsewhere():
    """E09b, broken on purpose: what is measured changes."""
    data, gan = scans(0), Gan(0)
    batch = draw(gan, data, torch.Generator().manual_seed(0))
    right, wrong = (
        e09b_feature_matching.GeneratorLosses("sum", Strength(1.0), nn.Identity(), broken)(gan, batch)["matching"]
        for broken in ("", next(iter(e09b_feature_matching.STUDY.sabotages)))
    )
    assert not torch.equal(right, wrong)


def test_the_sabotage_of_the_perceptual_loss_rests_at_real_scans():
    """E09c: with means compared, the ratio at real scans falls to that of matching."""

    def ratio(broken):
        data = scans(0)
        phi = classifier_features(data, 0, steps=100)
        rows = e09c_perceptual.at_real_scans(data, phi, Work(e09c_perceptual.STATIC, 0, smoke=True, broken=broken))
        return {row["arm"]: row["ratio"] for row in rows}

    whole, broken = ratio(""), ratio("means compared")
    assert whole["perceptual, 256 points"] > 2 * broken["perceptual, 256 points"]
    assert broken["perceptual, 256 points"] < 1.5 * broken["matching, 256 points"]


@pytest.mark.parametrize("study", [e09a_acgan, e09b_feature_matching, e09c_perceptual])
def test_arms_name_methods_that_exist(study):
    for method, _, _ in study.ARMS.values():
        accord.Balancer(nn.Linear(1, 1), method)
    assert study.STUDY.sabotages
    assert {control.name for control in study.STUDY.controls} >= {study.ALONE, study.SURGERY, study.MATCHED}


def test_the_strength_is_set_equally_often_whatever_the_method():
    """Surgery has a Gramian in every step, the sum only at looks: more corrections would be another treatment."""
    factors = {}
    for method in ("Sum()", "PCGrad()"):
        torch.manual_seed(0)
        layer, strength = nn.Linear(2, 1), Strength(0.5, every=4)
        balancer = accord.Balancer(layer, method)
        accord.Monitor(layer, every=4).attach(balancer)
        changes = []
        for _ in range(9):
            out = layer(torch.randn(3, 2))
            before = strength.factor
            strength(balancer.backward({"first": out.sum(), "second": strength.factor * 30 * out.square().sum()}))
            layer.zero_grad()
            changes.append(strength.factor != before)
        factors[method] = strength.factor
        assert [i for i, changed in enumerate(changes) if changed] == [0, 4, 8]
    assert factors["Sum()"] == pytest.approx(factors["PCGrad()"], rel=1e-5)
