"""The step under what real loops do: micro-batches, loss scaling, line searches, kept weights, several batches."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

import accord
from accord import Balancer
from accord.errors import AccordError
from accord.methods import METHODS

from models import Checkpointed, HardSharing, Hierarchy, Recurrent, Residual
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
MODELS = [HardSharing, Hierarchy, Residual]


def grads(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters() if p.requires_grad]


def same(got, want, rtol=1e-9):
    for g, w in zip(got, want, strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            torch.testing.assert_close(g, w, rtol=rtol, atol=rtol * max(1e-30, float(w.abs().max())))


class Sparse(nn.Module):
    """An embedding with sparse gradients under two heads, one of which looks at other rows."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4, sparse=True)
        self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

    def losses(self, x):
        first, second = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 3, 4, 0])
        return {"a": self.a(self.embed(first)).square().mean(), "b": (self.b(self.embed(second)) - 1).square().mean()}


# --- gradient accumulation


@pytest.mark.parametrize("method", ["UPGrad()", "NashMTL()", "GradDrop(leak=1.0)", "UncertaintyWeighting()", "Sum()"])
@pytest.mark.parametrize("make", MODELS)
def test_four_micro_batches_are_one_batch(make, method):
    """Mean losses over equal parts: a quarter of each part's gradient is the whole's."""
    model = make().double()
    whole, parts = Balancer(model, method), Balancer(copy.deepcopy(model), method)
    want = whole.backward(model.losses(X.double()))
    for i, x in enumerate(X.double().chunk(4)):
        losses = {name: loss / 4 for name, loss in parts.model.losses(x).items()}
        got = parts.backward(losses, accumulate=i < 3)
        assert got.index == 0
    same(grads(parts.model), grads(model))
    assert parts.index == 1
    if want.weights is not None:
        torch.testing.assert_close(got.weights, want.weights, rtol=1e-9, atol=0)
    if method != "Sum()":  # whose micro-batches are PyTorch's, each with its own losses
        torch.testing.assert_close(got.losses, want.losses)


def test_micro_batches_write_nothing_before_the_last():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()")
    step = balancer.backward(model.losses(X), accumulate=True)
    assert all(g is None for g in grads(model))
    assert step.weights is None
    with pytest.raises(AccordError, match="accumulated"):
        balancer.state_dict()
    balancer.backward(model.losses(X))
    assert all(g is not None for g in grads(model))
    assert balancer.state_dict()["index"] == 1


def test_tasks_may_come_in_different_micro_batches():
    """Two tasks that never meet in one micro-batch still share the trunk."""
    model = HardSharing(2).double()
    rows = oracle.gradients(model, model.losses(X.double()))
    balancer = Balancer(model, "UPGrad()")
    balancer.backward({"t0": model.losses(X.double())["t0"]}, accumulate=True)
    step = balancer.backward({"t1": model.losses(X.double())["t1"]})
    weights = dict(zip(step.tasks, step.weights.tolist(), strict=True))
    same(grads(model), oracle.expected(rows, weights, "plain"))


def test_a_micro_batch_that_is_not_finite_spoils_its_task_only():
    model = HardSharing(3)
    balancer = Balancer(model, "UPGrad()")
    balancer.backward({**model.losses(X), "t1": model.losses(X)["t1"] * torch.nan}, accumulate=True)
    step = balancer.backward(model.losses(X))
    assert step.active.tolist() == [True, False, True]
    assert all(g is None or bool(g.isfinite().all()) for g in grads(model))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_micro_batches_through_checkpoints(use_reentrant):
    model = Checkpointed(use_reentrant).eval()
    whole, parts = Balancer(model, "UPGrad()"), Balancer(copy.deepcopy(model), "UPGrad()")
    whole.backward(model.losses(X))
    for i, x in enumerate(X.chunk(2)):
        parts.backward({name: loss / 2 for name, loss in parts.model.losses(x).items()}, accumulate=i < 1)
    same(grads(parts.model), grads(model), 1e-4)


# --- GradScaler


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "NashMTL()", "GradDrop()", "UncertaintyWeighting()", "Mean()"])
@pytest.mark.parametrize("engine", ["auto", "segmented"])
def test_a_scaler_changes_the_unit_of_grad_and_nothing_else(method, engine):
    if method == "GradDrop()" and engine == "segmented":
        engine = "stacked"
    model = HardSharing().double()
    plain = Balancer(copy.deepcopy(model), method, engine=engine)
    want = plain.backward(plain.model.losses(X.double()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    got = Balancer(model, method, engine=engine, scaler=scaler).backward(model.losses(X.double()))
    same([g / 2**10 for g in grads(model)], grads(plain.model))
    torch.testing.assert_close(got.losses, want.losses, rtol=0, atol=0)
    for name in ("weights", "gramians", "descent"):
        if getattr(want, name) is not None:
            torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-9, atol=1e-12)


def test_a_scaled_loop_takes_the_steps_of_a_plain_one():
    """Scale, unscale, clip, step, update; powers of two divide without rounding."""
    model = HardSharing().double()
    twin = copy.deepcopy(model)
    balancer, other = Balancer(twin, "UPGrad()"), None
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=2)
    other = Balancer(model, "UPGrad()", scaler=scaler)
    for b in (balancer, other):
        optimizer = torch.optim.SGD(b.model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            b.backward(b.model.losses(X.double()))
            if b is other:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(b.model.parameters(), 0.5)
            if b is other:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
    assert scaler.get_scale() == 2.0**14
    same([p.detach() for p in model.parameters()], [p.detach() for p in twin.parameters()], 1e-12)


@pytest.mark.parametrize("method", ["UPGrad()", "NashMTL()", "GradDrop()", "InverseNorm()"])
def test_an_overflow_lowers_the_scale_and_moves_nothing(method):
    """One task's gradient is infinite: no task is dropped, the optimiser's step is."""
    model = HardSharing()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    balancer = Balancer(model, method, scaler=scaler)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    state = copy.deepcopy(balancer.method.state_dict())
    losses = model.losses(X)
    big = losses["t1"] * 3e38  # finite as a loss, not finite times the scale
    step = balancer.backward({**losses, "t1": big})
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**15
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert [event.kind for event in step.events][-1] == "overflow"
    assert repr(balancer.method.state_dict()) == repr(state)


def test_a_scaler_and_micro_batches():
    model = HardSharing().double()
    plain = Balancer(copy.deepcopy(model), "UPGrad()")
    plain.backward(plain.model.losses(X.double()))
    scaled = Balancer(model, "UPGrad()", scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    for i, x in enumerate(X.double().chunk(2)):
        step = scaled.backward({name: loss / 2 for name, loss in model.losses(x).items()}, accumulate=i < 1)
    same([g / 8 for g in grads(model)], grads(plain.model))
    assert step.weights is not None


def test_a_monitor_sees_the_user_s_units_under_a_scaler():
    changes = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=4.0)):
        torch.manual_seed(0)
        model = HardSharing().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = accord.Monitor(model, every=1, optimizer=optimizer)
        balancer = Balancer(model, "UPGrad()", scaler=scaler)
        monitor.attach(balancer)
        balancer.backward(model.losses(X.double()))
        optimizer.step() if scaler is None else scaler.step(optimizer)
        changes.append(monitor.steps[0].change)
    torch.testing.assert_close(changes[0], changes[1], rtol=1e-9, atol=1e-15)


# --- line searches


def quadratic():
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False).double()
    a, b = torch.randn(2, 3, dtype=torch.float64)

    def losses():
        w = model.weight[0]
        return {"a": (w - a).square().sum(), "b": 3 * (w - b).square().sum()}

    return model, losses


@pytest.mark.parametrize("method", ["Sum()", "Constant(weights=(1.0, 2.0))", "UPGrad()", "NashMTL()"])
def test_lbfgs_minimises_the_weighted_sum_of_its_first_weights(method):
    model, losses = quadratic()
    twin, again = quadratic()
    weights = Balancer(twin, method).backward(again()).weights
    balancer = Balancer(model, method, heads=None if method[0] in "SC" else "weighted")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=30, line_search_fn="strong_wolfe")
    first = optimizer.step(balancer.closure(losses))
    before = sum(w * loss.detach() for w, loss in zip(weights, again().values(), strict=True))
    assert float(first) == pytest.approx(float(before))
    total = sum(w * loss for w, loss in zip(weights, losses().values(), strict=True))
    (slope,) = torch.autograd.grad(total, model.weight)
    assert float(slope.norm()) < 1e-6
    assert balancer.index == 1  # one step, however many evaluations


def test_a_closure_needs_one_function():
    model = HardSharing()
    with pytest.raises(AccordError, match="heads='weighted'"):
        Balancer(model, "UPGrad()").closure(lambda: model.losses(X))
    with pytest.raises(AccordError, match="line search"):
        Balancer(model, "GradDrop()").closure(lambda: model.losses(X))


# --- weights that are kept


@pytest.mark.parametrize("heads", ["plain", "weighted"])
@pytest.mark.parametrize("make", [*MODELS, Recurrent])
def test_kept_weights_give_the_weighted_gradient(make, heads):
    """Between two solves the weights are the old ones and the gradients the new ones."""
    model = make().double()
    balancer = Balancer(model, "UPGrad()", refresh=3, heads=heads)
    solved = []
    for i in range(7):
        x = torch.randn(16, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        model.zero_grad()
        losses = model.losses(x)
        rows = oracle.gradients(model, losses)
        step = balancer.backward(losses)
        if i % 3 == 0:
            fresh = Balancer(copy.deepcopy(model), "UPGrad()")
            want = fresh.backward(fresh.model.losses(x)).weights
            torch.testing.assert_close(step.weights, want)
            solved.append(step.weights)
        assert torch.equal(step.weights, solved[-1])
        assert (step.gramians is None) == (i % 3 > 0)
        same(grads(model), oracle.expected(rows, dict(zip(step.tasks, step.weights.tolist(), strict=True)), heads))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_kept_weights_through_checkpoints(use_reentrant):
    model = Checkpointed(use_reentrant).eval()
    balancer = Balancer(model, "UPGrad()", refresh=2)
    first = balancer.backward(model.losses(X))
    want = grads(model)
    model.zero_grad()
    second = balancer.backward(model.losses(X))
    assert torch.equal(first.weights, second.weights)
    same(grads(model), want, 1e-5)


def test_kept_weights_do_not_outlive_their_tasks():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()", refresh=10)
    balancer.backward(model.losses(X))
    losses = model.losses(X)
    assert balancer.backward(losses).gramians is None
    losses = model.losses(X)
    del losses["t1"]
    assert balancer.backward(losses).gramians is not None  # other tasks
    losses = model.losses(X)
    assert balancer.backward({**losses, "t1": losses["t1"] * torch.nan}).gramians is not None
    assert balancer.backward(model.losses(X)).gramians is not None  # the last solve lacked a task


def test_a_probe_looks_at_kept_weights():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()", refresh=5)
    monitor = accord.Monitor(model, every=2)
    monitor.attach(balancer)
    steps = [balancer.backward(model.losses(X[4 * i : 4 * i + 4])) for i in range(4)]
    assert [step.gramians is None for step in steps] == [False, True, False, True]
    assert all(torch.equal(step.weights, steps[0].weights) for step in steps)
    torch.testing.assert_close(steps[2].descent.sum(0), steps[2].gramian @ steps[0].weights)


def test_kept_weights_survive_a_restart():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()", refresh=4)
    balancer.backward(model.losses(X))
    file = io.BytesIO()
    torch.save(balancer.state_dict(), file)
    file.seek(0)
    other = Balancer(model, "UPGrad()", refresh=4)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(balancer.backward(model.losses(X[:8])).weights, other.backward(model.losses(X[:8])).weights)


# --- block by block


def test_each_block_is_a_problem_of_its_own():
    model = HardSharing().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    step = Balancer(model, "UPGrad()", group="module").backward(losses)
    names = [n for n, p in model.named_parameters()]
    assert step.weights is None
    assert step.blocks == ("trunk.0", "trunk.3", "trunk.6")
    for b, block in enumerate(step.blocks):
        members = [i for i, n in enumerate(names) if n.rpartition(".")[0] == block]
        J = torch.stack([torch.cat([row[i].flatten() for i in members]) for row in rows.values()])
        want = 3 * accord.UPGrad()(J @ J.T)
        torch.testing.assert_close(step.block_weights[b], want, rtol=1e-8, atol=1e-10)
        got = torch.cat([list(model.parameters())[i].grad.flatten() for i in members])
        torch.testing.assert_close(got, want @ J, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(step.descent[b], J @ got, rtol=1e-8, atol=1e-10)
    total = torch.cat([p.grad.flatten() for n, p in model.named_parameters() if n.startswith("trunk")])
    assert step.direction_norm == pytest.approx(float(total.norm()))
    heads = [i for i, n in enumerate(names) if n.startswith("heads")]
    own = [next(row[i] for row in rows.values() if row[i] is not None) for i in heads]
    same([list(model.parameters())[i].grad for i in heads], own)


def test_blocks_have_their_own_state_and_it_is_saved():
    model = HardSharing()
    balancer = Balancer(model, "InverseNorm(ema=0.5)", group="module", heads="plain")
    for i in range(3):
        balancer.backward(model.losses(X[4 * i : 4 * i + 4]))
    other = Balancer(model, "InverseNorm(ema=0.5)", group="module", heads="plain")
    other.load_state_dict(balancer.state_dict())
    assert torch.equal(balancer.backward(model.losses(X)).block_weights, other.backward(model.losses(X)).block_weights)


def test_partly_shared_blocks_hold_their_tasks_only():
    model = Hierarchy().double()
    step = Balancer(model, "UPGrad()", group="module").backward(model.losses(X.double()))
    high = step.blocks.index("high")
    assert step.block_weights[high, step.tasks.index("low")] == 0


def test_groups_may_be_named_by_the_user():
    model = HardSharing()
    groups = {p: "first" if n.startswith("trunk.0") else "rest" for n, p in model.named_parameters()}
    step = Balancer(model, "UPGrad()", blocks=groups).backward(model.losses(X))
    assert step.blocks == ("first", "rest")
    assert step.weights is not None
    step = Balancer(model, "UPGrad()", group=groups).backward(model.losses(X))
    assert step.block_weights.shape == (2, 3)


# --- several batches


@pytest.mark.parametrize("method", ["SDMGrad()", "MoDo()"])
@pytest.mark.parametrize("make", MODELS)
def test_the_direction_of_two_batches_is_that_of_their_mean(make, method):
    model = make().double()
    first, second = X.double().chunk(2)
    rows, others = oracle.gradients(model, model.losses(first)), oracle.gradients(model, model.losses(second))
    step = Balancer(model, method).backward(model.losses(first), second=model.losses(second))
    mean = {k: [None if g is None else (g + h) / 2 for g, h in zip(rows[k], others[k], strict=True)] for k in rows}
    same(grads(model), oracle.expected(mean, dict(zip(step.tasks, step.weights.tolist(), strict=True)), "plain"))
    shared = [i for i in range(len(next(iter(rows.values())))) if oracle.is_shared(rows, i)]
    trainable = [p for p in model.parameters() if p.requires_grad]

    def matrix(found):
        return torch.stack(
            [torch.cat([(torch.zeros_like(trainable[i]) if g[i] is None else g[i]).flatten() for i in shared])
             for g in found.values()]
        )  # fmt: skip

    flat = [matrix(rows), matrix(others)]
    k = len(step.tasks)
    want = accord.parse(method)((flat[0] @ flat[0].T), torch.ones(k).double(), cross=flat[0] @ flat[1].T) * k
    torch.testing.assert_close(step.weights, want, rtol=1e-7, atol=1e-9)


def test_of_three_batches_the_first_is_followed():
    model = HardSharing().double()
    parts = X.double()[:15].chunk(3)
    rows = oracle.gradients(model, model.losses(parts[0]))
    step = Balancer(model, "MoDo()").backward(
        model.losses(parts[0]), second=(model.losses(parts[1]), model.losses(parts[2]))
    )
    same(grads(model), oracle.expected(rows, dict(zip(step.tasks, step.weights.tolist(), strict=True)), "plain"))


def test_second_batches_are_asked_for_and_checked():
    model = HardSharing()
    with pytest.raises(AccordError, match="independent batch"):
        Balancer(model, "MoDo()").backward(model.losses(X))
    with pytest.raises(AccordError, match="uses one batch"):
        Balancer(model, "UPGrad()").backward(model.losses(X), second=model.losses(X))
    losses = model.losses(X)
    with pytest.raises(AccordError, match="very losses"):
        Balancer(model, "MoDo()").backward(losses, second=losses)
    with pytest.raises(AccordError, match="in this order"):
        Balancer(model, "MoDo()").backward(losses, second={"t0": model.losses(X)["t0"]})


# --- looking again


class Noisy(HardSharing):
    """With BatchNorm and dropout: a second look would leave traces."""

    def __init__(self):
        super().__init__(norm="batch")
        self.trunk.insert(1, nn.Dropout(0.5))


def test_famo_looks_again_without_a_trace():
    """The second forward pass draws the same masks, and changes neither statistics nor random numbers."""
    torch.manual_seed(0)
    model = Noisy()
    balancer = Balancer(model, "FAMO(lr=0.1)")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = balancer.backward(lambda: model.losses(X))
    optimizer.step()
    buffers = [b.clone() for b in model.buffers()]
    noise = torch.get_rng_state()
    seen = []
    after = balancer.method.after_step
    balancer.method.after_step = lambda losses, context: (seen.append(losses), after(losses, context))  # type: ignore[method-assign]
    balancer.after_step()
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    torch.manual_seed(0)
    twin = Noisy()
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(0)
    Noisy()  # draws what the model's construction drew
    again = torch.stack([loss.detach() for loss in twin.losses(X).values()])
    np.testing.assert_allclose(seen[0], again.double().numpy(), rtol=1e-6)
    assert step.weights is not None


def test_after_step_takes_losses_too_and_says_what_is_missing():
    model = HardSharing()
    balancer = Balancer(model, "FAMO()")
    balancer.backward(model.losses(X))
    with pytest.raises(AccordError, match="needs the losses"):
        balancer.after_step()
    balancer.after_step(lambda: model.losses(X))
    balancer.backward(model.losses(X))
    with torch.no_grad():
        balancer.after_step(model.losses(X))


# --- kinds of trunks


@pytest.mark.parametrize("engine", ["stacked", "segmented"])
def test_sparse_embeddings(engine):
    model = Sparse()
    losses = model.losses(X)
    dense = oracle.gradients(model, losses)
    dense = {k: [g.to_dense() if g is not None and g.is_sparse else g for g in row] for k, row in dense.items()}
    step = Balancer(model, "UPGrad()", engine=engine).backward(model.losses(X))
    weights = dict(zip(step.tasks, step.weights.tolist(), strict=True))
    same(grads(model), oracle.expected(dense, weights, "plain"), 1e-6)


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_trunks(cell):
    model = Recurrent()
    model.lstm = cell(5, 6, batch_first=True, num_layers=2)
    model.double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    step = Balancer(model, "UPGrad()").backward(losses)
    same(grads(model), oracle.expected(rows, dict(zip(step.tasks, step.weights.tolist(), strict=True)), "plain"))


# --- every method, resumed in a Balancer


def inside(cls):
    """A spelling with three tasks."""
    text = cls.__name__
    three = "(1.0, 2.0, 3.0)"
    required = {"Constant": f"weights={three}", "PBI": f"weights={three}", "COSMOS": f"ratio={three}"}
    return f"{text}({required.get(text, '')})"


def train(balancer, optimizer, steps):
    model, method = balancer.model, balancer.method
    for i in steps:
        x, other = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        more = {}
        if method.needs_second_batch:
            more["second"] = model.losses(other)
        if method.needs_validation:
            more["validation"] = lambda other=other: model.losses(other)
        balancer.backward(lambda x=x: model.losses(x), **more)
        optimizer.step()
        if method.needs_losses_after:
            balancer.after_step()


@pytest.mark.parametrize("cls", METHODS)
def test_every_method_resumes_exactly(cls):
    """Four steps are two, a restart, and two: bit for bit."""
    finals = []
    for restart in (False, True):
        torch.manual_seed(0)
        model = HardSharing()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        balancer = Balancer(model, inside(cls), optimizer=optimizer)
        train(balancer, optimizer, range(2))
        if restart:
            file = io.BytesIO()
            torch.save([model.state_dict(), optimizer.state_dict(), balancer.state_dict()], file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            model = HardSharing()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            balancer = Balancer(model, inside(cls), optimizer=optimizer)
            for part, state in zip((model, optimizer, balancer), saved, strict=True):
                part.load_state_dict(state)
        train(balancer, optimizer, range(2, 4))
        finals.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*finals, strict=True))
    assert all(bool(p.isfinite().all()) for p in finals[0])
