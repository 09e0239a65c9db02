"""E01: the rules of judgement on made-up numbers, the re-used images, and that what is broken is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord.studies import e01_dominance as study
from accord.studies import two_digits
from accord.studies.study import Results, Work

SEEDS = range(5)
SCARCE = "20:1, 300 images of T1"


def rows(seed, **changed):
    """What the pilots of the specification saw, with a little noise; ``changed`` replaces (arm, width, measure)."""
    noise = 0.002 * np.random.default_rng(seed).standard_normal()
    base = {
        ("20:1", 4): (0.914, 0.097), ("1:1", 4): (0.438, 0.743), ("T1 alone", 4): (0.914, 0.1),
        ("T2 alone", 4): (0.1, 0.85), ("20:1", 64): (0.953, 0.882), ("1:1", 64): (0.95, 0.93),
        ("T1 alone", 64): (0.96, 0.1), ("T2 alone", 64): (0.1, 0.93), ("2:1", 4): (0.8, 0.2), ("1:2", 4): (0.2, 0.8),
        ("1:20", 4): (0.1, 0.85), ("inverse gradient", 4): (0.407, 0.795), ("parameters matched", 4): (0.92, 0.1),
        (SCARCE, 4): (0.7, 0.1),
    }  # fmt: skip
    out = []
    for (arm, width), (t1, t2) in base.items():
        row = {"seed": seed, "arm": arm, "width": width, "T1 accuracy": t1 + noise, "T2 accuracy": t2 + noise}
        row |= {"cosine": (-0.09 if arm == "20:1" else -0.47) + noise}
        row |= {f"{task} {question}": 0.0 for task in ("T1", "T2") for question in study.DETECTOR}
        if arm == SCARCE:
            row |= {"T1 overfitting": 1.0, "T2 underfitting": 1.0, "T2 stuck": 1.0}
        row |= changed.get(f"{arm}, {width}", {})
        row |= {f"{task} validation accuracy": row[f"{task} accuracy"] for task in ("T1", "T2")}
        out.append(row)
    return out


def words(seeds=SEEDS, **changed):
    results = Results(row for seed in seeds for row in rows(seed, **changed))
    return {claim.name: claim.test.word for claim in study.judge(results)}


EXPECTED = {
    "dominance": "supported", "capacity": "supported", "bottleneck": "supported", "width beats weights": "supported",
    "nobody drowns": "not supported", "smoking gun": "not supported", "detector": "supported",
}  # fmt: skip


def test_the_numbers_of_the_pilots():
    assert words() == EXPECTED


@pytest.mark.parametrize(
    ("changed", "claim", "word"),
    [
        ({"20:1, 4": {"T2 accuracy": 0.6}}, "dominance", "not supported"),
        ({"T2 alone, 4": {"T2 accuracy": 0.2}}, "dominance", "not supported"),  # impossible alone: no dominance
        ({"20:1, 64": {"T2 accuracy": 0.2}}, "capacity", "not supported"),
        ({"parameters matched, 4": {"T2 accuracy": 0.88}}, "bottleneck", "not supported"),
        ({"1:1, 4": {"T1 accuracy": 0.88, "T2 accuracy": 0.88}}, "width beats weights", "not supported"),
        ({"inverse gradient, 4": {"T1 accuracy": 0.8}}, "nobody drowns", "supported"),
        ({"1:1, 4": {"cosine": 0.1}}, "smoking gun", "supported"),
        ({f"{SCARCE}, 4": {"T1 overfitting": 0.0}}, "detector", "not supported"),
        ({"1:1, 64": {"T2 overfitting": 1.0}}, "detector", "not supported"),
        ({"1:1, 64": {"T2 underfitting": float("nan")}}, "detector", "not supported"),
    ],
)
def test_each_claim_could_have_turned_out_otherwise(changed, claim, word):
    found = words(**changed)
    assert found[claim] == word != EXPECTED[claim]


def test_few_seeds_decide_nothing():
    assert set(words(range(4)).values()) == {"inconclusive"}


def test_reused_images_are_few_and_come_in_turn():
    train = two_digits.data(0, train=40, validation=4, test=4).train
    again = study.reuse(train, 5)
    assert len(again.x) == 80
    first, second = again.t1 >= 0, again.t2 >= 0
    assert torch.equal(first, ~second)  # each row is of one task
    assert len(torch.unique(again.x[first], dim=0)) == 5
    assert torch.equal(again.x[second], train.x)
    assert torch.equal(again.t2[second], train.t2)
    assert torch.equal(again.t1[first], train.t1[:5].repeat(8))


def test_the_matched_net_has_as_many_parameters():
    sizes = [sum(p.numel() for p in net.parameters()) for net in
             (two_digits.Net(0, study.WIDE), two_digits.Net(0, study.NARROW, (study.MATCHED,)))]  # fmt: skip
    assert abs(sizes[0] - sizes[1]) < 0.003 * sizes[0]


def test_without_width_all_nets_are_narrow():
    sizes = {}
    for broken in ("", "no width"):
        found = study.measure(Work("tasks w=64", 0, smoke=True, broken=broken))
        sizes[broken] = {row["parameters"] for row in found}
    narrow = sum(p.numel() for p in two_digits.Net(0, study.NARROW).parameters())
    assert sizes["no width"] == {narrow} != sizes[""]


def test_shuffled_labels_change_only_what_t2_learns():
    whole, broken = (study.measure(Work("tasks w=16", 0, smoke=True, broken=name)) for name in ("", "shuffled labels"))
    alone = [{row["arm"]: row for row in found} for found in (whole, broken)]
    assert alone[0]["T1 alone"]["T1 loss"] == alone[1]["T1 alone"]["T1 loss"]
    assert alone[0]["T2 alone"]["T2 loss"] != alone[1]["T2 alone"]["T2 loss"]
