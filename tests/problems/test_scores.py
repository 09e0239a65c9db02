"""Scores of binary predictions against scikit-learn, and against counting pairs."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from sklearn import metrics as oracle

from accord.errors import AccordError
from accord.problems import scores


def drawn(seed: int, count: int, levels: int):
    """Scores with ties (fewer levels, more of them) and classes, both present."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(levels, (count,), generator=generator).double() / levels - 0.5
    actual = torch.rand(count, generator=generator) < 0.3
    actual[:2] = torch.tensor([True, False])
    return score, actual


CASES = [
    drawn(seed, count, levels) for seed, (count, levels) in enumerate(itertools.product((2, 5, 300), (1, 4, 10**6)))
]


@pytest.mark.parametrize(("score", "actual"), CASES)
def test_rankings_equal_those_of_scikit_learn(score, actual):
    assert scores.roc_auc(score, actual) == pytest.approx(oracle.roc_auc_score(actual, score), rel=1e-12)
    assert scores.average_precision(score, actual) == pytest.approx(
        oracle.average_precision_score(actual, score), rel=1e-12
    )


@pytest.mark.parametrize(("score", "actual"), CASES)
def test_the_area_is_the_share_of_pairs_in_the_right_order(score, actual):
    pairs = list(itertools.product(score[actual].tolist(), score[~actual].tolist()))
    right = sum(1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs)
    assert scores.roc_auc(score, actual) == pytest.approx(right / len(pairs), rel=1e-12)
    assert scores.roc_auc(-score, actual) == pytest.approx(1 - right / len(pairs), abs=1e-12)


def test_the_order_of_the_examples_does_not_matter():
    score, actual = drawn(0, 100, 7)
    mixed = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    for function in (scores.roc_auc, scores.average_precision):
        assert function(score[mixed], actual[mixed]) == pytest.approx(function(score, actual), rel=1e-12)


def test_many_examples_of_32_bits_are_counted_exactly():
    score = torch.arange(200_001, dtype=torch.float32)
    actual = score % 2 == 0  # 100,001 positives, each above as many negatives as positives below it
    assert scores.roc_auc(score, actual) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(("score", "actual"), CASES)
def test_counts_equal_those_of_scikit_learn(score, actual):
    predicted = score > 0
    counts = scores.confusion(predicted, actual)
    assert counts.sum() == len(score)
    assert float(scores.accuracy(counts)) == pytest.approx(oracle.accuracy_score(actual, predicted), rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert float(scores.f1(counts)) == pytest.approx(oracle.f1_score(actual, predicted, zero_division=0), rel=1e-12)


def test_counts_of_batches_add_up_and_tasks_stand_side_by_side():
    generator = torch.Generator().manual_seed(0)
    predicted, actual = torch.rand(2, 50, 3, generator=generator) < 0.5
    whole = scores.confusion(predicted, actual)
    parts = sum(scores.confusion(p, a) for p, a in zip(predicted.split(7), actual.split(7), strict=True))
    assert torch.equal(whole, parts)
    assert scores.f1(whole).shape == scores.accuracy(whole).shape == (3,)
    for k in range(3):
        assert scores.f1(whole)[k] == scores.f1(scores.confusion(predicted[:, k], actual[:, k]))


def test_nothing_positive_has_an_f1_of_0():
    nothing = torch.zeros(4, dtype=torch.bool)
    assert scores.f1(scores.confusion(nothing, nothing)) == 0


@pytest.mark.parametrize("function", [scores.roc_auc, scores.average_precision])
@pytest.mark.parametrize(
    ("actual", "found"), [([True, True], "2 positive and 0"), ([False], "0 positive and 1"), ([], "0 p")]
)
def test_one_class_has_no_ranking(function, actual, found):
    with pytest.raises(AccordError, match=found):
        function(torch.zeros(len(actual)), torch.tensor(actual, dtype=torch.bool))


@pytest.mark.parametrize("function", [scores.roc_auc, scores.average_precision])
def test_a_model_that_diverged_shows(function):
    assert function(torch.tensor([0.0, float("nan")]), torch.tensor([True, False])) != 0.5
    assert torch.tensor(function(torch.tensor([0.0, float("nan")]), torch.tensor([True, False]))).isnan()
    assert function(torch.tensor([float("inf"), 0.0]), torch.tensor([True, False])) == 1
