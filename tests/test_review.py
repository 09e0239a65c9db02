"""What a hostile review of the training step found; each test failed once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import accord
from accord import Balancer
from accord.engines import Stacked, factored
from accord.errors import AccordError
from accord.sharing import discover

from models import HardSharing

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))


class Apart(nn.Module):
    """Two tasks without a parameter in common."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 1), nn.Linear(5, 1)

    def losses(self, x):
        return {"a": self.a(x).square().mean(), "b": (self.b(x) - 1).square().mean()}


class Physics(nn.Module):
    """A net and its derivative: the inputs require a gradient."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def losses(self, n):
        x = torch.linspace(0, 1, n)[:, None].requires_grad_()
        u = self.net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return {"residual": (slope - u).square().mean(), "start": (u[0] - 1).square().mean()}


def grads(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters() if p.requires_grad]


def same(got, want, rtol=1e-5):
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=rtol, atol=1e-7)


# --- nothing to weigh


@pytest.mark.parametrize("heads", ["plain", "weighted"])
@pytest.mark.parametrize("inputs", [False, True])
def test_tasks_without_a_common_parameter_get_their_own_gradients(heads, inputs):
    """Inputs that require a gradient are common, but no parameters."""
    model, x = Apart(), X.clone().requires_grad_(inputs)
    sum(model.losses(x).values()).backward()
    want, along = grads(model), x.grad
    model.zero_grad()
    x.grad = None
    step = Balancer(model, "UPGrad()", heads=heads).backward(model.losses(x))
    same(grads(model), want)
    assert step.weights.tolist() == [1, 1]
    assert step.events == ()
    if inputs:
        torch.testing.assert_close(x.grad, along)


@pytest.mark.parametrize("method", ["GLS()", "DWA()", "Constant(weights=(1.0, 3.0))"])
def test_micro_batches_of_loss_weightings_are_one_batch_without_a_common_parameter_too(method):
    model = Apart()
    twin = copy.deepcopy(model)
    whole, parts = Balancer(model, method), Balancer(twin, method)
    for _ in range(3):
        want = whole.backward(model.losses(X))
        parts.backward({name: loss / 2 for name, loss in twin.losses(X[:8]).items()}, accumulate=True)
        got = parts.backward({name: loss / 2 for name, loss in twin.losses(X[8:]).items()})
        torch.testing.assert_close(got.weights, want.weights)
    same(grads(twin), grads(model))


@pytest.mark.parametrize("scale", [None, 4.0])
def test_micro_batches_of_loss_weightings_under_a_monitor_and_a_scaler(scale):
    model = HardSharing().double()
    twin = copy.deepcopy(model)
    steps = []
    for own, parts in ((model, 1), (twin, 2)):
        scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
        balancer = Balancer(own, "UncertaintyWeighting()", scaler=scaler)
        accord.Monitor(own, every=1).attach(balancer)
        for i, x in enumerate(X.double().chunk(parts)):
            step = balancer.backward({n: v / parts for n, v in own.losses(x).items()}, accumulate=i < parts - 1)
        steps.append(step)
    same(grads(twin), grads(model), 1e-9)
    torch.testing.assert_close(steps[1].gramians, steps[0].gramians)


@pytest.mark.parametrize("method", ["MoCo()", "GradDrop()", "GCond()", "UPGrad()", "ExcessMTL()"])
def test_where_nothing_that_is_shared_counts_the_gradients_are_summed(method):
    model = HardSharing()
    apart = nn.Parameter(torch.ones(2))  # of a task that is absent in this step
    step = Balancer(model, method, shared=[apart]).backward(model.losses(X))
    got = grads(model)
    model.zero_grad()
    sum(model.losses(X).values()).backward()
    same(got, grads(model))
    assert step.events == ()


# --- inputs that require a gradient, parameters outside the model


@pytest.mark.parametrize("method", ["MoCo()", "GCond()", "ExcessMTL()", "MomentumConFIG()", "GradDrop()", "UPGrad()"])
def test_batches_of_inputs_with_gradients_may_differ_in_size(method):
    """Methods that keep gradients keep those of parameters only."""
    model = Physics()
    balancer = Balancer(model, method)
    for n in (8, 8, 5):
        balancer.backward(model.losses(n))
    assert all(g is not None and bool(g.isfinite().all()) for g in grads(model))


def test_kept_gradients_follow_parameters_outside_the_model():
    """Their place among the shared ones changes when a task is absent."""
    outer, inner = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    balancer = Balancer(nn.Linear(1, 1), "MoCo(beta=0.5)")

    def losses():
        return {"a": (outer * inner).sum(), "b": (2 * outer + 3 * inner).sum(), "c": inner.square().sum()}

    balancer.backward(losses())
    names = dict(balancer._setup.outside)
    balancer.backward({name: loss for name, loss in losses().items() if name != "a"})
    balancer.backward({"b": losses()["b"], "c": losses()["c"], "a": losses()["a"]})
    assert len(names) == 2
    assert balancer._setup.outside == names


# --- factors of weight gradients


@pytest.fixture
def always_cheaper(monkeypatch):
    monkeypatch.setattr(factored, "TRIANGLE", 0.0)
    monkeypatch.setattr(factored, "MARGIN", 1.0)


class Own(nn.Module):
    def __init__(self, use, shape=(50, 40), dtype=None):
        super().__init__()
        self.weight, self.use = nn.Parameter(torch.randn(shape, dtype=dtype)), use

    def forward(self, x):
        return self.use(x, self.weight)


def sparse(x):
    return torch.where(x > 0.5, x, 0).to_sparse()


TRUNKS = [
    (lambda: nn.Linear(40, 50, dtype=torch.complex64), torch.complex64),
    (lambda: nn.Linear(40, 50, dtype=torch.bfloat16), torch.bfloat16),
    (lambda: nn.Linear(40, 50, dtype=torch.float16), torch.float16),
    (lambda: Own(lambda x, w: functional.linear(sparse(x), w)), torch.float32),
    (lambda: Own(lambda x, w: torch.mm(sparse(x).to_sparse_csr(), w.t())), torch.float32),
    (lambda: Own(lambda x, w: functional.conv2d(x.view(3, 40, 1, 1), w, stride=[1]), (50, 40, 1, 1)), torch.float32),
]


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize(("make", "dtype"), TRUNKS)
def test_layers_that_factors_do_not_fit(always_cheaper, make, dtype):
    trunk = make()
    y = trunk(torch.randn(3, 40, dtype=dtype)).flatten(1)
    y = torch.view_as_real(y).flatten(1) if y.is_complex() else y
    losses = {f"t{i}": y[:, i::4].sin().sum().float() for i in range(4)}
    sharing = discover(trunk, losses, shared=["weight"])
    losses = {name: loss + i * y.square().mean().float() for i, (name, loss) in enumerate(losses.items())}
    sharing = discover(trunk, losses)
    got = Stacked(trunk, sharing, list(losses.values()), retain_graph=True)
    want = Stacked(trunk, sharing, list(losses.values()), whole=True)
    torch.testing.assert_close(got.gramians, want.gramians)
    for a, b in zip(got.combine([1.0, -2.0, 0.5, 3.0]), want.combine([1.0, -2.0, 0.5, 3.0]), strict=True):
        torch.testing.assert_close(a, b)


def test_hooks_on_a_weight_are_obeyed(always_cheaper):
    """A mask on the gradient, as in pruning."""
    trunk = nn.Linear(40, 50)
    trunk.weight.register_hook(lambda g: g * 0)
    y = trunk(torch.randn(3, 40))
    Balancer(trunk, "UPGrad()", engine="stacked").backward({"a": y.mean(), "b": y.square().mean(), "c": y.sin().mean()})
    assert float(trunk.weight.grad.abs().max()) == 0


def test_a_monitor_sees_factors_as_they_were_before_the_update(always_cheaper):
    """The input of this layer is a parameter, which the optimiser changes."""
    changes = []
    for layers in (factored.layers, lambda sharing: []):
        torch.manual_seed(0)
        model = nn.Module()
        model.prompt, model.layer = nn.Parameter(torch.randn(3, 40)), nn.Linear(40, 50)
        optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
        balancer = Balancer(model, "UPGrad()", engine="stacked")
        accord.Monitor(model, every=1, optimizer=optimizer).attach(balancer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(factored, "layers", layers)
            y = model.layer(model.prompt)
            step = balancer.backward({"a": y.mean(), "b": y.square().mean(), "c": y.sin().mean()})
        optimizer.step()
        changes.append(step.change)
    torch.testing.assert_close(changes[0], changes[1], rtol=1e-4, atol=1e-6)


# --- a refused step leaves no trace


def trace(balancer):
    return balancer.tasks, balancer.index, balancer._awaited is None, balancer._again, balancer._held, balancer.probe


def test_a_failed_backward_leaves_no_trace():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()")
    losses = {**model.losses(X), "new": model.trunk(X).square().mean()}
    sum(losses.values()).backward()
    model.zero_grad()
    before = trace(balancer)
    with pytest.raises(RuntimeError, match="second time"):
        balancer.backward(losses)
    assert trace(balancer) == before
    assert all(g is None for g in grads(model))


@pytest.mark.parametrize("broken", ["compute", "losses"])
def test_a_failed_computation_leaves_the_earlier_one_to_look_at_again(broken):
    model = HardSharing()
    balancer = Balancer(model, "FAMO()")
    balancer.backward(lambda: {n: v.square() for n, v in model.losses(X).items()})
    before = trace(balancer)
    with pytest.raises((AccordError, ZeroDivisionError)):
        balancer.backward(lambda: 1 / 0 if broken == "compute" else {"a": torch.tensor(1.0)})
    assert trace(balancer) == before


def test_a_refused_micro_batch_leaves_no_trace():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()")
    with pytest.raises(AccordError, match="reaches no parameter"):
        balancer.backward({"a": torch.tensor(1.0)}, accumulate=True)
    assert balancer.state_dict()["tasks"] == []


def test_a_step_that_is_refused_after_its_micro_batches_is_refused_as_a_whole():
    model = HardSharing()
    balancer = Balancer(model, "Constant(weights=(1.0, 2.0))")
    balancer.backward({name: loss for name, loss in model.losses(X).items() if name != "t2"}, accumulate=True)
    with pytest.raises(AccordError, match="2 entries"):
        balancer.backward(model.losses(X))
    assert all(g is None for g in grads(model))
    losses = {name: loss for name, loss in model.losses(X).items() if name != "t2"}
    balancer.backward(losses)
    got = grads(model)
    model.zero_grad()
    Balancer(model, "Constant(weights=(1.0, 2.0))").backward(
        {name: loss for name, loss in model.losses(X).items() if name != "t2"}
    )
    for g, w in zip(got, grads(model), strict=True):
        assert (g is None and w is None) or torch.equal(g, w)


@pytest.mark.parametrize("method", ["DWA()", "UPGrad()"])
def test_a_loss_without_a_graph_is_refused_by_every_method(method):
    model = HardSharing()
    losses = model.losses(X)
    with pytest.raises(AccordError, match="'t1' reaches no parameter"):
        Balancer(model, method).backward({**losses, "t1": losses["t1"].detach()})


# --- losses after the step


def test_unknown_tasks_after_the_step_are_refused():
    model = HardSharing()
    balancer = Balancer(model, "FAMO()")
    balancer.backward({n: v.square() for n, v in model.losses(X).items()})
    with pytest.raises(AccordError, match="'new'"):
        balancer.after_step({**model.losses(X), "new": model.trunk(X).mean()})
    assert balancer.tasks == ("t0", "t1", "t2")
    balancer.after_step({n: v.square() for n, v in model.losses(X).items()})


def test_one_micro_batch_is_not_looked_at_in_place_of_all():
    model = HardSharing()
    balancer = Balancer(model, "FAMO()")
    balancer.backward(lambda: {n: v.square() for n, v in model.losses(X[:8]).items()}, accumulate=True)
    balancer.backward(lambda: {n: v.square() for n, v in model.losses(X[8:]).items()})
    with pytest.raises(AccordError, match="needs the losses"):
        balancer.after_step()
    step = balancer.backward({n: v.square() for n, v in model.losses(X).items()}, accumulate=True)
    step = balancer.backward({n: v.square() for n, v in model.losses(X).items()})
    assert [event.kind for event in step.events] == ["missing"]


# --- arguments


def test_one_name_or_one_tensor_may_be_shared():
    model = HardSharing()
    want = Balancer(model, "UPGrad()", shared=["trunk.6.weight"]).backward(model.losses(X))
    for one in ("trunk.6.weight", model.trunk[6].weight):
        step = Balancer(model, "UPGrad()", shared=one).backward(model.losses(X))
        torch.testing.assert_close(step.gramians, want.gramians)


def test_features_do_not_go_with_what_needs_all_gradients():
    model = HardSharing()
    z = model.trunk(X)
    losses = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    with pytest.raises(AccordError, match="features"):
        Balancer(model, "UPGrad()", group="module").backward(losses, features=[z])
    with pytest.raises(AccordError, match="features"):
        Balancer(model, "UPGrad()", engine="features").backward(losses, accumulate=True)


def test_both_halves_of_a_batch_may_come_from_one_forward_pass():
    model = HardSharing()
    twin = copy.deepcopy(model)

    def losses(own, z):
        return {f"t{i}": (head(z) - i).square().mean() for i, head in enumerate(own.heads)}

    z = model.trunk(X)
    got = Balancer(model, "MoDo()").backward(losses(model, z[:8]), second=losses(model, z[8:]))
    want = Balancer(twin, "MoDo()").backward(losses(twin, twin.trunk(X[:8])), second=losses(twin, twin.trunk(X[8:])))
    torch.testing.assert_close(got.weights, want.weights)
    same(grads(model), grads(twin))


# --- what is written and what is seen


def test_a_sparse_grad_is_added_to():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 4, sparse=True), "a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
    twin = copy.deepcopy(model)

    def losses(own, chosen):
        z = own["embed"](torch.tensor(chosen))
        return {"a": own["a"](z).mean(), "b": own["b"](z).square().mean()}

    for own in (model, twin):
        sum(losses(own, [0, 1]).values()).backward()
    step = Balancer(model, "UPGrad()").backward(losses(model, [1, 2]))
    found = losses(twin, [1, 2])
    rows = [torch.autograd.grad(loss, twin["embed"].weight, retain_graph=True)[0] for loss in found.values()]
    want = twin["embed"].weight.grad.to_dense() + sum(
        w * row.to_dense() for w, row in zip(step.weights, rows, strict=True)
    )
    torch.testing.assert_close(model["embed"].weight.grad.to_dense(), want.float())


def test_a_monitor_sees_the_change_of_each_block():
    model = HardSharing()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    balancer = Balancer(model, "UPGrad()", group="module")
    accord.Monitor(model, every=1, optimizer=optimizer).attach(balancer)
    step = balancer.backward(model.losses(X))
    optimizer.step()
    torch.testing.assert_close(step.change, -1e-3 * step.descent, rtol=1e-3, atol=1e-9)


# --- line searches


def test_a_task_that_is_not_finite_does_not_spoil_a_line_search():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()", heads="weighted")

    def compute():
        losses = model.losses(X)
        return {**losses, "t1": losses["t1"] * torch.nan}

    evaluate = balancer.closure(compute)
    first = evaluate()
    want = grads(model)
    again = evaluate()
    assert bool(first.isfinite())
    assert float(first) == float(again)
    for g, w in zip(grads(model), want, strict=True):
        assert (g is None and w is None) or torch.allclose(g, w, rtol=1e-4, atol=1e-6)
    nothing = balancer.closure(lambda: {name: loss * torch.nan for name, loss in model.losses(X).items()})
    assert [float(nothing()), float(nothing())] == [0.0, 0.0]
    assert all(g is None for g in grads(model))


# --- distributed


class DistributedDataParallel(HardSharing):
    """The name is what is looked at."""


def test_a_task_that_is_left_out_does_not_leave_a_wrapper_waiting():
    """Its own parameters would be missing in the wrapper's backward pass, so the gradient is averaged by hand."""
    model, averaged = DistributedDataParallel(), []

    def average(tensors):
        averaged.append(len(tensors))
        for t in tensors:
            t.mul_(2)

    twin = copy.deepcopy(model)
    balancer = Balancer(model, "Constant(weights=(1.0, 1.0, 1.0))", reduce=average)
    losses = model.losses(X)
    balancer.backward({**losses, "t1": losses["t1"] * torch.nan})
    assert averaged == [1, 2, 2, 2, 6]  # losses, heads, trunk
    losses = twin.losses(X)
    (losses["t0"] + losses["t2"]).mul(2).backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-5)


def test_methods_that_read_gradients_need_no_wrapper():
    model = HardSharing()
    step = Balancer(model, "ExcessMTL()", reduce=lambda tensors: None).backward(model.losses(X))
    assert step.weights is not None


# --- found, and to be mended in files of others


class Tied(nn.Module):
    """An embedding that one task uses as a dense weight, too: one row is sparse and the other dense."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4, sparse=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def losses(self, tied=True):
        z = self.second(self.first(self.embed(torch.tensor([0, 1, 2]))).tanh())
        y = z @ self.embed.weight.T if tied else 2 * z
        return {"dense": y.square().mean(), "sparse": z.sin().mean()}


def test_a_row_may_be_sparse_where_another_is_dense():
    model = Tied()
    assert Balancer(model, "UPGrad()").backward(model.losses()).weights is not None


def test_sparse_gradients_are_sketched():
    model = Tied()
    balancer = Balancer(model, "UPGrad()", engine="segmented")
    accord.Monitor(model, every=1).attach(balancer)
    assert balancer.backward(model.losses(tied=False)).weights is not None


def test_heads_may_share_what_has_no_parameters_above_the_features():
    model = HardSharing()
    z = model.trunk(X)
    y = z.tanh()
    losses = {f"t{i}": head(y).square().mean() for i, head in enumerate(model.heads)}
    assert Balancer(model, "MGDA()").backward(losses, features=[z]).space == "features"


def test_a_line_search_clears_parameters_outside_the_model():
    model, factor = HardSharing(), nn.Parameter(torch.ones(()))
    evaluate = Balancer(model, "Sum()").closure(lambda: {n: factor * v for n, v in model.losses(X).items()})
    evaluate()
    want = factor.grad.clone()
    evaluate()
    assert torch.equal(factor.grad, want)


def test_a_scaler_that_is_switched_off_is_none():
    """Nobody would skip the step: a task that is not finite is left out, as without a scaler."""
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()", scaler=torch.amp.GradScaler("cpu", enabled=False))
    step = balancer.backward({**model.losses(X), "t1": model.losses(X)["t1"] * torch.nan})
    assert step.active.tolist() == [True, False, True]
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_group_decides_about_blocks():
    with pytest.raises(AccordError, match="leave blocks= out"):
        Balancer(HardSharing(), "GradVac()", blocks="tensor")
