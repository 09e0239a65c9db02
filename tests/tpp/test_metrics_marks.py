"""Metrics of marks against sorting and scikit-learn, including ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, top_k_accuracy_score
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.metrics.marks import accuracy_at, f1, ranks, reciprocal_rank


def predictions(events: int = 500, marks: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rough probabilities with many ties, and marks of which one is never true and one is never predicted."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.randint(1, 4, (events, marks), generator=generator).double()
    p[:, 2] = 0.5
    true = torch.randint(0, marks - 1, (events,), generator=generator)
    p[torch.arange(events), true] += torch.randint(0, 2, (events,), generator=generator)
    return (p / p.sum(1, keepdim=True)).log(), true


def test_ranks_against_sorting():
    log_p, true = predictions()
    found = ranks(log_p, true)
    by_number = np.argsort(-log_p.numpy(), axis=1, kind="stable")  # equal ones keep the order of their numbers
    places = [row.tolist().index(k) for row, k in zip(by_number, true, strict=True)]
    assert found.corrected.tolist() == places
    strictly = [sum(value > row[k] for value in row) for row, k in zip(log_p.tolist(), true, strict=True)]
    assert found.published.tolist() == strictly
    assert (found.published < found.corrected).any()  # the data do have ties at the true mark


def test_constant_prediction_is_always_right_as_published_and_never_corrected():
    marks = torch.tensor([1, 2, 3])
    found = ranks(torch.zeros(3, 4), marks)
    assert accuracy_at(found.published, 1) == 1
    assert accuracy_at(found.corrected, 1) == 0
    assert found.corrected.tolist() == marks.tolist()


def test_impossible_mark_has_the_last_rank():
    log_p = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert ranks(log_p, torch.tensor([2])).corrected.tolist() == [2]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_accuracy_at_n_and_reciprocal_rank(n):
    generator = torch.Generator().manual_seed(1)
    log_p = torch.randn(300, 8, generator=generator).double().log_softmax(1)
    true = torch.randint(0, 8, (300,), generator=generator)
    rank = ranks(log_p, true).corrected
    assert accuracy_at(rank, n) == pytest.approx(top_k_accuracy_score(true, log_p, k=n, labels=range(8)), abs=1e-12)
    assert accuracy_at(rank, 10) == 1
    by_sort = [1 / (1 + sorted(row, reverse=True).index(row[k])) for row, k in zip(log_p.tolist(), true, strict=True)]
    assert reciprocal_rank(rank) == pytest.approx(np.mean(by_sort), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_f1_against_scikit_learn(seed):
    log_p, true = predictions(seed=seed)
    guess = log_p.numpy().argmax(1)
    found = f1(log_p, true)
    assert 6 not in true
    assert 2 not in guess
    for average in ("weighted", "macro"):
        options = {"average": average, "zero_division": 0}
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert getattr(found, f"{name}_{average}") == pytest.approx(score(true, guess, **options), abs=1e-12)
    p, r = found.precision_macro, found.recall_macro
    assert found.f1_macro_published == pytest.approx(2 * p * r / (p + r), abs=1e-12)
    assert found.f1_macro_published >= found.f1_macro
    assert found.f1_micro == pytest.approx(accuracy_score(true, guess), abs=1e-12)
    assert found.f1_micro == pytest.approx(accuracy_at(ranks(log_p, true).corrected, 1), abs=1e-12)
    assert found.recall_weighted == pytest.approx(found.f1_micro, abs=1e-12)


def test_f1_when_nothing_is_right():
    found = f1(torch.eye(2)[[0, 0]].log(), torch.tensor([1, 1]))
    assert found.f1_macro == found.f1_macro_published == found.f1_weighted == found.f1_micro == 0


@pytest.mark.parametrize(
    ("log_p", "marks", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0]), "expected (n, M) and (n,)"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "no event"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "expected 0..2"),
        (torch.full((2, 3), torch.nan), torch.tensor([0, 1]), "NaN for 2 of 2"),
    ],
)
def test_refusals(log_p, marks, message):
    with pytest.raises(TPPError) as caught:
        ranks(log_p, marks)
    assert message in str(caught.value)
