"""The search: equal chances for all, validation data alone, ordinary runs kept apart, one study for each arm."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from accord.bench import files, plan, search, store
from accord.bench.config import RunConfig
from accord.bench.suite import Search, Suite, parse
from accord.errors import AccordError
from stored import TINY

TASKS = ("left", "right", "sum")


def suite(**changes) -> Suite:
    given = {"trials": 3, "low": 0.001, "high": 0.1, "seeds": [7, 8], **changes}
    text = {"name": "s", "problems": [TINY], "methods": ["Sum", "UPGrad"], "single_tasks": True, "search": given}
    return parse(json.dumps(text), "s.yaml")


def stored_run(root, config: RunConfig, validation, test=0.5) -> store.Run:
    """A finished run as it would lie there; validation accuracy by epoch and task."""
    folder = root / config.place
    history = [
        {
            "epoch": i + 1,
            "validation": {task: {"accuracy": value, "loss": 1.0} for task, value in epoch.items()},
            "test": {task: {"accuracy": test, "loss": 1.0} for task in epoch},
        }
        for i, epoch in enumerate(validation)
    ]
    files.write_json(folder / store.CONFIG, config.model_dump(mode="json"))
    files.write_json(folder / store.HISTORY, history)
    return store.load(folder)


def everywhere(value: float, tasks=TASKS) -> dict[str, float]:
    return dict.fromkeys(tasks, value)


def test_rates_are_a_grid_with_both_ends():
    assert search.rates(Search(trials=4, low=1e-4, high=1e-1)) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert search.rates(Search(trials=1, low=1e-4, high=1e-2)) == [1e-3]
    found = search.rates(Search(trials=8, low=1.23456e-4, high=0.0123456))
    assert (found[0], found[-1], len(found)) == (1.23456e-4, 0.0123456, 8)
    steps = [math.log(b / a) for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([math.log(100) / 7] * 7, rel=1e-2)


def test_weightings_have_mean_one_and_are_the_same_again():
    found = search.weightings(500, 3)
    assert found == search.weightings(500, 3)
    assert found[:2] == search.weightings(2, 3)
    assert len(set(found)) == 500
    for weights in found:
        assert sum(weights) / 3 == pytest.approx(1, abs=1e-3)
        assert max(weights) / min(weights) <= 16.1


def test_trials_are_runs_of_their_own_with_equal_chances():
    asked = suite(weights=2, epochs=1)
    arms = plan.arms(asked)
    trials = search.trials(asked.search, arms)
    assert len({trial.place for trial in trials}) == len(trials) == 2 * (1 + 2 * 3 + 3 * 3 + 2 * 3)
    assert {trial.seed for trial in trials} == {7, 8}
    assert {trial.epochs for trial in trials} == {1}
    by_label = {
        arm.label: {t.lr for t in trials if t.arm.removeprefix(f"lr={t.lr:g} ").startswith(arm.label)} for arm in arms
    }
    assert set(map(tuple, map(sorted, by_label.values()))) == {(0.001, 0.01, 0.1)}
    budgets = {arm.label: search.budget(asked.search, arm)["total_epochs"] for arm in arms}
    assert budgets == {"Sum()": 6, "UPGrad()": 6, plan.TUNED: 12} | {f"single-{task}": 6 for task in TASKS}


@pytest.mark.parametrize(("select", "expected"), [("last", 0.1), ("validation", 0.3)])
def test_merit_is_the_mean_relative_gain_on_validation_data(tmp_path, select, expected):
    asked = suite()
    config = plan.arms(asked)[1].model_copy(update={"select": select})
    reference = stored_run(tmp_path / "a", config, [everywhere(0.9), {"left": 0.5, "right": 0.25, "sum": 0.2}])
    better = {"left": 0.5 * 1.2, "right": 0.25 * 1.3, "sum": 0.2 * 1.4}
    last = {"left": 0.5 * 0.9, "right": 0.25 * 1.1, "sum": 0.2 * 1.3}
    trial = stored_run(tmp_path / "b", config, [better, last], test=0.0)
    assert search.merit(trial, reference) == pytest.approx(expected)
    seen = search.merit(stored_run(tmp_path / "c", config, [better, last], test=1.0), reference)
    assert seen == search.merit(trial, reference), "the test data have no say"


def test_merit_of_what_diverged_and_of_references_of_zero(tmp_path):
    config = plan.arms(suite())[0]
    zero = stored_run(tmp_path / "a", config, [{"left": 0.0, "right": 0.5, "sum": math.nan}])
    trial = stored_run(tmp_path / "b", config, [{"left": 0.3, "right": 0.5, "sum": 0.6}])
    assert search.merit(trial, zero) == pytest.approx((0.3 + 0.0 + 0.6) / 3)
    lost = stored_run(tmp_path / "c", config, [{"left": 0.3, "right": math.nan, "sum": 0.6}])
    assert search.merit(lost, trial) == -math.inf


def fill(asked: Suite, root) -> list[RunConfig]:
    """Trials whose validation accuracy is best at another rate for each arm, and whose test accuracy says otherwise."""
    arms = plan.arms(asked)
    best = {"Sum()": 0.01, "UPGrad()": 0.1, plan.TUNED: 0.01, "single-left": 0.001, "single-right": 0.01}
    for arm in arms:
        for run in search.references(asked.search, arm):
            stored_run(root, run, [everywhere(0.5)])
        for trial in search.trials(asked.search, [arm]):
            if trial.arm != search.REFERENCE:
                good = math.isclose(trial.lr, best.get(arm.label, 0.01)) and not trial.arm.endswith(" 0")
                stored_run(
                    root, trial, [everywhere(0.6 if good else 0.4, trial.tasks or TASKS)], test=0.0 if good else 1.0
                )
    return arms


def test_the_best_rate_and_weights_reach_the_runs(tmp_path):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    asked = suite(weights=2)
    arms = fill(asked, tmp_path)
    final, found = search.choose(asked, arms, tmp_path)
    assert {arm.label: arm.lr for arm in final} == {
        "Sum()": 0.01, "UPGrad()": 0.1, plan.TUNED: 0.01,
        "single-left": 0.001, "single-right": 0.01, "single-sum": 0.01,
    }  # fmt: skip
    tuned = next(arm for arm in final if arm.arm == plan.TUNED)
    assert tuned.method == f"Constant(weights={tuple(search.weightings(2, 3)[1])})"
    assert {entry["label"]: entry["edge"] for entry in found if entry["edge"]} == {
        "UPGrad()": "highest", "single-left": "lowest",
    }  # fmt: skip
    assert json.loads(json.dumps(found)) == json.loads((tmp_path / search.CHOSEN).read_text())
    assert all(entry["merit"] == pytest.approx(0.2) for entry in found)
    search.choose(asked, arms, tmp_path)  # started again: nothing is added
    url = f"sqlite:///{tmp_path / search.STUDIES}"
    summaries = optuna.get_all_study_summaries(url)
    assert sorted(s.n_trials for s in summaries) == [3, 3, 3, 3, 3, 6]
    upgrad = next(s for s in summaries if "UPGrad" in s.study_name)
    assert upgrad.best_trial.params == {"lr": 0.1}
    assert upgrad.best_trial.value == pytest.approx(0.2)
    assert upgrad.best_trial.user_attrs["total_epochs"] == 12


def test_trials_are_no_results(tmp_path):
    asked = suite()
    arms = fill(asked, tmp_path / store.TRIALS)
    stored_run(tmp_path, arms[0], [everywhere(0.5)])
    assert [run.label for run in store.load_runs(tmp_path)] == ["Sum()"]
    assert len(store.load_runs(tmp_path / store.TRIALS)) == len(search.trials(asked.search, arms))


def test_a_wrong_storage_and_a_missing_optuna(tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="optuna is not installed")
    for url in ("nowhere", "mysql://user:secret@host/db", f"sqlite:///{tmp_path}/none/a.sqlite"):
        with (
            pytest.raises(AccordError, match="check search.storage") as error,
            search.studies(suite(storage=url), tmp_path),
        ):
            pass
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(AccordError, match=r"pip install 'accord\[optuna\]'"), search.studies(suite(), tmp_path):
        pass


def test_a_limit_on_steps_stays_the_same_share_of_the_epochs():
    asked = suite(epochs=1)
    arm = plan.arms(asked)[1].model_copy(update={"max_steps": 5})  # of 8
    assert {trial.max_steps for trial in search.trials(asked.search, [arm])} == {None, 2}
