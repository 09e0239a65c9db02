"""E05: judged both ways on made-up numbers; probes that compare the same batch; equal effective rates."""

from __future__ import annotations

import numpy as np
import pytest

from accord.studies import e05_lookahead as e05
from accord.studies import two_digits
from accord.studies.study import Results, Work

NOISE = (0.001, -0.001, 0.0005, 0.0, -0.0005)


def results(change=0.05, random=0.0, gain=0.2, paid=0.2, tuned=1.0, seeds=5):
    """``gain`` of Nesterov's method after as many steps, ``paid`` after as much time; the loss of ``tuned`` weights."""
    rows = []
    for seed in range(seeds):
        for width in e05.WIDTHS:
            at = {"seed": seed, "width": width}
            changes = {"ahead": change, "random": random, "random per layer": random, "behind": -change}
            noisy = {f"change {p}": value + NOISE[seed] * (k + 1) for k, (p, value) in enumerate(changes.items())}
            rows.append({**at, "kind": "probe", **noisy})
            for arm, loss in (("heavy ball", 1.0), ("NAG", 1 - gain + NOISE[seed]), ("SGD", 1.0)):
                found = {"worst loss": loss, "worst validation loss": loss}
                found["loss at equal cost"] = 1 - paid + NOISE[seed] if arm == "NAG" else loss
                rows.append({**at, "kind": "train", "arm": arm, **found})
        found = {"worst loss": tuned, "worst validation loss": tuned}
        rows.append({"seed": seed, "width": 4, "kind": "train", "arm": "tuned weights", **found})
    return Results(rows)


def words(found):
    return {claim.name: claim.test.word for claim in e05.judge(found)}


def test_alignment_and_training_are_judged_apart():
    both = words(results())
    assert set(both.values()) == {"supported"}
    assert set(both) == {f"{what} w={w}" for what in ("alignment", "training") for w in e05.WIDTHS}
    aligned_only = words(results(gain=0.0))
    assert {name: word for name, word in aligned_only.items() if "alignment" in name} == dict.fromkeys(
        ("alignment w=4", "alignment w=16"), "supported"
    )
    assert aligned_only["training w=4"] == aligned_only["training w=16"] == "not supported"


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"change": -0.05}, "not supported"),
        ({"change": 0.0}, "not supported"),  # surely smaller than what counts as a change
        ({"change": 0.05, "random": 0.08}, "not supported"),
        ({"change": 0.05, "random": 0.0495}, "inconclusive"),
        ({"seeds": 4}, "inconclusive"),
    ],
)
def test_what_refuses_alignment(numbers, word):
    assert words(results(**numbers))["alignment w=4"] == word


def test_a_worse_nesterov_is_not_supported():
    assert words(results(gain=-0.3))["training w=16"] == "not supported"


def test_a_gain_that_is_bought_with_time_is_none():
    found = words(results(paid=-0.1))
    assert found["training w=4"] == found["training w=16"] == "not supported"


def test_tuned_weights_refuse_the_gain_where_they_were_tuned():
    found = words(results(tuned=0.7))
    assert found["training w=4"] == "not supported"
    assert found["training w=16"] == "supported"
    rules = {claim.name: claim.rule for claim in e05.judge(results())}
    assert "over the tuned weights" in rules["training w=4"]
    assert "no weights were tuned" in rules["training w=16"]


def test_the_sabotage_replaces_the_momentum_and_nothing_else():
    (plain,), (broken,) = (e05.measure(Work("probe w=4", 0, True, b)) for b in ("", e05.NOWHERE))
    assert plain["here"] == broken["here"]  # the training itself is the same
    assert plain["displacement"] == broken["displacement"] > 0
    assert plain["curve ahead"] != broken["curve ahead"]
    assert plain["curve behind"] == broken["curve behind"]
    assert plain["looks"] == [4.0]


def test_probes_leave_the_training_alone(monkeypatch):
    """The way of heavy ball is the same without any look."""
    work, small = Work("probe w=4", 0, smoke=True), two_digits.data(0, train=256, validation=32, test=32)
    dense = []
    for every in (1, 4):
        monkeypatch.setattr(e05, "LOOKS_OF_SMOKE", every)
        (row,) = e05.probes(work, small, 4)
        dense.append(dict(zip(row["looks"], row["here"], strict=True)))
    assert dense[0][4.0] == dense[1][4.0]
    assert len(dense[0]) == 7


def test_equal_effective_rates_and_a_choice_on_validation(monkeypatch):
    seen = []

    def train(work, given, width, optimiser, effective, weights=(1.0, 1.0), tasks=two_digits.TASKS):
        seen.append((optimiser, effective))
        loss = abs(effective - 0.4) + (optimiser == "NAG")
        row = {"worst validation loss": loss, "worst loss": 1 - loss, "effective": effective, "ms/step": 1.0}
        return row | {"steps": [1, 2], "curve": [2.0, loss], "kind": "train", "width": width}

    monkeypatch.setattr(e05, "train", train)
    rows = e05.measure(Work("train w=4", 0, smoke=True))
    assert [row["arm"] for row in rows] == ["SGD", "heavy ball", "NAG", "T1 alone", "T2 alone"]
    assert all(row["effective"] == 0.4 for row in rows)
    for optimiser in ("SGD", "heavy ball", "NAG"):
        assert [e for o, e in seen if o == optimiser][: len(e05.EFFECTIVE)] == list(e05.EFFECTIVE)


def test_nesterov_differs_from_heavy_ball():
    work, small = Work("train w=4", 0, smoke=True), two_digits.data(0, train=256, validation=32, test=32)
    found = [e05.train(work, small, 4, optimiser, 0.4)["worst loss"] for optimiser in ("SGD", "heavy ball", "NAG")]
    assert len(set(found)) == 3
    assert np.isfinite(found).all()
