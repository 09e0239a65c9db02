"""E10: steps add up to the gradient, a window is what it says, and the verdicts follow the numbers both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord import through_time
from accord.studies import e10_through_time as e10
from accord.studies.sequences import SCALE, STEPS_IN_TIME, Net, load
from accord.studies.step_looks import seen
from accord.studies.study import Results, Work


@pytest.fixture(scope="module")
def part():
    return load(0)["train"].at(torch.arange(24))


def flat(loss, net):
    grads = torch.autograd.grad(loss, list(net.rnn.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in grads]).double()


# Exact


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_the_steps_of_the_looks_add_up_to_the_gradients(kind, part):
    net = Net(0, kind, 8)
    found = net.by_step(part)  # (4, T, 4, T)
    halves = [part.at(torch.arange(12)), part.at(torch.arange(12, 24))]
    rows = torch.stack([flat(net.losses(half)[task], net) for half in halves for task in ("A", "B")])  # (4, P)
    expected = rows @ rows.T
    torch.testing.assert_close(found.sum((1, 3)), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert found[0, 3:].abs().max() == 0  # the early loss does not teach later steps


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("k", [3, 5, 10, 17, 18, 20])
def test_the_window_is_that_of_through_time(kind, k, part):
    """The oracle takes the last k steps again, one by one."""
    net = Net(0, kind, 8)
    state = torch.zeros(1, 24, 8)
    step = lambda x, h: net.rnn(x[None], h)[1]  # noqa: E731
    states = through_time.unroll(step, list(part.x), state)
    late = net.late(through_time.window(step, list(part.x), states, k)[0])
    expected = torch.nn.functional.cross_entropy(late, part.digit)
    found = net.losses(part, window=k)
    if k <= 17:
        torch.testing.assert_close(found["B"], expected)
        torch.testing.assert_close(flat(found["B"], net), flat(expected, net), rtol=1e-4, atol=1e-6)
    early = SCALE * torch.nn.functional.mse_loss(net.early(states[3][0]), part.row)
    torch.testing.assert_close(flat(found["A"], net), flat(early, net), rtol=1e-4, atol=1e-6)


def test_sequences_are_the_scans():
    parts = load(0)
    assert sorted(len(p.digit) for p in parts.values()) == [300, 497, 1000]
    first, last = parts["test"].x[0], parts["test"].x[-1]  # (N, 8): the first and the last row
    assert first.shape == last.shape == (497, 8)
    assert parts["test"].x.shape[0] == STEPS_IN_TIME
    assert torch.equal(load(0)["test"].x, parts["test"].x)
    assert not torch.equal(load(0, shuffled=True)["train"].digit, parts["train"].digit)
    assert torch.equal(load(0, shuffled=True)["train"].digit.bincount(), parts["train"].digit.bincount())


# What the looks say


def looks(rows, count=6):
    """Gramians of looks whose four gradients are these in each of four steps, which are orthogonal to each other."""
    g = np.zeros((count, 4, 4, 4, 4))
    for t in range(4):
        g[:, :, t, :, t] = rows[t] @ rows[t].T
    return g


def test_a_step_without_signal_is_left_out():
    strong = np.array([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.0], [-1.0, 0.1]])
    weak = np.array([[1.0, 0.0], [1e-4, 0.0], [1.0, 0.0], [1e-4, 0.0]])  # agrees, with next to nothing
    found = seen(looks([weak, weak, strong, strong]), looks([weak, weak, strong, strong]))
    assert found["no signal"] == pytest.approx(2 / 3)
    assert found["full incidence"] == 1.0
    assert np.isnan(found["full incidence by step"][:2]).all()
    silent = seen(looks([weak, weak, weak, strong]), looks([weak, weak, weak, strong]))
    assert np.isnan(silent["full excess"])  # no signal is not no conflict


def test_noise_does_not_conflict_beyond_its_null():
    draw = np.random.default_rng(0)
    g = np.zeros((2000, 4, 4, 4, 4))
    for t in range(4):
        rows = draw.normal(size=(2000, 4, 5))
        rows[:, [0, 2]] = [1.0, 0.0, 0.0, 0.0, 0.0]  # A is known exactly, B is noise alone
        g[:, :, t, :, t] = rows @ rows.swapaxes(1, 2)
    found = seen(g, g)
    assert found["full incidence"] == pytest.approx(0.5, abs=0.03)
    assert found["full excess"] == pytest.approx(0.0, abs=0.05)


# Verdicts


def rows(costs=0.05, gains=0.01, excess=-0.1, decay=0.0, pays=0.0, static=0.0, equal_cost=None, seeds=5):
    """Made up: what truncation costs B and gains A, and how much better the priority of the early loss is."""
    out = []
    for seed in range(seeds):
        for net, arms in e10.ARMS.items():
            for arm in arms:
                noise = 0.001 * np.sin(10 * seed + len(arm.name))
                cut, first = arm.name == e10.CUT, arm.name == e10.EARLY_FIRST
                delta = 0.1 + noise - pays * first - static * (arm.name in e10.STATIC)
                late = 0.1 + noise - (pays if equal_cost is None else equal_cost) * first
                row = {"seed": seed, "net": net, "arm": arm.name, "full excess": excess + noise}
                row |= {"test B accuracy": 0.9 - costs * cut + noise, "test A loss": 0.04 - gains * cut + noise}
                row |= {"decay": 1.0 + decay * (arm.name == e10.SUM) + noise, "test delta_m": delta}
                row |= {"validation delta_m": delta, "test delta_m at equal cost": late}
                out.append(row)
    return Results(out)


def words(**changes):
    return {claim.name: claim.test.word for claim in e10.judge(rows(**changes))}


def test_truncation_flips():
    assert words()["truncation costs the late loss"] == "supported"
    assert words(costs=-0.05)["truncation costs the late loss"] == "not supported"
    assert words()["truncation helps the early loss"] == "supported"
    assert words(gains=-0.01)["truncation helps the early loss"] == "not supported"


def test_conflict_and_vanishing_flip():
    assert words()["conflict in time"] == "not supported"
    assert words(excess=0.2)["conflict in time"] == "supported"
    assert words(excess=float("nan"))["conflict in time"] == "inconclusive"
    assert words()["conflict makes gradients vanish"] == "not supported"
    assert words(decay=0.5)["conflict makes gradients vanish"] == "supported"
    present = rows(decay=0.5).rows  # the other loss changes it, whether there is conflict or not
    also = Results(
        [{**row, "decay": 1.5 + 0.001 * row["seed"]} if row["arm"] == e10.PCGRAD else row for row in present]
    )
    claims = {claim.name: claim.test.word for claim in e10.judge(also)}
    assert claims["conflict makes gradients vanish"] == "not supported"


def test_a_mitigation_has_to_beat_every_control():
    assert words()["a mitigation pays"] != "supported"
    assert words(pays=0.05)["a mitigation pays"] == "supported"
    assert words(pays=0.05, equal_cost=-0.05)["a mitigation pays"] != "supported"
    assert words(pays=0.05, static=0.08)["a mitigation pays"] == "not supported"


def test_few_seeds_decide_nothing():
    assert set(words(seeds=4).values()) == {"inconclusive"}


# Broken on purpose


def test_without_truncation_the_cut_arm_is_the_sum():
    parts = load(0)
    arms = {arm.name: arm for arm in e10.ARMS["RNN, 8 units"]}
    run = lambda arm, broken="": e10.fit(  # noqa: E731
        Net(0, "RNN", 8), parts, arms[arm], Work("RNN, 8 units", 0, smoke=True, broken=broken)
    )
    whole, cut, broken = run(e10.SUM), run(e10.CUT), run(e10.CUT, "no truncation")
    assert whole["test B loss"] == broken["test B loss"] != cut["test B loss"]
    one = run(e10.SUM, "one loss twice")
    assert one["full conflict, whole"] == 0.0


def test_exactly_one_loss_twice_never_conflicts_beyond_its_null():
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(4, 4, 6))
    found = seen(looks(rows), looks(rows), "one loss twice")
    assert found["full excess"] == 0.0
