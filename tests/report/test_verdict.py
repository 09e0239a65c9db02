"""The sentences say what the numbers say, and no more."""

from __future__ import annotations

import pytest

from accord.report.text import SPACE
from accord.report.verdict import verdict

PAIR = {"methods": ["Sum()", "UPGrad()"], "probes": 40}


def words(study):
    found = verdict(study)
    return found.lead.replace(SPACE, " "), " ".join(found.sentences).replace(SPACE, " ")


def test_conflict_and_no_difference(study):
    lead, rest = words(study)
    assert lead == (
        "68 % of task pairs conflict per step, and ‘sum’ pays most (its loss is raised on 38 % of steps); "
        "none of the 4 other methods differs from the plain sum beyond seed noise."
    )
    assert "This is called conflict; only a raised loss is called harm." in rest
    assert "sampling noise" in rest
    assert "paired over 3 seeds" in rest
    assert "worse than training each task alone" in rest


def test_the_figures_of_the_lead_are_those_of_the_runs(study):
    import numpy as np

    records = study.reference.records
    share = np.mean([[np.mean([g[0, 1] < 0, g[0, 2] < 0, g[1, 2] < 0]) for g in r.gramian] for r in records])
    harm = np.mean([r.change.sum(axis=1)[:, 2] > 0 for r in records])
    lead, _ = words(study)
    assert lead.startswith(f"{100 * share:.0f} % of task pairs")
    assert f"on {100 * harm:.0f} % of steps" in lead


def test_no_conflict(make):
    lead, _ = words(make(tilt=0.0, jitter=0.02, **PAIR))
    expected = (
        "The tasks hardly conflict (0 % of pairs per step), and nobody pays (no loss is raised on more than 0 % of "
    )
    assert lead.startswith(expected)


def test_a_method_that_helps(make):
    lead, rest = words(make(gain={"UPGrad()": 0.05}, noise=0.001, **PAIR))
    assert lead.endswith("UPGrad() beats the plain sum beyond seed noise.")
    assert "Best against Sum(): UPGrad() with +5." in rest


def test_a_method_that_harms(make):
    lead, _ = words(make(gain={"UPGrad()": -0.05}, noise=0.001, **PAIR))
    assert lead.endswith("no method beats the plain sum beyond seed noise, and UPGrad() is worse beyond it.")


def test_several_comparisons_come_with_a_warning(make):
    settings = {**PAIR, "methods": ["Sum()", "UPGrad()", "PCGrad()"]}
    _, rest = words(make(gain={"UPGrad()": 0.05, "PCGrad()": -0.05}, noise=0.001, **settings))
    assert "2 methods were compared; what is called a difference is one after Holm's correction" in rest


def test_one_seed_gives_no_interval(make):
    study = make(seeds=1, gain={"UPGrad()": 0.05}, **PAIR)
    lead, rest = words(study)
    assert lead.endswith("with one seed, no difference between methods can be told from noise.")
    assert "With one seed no interval can be given" in rest
    assert verdict(study).tiles[-1].note == "one seed: no interval can be given"


def test_one_task(make):
    lead, _ = words(make(tasks=["left"], methods=["Sum()"], seeds=1, probes=3, singles=False))
    assert lead == "With one task there is nothing that could conflict."


def test_not_measured(make):
    lead, rest = words(make(measured=False, **PAIR))
    assert lead.startswith("Whether the tasks conflict was not measured; ")
    assert "No Gramians were recorded" in rest


@pytest.mark.parametrize(("methods", "lacking"), [(["UPGrad()"], "runs of Sum()"), (["Sum()"], "a second method")])
def test_nothing_to_compare_with(make, methods, lacking):
    _, rest = words(make(methods=methods, seeds=2, probes=10, singles=False))
    assert f"Whether a method helps was not tested: that needs {lacking}." in rest


def test_nothing_finished(make):
    lead, rest = words(make(unfinished=["Sum()", "UPGrad()"], singles=False, seeds=2, **PAIR))
    assert lead.endswith("no run is finished that could tell whether a method helps.")
    assert "4 runs are unfinished" in rest


def test_surgery_that_momentum_undoes(make):
    study = make(methods=["Sum()", "UPGrad()"], seeds=1, probes=30, singles=False)
    record = study.arms[1].records[0]
    record.descent[:] = abs(record.descent)  # the aggregate raises no loss
    record.change[::3] = abs(record.change[::3])  # every third step raises all
    record.change[1::3] = -abs(record.change[1::3])
    record.change[2::3] = -abs(record.change[2::3])
    _, rest = words(study)
    assert (
        "UPGrad() made gradients that raise no loss, yet the optimiser's steps still raised a task's loss on 33 %"
        in rest
    )


def test_only_baselines(make):
    lead, rest = words(make(methods=[], probes=3, seeds=1))
    assert lead == "Whether the tasks conflict was not measured."
    assert "Only single-task runs were given" in rest


def test_many_tasks_are_not_all_named(make):
    _, rest = words(make(tasks=[f"t{i}" for i in range(12)], methods=["Sum()"], seeds=1, probes=10, singles=False))
    assert "for the 8 others" in rest
