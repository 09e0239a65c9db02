"""Looks elsewhere: the values are those of a model that really stands there, and nothing is left behind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from accord.elsewhere import Elsewhere
from accord.engines.displaced import Displaced
from accord.errors import AccordError
from accord.undisturbed import random_state, undisturbed

import models


class Awkward(nn.Module):
    """BatchNorm, dropout, an in-place ReLU, a tied and a frozen weight, a sparse embedding, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4, sparse=True)
        self.trunk = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, 4)
        )
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 7, bias=False)
        self.register_buffer("steps", torch.zeros(()))

    def losses(self, at: torch.Tensor) -> models.Losses:
        self.steps = self.steps + 1  # a buffer that is replaced, not written to
        z = self.frozen(self.trunk(self.words(at)))  # (N, 4)
        tied = z @ self.trunk[0].weight.T  # (N, 6)
        return {"a": self.a(z).square().mean() + tied.square().mean(), "b": (self.b(z) - 1).square().mean()}


@pytest.fixture
def net() -> Awkward:
    torch.manual_seed(0)
    return Awkward()


FIRST, SECOND = torch.arange(12) % 7, torch.arange(12) % 5


def look_at(net: Awkward, **options) -> Displaced:
    return Displaced(net, lambda: net.losses(FIRST), lambda: net.losses(SECOND), ["b", "a"], **options)


def a_shift(look: Displaced) -> list[torch.Tensor | None]:
    """The last parameter is not moved."""
    return [*(torch.randn_like(p) / 5 for p in look.parameters[:-1]), None]


def moved(net: Awkward, shift: list[torch.Tensor | None]) -> Awkward:
    """A second model that really stands there."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for p, s in zip([p for p in other.parameters() if p.requires_grad], shift, strict=True):
            p.add_(0 if s is None else s)
    return other


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", ["training", "validation"])
def test_what_is_seen_is_what_is_there(net, training, batch):
    net.train(training)
    look: Elsewhere = look_at(net)
    shift = a_shift(look)
    noise = random_state(net)
    look = look_at(net)
    other = moved(net, shift)
    with undisturbed(other, noise, grad=True):
        losses = other.losses(FIRST if batch == "training" else SECOND)
        rows = [
            torch.autograd.grad(
                losses[t], [p for p in other.parameters() if p.requires_grad], retain_graph=True, allow_unused=True
            )
            for t in ("b", "a")
        ]
    assert look.values(batch, shift).tolist() == [losses["b"].item(), losses["a"].item()]
    found = look.gradients(batch, shift)
    assert found.names == look.names
    for row, expected in zip(found.rows, rows, strict=True):
        for g, e in zip(row, expected, strict=True):
            assert (g is None) == (e is None)
            assert g is None or torch.equal(g.to_dense(), e.to_dense())
    weighted = look.gradient(batch, np.array([2.0, -3.0]), shift)
    for g, (b, a) in zip(weighted, zip(*rows, strict=True), strict=True):
        parts = [w * e.to_dense() for w, e in ((2.0, b), (-3.0, a)) if e is not None]
        assert torch.allclose(g.to_dense(), sum(parts), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_a_look_leaves_no_trace(net, training):
    net.train(training)
    look = look_at(net)
    shift = a_shift(look)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    places = {name: t.data_ptr() for name, t in net.state_dict().items()}
    noise = torch.get_rng_state()
    for batch in ("training", "validation"):
        look.values(batch, shift)
        look.gradients(batch, shift)
        look.gradient(batch, np.ones(2))
    assert torch.equal(torch.get_rng_state(), noise)
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name: t.data_ptr() for name, t in after.items()} == places
    assert all(p.grad is None for p in net.parameters())
    assert all(m.training == training for m in net.modules())
    assert [p.requires_grad for p in net.parameters()].count(False) == 2


@pytest.mark.parametrize("training", [True, False])
def test_the_graph_of_the_step_stays_usable(net, training):
    """Its gradient after looks is its gradient without them, bit for bit."""
    net.train(training)
    parameters = [p for p in net.parameters() if p.requires_grad]
    twin = copy.deepcopy(net)
    noise = random_state(net)
    losses = net.losses(FIRST)
    look = look_at(net)
    shift = a_shift(look)
    look.values("validation", shift)
    look.gradients("training", shift)
    found = torch.autograd.grad(sum(losses.values()), parameters)
    with undisturbed(twin, noise, grad=True):
        expected = torch.autograd.grad(
            sum(twin.losses(FIRST).values()), [p for p in twin.parameters() if p.requires_grad]
        )
    assert all(torch.equal(f.to_dense(), e.to_dense()) for f, e in zip(found, expected, strict=True))


def test_looks_at_one_batch_draw_the_same_numbers(net):
    """Differences between looks are not dropout noise, and with the step's noise they are looks at the step itself."""
    noise = random_state(net)
    step = net.losses(FIRST)
    net.trunk[1].reset_running_stats()
    look = look_at(net, noise=noise)
    assert look.values("training").tolist() == [step["b"].item(), step["a"].item()]
    look.values("validation")
    torch.rand(5)
    assert look.values("training").tolist() == [step["b"].item(), step["a"].item()]
    assert look.values("validation").tolist() == look.values("validation").tolist()
    assert look_at(net).values("training").tolist() != [step["b"].item(), step["a"].item()]


@pytest.mark.parametrize("where", ["training", "validation"])
def test_everything_is_put_back_when_the_function_raises(net, where):
    before = {name: t.clone() for name, t in net.state_dict().items()}
    noise = torch.get_rng_state()

    def broken():
        net.losses(FIRST)
        raise KeyError("mine")

    look = Displaced(net, broken, broken, ["a"])
    with pytest.raises(KeyError, match="mine"):
        look.values(where, [torch.ones_like(p) for p in look.parameters])
    with pytest.raises(ValueError, match="zip"):
        look.values(where, [torch.ones(1)])
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_what_is_computed_anew_in_the_backward_pass_is_computed_there():
    torch.manual_seed(0)
    net, x = models.Checkpointed(use_reentrant=False), torch.randn(8, 5)

    def plain():
        z = net.trunk(x)  # (N, 6), without the checkpoint
        return {f"t{i}": ((-1) ** i * head(z) - i).square().mean() for i, head in enumerate(net.heads)}

    look = Displaced(net, lambda: net.losses(x), plain, ["t0", "t1"])
    shift = [torch.randn_like(p) / 5 for p in look.parameters]
    rows, expected = look.gradients("training", shift).rows, look.gradients("validation", shift).rows
    for g, e in zip(rows[0] + rows[1], expected[0] + expected[1], strict=True):
        assert (g is None and e is None) or torch.allclose(g, e, atol=1e-6)


@pytest.mark.parametrize("around", [True, False])
def test_autocast_does_not_remember_where_the_parameters_were(around):
    """Inside an outer autocast region, half-precision copies of the weights are kept: those of another place."""
    torch.manual_seed(0)
    net, x = nn.Linear(4, 3), torch.randn(5, 4)

    def losses():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return {"a": net(x).float().square().mean()}

    look = Displaced(net, losses, losses, ["a"])
    shift = [torch.ones_like(p) for p in look.parameters]
    expected = [look.values("training").item(), look.values("training", shift).item()]
    slopes = [look.gradients("training").rows[0][0], look.gradients("training", shift).rows[0][0]]
    assert expected[0] != expected[1]
    with torch.autocast("cpu", enabled=around, dtype=torch.bfloat16):
        for _ in range(2):
            assert [look.values("training").item(), look.values("training", shift).item()] == expected
            assert torch.equal(look.gradients("training").rows[0][0], slopes[0])
            assert torch.equal(look.gradients("training", shift).rows[0][0], slopes[1])


def test_autocast_of_the_caller_holds_in_looks():
    """The Balancer switches autocast off for its own arithmetic; the losses are still computed as the user would."""
    torch.manual_seed(0)
    net, x = nn.Linear(4, 3), torch.randn(5, 4)
    dtypes = []

    def losses():
        out = net(x)
        dtypes.append(out.dtype)
        return {"a": out.float().square().mean()}

    with torch.autocast("cpu", dtype=torch.bfloat16):
        look = Displaced(net, losses, losses, ["a"])
        with torch.autocast("cpu", enabled=False), torch.no_grad():
            look.gradients("training")
    Displaced(net, losses, losses, ["a"]).values("training")
    assert dtypes == [torch.bfloat16, torch.float32]


def test_only_losses_that_are_needed_must_be_there(net):
    look = Displaced(net, lambda: net.losses(FIRST), lambda: {"a": net.losses(FIRST)["a"]}, ["a", "b"])
    with pytest.raises(AccordError, match=r"the validation losses are \['a'\], but \['b'\] are needed in this step"):
        look.values("validation")
    assert any(g is not None for g in look.gradient("validation", np.array([1.0, 0.0])))
    with pytest.raises(AccordError, match=r"\['b'\] are needed"):
        look.gradient("validation", np.array([1.0, 0.5]))
    assert look.gradient("validation", np.zeros(2)) == [None] * len(look.parameters)


def test_wrong_functions_are_explained(net):
    def detached():
        return {name: loss.detach() for name, loss in net.losses(FIRST).items()}

    look = Displaced(net, detached, lambda: torch.ones(2), ["a", "b"])
    assert np.isfinite(look.values("training")).all()
    with pytest.raises(AccordError, match=r"the training losses \['a', 'b'\] require no gradient"):
        look.gradients("training")
    with pytest.raises(AccordError, match="expected a dict of scalar losses"):
        look.values("validation")
    hidden, x = models.Checkpointed(use_reentrant=True), torch.randn(4, 5)
    with pytest.raises(AccordError, match="set use_reentrant=False"):
        Displaced(hidden, lambda: hidden.losses(x), detached, ["t0"]).gradients("training")
    with pytest.raises(AccordError, match="no trainable parameters"):
        Displaced(nn.ReLU(), detached, detached, ["a"])


def test_epsilon_says_how_exact_products_are(net):
    assert look_at(net).epsilon == 1.2e-7
    assert look_at(net.double()).epsilon == 1e-10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_look_leaves_no_trace_on_a_gpu():
    torch.manual_seed(0)
    net = Awkward().cuda()
    at, noise = FIRST.cuda(), torch.cuda.get_rng_state()
    look = Displaced(net, lambda: net.losses(at), lambda: net.losses(at), ["a", "b"])
    assert look.values("training").tolist() == look.values("training").tolist()
    assert torch.equal(torch.cuda.get_rng_state(), noise)
