"""Looks at what is not trained: the whole Gramian in two parts, and a training that does not notice."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from accord import Balancer, Monitor, record
from accord.blocks import OTHERS
from accord.errors import AccordError
from accord.sparse.training import SparseTraining

from models import HardSharing, Hierarchy

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))


class Checkpointed(nn.Module):
    """Blocks that run again in the backward pass, with norms that are frozen."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Tanh()) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(2))

    def losses(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return {str(i): (head(x) - i).square().mean() for i, head in enumerate(self.heads)}


MODELS = {
    "plain": (HardSharing, {"heads": "heads"}),
    "layer norm": (lambda: HardSharing(norm="layer"), {"heads": "heads"}),
    "batch norm": (lambda: HardSharing(norm="batch"), {"heads": "heads"}),
    "columns": (HardSharing, {"heads": "heads", "rule": "Columns(k=2)"}),
    "bottom frozen": (HardSharing, {"heads": "heads", "overrides": {"trunk.0.*": "frozen"}}),
    "checkpointed": (Checkpointed, {"heads": "heads", "overrides": {"layers.1.0.weight": "frozen"}}),
    "hierarchy": (Hierarchy, {"heads": ("a", "b")}),
}


def start(make, options, seed=0, **more):
    torch.manual_seed(seed)
    model = make()
    options = dict(options) | more
    return model, SparseTraining(model, options.pop("rule", "PSN(k=2)"), **options)


def run(model, training, method="UPGrad()", count=5, parts=1, **options):
    optimizer = torch.optim.Adam(training.parameters(), 1e-2)
    balancer = Balancer(model, method, **options)
    training.attach(balancer)
    for _ in range(count):
        optimizer.zero_grad()
        for i, part in enumerate(X.chunk(parts)):
            step = balancer.backward(model.losses(part), accumulate=i + 1 < parts)
        optimizer.step()
    return step


@pytest.mark.parametrize("order", ["mask-then-combine", "combine-then-mask"])
@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "GradDrop()", "DWA()"])
@pytest.mark.parametrize("name", MODELS)
def test_looking_changes_nothing(name, method, order):
    """The same bits with a look at every second step, at each, or never."""
    found = []
    for look in (0, 1, 2):
        model, training = start(*MODELS[name], look=look, order=order)
        run(model, training, method)
        training.verify()
        found.append([p.detach().clone() for p in training.parameters()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("order", ["mask-then-combine", "combine-then-mask"])
@pytest.mark.parametrize("name", MODELS)
def test_the_blocks_add_up_to_the_gramian_of_dense_gradients(name, order):
    model, training = start(*MODELS[name], look=1, order=order)
    torch.manual_seed(0)
    dense, mask = MODELS[name][0](), training.mask
    run(model, training, count=1)
    shared = [p for n, p in dense.named_parameters() if n not in mask.heads]
    masks = [selected(mask, n, p) for n, p in dense.named_parameters() if n not in mask.heads]
    losses = dense.requires_grad_().losses(X).values()
    rows = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses]
    rows = [[torch.zeros_like(p) if g is None else g for g, p in zip(row, shared, strict=True)] for row in rows]
    flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    kept = torch.cat([m.flatten() for m in masks])
    found = training.record()
    gramians = torch.as_tensor(found.gramians[0])
    parts = dict(zip(found.blocks, gramians, strict=True))
    torch.testing.assert_close(parts["trained"], flat[:, kept] @ flat[:, kept].T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts["frozen"], flat[:, ~kept] @ flat[:, ~kept].T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gramians.sum(0), flat @ flat.T, rtol=1e-5, atol=1e-6)


def selected(mask, name, p):
    if name in mask.selections:
        kept = torch.zeros(p.shape, dtype=torch.bool)
        kept.view(-1)[mask.selections[name].places(p.shape)] = True
        return kept
    return torch.full(p.shape, name in mask.whole)


def test_under_dense_training_the_mask_is_looked_at():
    """p_full and p_masked of a run that trains everything: the first is that of a Monitor of the dense model."""
    model, training = start(*MODELS["plain"], look=1, trains="all")
    torch.manual_seed(0)
    dense = HardSharing()
    monitor = Monitor(dense, every=1, blocks="total")
    balancer, optimizer = Balancer(dense, "UPGrad()"), torch.optim.Adam(dense.parameters(), 1e-2)
    monitor.attach(balancer)
    for _ in range(5):
        optimizer.zero_grad()
        balancer.backward(dense.losses(X))
        optimizer.step()
    run(model, training)
    found, expected = training.record(), monitor.record()
    torch.testing.assert_close(
        torch.as_tensor(found.gramians.sum(1)), torch.as_tensor(expected.gramians.sum(1)), rtol=1e-3, atol=1e-5
    )
    assert found.blocks == ("trained", "frozen")


def test_steps_are_counted_as_the_balancer_counts():
    model, training = start(*MODELS["plain"], look=3)
    run(model, training, count=8)
    assert training.record().index.tolist() == [0, 3, 6]


def test_of_micro_batches_the_first_is_looked_at():
    model, training = start(*MODELS["plain"], look=2)
    run(model, training, count=4, parts=3)
    assert training.record().index.tolist() == [0, 2]
    training.verify()


def test_looks_are_written_and_found_again(tmp_path):
    model, training = start(*MODELS["plain"], look=1, path=tmp_path / "looks")
    run(model, training, count=4)
    first = training.record()
    assert first.gramians.shape == (4, 2, 3, 3)
    assert record.read(tmp_path / "looks").gramians.shape == (4, 2, 3, 3)


def test_between_looks_nothing_wants_a_gradient():
    model, training = start(*MODELS["plain"], look=2)
    balancer = Balancer(model, "UPGrad()")
    training.attach(balancer)
    wanted = []
    for _ in range(4):
        wanted.append([p.requires_grad for p in training.rest])
        balancer.backward(model.losses(X))
        assert all(p.grad is None for p in training.rest)
    assert [all(w) for w in wanted] == [True, False, True, False]
    assert [any(w) for w in wanted] == [True, False, True, False]


def test_a_forward_pass_before_attaching_is_an_error():
    model, training = start(*MODELS["plain"], look=1)
    losses = model.losses(X)
    balancer = Balancer(model, "UPGrad()")
    training.attach(balancer)
    with pytest.raises(AccordError, match="computed before attach"):
        balancer.backward(losses)


def test_a_step_that_fails_is_made_again():
    """A refused step leaves no trace: it is no step of the looks either, and the next is made as usual."""
    model, training = start(*MODELS["plain"], look=1)
    balancer = Balancer(model, "UPGrad()")
    training.attach(balancer)
    losses = model.losses(X)
    with pytest.raises(AccordError):
        balancer.backward({**losses, "packed": torch.ones(2, requires_grad=True)})
    with pytest.raises(ValueError, match="mend"):
        balancer.backward(_raises)
    for _ in range(3):
        balancer.backward(model.losses(X))
    assert training.record().index.tolist()[-1] == 2
    assert balancer.index == 3


def _raises():
    raise ValueError("mend me")


def test_a_monitor_takes_a_mapping_of_blocks():
    model = HardSharing()
    monitor = Monitor(model, every=1, blocks={model.trunk[0].weight: "first"}, shared=["trunk"])
    step = monitor.observe(model.losses(X))
    assert step.blocks == ("first", OTHERS)
    assert "['first']" in repr(monitor)


def test_wider_looks_sit_beside_a_monitor():
    """The Balancer's Monitor sees what is trained, layer by layer; the looks see the rest, too."""
    model, training = start(*MODELS["plain"], look=1)
    balancer = Balancer(model, "UPGrad()")
    monitor = Monitor(model, every=1, blocks="module")
    monitor.attach(balancer)
    training.attach(balancer)
    step = balancer.backward(model.losses(X))
    looked = training.record().gramians[0][training.record().blocks.index("trained")]
    torch.testing.assert_close(step.gramian, torch.as_tensor(looked))
    assert len(monitor.record().blocks) > 2
