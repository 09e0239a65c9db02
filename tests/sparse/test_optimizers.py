"""Every optimiser of PyTorch, in every kind of loop, leaves frozen entries alone bit for bit and moves the others."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from accord import Balancer
from accord.sparse.training import SparseTraining

LEFT_OUT = {"Optimizer", "SparseAdam"}  # the base class; one for sparse gradients alone
NAMES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name not in LEFT_OUT
)


class Net(nn.Module):
    """Convolution, BatchNorm, linear layers, two heads; without biases where an optimiser takes matrices alone."""

    def __init__(self, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=bias)
        self.norm = nn.BatchNorm2d(4) if bias else nn.Identity()
        self.mid = nn.Linear(16, 8, bias=bias)
        self.heads = nn.ModuleList(nn.Linear(8, 2, bias=bias) for _ in range(2))

    def losses(self, x):
        z = self.mid(self.norm(self.conv(x)).tanh().flatten(1)).tanh()
        return {str(i): (head(z).float() - i).square().mean() for i, head in enumerate(self.heads)}


def x(seed=0):
    return torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def make(name, training, **options):
    kind = getattr(torch.optim, name)
    known = inspect.signature(kind).parameters
    options = {key: value for key, value in options.items() if key in known}
    return kind(training.parameters(), lr=1e-2, **options)


def loop(name, kind, decay):
    torch.manual_seed(0)
    model = Net(bias=name != "Muon")  # Muon takes matrices only
    training = SparseTraining(model, "PSN(k=3)", heads="heads")
    assert set(training.sites) == {"conv.weight", "mid.weight"}
    options = {"weight_decay": 0.1} if decay else {}
    options |= {"fused": True} if kind == "fused" else {"foreach": True} if kind == "foreach" else {}
    try:
        optimizer = make(name, training, **options)
    except RuntimeError as error:  # not every optimiser has every form
        pytest.skip(str(error))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=kind == "scaler")
    closure = name == "LBFGS"
    balancer = Balancer(model, "UPGrad()", scaler=scaler, heads="weighted" if closure else None)
    start = {n: s.placed.values.detach().clone() for n, s in training.sites.items()}
    for i in range(3):
        optimizer.zero_grad()
        if closure:
            optimizer.step(balancer.closure(lambda i=i: model.losses(x(i))))
            continue
        for part in range(2 if kind == "accumulated" else 1):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind in ("bf16", "scaler")):
                losses = model.losses(x(i + part))
            balancer.backward(losses, accumulate=kind == "accumulated" and part == 0)
        if kind == "clipped":
            nn.utils.clip_grad_norm_(training.parameters(), 1e-2)
        scaler.step(optimizer)
        scaler.update()
    return training, start


@pytest.mark.parametrize(
    ("kind", "decay"),
    [("plain", False), ("plain", True), ("fused", True), ("foreach", True)]
    + [(kind, False) for kind in ("accumulated", "bf16", "scaler", "clipped")],
)
@pytest.mark.parametrize("name", NAMES)
def test_frozen_bits(name, kind, decay):
    if name == "LBFGS" and kind in ("accumulated", "scaler", "clipped"):
        pytest.skip("a line search evaluates by itself")
    training, start = loop(name, kind, decay)
    training.verify()
    assert all((site.placed.values != start[n]).any() for n, site in training.sites.items())
    trained = {n: site.placed.values.detach().clone() for n, site in training.sites.items()}
    weights = dict(training.merge().named_parameters())
    for n, values in trained.items():
        assert torch.equal(training.mask.selections[n].gather(weights[n].detach()), values)


def test_the_optimisers_were_found():
    assert {"Adam", "AdamW", "SGD", "RMSprop", "LBFGS", "Adafactor", "Rprop", "NAdam"} <= set(NAMES)


def test_the_optimiser_for_sparse_gradients_is_refused_by_pytorch():
    """Gradients of what is selected are dense; nothing moves."""
    torch.manual_seed(0)
    model = Net()
    training = SparseTraining(model, "PSN(k=3)", heads="heads")
    optimizer = torch.optim.SparseAdam(training.parameters())
    before = [p.detach().clone() for p in training.parameters()]
    Balancer(model, "UPGrad()").backward(model.losses(x()))
    with pytest.raises(RuntimeError, match="does not support dense gradients"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, training.parameters(), strict=True))
    training.verify()


class Explodes(torch.autograd.Function):
    """The gradient of one entry of a weight is infinite."""

    @staticmethod
    def forward(ctx, weight, at):
        ctx.at = at
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        broken = gradient.clone()
        broken.view(-1)[ctx.at] = float("inf")
        return broken, None


@pytest.mark.parametrize("frozen", [True, False])
def test_infinity_in_a_frozen_entry_neither_skips_a_step_nor_poisons_one(frozen):
    """GradScaler looks at what is trained; in a trained entry it does skip the step."""
    model = nn.Linear(4, 2)
    training = SparseTraining(model, "PSN(k=2)")
    ((_, site),) = training.sites.items()
    chosen = site.placed.selection.places(site.dense.shape).tolist()
    at = next(i for i in range(8) if (i in chosen) is not frozen)
    optimizer = torch.optim.Adam(training.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = [p.detach().clone() for p in training.parameters()]
    out = nn.functional.linear(torch.ones(3, 4), Explodes.apply(model.weight, at), model.bias)
    balancer = Balancer(model, "Sum()", scaler=scaler)
    balancer.backward({"a": out[:, 0].mean(), "b": out[:, 1].square().mean()})
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(training.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    moved = [not torch.equal(a, b) for a, b in zip(before, training.parameters(), strict=True)]
    assert all(moved) if frozen else not any(moved)
    assert scaler.get_scale() == (4.0 if frozen else 2.0)
    assert all(p.isfinite().all() for p in training.parameters())
    training.verify()
