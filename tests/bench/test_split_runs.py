"""Runs whose layers are split between the tasks: from the start, or later on."""

from __future__ import annotations

import pytest
import torch

from accord.bench.config import configure
from accord.bench.run import run
from accord.bench.training import Training
from accord.errors import AccordError
from stored import broken_then_resumed, tiny, without_times

LAYER = "trunk.2"


@pytest.mark.parametrize(("method", "later"), [("UPGrad()", None), ("Sum()", 1), ("UPGrad()", 1), ("MoCo()", 1)])
def test_resumed_equals_unbroken(method, later, tmp_path):
    config = tiny(method=method, split=(LAYER,), split_after=later)
    unbroken = run(config, tmp_path / "unbroken")
    for epoch in (1, 2) if method == "Sum()" else (2,):  # 1: the checkpoint is that of the shared model
        resumed = broken_then_resumed(config, tmp_path / f"broken-{epoch}", epoch)
        assert without_times(resumed) == without_times(unbroken)


def test_until_then_it_is_the_shared_run(tmp_path):
    shared, split = run(tiny(), tmp_path), run(tiny(split=(LAYER,), split_after=2), tmp_path)
    assert [e["train_loss"] for e in split.history[:2]] == [e["train_loss"] for e in shared.history[:2]]
    assert split.history[2]["validation"] != shared.history[2]["validation"]


def test_a_split_changes_neither_losses_nor_gradients(tmp_path):
    """Each task's copy gets its own gradient of the shared layer, and the copies together that layer's."""
    shared = Training(tiny(method="Sum()"), tmp_path / "steps")
    split = Training(tiny(method="Sum()", split=(LAYER,)), tmp_path / "steps")
    batch = next(iter(shared.data.train))
    before, after = shared.losses(batch), split.losses(batch)
    assert {t: v.item() for t, v in after.items()} == pytest.approx({t: v.item() for t, v in before.items()})
    layer, copies = shared.model.get_submodule(LAYER).weight, split.model.copies()[LAYER]
    for task in shared.tasks:
        (expected,) = torch.autograd.grad(before[task], layer, retain_graph=True)
        own = getattr(copies, task).weight
        (found,) = torch.autograd.grad(after[task], own, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_split_layer_is_no_block_any_more(tmp_path):
    shared, split = run(tiny(), tmp_path), run(tiny(split=(LAYER,)), tmp_path)
    assert set(shared.record().blocks) - set(split.record().blocks) == {LAYER}
    added = split.result["parameters"] - shared.result["parameters"]
    assert added == 2 * (shared.result["shared_parameters"] - split.result["shared_parameters"]) > 0


@pytest.mark.parametrize("problem", ["tpp", "noise"])
def test_any_problem_may_be_split(problem, tmp_path):
    """Also one whose losses do not come from a call of the model, and one that draws random numbers."""
    from accord.problems import PROBLEMS

    if problem == "tpp":
        found = next(p for p in PROBLEMS if p.name == "tpp-hawkes")
        config = configure(problem=repr(found.tiny()), split=("encoder.shared.mlp.2",), monitor_every=2)
    else:
        config = tiny(split=("trunk.*",), epochs=1)
    assert run(config, tmp_path).finished


def test_sparse_and_split_at_once(tmp_path):
    config = tiny(sparse="PSN(density=0.5)", split=(LAYER,))
    training = Training(config, tmp_path / "steps")
    mask = training.prepared.sparse.mask
    assert {name for name in mask.heads if name.startswith(LAYER)} == {
        f"{LAYER}.{task}.{kind}" for task in training.tasks for kind in ("weight", "bias")
    }
    assert not any(name.startswith(LAYER) for name in mask.selections)
    assert run(config, tmp_path).finished


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"split_after": 1}, "split_after is 1 without layers; give split as well."),
        ({"split": ("a",), "split_after": 1, "sparse": "PSN"}, "split_after is given with sparse"),
        ({"split": ("a",), "split_after": 3, "epochs": 3}, "split_after is 3 of 3 epochs; expected fewer."),
    ],
)
def test_mistakes_are_one_line(settings, expected):
    with pytest.raises(AccordError) as error:
        configure(problem="digits", **settings)
    assert expected in str(error.value)


def test_an_unknown_layer_is_one_line(tmp_path):
    with pytest.raises(AccordError, match=r"Did you mean 'trunk\.2'") as error:
        run(tiny(split=("trunk.2x",)), tmp_path)
    assert "\n" not in str(error.value)
