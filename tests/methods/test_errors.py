"""What is refused, and in which words; and the events that methods report."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

import accord.methods.upgrad as upgrad_module
from accord.errors import AccordError
from accord.linalg.solution import Solution
from accord.methods import MGDA, Context, Sum, UncertaintyWeighting, UPGrad, parse

import inputs

PARSE = [
    ("upgrad", "method 'upgrad' is unknown. Did you mean 'UPGrad'?"),
    ("CAGrd(c=1)", "Did you mean 'CAGrad'?"),
    ("zzzzzz", "Known: Sum, Mean"),
    ("CAGrad(radius=1)", "CAGrad has no argument 'radius'. Known: c."),
    ("NashMTL(maxnorm=1)", "NashMTL has no argument 'maxnorm'. Did you mean 'max_norm'?"),
    ("Sum(x=1)", "Sum has no argument 'x'. It takes none."),
    ("CAGrad(0.5)", "name every argument"),
    ("CAGrad(c=half)", "the value of c must be a number"),
    ("CAGrad(c=0.5", "cannot be read; write it as Name or Name(argument=value)"),
    ("a.CAGrad()", "cannot be read"),
    ("CAGrad(**{'c': 1})", "cannot be read"),
    ("Constant", "Constant needs the argument 'weights'; write Constant(weights=...)."),
    ("Constant(weights=3)", "expected finite numbers, one per task"),
    ("Constant(weights=())", "expected finite numbers"),
    ("Constant(weights='12')", "expected finite numbers"),
    ("CAGrad(c=-1)", "CAGrad: c=-1, expected a finite number >= 0."),
    ("CAGrad(c=True)", "c=True, expected a finite number"),
    ("CAGrad(c=1e999)", "expected a finite number"),
    ("CAGrad(c='a')", "c='a', expected a finite number"),
    ("GradDrop(leak=1.5)", "leak=1.5, expected a finite number >= 0 and <= 1."),
    ("InverseNorm(ema=1)", "ema=1, expected a finite number >= 0 and < 1."),
    ("DWA(temperature=0)", "expected a finite number > 0."),
    ("DWA(window=0)", "window=0, expected an integer >= 1."),
    ("DWA(window=2.5)", "window=2.5, expected an integer >= 1."),
    ("MGDA(normalise='L2')", "normalise='L2', expected one of None, 'l2', 'loss', 'loss+'. Did you mean 'l2'?"),
    ("AlignedMTL(scale_mode='mean')", "expected one of 'min', 'median', 'rmse'."),
    ("UncertaintyWeighting(init='zero')", "init='zero', expected 'log' or a number."),
    ("UPGrad(pref=(1, 0))", "expected positive preferences"),
]


@pytest.mark.parametrize(("text", "message"), PARSE)
def test_wrong_spelling(text, message):
    with pytest.raises(AccordError) as error:
        parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


CALLS = [
    (UPGrad(), None, torch.ones(2), "UPGrad() reads the Gramian of the task gradients, but none was given"),
    (Sum(), None, None, "was called without Gramian and losses"),
    (UPGrad(), torch.ones(2, 3), None, r"gramian has shape (2, 3), expected (K, K)"),
    (UPGrad(), torch.ones(3), None, r"gramian has shape (3,), expected (K, K)"),
    (UPGrad(), torch.ones(0, 0), None, "with K >= 1"),
    (UPGrad(), torch.ones(2, 2, dtype=torch.long), None, "gramian is torch.int64, expected a real floating-point"),
    (UPGrad(), [[1.0]], None, "gramian is list, expected a real floating-point tensor"),
    (UPGrad(), torch.eye(2), torch.ones(3), "the Gramian has 2 tasks, but there are 3 losses"),
    (UPGrad(), torch.eye(2), torch.ones(2, 1), "losses has shape (2, 1), expected (K,)"),
    (UPGrad(), -torch.eye(2), None, "has -1 on its diagonal, expected squared norms"),
    (UPGrad(), torch.tensor([[1.0, 0.9], [0.0, 1.0]]), None, "not symmetric"),
    (UPGrad(pref=(1, 2, 3)), torch.eye(2), None, "pref has 3 entries, but there are 2 tasks"),
    (MGDA(normalise="loss"), torch.eye(2), None, "reads the losses, but none were given"),
    (MGDA(normalise="loss"), torch.eye(2), torch.tensor([1.0, 0.0]), "divides by the losses, but one of them is 0"),
    (parse("FAMO"), None, torch.tensor([1.0, -2.0]), "takes logarithms, but a loss is -2; expected losses >= 0"),
    (parse("DWA"), torch.eye(2), None, "reads the losses"),
]


@pytest.mark.parametrize(("method", "gramian", "losses", "message"), CALLS)
def test_wrong_call(method, gramian, losses, message):
    with pytest.raises(AccordError) as error:
        method(gramian, losses)
    assert message in str(error.value)


def test_losses_after_no_step():
    context = Context(np.arange(2), 2, torch.Generator())
    with pytest.raises(AccordError, match="no step is under way"):
        parse("FAMO").after_step(np.ones(2), context)
    with pytest.raises(TypeError, match="does not learn from the losses after the step"):
        UPGrad().after_step(np.ones(2), context)


def test_solver_failure_is_reported_once_and_in_the_log(monkeypatch, caplog):
    """A solver that gives up: its feasible iterate is used, and the event says so."""

    def gives_up(cosines, epsilon):
        return Solution(np.eye(len(cosines)), False, 7, 0.5)

    monkeypatch.setattr(upgrad_module, "rows_onto_dual_cone", gives_up)
    rows, method = inputs.conflicting(3, 0), UPGrad()
    with caplog.at_level(logging.WARNING, "accord"):
        weights = method(rows @ rows.T)
    assert weights.tolist() == pytest.approx([1 / 3] * 3)
    (event,) = method.take_events()
    assert event.kind == "solver"
    assert "K=3: residual 5.0e-01 after 7 rounds; the best feasible iterate is used" in event.message
    assert event.message in caplog.text


@pytest.mark.parametrize("spelling", ["UPGrad", "MGDA", "NashMTL", "IMTLG", "CAGrad(c=1.0)"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stationary_is_zero_and_said(spelling, dtype):
    for k in (2, 5):
        rows = inputs.strongly_stationary(k, 0).to(dtype)
        method = parse(spelling)
        weights = method(rows @ rows.T)
        if spelling == "IMTLG" and k > 2:
            continue  # equal projections need not vanish where some positive combination does
        assert weights.tolist() == [0.0] * k
        assert [event.kind for event in method.take_events()] == ["stationary"]


def test_first_loss_without_logarithm():
    method = UncertaintyWeighting()
    weights = method(losses=torch.tensor([-1.0, 2.0], dtype=torch.float64))
    assert weights.tolist() == [0.5, 0.25]
    (event,) = method.take_events()
    assert event.kind == "scale"
    assert "starts at s=0" in event.message
