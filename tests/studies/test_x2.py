"""X2: verdicts from numbers made by hand, both ways; what is broken on purpose; UPGrad is PCGrad for two tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import accord
from accord.studies import two_digits, x2_harm
from accord.studies.study import Results, Work

import inputs

# first-order harm (aggregate, step) by arm and optimiser, as pilots found it
FOUND = {
    "SGD": {"Sum()": (0.1, 0.1), "PCGrad()": (0.0, 0.0)},
    "momentum": {"Sum()": (0.1, 0.3), "PCGrad()": (0.0, 0.25)},
    "Adam": {"Sum()": (0.1, 0.5), "PCGrad()": (0.0, 0.4)},
    "Adam b1=0": {"Sum()": (0.1, 0.2), "PCGrad()": (0.0, 0.0)},
    "Muon": {"Sum()": (0.1, 0.4), "PCGrad()": (0.0, 0.3)},
}


def results(change=(), losses=(), seeds=5):
    """Rows of all arms; ``change`` sets harm of (optimizer, arm), ``losses`` the worse task's loss by arm."""
    rows = []
    for seed in range(seeds):
        noise = 0.001 * seed
        for optimizer, arms in FOUND.items():
            every = {**arms, "projected step": (0.1, 0.0)}
            if optimizer == "Adam":
                extra = [*list(x2_harm.SWEEP)[1:], "T1 alone", "T2 alone", "PCGrad, norm matched"]
                every |= dict.fromkeys(extra, (0.1, 0.4))
            for arm, harm in every.items():
                aggregate, step = dict(change).get((optimizer, arm), harm)
                loss = dict(losses).get(arm, 1.0) + noise
                rows.append({
                    "seed": seed, "optimizer": optimizer, "arm": arm, "harm sum": 0.1, "harm aggregate": aggregate,
                    "harm step": step + (noise if step else 0.0), "realised harm, same": step,
                    "realised harm, held_out": step, "worst loss": loss, "worst validation loss": loss,
                    "worst validation loss at equal cost": loss, "T1 accuracy": 0.8, "T2 accuracy": 0.7,
                    "ms/step": 1.0,
                })  # fmt: skip
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in x2_harm.judge(found)}


def test_the_verdicts_of_the_pilots_numbers():
    assert words(results()) == {
        "gradient": "supported",
        "Adam": "not supported",
        "momentum": "not supported",
        "Muon": "not supported",
        "averaging": "supported",
        "update space": "supported",
        "less harm, less loss": "not supported",
    }
    assert set(words(results(seeds=4)).values()) == {"inconclusive"}


@pytest.mark.parametrize("optimizer", ["Adam", "momentum", "Muon"])
def test_harmless_steps_would_support_the_survey(optimizer):
    found = words(results({(optimizer, "PCGrad()"): (0.0, 0.01)}))
    assert found[optimizer] == "supported"
    assert found["averaging"] == ("not supported" if optimizer == "Adam" else "supported")


def test_each_claim_can_fall():
    assert words(results({("SGD", "PCGrad()"): (0.1, 0.1)}))["gradient"] == "not supported"
    assert words(results({("Muon", "projected step"): (0.1, 0.1)}))["update space"] == "not supported"
    assert words(results({("Adam b1=0", "PCGrad()"): (0.0, 0.3)}))["averaging"] == "not supported"


def test_less_loss_has_to_beat_static_weights_too():
    name = "less harm, less loss"
    assert words(results(losses={"projected step": 0.8}))[name] == "supported"
    assert words(results(losses={"projected step": 0.8, "2:1": 0.7}))[name] == "not supported"
    assert words(results(losses={"projected step": 0.98}))[name] == "not supported"


def test_pictures_and_tables_of_all_arms():
    found = results()
    assert len(x2_harm.charts(found)) == 3
    harm, reached = x2_harm.tables(found)
    assert len(harm.rows) == 3 * 5 + 5
    assert len(reached.rows) == 3 * 5 + 7


def run(cell, arm, broken=""):
    """More than a smoke run and far less than the study: enough for momentum to matter."""
    data = two_digits.data(0, train=300, validation=60, test=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(x2_harm, "STEPS", 40)
        patch.setattr(x2_harm, "LOOK", 2)
        return x2_harm.arm(Work(cell, 0, broken=broken), data, arm)


def test_a_tiny_run_and_what_is_broken_on_purpose():
    surgery, projected = run("Adam", "PCGrad()"), run("Adam", x2_harm.PROJECTED)
    assert surgery["harm aggregate"] == projected["harm step"] == 0
    assert projected["corrected steps"] > 0
    summed = run("Adam", "PCGrad()", "no projection")
    assert summed["harm aggregate"] == summed["harm sum"] > 0
    assert "survival" in surgery
    assert "survival" not in summed
    instant = run("Adam", "PCGrad()", "no averaging")
    assert instant["T1 loss"] == run("Adam b1=0", "PCGrad()")["T1 loss"] != surgery["T1 loss"]


def test_muon_moves_every_parameter_in_one_hooked_step():
    net = two_digits.Net(0, 4)
    moves = x2_harm.muon(net)
    before = [p.detach().clone() for p in net.parameters()]
    seen = []
    moves.register_step_post_hook(lambda *_: seen.append([p.detach().clone() for p in net.parameters()]))
    accord.Balancer(net, "Sum()").backward({
        "T1": net(torch.rand(8, 144))[0].square().mean(), "T2": net(torch.rand(8, 144))[1].square().mean(),
    })  # fmt: skip
    moves.step()
    assert all((a != b).any() for a, b in zip(before, seen[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], net.parameters(), strict=True))


def test_two_tasks_have_one_surgery():
    """Half of PCGrad is UPGrad, and Lexicographic is A-GEM: why the studies do not run both."""
    for seed in range(20):
        rows = inputs.gaussian(2, seed).double()
        gramian = rows @ rows.T
        np.testing.assert_allclose(2 * accord.UPGrad()(gramian), accord.PCGrad()(gramian), rtol=1e-9)
        first = accord.Lexicographic(ranks=(0, 1))(gramian)
        np.testing.assert_allclose(first, accord.AGEM(main=0)(gramian), rtol=1e-6)
