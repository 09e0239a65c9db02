"""Who reaches what: against the zero pattern of explicit gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from accord.blocks import partition
from accord.errors import AccordError
from accord.sharing import cut_at, discover, frontier

from models import Checkpointed, HardSharing, Hierarchy, Recurrent, Residual
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
MODELS = [HardSharing, Hierarchy, Residual, Recurrent]


@pytest.mark.parametrize("make", MODELS)
def test_reach_is_the_pattern_of_explicit_gradients(make):
    model = make()
    losses = model.losses(X)
    sharing = discover(model, losses)
    rows = oracle.gradients(model, losses)
    reach = dict(zip(sharing.shared, sharing.reach, strict=True))
    own = {p: i for i, heads in enumerate(sharing.heads) for p in heads}
    trained = [p for p in model.parameters() if p.requires_grad]
    for p, *gradients in zip(trained, *rows.values(), strict=True):
        tasks = tuple(i for i, g in enumerate(gradients) if g is not None)
        assert (len(tasks) > 1) == (p in reach)
        if p in reach:
            assert reach[p] == tasks
        elif tasks:
            assert (own[p],) == tasks
        else:
            assert p not in own


def test_frozen_and_unused_parameters_are_not_reached():
    model = Hierarchy()
    sharing = discover(model, model.losses(X))
    reached = {*sharing.shared, *(p for heads in sharing.heads for p in heads)}
    assert not reached & {*model.frozen.parameters(), *model.unused.parameters()}


def test_a_tied_weight_is_one_parameter_of_all_its_tasks():
    model = Hierarchy()
    sharing = discover(model, model.losses(X))
    assert sharing.reach[[p is model.embed for p in sharing.shared].index(True)] == (0, 1, 2)
    assert sum(p is model.embed for p in sharing.shared) == 1


def test_a_leaf_outside_the_model_is_trained_as_well():
    outside, inputs = nn.Parameter(torch.ones(3)), torch.ones(2, 3, requires_grad=True)
    model = nn.Linear(3, 1)
    out = model(inputs * outside)
    sharing = discover(model, {"a": out.sum(), "b": out.square().sum()})
    measured = {id(p): counts for p, counts in zip(sharing.shared, sharing.measured, strict=True)}
    assert measured[id(outside)]
    assert not measured[id(inputs)]  # it gets its gradient, but is no parameter
    assert partition(model, sharing.shared, sharing.measured, "module").names == ("(root)", "(outside the model)")


def test_a_loss_that_feeds_another_shares_everything_with_it():
    model = nn.Linear(3, 1)
    first = model(torch.ones(2, 3)).square().mean()
    sharing = discover(model, {"first": first, "second": first.exp()})
    assert sharing.reach == ((0, 1), (0, 1))
    cut = frontier(sharing)
    assert cut is not None
    assert cut[0] == cut[1]


def test_unreached_losses_are_named():
    model = nn.Linear(3, 1)
    with pytest.raises(AccordError, match="'b' reaches no parameter"):
        discover(model, {"a": model(torch.ones(1, 3)).sum(), "b": torch.tensor(1.0)})


def test_shared_restricts_what_is_measured_and_names_are_checked():
    model = HardSharing()
    losses = model.losses(X)
    sharing = discover(model, losses, ["trunk.6"])
    assert {p.shape for p, m in zip(sharing.shared, sharing.measured, strict=True) if m} == {(6, 8), (6,)}
    assert sharing.size == 54
    assert discover(model, losses, [model.trunk[6].weight]).size == 48
    assert discover(model, losses, "trunk").size == sum(p.numel() for p in model.trunk.parameters())
    with pytest.raises(AccordError, match=r"'trunk.9' matches no parameter of the model. Did you mean 'trunk.\d'"):
        discover(model, losses, ["trunk.9"])
    with pytest.raises(AccordError, match=r"Its modules: heads, trunk\."):
        discover(model, losses, ["xyz"])


def test_frontier_is_the_trunks_output():
    model = HardSharing()
    cut = frontier(discover(model, model.losses(X)))
    assert cut is not None
    assert len({edge for edges in cut for edge in edges}) == 1


def test_heads_on_two_levels_have_no_clean_cut():
    model = Hierarchy()
    assert frontier(discover(model, model.losses(X))) is None


def test_features_must_separate_losses_from_the_trunk():
    model = HardSharing()
    z = model.trunk(X)
    losses = {"a": model.heads[0](z).sum(), "b": model.heads[1](z).sum()}
    sharing = discover(model, losses)
    assert cut_at(sharing, [z]) == frontier(sharing)
    around = {"a": losses["a"], "b": losses["b"] + model.trunk[0].weight.sum()}
    with pytest.raises(AccordError, match="reached around them"):
        cut_at(discover(model, around), [z])
    with pytest.raises(AccordError, match="require a gradient"):
        cut_at(sharing, [z.detach()])
    y = z.tanh()
    both = {"a": model.heads[0](z).sum(), "b": model.heads[1](y).sum()}
    with pytest.raises(AccordError, match="must not depend on each other"):
        cut_at(discover(model, both), [z, y])


def test_reentrant_checkpoints_are_noticed():
    for use_reentrant in (True, False):
        model = Checkpointed(use_reentrant)
        assert discover(model, model.losses(X)).graph.reentrant is use_reentrant


def test_deep_graphs_do_not_exhaust_the_stack():
    weight = torch.ones((), requires_grad=True)
    z = weight
    for _ in range(5000):
        z = z * 1.0
    sharing = discover(nn.ParameterList([weight]), {"a": z, "b": -z})
    assert sharing.reach == ((0, 1),)


def test_blocks_follow_modules_tensors_or_nothing():
    model = HardSharing()
    sharing = discover(model, model.losses(X))
    assert partition(model, sharing.shared, sharing.measured, "module").names == ("trunk.0", "trunk.3", "trunk.6")
    assert len(partition(model, sharing.shared, sharing.measured, "tensor").names) == 6
    assert partition(model, sharing.shared, sharing.measured, "total").names == ("total",)
    with pytest.raises(AccordError, match="Did you mean 'module'"):
        partition(model, sharing.shared, sharing.measured, "modules")  # type: ignore[arg-type]
