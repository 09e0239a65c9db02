"""E02: the rules of judgement on made-up numbers, the weights of each arm, and that what is broken is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import accord
from accord.studies import e02_loss_scales as study
from accord.studies import patients
from accord.studies.study import Results, Work

SEEDS = range(5)
LOOP = "uncertainty from 0, in the loop"


def rows(seed, changed):
    """What the pilots of the specification saw, with a little noise; ``changed`` replaces measures of an arm."""
    noise = 0.002 * np.random.default_rng(seed).standard_normal()
    base = {"sum": (3393.0, 0.545), "inverse gradient": (3332.0, 0.697), "uncertainty": (5512.0, 0.69),
            LOOP: (5484.0, 0.69)} | {f"static {name}": (3340.0, 0.69) for name in study.STATIC}  # fmt: skip
    out = []
    for optimizer in ("SGD", "Adam"):
        for arm, (t1, t2) in base.items():
            row = {
                "seed": seed,
                "arm": arm,
                "optimizer": optimizer,
                "T1 loss": t1 * (1 + noise),
                "decades": 0.1 + noise,
            }
            row |= {"T2 accuracy": t2 + noise, "validation": 1.5 + (arm != "static 1"), "T1 over variance": t1 / 5700}
            row |= {"ms/step": 1.0 if arm == "sum" else 2.0, "checks": [400, 800]} | changed.get(arm, {})
            way = {f"{name} curve": [row[name], row[name]] for name in ("T1 loss", "T2 accuracy")}
            out.append(way | row)
    return out


def words(seeds=SEEDS, **changed):
    named = {name.replace("_", " "): values for name, values in changed.items()}
    results = Results(row for seed in seeds for row in rows(seed, named))
    return {claim.name: claim.test.word for claim in study.judge(results)}


EXPECTED = {
    "inverse gradient": "supported", "at no cost": "supported", "under Adam": "supported",
    "static does as well": "supported", "uncertainty is sane": "supported", "log terms suffice": "not supported",
}  # fmt: skip


def test_the_numbers_of_the_pilots():
    assert words() == EXPECTED


@pytest.mark.parametrize(
    ("changed", "claims"),
    [
        ({"sum": {"T2 accuracy": 0.69}}, {"inverse gradient", "under Adam"}),
        ({"sum": {"T1 loss": 2500.0}}, {"at no cost"}),
        ({"static_1": {"T2 accuracy": 0.55}}, {"static does as well"}),
        ({"static_1": {"T1 loss": 5000.0}}, {"static does as well"}),
        ({"uncertainty": {"decades": -2.5}}, {"uncertainty is sane"}),
    ],
)
def test_each_claim_could_have_turned_out_otherwise(changed, claims):
    found = words(**changed)
    assert {name for name, word in found.items() if word != EXPECTED[name]} == claims
    assert all(found[name] == "not supported" for name in claims)


EARLY = {"T2 accuracy curve": [0.55, 0.7], "ms/step": 2.0}  # as good as the pilot's, but only in the end


@pytest.mark.parametrize(("cost", "word"), [(2.0, "not supported"), (1.0, "supported"), (0.5, "supported")])
def test_a_gain_that_is_bought_with_time_is_none(cost, word):
    found = words(inverse_gradient=EARLY | {"ms/step": cost})
    claims = ("inverse gradient", "under Adam")
    assert {name: found[name] for name in EXPECTED} == EXPECTED | dict.fromkeys(claims, word)


def test_at_equal_cost_is_read_between_two_looks():
    changed = {"inverse gradient": EARLY | {"ms/step": 4 / 3}}  # 600 of 800 steps
    results = Results(row for seed in SEEDS for row in rows(seed, changed))
    found = study.at_equal_cost(results, "T2 accuracy", "inverse gradient", "SGD")
    assert found == pytest.approx([0.625] * 5)
    own = study.at_equal_cost(results, "T2 accuracy", "sum", "SGD")
    assert own.tolist() == results.values("T2 accuracy", arm="sum", optimizer="SGD").tolist()


def trained(monkeypatch, every, rate=1e-3):
    monkeypatch.setattr(study, "STEPS", 7)
    monkeypatch.setattr(study, "CHECK_EVERY", every)
    arm, data = study.arms("weightings", 5700.0)[0], patients.data(0)
    return study.train(Work("SGD weightings", 0), data, arm, "SGD", rate)


def test_looks_on_the_way_change_nothing_but_the_way(monkeypatch):
    often, seldom = (trained(monkeypatch, every) for every in (1, 3))
    own = {"ms/step", "checks", "T1 loss curve", "T2 accuracy curve"}
    assert {k: v for k, v in often.items() if k not in own} == {k: v for k, v in seldom.items() if k not in own}
    assert often["checks"] == [1, 2, 3, 4, 5, 6, 7]
    assert seldom["checks"] == [3, 6, 7]
    for name in ("T1 loss", "T2 accuracy"):
        assert [often[f"{name} curve"][t - 1] for t in seldom["checks"]] == seldom[f"{name} curve"]
        assert seldom[f"{name} curve"][-1] == seldom[name]


def test_what_diverges_has_a_whole_way_too(monkeypatch):
    row = trained(monkeypatch, 2, rate=1e30)
    assert row["validation"] == np.inf
    assert len(row["T1 loss curve"]) == len(row["T2 accuracy curve"]) == len(row["checks"]) == 4


def test_a_regression_that_is_learned_supports_the_log_terms():
    results = [row for seed in SEEDS for row in rows(seed, {LOOP: {"T1 over variance": 0.6}})]
    assert {c.name: c.test.word for c in study.judge(Results(results))}["log terms suffice"] == "supported"


def test_few_seeds_decide_nothing():
    assert set(words(range(4)).values()) == {"inconclusive"}


def test_the_static_weights_are_chosen_on_validation_alone():
    """The arm that is best on test patients is not taken, if validation prefers another."""
    changed = {"static 3": {"T2 accuracy": 0.9, "validation": 9.0}}
    results = Results(row for seed in SEEDS for row in rows(seed, changed))
    assert study.tuned(results, "T2 accuracy").max() < 0.75


def test_parts_are_disjoint_and_scaled_by_the_training_part():
    found = patients.data(3)
    parts = (found.train, found.validation, found.test)
    assert [len(part.x) for part in parts] == [220, 80, 142]
    assert torch.cat([part.x for part in parts]).unique(dim=0).shape == (442, 9)
    assert torch.allclose(found.train.x.mean(dim=0), torch.zeros(9), atol=1e-5)
    assert torch.allclose(found.train.x.std(dim=0, correction=0), torch.ones(9), atol=1e-5)
    assert found.chance["T1"] == pytest.approx(float(found.train.progression.double().var(correction=0)))


def test_shuffling_keeps_everything_but_the_order_of_the_sexes():
    whole, broken = patients.data(0), patients.data(0, shuffled=True)
    assert torch.equal(whole.train.x, broken.train.x)
    assert torch.equal(whole.test.progression, broken.test.progression)
    counts = [sum(int(part.sex.sum()) for part in (d.train, d.validation, d.test)) for d in (whole, broken)]
    assert counts[0] == counts[1]
    assert not torch.equal(whole.train.sex, broken.train.sex)


def test_inverse_losses_are_the_optimum_of_uncertainty_weighting():
    """At s = log L, the library's method and the closed form weigh alike."""
    net, data = patients.Net(0), patients.data(0)
    losses = net.losses(data.train)
    factor = study.inverse_loss(net, losses)
    method = accord.UncertaintyWeighting()
    weights = method(losses=torch.stack([losses[task].detach() for task in patients.TASKS]))
    assert torch.allclose(weights.double(), torch.stack([factor[task] for task in patients.TASKS]).double())


def test_the_learned_log_variance_has_the_gradient_of_the_paper():
    """``d/ds (exp(-s) L / 2 + s / 2) = (1 - exp(-s) L) / 2``: s = 0 and a loss in thousands is a huge first step."""
    arm = next(arm for arm in study.arms("uncertainty", 5700.0) if arm.noise)
    net, data = patients.Net(0, noise=True), patients.data(0)
    losses = net.losses(data.train)
    accord.Balancer(net, "Sum()").backward(arm.weighted(net, losses))
    assert net.s1.grad == pytest.approx(0.5 - 0.5 * float(losses["T1"]), rel=1e-5)
    assert net.s2.grad == pytest.approx(0.5 - float(losses["T2"]), rel=1e-4)


def test_without_weighting_the_arm_is_the_sum():
    found = {row["arm"]: row for row in study.measure(Work("SGD weightings", 0, smoke=True, broken="no weighting"))}
    whole = {row["arm"]: row for row in study.measure(Work("SGD weightings", 0, smoke=True))}
    assert found["inverse gradient"]["T1 loss"] == found["sum"]["T1 loss"] == whole["sum"]["T1 loss"]
    assert whole["inverse gradient"]["T1 loss"] != whole["sum"]["T1 loss"]
