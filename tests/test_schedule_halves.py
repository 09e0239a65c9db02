"""ConflictAwareLR(halves=True): a cosine without the noise that tasks share, against means of gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from accord import AccordError, ConflictAwareLR, Monitor
from accord.step import Step

TASKS = ("a left", "b left", "a right", "b right")


def rates_of(**arguments):
    parameter = nn.Parameter(torch.ones(1))
    return ConflictAwareLR(torch.optim.SGD([parameter], lr=0.1), halves=True, **arguments)


def step_of(rows, absent=(), tasks=TASKS):
    rows = torch.as_tensor(np.asarray(rows, dtype=float))  # (2K, P)
    columns = [i for i in range(len(rows)) if i not in absent]
    step = Step.begin(0, tasks[: len(rows)], columns, torch.zeros(len(columns), dtype=torch.float64))
    step.measure(("total",), (rows @ rows.T)[columns][:, columns][None], columns)
    return step


def cosine(left, right):
    return left @ right / np.linalg.norm(left) / np.linalg.norm(right)


def test_without_noise_it_is_the_cosine():
    rates = rates_of(ema=0.0)
    rates.update(step_of([[3, 0], [-1, 1], [3, 0], [-1, 1]]))
    assert rates.smoothed["total"] == pytest.approx(-np.sqrt(0.5))


def test_each_average_by_hand():
    """Products and squares across the halves alone, averaged, then divided."""
    draw, ema = np.random.default_rng(0), 0.6
    rates, product, squares = rates_of(ema=ema), 0.0, np.zeros(2)
    for _ in range(6):
        rows = draw.standard_normal((4, 3)) + [[2, 0, 0], [-1, 1, 0], [2, 0, 0], [-1, 1, 0]]
        rates.update(step_of(rows))
        product = ema * product + (1 - ema) * (rows[0] @ rows[3] + rows[1] @ rows[2]) / 2
        squares = ema * squares + (1 - ema) * np.array([rows[0] @ rows[2], rows[1] @ rows[3]])
    assert (squares > 0).all()
    assert rates.smoothed["total"] == pytest.approx(product / np.sqrt(squares.prod()))


def test_noise_that_tasks_share_is_gone():
    """Gradients of cosine -0.5; a half's noise, equal for both tasks and ten times as long, hides it from the rest."""
    draw, mean = np.random.default_rng(1), np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])
    mean = np.pad(mean, ((0, 0), (0, 98)))  # (2, 100)
    halves = rates_of(ema=0.999)
    plain = ConflictAwareLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), ema=0.999)
    for _ in range(4000):
        left, right = draw.standard_normal((2, 1, 100)) * 0.5  # length about 5 each
        halves.update(step_of(np.concatenate([mean + left, mean + right])))
        plain.update(step_of(mean + (left + right) / 2, tasks=("a", "b")))
    assert plain.smoothed["total"] > 0.5
    assert halves.smoothed["total"] == pytest.approx(-0.5, abs=0.15)
    assert plain.factors["total"] == 1.0
    assert halves.factors["total"] == pytest.approx(0.1)


def test_what_does_not_stand_out_of_the_noise_leaves_the_factor():
    """A squared norm is estimated below zero: no cosine, but the averages go on."""
    rates = rates_of(ema=0.5, shrink=0.5)
    rates.update(step_of([[1, 0], [1, 0], [-1, 0], [-1, 0]]))
    assert (rates.factors["total"], np.isnan(rates.smoothed["total"])) == (1.0, True)
    for _ in range(3):
        rates.update(step_of([[1, 0], [-1, 0], [1, 0], [-1, 0]]))
    assert rates.smoothed["total"] == pytest.approx(-1.0)
    assert rates.factors["total"] < 1


def test_a_task_without_one_of_its_halves_takes_no_part():
    rates = rates_of(ema=0.0)
    rates.update(step_of([[1, 0], [-1, 0], [1, 0], [-1, 0]], absent=[3]))
    assert np.isnan(rates.smoothed["total"])
    rates.update(step_of([[1, 0], [-1, 0], [1, 0], [0, 0]]))
    assert np.isnan(rates.smoothed["total"])


def test_with_a_monitor():
    """The two halves of one batch, in the shared parameters."""
    torch.manual_seed(0)
    trunk, x = nn.Linear(3, 2), torch.randn(8, 3)
    rates = ConflictAwareLR(torch.optim.SGD(trunk.parameters(), lr=0.1), halves=True)
    monitor = Monitor(trunk, every=1)
    parts = {name: trunk(part) for name, part in zip(("left", "right"), x.split(4), strict=True)}
    losses = {f"{task} {name}": out[:, i].square().mean() for name, out in parts.items() for i, task in enumerate("ab")}
    assert list(losses) == list(TASKS)
    rates.update(monitor.observe(losses))
    assert rates.smoothed["total"] == pytest.approx(0.0, abs=1e-12)  # each output has a row of the weight for itself


@pytest.mark.parametrize("arguments", [{"rule": "cancellation"}, {"skip_below": 0.0}])
def test_rules_of_single_steps_are_refused(arguments):
    with pytest.raises(AccordError, match="halves=True needs rule='threshold' without skip_below"):
        rates_of(**arguments)


def test_an_odd_number_of_tasks_is_refused():
    with pytest.raises(AccordError, match="needs 2K tasks, one half's and then the other's; the step has 3"):
        rates_of().update(step_of([[1, 0], [1, 0], [1, 0]]))


def test_states_of_before_can_be_loaded():
    plain = ConflictAwareLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    state = plain.state_dict()
    del state["settings"]["halves"]
    plain.load_state_dict(state)
    with pytest.raises(AccordError, match="the state is of"):
        rates_of().load_state_dict(state)
