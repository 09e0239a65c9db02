"""E04: judged both ways on made-up numbers; controls that use exactly the same rates; the replayed schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.studies import e04_learning_rate as e04
from accord.studies import scheduled, two_digits
from accord.studies.scheduled import controls, train
from accord.studies.study import Results, Work

NOISE = (0.003, -0.002, 0.001, 0.0, -0.002)


def results(gains, tuned=0.1, equal_cost=-0.2, growth=-0.1, seeds=5, tuned_cost=None):
    """Rows in which each control is so much worse than the schedule; ``gains`` by arm, and by place and arm."""
    rows = []
    costs = equal_cost if isinstance(equal_cost, dict) else dict.fromkeys(e04.PLACES, equal_cost)

    def add(seed, place, arm, worst, **more):
        noise = NOISE[seed] * (1 + len(arm) % 3)
        rows.append({"seed": seed, "place": place, "arm": arm, "worst loss": 1 + worst + noise, **more})

    for seed in range(seeds):
        for place in e04.PLACES:
            add(seed, place, "schedule", 0.0, **{"loss at equal cost": 1.0})
            for arm in e04.ARMS:
                gain = gains.get((place, arm), gains.get(arm, 0.0))
                add(seed, place, arm, gain, **{"worst validation loss": 1 + costs.get(place, -0.2) + NOISE[seed]})
        for variant, _ in e04.GROWTH:
            add(seed, variant, "schedule", -growth)
        own = costs[e04.WEIGHTED[0]] if tuned_cost is None else tuned_cost
        add(seed, "weights", "tuned weights", tuned, **{"worst validation loss": 1 + own + NOISE[seed]})
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in e04.judge(found)}


def test_better_than_every_control_is_supported():
    found = words(results(dict.fromkeys(e04.ARMS, 0.1), equal_cost=0.1, growth=0.1))
    expected = {"schedule": "supported", "decay": "not supported", "cost": "supported", "growth": "supported"}
    assert found == expected


def test_no_effect_is_not_supported_rather_than_open():
    found = words(results({}, equal_cost=0.0, growth=0.0))
    assert found == {
        "schedule": "not supported",
        "decay": "supported",
        "cost": "not supported",
        "growth": "not supported",
    }


@pytest.mark.parametrize("arm", e04.ARMS)
def test_each_control_can_refuse_the_claim(arm):
    assert words(results(dict.fromkeys(e04.ARMS, 0.1) | {arm: -0.1}))["schedule"] == "not supported"


def test_tuned_weights_refuse_it_where_they_were_tuned():
    gains = dict.fromkeys(e04.ARMS, -0.1) | {(e04.WEIGHTED[0], arm): 0.1 for arm in e04.ARMS}
    assert words(results(gains))["schedule"] == "supported"
    assert words(results(gains, tuned=-0.1))["schedule"] == "not supported"


def test_tuned_weights_refuse_that_it_is_worth_its_cost_where_they_were_tuned():
    there = dict.fromkeys(e04.WEIGHTED, 0.1)
    assert words(results({}, equal_cost=there))["cost"] == "supported"
    assert words(results({}, equal_cost=there, tuned_cost=-0.1))["cost"] == "not supported"
    elsewhere = {"w=4, lr=0.3": 0.1} | dict.fromkeys(e04.WEIGHTED, 0.0)
    assert words(results({}, equal_cost=elsewhere, tuned_cost=-0.1))["cost"] == "supported"


def test_what_is_told_is_a_control_that_decides():
    """Not the lowest mean, if its interval decides nothing."""
    found = results(dict.fromkeys(e04.ARMS, 0.0))
    rows = [dict(row) for row in found.rows]
    for row in rows:
        if row["place"] == "w=4, lr=0.3" and row["arm"] == "sorted":
            row["worst loss"] += (-9.0, 8.0, -9.0, 9.0, -1.0)[row["seed"]]
    told = next(part for part in e04.judge(Results(rows))[0].test.found.split("; ") if part.startswith("w=4"))
    assert "sorted" not in told


def test_one_place_is_enough_and_says_so():
    gains = dict.fromkeys(e04.ARMS, -0.1) | {("w=4, lr=0.3", arm): 0.1 for arm in e04.ARMS}
    assert words(results(gains))["schedule"] == "supported"
    claim = e04.judge(results(gains))[0]
    assert f"one of {len(e04.PLACES)} places" in claim.rule
    assert "by accident" in claim.rule


def test_four_seeds_decide_nothing():
    assert set(words(results({}, seeds=4)).values()) == {"inconclusive"}


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1.0), min_size=1, max_size=50), st.integers(0, 99))
def test_the_controls_use_the_same_rates(factors, seed):
    found = {name: np.array(used) for name, used in controls(factors, seed)}
    assert list(found) == list(e04.ARMS)
    assert all(len(used) == len(factors) for used in found.values())
    assert found["arithmetic mean"].sum() == pytest.approx(sum(factors))
    assert np.log(found["geometric mean"]).sum() == pytest.approx(sum(map(math.log, factors)), abs=1e-9)
    assert (np.diff(found["sorted"]) <= 0).all()
    for name in ("sorted", "permuted"):
        assert sorted(found[name]) == sorted(factors)


def test_a_permutation_is_of_its_seed():
    factors = list(np.linspace(0.1, 1, 30))
    first, again, other = (dict(controls(factors, s))["permuted"] for s in (0, 0, 1))
    assert first == again != other
    assert first != factors


SMALL = two_digits.data(3, train=256, validation=64, test=64)


def test_the_schedule_replayed_as_given_rates_is_the_same_training():
    """The link is in the rates alone: the controls lack nothing else that the schedule has."""
    rule = {"threshold": 0.0, "shrink": 0.7}
    own = train(SMALL, 8, 0.3, 10, rule=rule)
    again = train(SMALL, 8, 0.3, 10, factors=own.factors)
    assert len(set(own.factors)) > 3
    assert again.found["worst loss"] == pytest.approx(own.found["worst loss"], rel=1e-5)
    base = train(SMALL, 8, 0.3, 10)
    assert base.found["worst loss"] != pytest.approx(own.found["worst loss"], rel=1e-4)
    assert train(SMALL, 8, 0.3, 10, factors=[1.0] * 10).found["worst loss"] == base.found["worst loss"]


def test_two_halves_add_up_to_the_batch():
    net, i = two_digits.Net(0, 4), torch.arange(128)
    whole = scheduled.losses(net, SMALL.train, i, (1.0, 1.0), two_digits.TASKS, halves=False)
    halves = scheduled.losses(net, SMALL.train, i, (1.0, 1.0), two_digits.TASKS, halves=True)
    assert list(halves) == ["T1 a", "T2 a", "T1 b", "T2 b"]  # one half's tasks, then the other's
    torch.testing.assert_close(sum(halves.values()), sum(whole.values()))
    run = train(SMALL, 4, 0.1, 6, rule={"halves": True})
    assert set(run.found) >= {"conflict", "null", "excess"}


def test_a_run_that_diverges_can_be_compared():
    run = train(SMALL, 4, 1e6, 6)
    assert run.found["worst loss"] == scheduled.LIMIT


def test_at_equal_cost_an_expensive_run_is_read_earlier():
    run = scheduled.Run(steps=[50, 100], worst=[2.0, 1.0], milliseconds=4.0)
    assert run.at_equal_cost(2.0) == 2.0
    assert run.at_equal_cost(3.0) == 1.5
    assert run.at_equal_cost(9.0) == 1.0


def test_weak_controls_change_the_controls_and_not_the_schedule():
    cell = "w=8, lr=0.1"
    plain, broken = ({row["arm"]: row for row in e04.measure(Work(cell, 0, True, b))} for b in ("", e04.WEAK))
    assert broken["schedule"]["worst loss"] == plain["schedule"]["worst loss"]
    assert all(broken[arm]["worst loss"] != plain[arm]["worst loss"] for arm in e04.ARMS)
