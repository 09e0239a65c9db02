"""Mark baselines against counting in loops."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics.baselines import BASELINES, log_marks, markov, previous_marks, repeat_last, unigram

NAMES = ("a", "b", "c", "never")


def data(seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    marks = [rng.integers(0, 3, size) for size in (7, 0, 1, 12, 2)]
    return Events.of([np.arange(1.0, 1 + len(m)) for m in marks], marks, start=0.0, end=50.0, names=NAMES)


def sequences(events: Events) -> list[list[int]]:
    return [events.mark[a:b].tolist() for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)]


def slow(name: str, train: Events, history: list[int], mark: int) -> float:
    """p(mark | history) by counting."""
    everything = [k for s in sequences(train) for k in s]
    pairs = [pair for s in sequences(train) for pair in itertools.pairwise(s)]
    m = len(train.marks)
    share = [(everything.count(k) + 1) / (len(everything) + m) for k in range(m)]
    if name == "markov" and history:
        return (pairs.count((history[-1], mark)) + 1) / (sum(a == history[-1] for a, _ in pairs) + m)
    if name == "markov":
        first = Counter(s[0] for s in sequences(train) if s)
        return (first[mark] + 1) / (first.total() + m)
    if name == "repeat-last" and history:
        again = (sum(a == b for a, b in pairs) + 1) / (len(pairs) + 2)
        return again if mark == history[-1] else (1 - again) * share[mark] / (1 - share[history[-1]])
    return share[mark]


@pytest.mark.parametrize("name", BASELINES)
def test_against_counting(name):
    train, test = data(0), data(1)
    found = log_marks(BASELINES[name](train), test).exp()
    expected = [
        [slow(name, train, s[:i], k) for k in range(len(NAMES))] for s in sequences(test) for i in range(len(s))
    ]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-13)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_rows_are_distributions(name, count):
    rng = np.random.default_rng(0)
    train = Events.of([np.arange(9.0)], [rng.integers(0, min(count, 3), 9)], names=[str(k) for k in range(count)])
    table = BASELINES[name](train)
    assert table.shape == (count + 1, count)
    assert torch.allclose(table.exp().sum(1), torch.ones(count + 1, dtype=torch.float64))
    assert table.isfinite().all()


def test_only_scored_events_by_default_but_all_serve_as_previous():
    events = Events.of([[1.0, 2.0, 3.0], [1.0]], [[0, 1, 1], [1]])  # unknown start: first events are not scored
    assert previous_marks(events).tolist() == [2, 0, 1, 2]
    table = markov(events)
    assert torch.equal(log_marks(table, events), table[[0, 1]])
    assert torch.equal(log_marks(table, events, [3, 0]), table[[2, 2]])


def test_repeat_last_repeats():
    events = Events.of([np.arange(20.0)], [[0] * 10 + [1] * 10], start=0.0)
    table = repeat_last(events)
    assert table[0, 0].exp().item() == pytest.approx(19 / 21)
    assert table[:-1].argmax(1).tolist() == [0, 1]


def test_each_baseline_is_the_likeliest_of_its_kind():
    """On a chain that mostly repeats, Markov beats repeat-last beats unigram."""
    rng = np.random.default_rng(0)
    marks = np.zeros(4000, np.int64)
    for i in range(1, 4000):
        marks[i] = marks[i - 1] if rng.random() < 0.7 else (marks[i - 1] + 1) % 4
    events = Events.of([np.arange(4000.0)], [marks], start=0.0)
    own = torch.from_numpy(events.mark)[:, None]
    cost = [-log_marks(fit(events), events).gather(1, own).mean() for fit in (markov, repeat_last, unigram)]
    assert cost[0] < cost[1] < cost[2]


def test_refuses_other_marks():
    with pytest.raises(TPPError, match="fit it on such events"):
        log_marks(torch.zeros(3, 2), data())
