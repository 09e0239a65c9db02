"""Equal compute: measured once, the same share of steps afterwards, and never more than the plain sum's."""

from __future__ import annotations

import pytest
import torch

from accord.bench import cost, files, plan
from accord.bench.config import vary
from accord.bench.suite import parse
from accord.errors import AccordError
from stored import TINY, tiny


def suite(methods: str = "[Sum, UPGrad, FAMO]"):
    text = f"name: a\nproblems:\n- {TINY}\nmethods: {methods}\nmode: equal-compute\nsingle_tasks: true\nepochs: 3\n"
    return parse(text, "a.yaml")


def entry(milliseconds: float, plain: float = 2.0) -> dict[str, float]:
    return {"milliseconds": milliseconds, "plain": plain}


@pytest.mark.parametrize(
    ("milliseconds", "expected"), [(2.0, None), (1.0, None), (4.0, 6), (3.0, 8), (7.0, 3), (1000.0, 1)]
)
def test_as_many_steps_as_cost_the_same(milliseconds, expected):
    """Of 3 epochs of 4 steps, against a plain sum of 2 ms."""
    costs = {"steps_per_epoch": 4, "methods": {"UPGrad()": entry(milliseconds)}}
    assert cost.limit(costs, tiny(method="UPGrad")) == expected


def test_the_plain_sum_keeps_all_its_steps():
    assert cost.limit({"steps_per_epoch": 4, "methods": {"Sum()": entry(2.1, 2.0)}}, tiny()) is None


def test_costs_are_measured_once_and_what_is_missing_later(tmp_path, monkeypatch):
    asked = []

    def measure(arms):
        methods = [cost.named(arm) for arm in arms]
        asked.append(methods)
        return {"steps_per_epoch": 4, "methods": {m: entry(2.0 if m == "Sum()" else 4.0) for m in ["Sum()", *methods]}}

    monkeypatch.setattr(cost, "measure", measure)
    told = []
    arms, costs = cost.limited(plan.arms(suite("[Sum, UPGrad]")), tmp_path, told.append)
    assert [arm.max_steps for arm in arms] == [None, 6, None, None, None], "tasks alone keep theirs"
    assert costs == files.read_json(tmp_path / cost.COSTS)
    again, _ = cost.limited(plan.arms(suite("[Sum, UPGrad]")), tmp_path, told.append)
    assert again == arms
    more, _ = cost.limited(plan.arms(suite()), tmp_path, told.append)
    assert [arm.max_steps for arm in more] == [None, 6, 6, None, None, None]
    assert asked == [["Sum()", "UPGrad()"], [next(a.method for a in more if a.method.startswith("FAMO"))]]
    assert len(told) == 2


def test_a_damaged_file_is_named(tmp_path):
    arms = plan.arms(suite("[Sum, UPGrad]"))
    files.write_json(tmp_path / cost.COSTS, {arms[0].problem: {"methods": {"Sum()": {}, "UPGrad()": {}}}})
    with pytest.raises(AccordError, match=r"costs\.json is damaged: .*remove this file"):
        cost.limited(arms, tmp_path, print)


def test_what_is_measured(monkeypatch):
    """Every method trains on the problem itself, the same number of rounds, and nobody's random numbers are touched."""
    config = tiny(epochs=1, monitor_every=5, arm="named", max_steps=2)
    before = torch.get_rng_state()
    monkeypatch.setattr(cost, "ROUNDS", 1)
    # they want a second batch, and one of validation
    found = cost.measure([vary(config, method=method) for method in ("MoDo()", "AutoLambda()")])
    assert torch.equal(torch.get_rng_state(), before)
    assert found["steps_per_epoch"] == 4
    methods = found["methods"]
    assert [name.split("(")[0] for name in methods] == ["Sum", "MoDo", "AutoLambda"]
    assert all(one["milliseconds"] > 0 for one in methods.values())
    assert {one["plain"] for one in methods.values()} == {methods["Sum()"]["milliseconds"]}


@pytest.mark.parametrize("entry", [5, [], {"methods": []}, {"methods": {"Sum()": 1}, "steps_per_epoch": 1}])
def test_costs_of_a_wrong_kind_lose_no_run(tmp_path, entry, monkeypatch):
    monkeypatch.setattr(cost, "measure", lambda _: {"steps_per_epoch": 2, "methods": {}})
    arms = plan.arms(suite("[Sum, UPGrad]"))
    files.write_json(tmp_path / cost.COSTS, {arms[0].problem: entry})
    with pytest.raises(AccordError, match=r"costs\.json is damaged: .*plan\.json holds a copy") as error:
        cost.limited(arms, tmp_path, print)
    assert "\n" not in str(error.value)
    assert "Remove the folder" not in str(error.value)
