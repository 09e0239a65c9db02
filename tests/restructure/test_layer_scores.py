"""Scores of layers against sums that are written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import TASKS, Plain
from torch import nn

import accord
from accord.errors import AccordError
from accord.record import Record
from accord.restructure import score
from accord.step import Step

BLOCKS = ("body.0", "body.1", "neck")


def record_of(steps=8, blocks=BLOCKS, tasks=3, zero=None):
    """Gramians of random gradients; in the block ``zero`` the first task has none."""
    rng = np.random.default_rng(0)
    found = []
    for t in range(steps):
        rows = rng.normal(size=(len(blocks), tasks, 4))
        if zero is not None:
            rows[zero, 0] = 0
        gramians = torch.from_numpy(rows @ rows.transpose(0, 2, 1))
        names = tuple("abc"[:tasks])
        found.append(Step(t, names, torch.ones(tasks), torch.ones(tasks) > 0, blocks=blocks, gramians=gramians))
    return Record.of(found)


def written_out(gramians, tau):
    """Recon's count, pairs, negative inner products and mean cosine, pair by pair."""
    count, pairs, negative, cosines = 0, 0, 0.0, []
    for g in gramians:
        for i in range(len(g)):
            for j in range(i + 1, len(g)):
                negative += max(0.0, -g[i, j])
                if g[i, i] > 0 and g[j, j] > 0:
                    cosine = g[i, j] / math.sqrt(g[i, i] * g[j, j])
                    cosines.append(cosine)
                    count += cosine < tau
                    pairs += 1
    return count, pairs, negative, sum(cosines) / len(cosines)


@pytest.mark.parametrize("tau", [0.0, -0.02, -0.1, -0.5])
@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("zero", [None, 1])
def test_scores_are_the_sums(tau, share, zero):
    record = record_of(zero=zero)
    found = score(record, tau=tau, share=share)
    steps = math.ceil(share * len(record))
    sums = {name: written_out(record.gramians[:steps, b], tau) for b, name in enumerate(BLOCKS)}
    whole = sum(negative for _, _, negative, _ in sums.values())
    for one in found:
        count, pairs, negative, cosine = sums[one.layer]
        assert (one.score, one.pairs) == (count, pairs)
        assert one.share == pytest.approx(negative / whole)
        assert one.cosine == pytest.approx(cosine)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert sum(one.share for one in found) == pytest.approx(1)


def test_blocks_of_a_layer_are_taken_together():
    record = record_of()
    (body,) = score(record, layers=["body"], share=1)
    assert body.score == written_out(record.gramians[:, :2].sum(1), 0)[0]
    assert body.share == 1


def test_a_model_gives_sizes_and_layers():
    model = Plain()
    monitor = accord.Monitor(model, every=1, blocks="tensor")
    for _ in range(4):
        out = model(torch.randn(5, 6))
        losses = {task: y.square().mean() for task, y in out.items()}
        monitor.observe(losses)
        sum(losses.values()).backward()
    found = score(monitor.record(), model, share=1.0)
    assert {one.layer: one.parameters for one in found} == {"first": 56, "norm": 16, "second": 72, "third": 72}
    assert "parameters" in str(found)
    assert set(found.top(2)) <= {"first", "norm", "second", "third"}


def test_without_conflict_there_is_nothing_to_choose():
    gramians = torch.ones(1, 2, 2)
    blocks = ("body",)
    record = Record.of([Step(0, ("a", "b"), torch.ones(2), torch.ones(2) > 0, blocks=blocks, gramians=gramians)])
    (one,) = score(record)
    assert (one.score, one.rate, one.cosine) == (0, 0.0, 1.0)
    assert math.isnan(one.share)
    assert score(record).top(3) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.1}, "tau=0.1; expected"),
        ({"tau": -1}, "tau=-1; expected"),
        ({"share": 0}, "share=0; expected"),
        ({"layers": ["bodi"]}, "no block in the layer 'bodi'. Did you mean 'body"),
        ({"model": nn.Sequential(nn.Linear(2, 2))}, "no block of the record is a module of this model"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(AccordError, match=message):
        score(record_of(), **options)


def test_records_that_cannot_be_scored():
    with pytest.raises(AccordError, match="one block for all parameters"):
        score(record_of(blocks=("total",)))
    with pytest.raises(AccordError, match="of one task"):
        score(record_of(tasks=1))
    with pytest.raises(AccordError, match="has no Gramians"):
        score(Record.of([Step(0, ("a", "b"), torch.ones(2), torch.ones(2) > 0)]))
    with pytest.raises(AccordError, match="at least one layer"):
        score(record_of()).top(0)


def test_a_layer_that_is_split_is_not_shared_any_more():
    from accord.restructure import task_specific

    model = task_specific(Plain(), "second", TASKS)
    monitor = accord.Monitor(model, every=1)
    losses = {task: y.square().mean() for task, y in model(torch.randn(5, 6)).items()}
    step = monitor.observe(losses)
    assert set(step.blocks) == {"(root)", "first", "norm", "third"}
