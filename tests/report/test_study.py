"""Runs are sorted by problem, method and seed; what differs is named, what is double is refused."""

from __future__ import annotations

import numpy as np
import pytest

from accord.bench.store import load_runs
from accord.errors import AccordError
from accord.problems.adult import Adult
from accord.report.merit import against_single
from accord.report.papers.sheet import of_study
from accord.report.study import studies

import sample


def test_methods_seeds_and_baselines_are_found(study):
    assert study.problem == "digits(epochs=4)"
    assert study.tasks == ("left", "right", "sum")
    assert [arm.label.split("(")[0] for arm in study.arms] == ["Sum", "CAGrad", "NashMTL", "PCGrad", "UPGrad"]
    assert study.reference is study.arms[0]
    assert all([trial.seed for trial in arm.trials] == [0, 1, 2] for arm in study.arms)
    assert {task: len(arm.trials) for task, arm in study.singles.items()} == {"left": 3, "right": 3, "sum": 3}


def test_the_order_of_runs_does_not_matter(runs):
    forth, back = studies(runs)[0], studies(runs[::-1])[0]
    assert [arm.label for arm in forth.arms] == [arm.label for arm in back.arms]
    assert [arm.style for arm in forth.arms] == [arm.style for arm in back.arms]


def test_every_method_and_every_task_has_its_own_look(make):
    study = make(
        tasks=[f"t{i}" for i in range(12)], methods=["Sum()", *(f"CAGrad(c={i})" for i in range(11))], probes=3
    )
    assert len({arm.style for arm in study.arms}) == 12
    assert len({study.style(task) for task in study.tasks}) == 12


def test_settings_that_differ_are_named(tmp_path):
    short = {"methods": ["Sum()", "UPGrad()"], "seeds": 1, "probes": 3, "singles": False}
    for lr in (0.001, 0.01):
        sample.write(tmp_path / str(lr), sample.Sample(settings={"lr": lr}, **short))
    labels = [arm.label for arm in studies(load_runs(tmp_path))[0].arms]
    assert labels == ["Sum() · lr=0.001", "Sum() · lr=0.01", "UPGrad() · lr=0.001", "UPGrad() · lr=0.01"]


def test_two_problems_are_two_studies(tmp_path):
    for problem in ("digits(epochs=4)", "digits(epochs=5)"):
        settings = {"epochs": int(problem[-2])}
        sample.write(tmp_path, sample.Sample(problem, ["Sum()"], seeds=1, probes=3, singles=False, settings=settings))
    assert [study.problem for study in studies(load_runs(tmp_path))] == ["digits(epochs=4)", "digits(epochs=5)"]


def test_no_runs_is_one_clear_line():
    with pytest.raises(AccordError, match="found no run to report on, expected at least one"):
        studies([])


def test_the_same_run_twice_is_refused(tmp_path):
    for root in ("a", "b"):
        sample.write(tmp_path / root, sample.Sample(methods=["Sum()"], seeds=1, probes=3, singles=False))
    with pytest.raises(AccordError, match=r"found two runs of Sum\(\) with seed 0, expected one: .*a.* and .*b"):
        studies(load_runs(tmp_path))


def test_windows_hold_about_five_probes_and_every_step(study):
    counts, _ = np.histogram(study.arms[0].records[0].index, study.edges)
    assert counts.sum() == 100
    assert counts.min() >= 4
    assert counts.max() <= 6


SINGLE = "adult(limit=500, epochs=1)"
MMOE = "adult(architecture='mmoe', limit=500, epochs=1)"
CROSS = "adult(architecture='cross-stitch', limit=500, epochs=1)"


def architectures(root, *problems, singles=SINGLE):
    """Methods with several architectures; their tasks alone are stored under the spelling without any."""
    common = {"tasks": Adult.tasks, "seeds": 2, "probes": 3, "settings": {"epochs": 1}}
    for problem in problems:
        sample.write(root, sample.Sample(problem, ["Sum()", "UPGrad()"], singles=False, **common))
    sample.write(root, sample.Sample(singles, [], **common))
    return studies(load_runs(root))


def test_every_architecture_finds_the_tasks_that_were_trained_alone(tmp_path):
    found = architectures(tmp_path, MMOE, CROSS)
    assert [study.problem for study in found] == [CROSS, MMOE], "tasks alone are no problem of their own"
    for study in found:
        assert set(study.singles) == set(Adult.tasks)
        assert len(against_single(study.arms[0], study)[0]) == 2


def test_other_settings_and_own_baselines_are_not_mixed(tmp_path):
    found = architectures(tmp_path / "a", MMOE, singles="adult(limit=400, epochs=1)")
    assert [len(study.singles) for study in found] == [0, 3]
    found = architectures(tmp_path / "b", CROSS, SINGLE, singles=MMOE)
    assert {study.problem: len(study.singles) for study in found} == {CROSS: 0, SINGLE: 0, MMOE: 3}


def test_tasks_alone_have_a_table(tmp_path):
    (found,) = architectures(tmp_path)
    assert "over 2 seeds" in of_study(found).caption
