"""The training step: against explicit gradients, under everything that real training does to a model."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import accord
from accord import Balancer
from accord.engines import compiled
from accord.errors import AccordError

from models import Checkpointed, HardSharing, Hierarchy, Recurrent, Residual
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
MODELS = [HardSharing, Hierarchy, Residual, Recurrent]
ENGINES = ["stacked", "segmented", "features"]
METHODS = ["Mean()", "UPGrad()", "MGDA()", "PCGrad()", "UncertaintyWeighting()", "RandomWeighting()"]


def grads(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters() if p.requires_grad]


def same(got, want, rtol=1e-9):
    for g, w in zip(got, want, strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            torch.testing.assert_close(g, w, rtol=rtol, atol=rtol * max(1e-30, float(w.abs().max())))


@pytest.mark.parametrize("make", MODELS)
def test_sum_is_plain_pytorch_bit_for_bit(make):
    model = make()
    losses = model.losses(X)
    sum(losses.values()).backward(retain_graph=True)
    want = grads(model)
    model.zero_grad()
    step = Balancer(model, "Sum()").backward(losses)
    assert all((g is None and w is None) or torch.equal(g, w) for g, w in zip(grads(model), want, strict=True))
    assert step.weights.tolist() == [1.0] * len(losses)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ["stacked", "segmented"])
def test_grad_is_what_the_weights_of_the_step_say(make, method, engine):
    model = make().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    balancer = Balancer(model, method, engine=engine)
    step = balancer.backward(losses)
    weights = dict(zip(step.tasks, step.weights.tolist(), strict=True))
    same(grads(model), oracle.expected(rows, weights, balancer.heads))


@pytest.mark.parametrize("engine", ["stacked", "segmented"])
@pytest.mark.parametrize("make", MODELS)
def test_weights_are_the_methods_own_on_the_explicit_gramian(make, engine):
    model = make().double()
    losses = model.losses(X.double())
    gramian = oracle.gramian(model, losses)
    step = Balancer(model, "UPGrad()", scale="native", engine=engine).backward(losses)
    torch.testing.assert_close(step.weights, accord.UPGrad()(gramian), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(step.descent.sum(0), gramian @ step.weights, rtol=1e-7, atol=1e-9)
    assert step.direction_norm == pytest.approx(float((step.weights @ gramian @ step.weights).sqrt()), rel=1e-7)


@pytest.mark.parametrize("scale", ["sum", "mean", "native", "match-norm"])
def test_scales_mean_what_they_say(scale):
    model = HardSharing().double()
    losses = model.losses(X.double())
    gramian = oracle.gramian(model, losses)
    native = accord.UPGrad()(gramian)  # native scale: mean
    step = Balancer(model, "UPGrad()", scale=scale).backward(losses)
    factor = {
        "sum": 3.0,
        "mean": 1.0,
        "native": 1.0,
        "match-norm": float((gramian.sum() / (native @ gramian @ native)).sqrt()),
    }[scale]
    torch.testing.assert_close(step.weights, factor * native, rtol=1e-7, atol=1e-9)


def test_the_plain_sum_is_as_long_as_itself():
    found, model = [], HardSharing()
    for scale in ("sum", "match-norm"):
        model.zero_grad()
        step = Balancer(model, "Sum()", scale=scale).backward(model.losses(X))
        found.append((grads(model), step.weights))
    same(*(gradients for gradients, _ in found))
    assert found[1][1].tolist() == [1.0, 1.0, 1.0]


def test_heads_weighted_scales_the_heads():
    model = HardSharing().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    step = Balancer(model, "UPGrad()", heads="weighted").backward(losses)
    same(grads(model), oracle.expected(rows, dict(zip(step.tasks, step.weights.tolist(), strict=True)), "weighted"))


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "GradDrop()", "DWA()"])
def test_existing_grad_is_added_to(method):
    model = HardSharing().double()
    losses = model.losses(X.double())
    Balancer(model, method).backward(losses)
    once = grads(model)
    Balancer(model, method).backward(model.losses(X.double()))
    same(grads(model), [2 * g for g in once])


def test_graddrop_combines_whole_gradients():
    model = HardSharing().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    step = Balancer(model, "GradDrop()", seed=3).backward(losses)
    for p, g, *own in zip(model.parameters(), grads(model), *rows.values(), strict=True):
        present = [row for row in own if row is not None]
        stacked = torch.stack(present)
        if len(present) == 1:
            assert torch.equal(g, present[0])
            continue
        positive, negative = stacked.clamp(min=0).sum(0), stacked.clamp(max=0).sum(0)
        assert ((g - positive).abs().minimum((g - negative).abs()) < 1e-12 * p.numel()).all()
    assert step.weights is None
    combined = torch.cat([p.grad.flatten() for p in model.trunk.parameters()])
    jacobian = torch.stack([torch.cat([g.flatten() for g in row[:6]]) for row in rows.values()])
    torch.testing.assert_close(step.descent.sum(0), jacobian @ combined, rtol=1e-9, atol=1e-12)
    assert step.direction_norm == pytest.approx(float(combined.norm()), rel=1e-9)


# What can go wrong with losses.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_task_that_is_not_finite_never_spoils_the_others(engine, bad):
    model = HardSharing().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, {k: losses[k] for k in ("t0", "t2")})
    losses["t1"] = losses["t1"] * bad
    step = Balancer(model, "UPGrad()", engine=engine).backward(losses)
    assert step.active.tolist() == [True, False, True]
    assert step.weights[1] == 0
    assert [(e.kind, e.task) for e in step.events] == [("nonfinite", "t1")]
    assert step.gramian[1].tolist() == [0, 0, 0]
    assert all(p.grad is None for p in model.heads[1].parameters())
    weights = {"t0": float(step.weights[0]), "t2": float(step.weights[2])}
    same(grads(model), oracle.expected(rows, weights, "plain"))


@pytest.mark.parametrize("method", ["UPGrad()", "GradDrop()"])
def test_a_finite_loss_with_a_nan_gradient_is_left_out_too(method):
    model = HardSharing()
    losses = model.losses(X)
    zero = (model.trunk(X) * 0).sum()
    losses["t0"] = losses["t0"] + zero.abs().sqrt()  # value 0, derivative inf * 0 = nan
    assert losses["t0"].isfinite()
    step = Balancer(model, method).backward(losses)
    assert step.active.tolist() == [False, True, True]
    assert all(g is None or g.isfinite().all() for g in grads(model))


def test_a_loss_weighting_drops_a_nan_task():
    model = HardSharing()
    losses = model.losses(X)
    losses["t2"] = losses["t2"] * torch.nan
    step = Balancer(model, "DWA()").backward(losses)
    assert step.weights.tolist() == [1, 1, 0]
    assert all(g is None or g.isfinite().all() for g in grads(model))


@pytest.mark.parametrize("method", ["UPGrad()", "DWA()", "GradDrop()"])
def test_when_no_task_is_finite_nothing_is_written(method):
    model = HardSharing()
    losses = {k: v * torch.nan for k, v in model.losses(X).items()}
    step = Balancer(model, method).backward(losses)
    assert not step.active.any()
    assert len(step.events) == 3
    assert all(g is None for g in grads(model))


def test_sum_does_what_pytorch_does_with_nan_and_says_so():
    model = HardSharing()
    losses = model.losses(X)
    losses["t1"] = losses["t1"] * torch.nan
    step = Balancer(model, "Sum()").backward(losses)
    assert model.trunk[0].weight.grad.isnan().all()
    assert [(e.kind, e.task) for e in step.events] == [("nonfinite", "t1")]


def test_a_task_without_shared_gradient_keeps_its_head():
    model = HardSharing()
    losses = model.losses(X)
    losses["t1"] = model.heads[1](model.trunk(X) * 0).square().mean()
    step = Balancer(model, "UPGrad()").backward(losses)
    assert [(e.kind, e.task) for e in step.events] == [("zero", "t1")]
    assert model.heads[1].bias.grad.abs().sum() > 0
    assert step.weights[1] == 0


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda m: {}, "empty dict"),
        (lambda m: torch.stack(list(m.losses(X).values())), "one tensor of shape"),
        (lambda m: {"a": m.trunk(X).mean(0)}, "expected one real number"),
        (lambda m: {"a": 1.0}, "expected a scalar tensor"),
        (lambda m: {1: m.trunk(X).mean()}, "expected a string"),
        (lambda m: dict.fromkeys("ab", m.trunk(X).mean()), "'a' and 'b' are the same tensor"),
        (lambda m: {"a": m.trunk(X).mean(), "b": m.trunk(X).mean().detach()}, "'b' reaches no parameter"),
    ],
)
def test_losses_that_cannot_be_are_refused_in_one_line(losses, message):
    model = HardSharing()
    with pytest.raises(AccordError, match=message) as error:
        Balancer(model, "UPGrad()").backward(losses(model))
    assert "\n" not in str(error.value)
    assert all(g is None for g in grads(model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "UPgrad"}, "Did you mean 'UPGrad'"),
        ({"method": 3}, "expected a method"),
        ({"method": "UPGrad()", "scale": "summ"}, "Did you mean 'sum'"),
        ({"method": "UPGrad()", "heads": "plane"}, "Did you mean 'plain'"),
        ({"method": "UPGrad()", "engine": "stack"}, "Did you mean 'stacked'"),
        ({"method": "DWA()", "heads": "plain"}, "not possible"),
        ({"method": "DWA()", "scale": "match-norm"}, "needs the Gramian"),
        ({"method": "GradDrop()", "engine": "segmented"}, "only engine='stacked'"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(AccordError, match=message):
        Balancer(HardSharing(), **arguments)


# Tasks come and go.


def test_absent_tasks_keep_their_column():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()")
    balancer.backward({k: v for k, v in model.losses(X).items() if k != "t0"})
    step = balancer.backward({k: v for k, v in model.losses(X).items() if k != "t2"})
    assert step.tasks == ("t1", "t2", "t0")
    assert step.active.tolist() == [True, False, True]
    assert step.losses.isnan().tolist() == [False, True, False]
    assert step.weights[1] == 0


@pytest.mark.parametrize("method", ["UPGrad()", "Sum()", "GradDrop()", "UncertaintyWeighting()"])
def test_one_task_alone(method):
    model = HardSharing()
    loss = model.losses(X)["t0"]
    (want,) = torch.autograd.grad(loss, model.trunk[0].weight, retain_graph=True)
    step = Balancer(model, method).backward({"t0": loss})
    factor = 1.0 if step.weights is None else float(step.weights[0])
    torch.testing.assert_close(model.trunk[0].weight.grad, factor * want)


def test_order_of_the_dict_does_not_matter():
    model = HardSharing().double()
    losses = model.losses(X.double())
    balancer = Balancer(model, "UPGrad()")
    first = balancer.backward(losses)
    second = balancer.backward(dict(reversed(model.losses(X.double()).items())))
    torch.testing.assert_close(first.weights, second.weights)
    torch.testing.assert_close(first.gramian, second.gramian)


# What real training does to a model.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_autocast_with_norms_matches_float32(engine, norm):
    model = HardSharing(norm=norm)
    exact = copy.deepcopy(model)
    Balancer(exact, "UPGrad()", engine=engine).backward(exact.losses(X))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(X)
        step = Balancer(model, "UPGrad()", engine=engine).backward(losses)  # inside autocast, as people do
    got, want = (torch.cat([g.flatten() for g in grads(m)]) for m in (model, exact))
    assert got.dtype == torch.float32
    assert torch.cosine_similarity(got, want, dim=0) > 0.999
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), exact.buffers(), strict=True)) or norm == "batch"
    assert step.events == ()


@pytest.mark.parametrize("engine", ENGINES)
def test_buffers_modes_and_random_numbers_are_not_touched(engine):
    model = HardSharing(norm="batch")
    losses = model.losses(X)
    before = copy.deepcopy(dict(model.named_buffers()))
    torch.manual_seed(7)
    Balancer(model, "RandomWeighting()" if engine == "stacked" else "UPGrad()", engine=engine).backward(losses)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_activation_checkpointing_with_dropout_inside(use_reentrant, engine):
    model = Checkpointed(use_reentrant).double()
    x = X.double()
    torch.manual_seed(3)
    sum(model.losses(x).values()).backward()
    want = grads(model)
    model.zero_grad()
    torch.manual_seed(3)
    balancer = Balancer(model, "PCGrad()", engine=engine)  # rows that do not conflict add up to the sum
    if use_reentrant and engine != "stacked":
        with pytest.raises(AccordError, match="reentrant checkpoint"):
            balancer.backward(model.losses(x))
        return
    losses = model.losses(x)
    step = balancer.backward(losses)
    if use_reentrant:
        assert len(step.events) == 0
    total = Balancer(model, "Mean()")
    model.zero_grad()
    torch.manual_seed(3)
    total.backward(model.losses(x))
    same(grads(model), want)
    assert step.gramian.diagonal().min() > 0


def test_reentrant_rows_are_those_of_an_unchecked_model_and_grad_survives():
    model = Checkpointed(True).double()
    model.trunk[2].p = 0.0
    plain = copy.deepcopy(model)
    plain.use_reentrant = False
    model.heads[0].weight.grad = torch.ones_like(model.heads[0].weight)
    first = Balancer(model, "UPGrad()").backward(model.losses(X.double()))
    second = Balancer(plain, "UPGrad()").backward(plain.losses(X.double()))
    torch.testing.assert_close(first.gramian, second.gramian)
    torch.testing.assert_close(model.heads[0].weight.grad - 1, plain.heads[0].weight.grad)
    torch.testing.assert_close(model.trunk[0].weight.grad, plain.trunk[0].weight.grad)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_compiled_trunk_equals_the_eager_one(backend, engine):
    torch._dynamo.reset()
    trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    eager = nn.ModuleDict({"trunk": trunk, "a": nn.Linear(36, 1), "b": nn.Linear(36, 1)})
    fast = copy.deepcopy(eager)
    fast["trunk"].compile(backend=backend)
    x = torch.randn(4, 1, 7, 7)
    steps = []
    for model in (eager, fast):
        balancer = Balancer(model, "UPGrad()", engine=engine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            z = model["trunk"](x)
        steps.append(balancer.backward({"a": model["a"](z).square().mean(), "b": (model["b"](z) - 1).square().mean()}))
    torch.testing.assert_close(steps[1].gramian, steps[0].gramian, rtol=1e-4, atol=1e-6)
    same(grads(fast), grads(eager), rtol=1e-4)


def test_buffers_that_were_given_away_are_explained():
    with pytest.raises(AccordError, match="donated_buffer = False before its first forward pass"), compiled.explained():
        raise RuntimeError("This backward function was compiled with non-empty donated buffers which requires ...")
    with pytest.raises(RuntimeError, match="something else"), compiled.explained():
        raise RuntimeError("something else")


@pytest.mark.parametrize("engine", ENGINES)
def test_retained_grads_and_in_place_activations(engine):
    model = HardSharing().double()
    z = torch.relu_(model.trunk(X.double()))
    z.retain_grad()
    losses = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    step = Balancer(model, "UPGrad()", engine=engine).backward(losses)
    assert step.gramian.isfinite().all()


@pytest.mark.parametrize("engine", ["stacked", "segmented"])
def test_gradients_that_autograd_shares_between_parameters_stay_apart(engine):
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    model = nn.ParameterList([p, q])
    out = p + q  # autograd hands one expanded tensor to both
    Balancer(model, "Mean()", engine=engine).backward({"a": out.sum(), "b": (2 * out).sum()})
    p.grad.mul_(2)
    assert q.grad.tolist() == [3, 3, 3]
    model.zero_grad()
    out = p + q
    Balancer(model, "UPGrad()", engine=engine).backward({"a": out.sum(), "b": (2 * out).sum()})
    p.grad.mul_(2)
    assert q.grad.tolist() == pytest.approx([3, 3, 3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_models_dtype_is_kept(dtype):
    model = HardSharing().to(dtype)
    Balancer(model, "UPGrad()").backward(model.losses(X.to(dtype)))
    assert all(g.dtype == dtype for g in grads(model))


def test_named_features_and_shared_parameters():
    model = HardSharing().double()
    z = model.trunk(X.double())
    losses = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    step = Balancer(model, "MGDA()").backward(losses, features=[z])
    assert step.space == "features"
    with pytest.raises(AccordError, match="does not use it"):
        Balancer(model, "MGDA()", engine="stacked").backward(model.losses(X.double()), features=[z])
    rows = oracle.gradients(model, model.losses(X.double()))
    model.zero_grad()
    balancer = Balancer(model, "UPGrad()", shared=["trunk.6"])
    step = balancer.backward(model.losses(X.double()))
    last = [torch.cat([g.flatten() for g in row[4:6]]) for row in rows.values()]
    torch.testing.assert_close(step.gramian, torch.stack(last) @ torch.stack(last).T)
    weights = dict(zip(step.tasks, step.weights.tolist(), strict=True))
    same(grads(model), oracle.expected(rows, weights, "plain"))


# State.


@pytest.mark.parametrize("method", ["UPGrad()", "PCGrad()", "GradDrop()", "UncertaintyWeighting()", "DWA()", "FAMO()"])
@pytest.mark.parametrize("own", [False, True])
def test_half_the_steps_then_a_restart_is_the_same_run(method, own):
    def run(restart: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = HardSharing()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        balancer = Balancer(model, method, generator=torch.Generator().manual_seed(5) if own else None)
        for t in range(8):
            if restart and t == 4:
                buffer = io.BytesIO()
                torch.save(balancer.state_dict(), buffer)
                buffer.seek(0)
                balancer = Balancer(model, method, generator=torch.Generator() if own else None)
                balancer.load_state_dict(torch.load(buffer, weights_only=True))
            optimizer.zero_grad()
            balancer.backward(model.losses(X))
            optimizer.step()
            if balancer.method.needs_losses_after:
                balancer.after_step(model.losses(X))
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(run(False), run(True), strict=True))


def test_foreign_states_are_refused():
    balancer = Balancer(HardSharing(), "UPGrad()")
    state = balancer.state_dict()
    with pytest.raises(AccordError, match="no state of a Balancer"):
        balancer.load_state_dict({})
    with pytest.raises(AccordError, match="the state is of scale sum, but this Balancer has mean"):
        Balancer(HardSharing(), "UPGrad()", scale="mean").load_state_dict(state)
    with pytest.raises(AccordError, match=r"the state is of method UPGrad\(\)"):
        Balancer(HardSharing(), "MGDA()").load_state_dict(state)
    model = HardSharing()
    other = Balancer(model, "UPGrad()")
    other.backward({"x": model.trunk(X).mean()})
    with pytest.raises(AccordError, match="has seen"):
        other.load_state_dict(state | {"tasks": ["y"]})


def test_losses_after_the_step_are_served_by_capability():
    model = HardSharing()
    balancer = Balancer(model, "FAMO()")
    with pytest.raises(AccordError, match="without a backward pass"):
        balancer.after_step(model.losses(X))
    balancer.backward(model.losses(X))
    step = balancer.backward(model.losses(X))  # after_step was forgotten
    assert [e.kind for e in step.events] == ["missing"]
    balancer.after_step(model.losses(X))
    with pytest.raises(AccordError, match="does not learn"):
        Balancer(model, "UPGrad()").after_step(model.losses(X))


def test_losses_that_fell_unevenly_move_the_weights():
    model = HardSharing()
    balancer = Balancer(model, "FAMO(lr=0.5)")
    first = balancer.backward(model.losses(X)).weights
    after = {k: v * (0.5 if k == "t0" else 1.0) for k, v in model.losses(X).items()}
    balancer.after_step(after)
    second = balancer.backward(model.losses(X)).weights
    assert second[0] / second[1] < first[0] / first[1]  # the task that fell fastest is served less


# Distributed.


def test_distributed_models_need_a_reduction():
    class DistributedDataParallel(nn.Module):  # the name is what is looked at
        def __init__(self) -> None:
            super().__init__()
            self.module = HardSharing()

    with pytest.raises(AccordError, match="Hand over reduce="):
        Balancer(DistributedDataParallel(), "UPGrad()")
    assert Balancer(DistributedDataParallel(), "Sum()").method.plain
    with pytest.raises(AccordError, match="wrap the model"):
        Balancer(HardSharing(), "DWA()", reduce=lambda tensors: None)
    static = DistributedDataParallel()
    static.static_graph = True
    with pytest.raises(AccordError, match="set static_graph=False"):
        Balancer(static, "UPGrad()", reduce=lambda tensors: None)
    sharded = HardSharing()
    sharded.trunk[0].weight.device_mesh = "a stand-in"
    with pytest.raises(AccordError, match="sharded over ranks"):
        Balancer(sharded, "UPGrad()", reduce=lambda tensors: None)


def test_losses_are_reduced_too_where_weights_depend_on_them():
    model = HardSharing()
    losses = model.losses(X)
    balancer = Balancer(model, "MGDA(normalise='loss')", reduce=lambda tensors: [t.mul_(2) for t in tensors])
    step = balancer.backward(losses)
    np.testing.assert_allclose(step.losses.numpy(), [2 * v.item() for v in losses.values()], rtol=1e-6)


def test_a_refused_step_leaves_no_trace():
    model = HardSharing()
    balancer = Balancer(model, "UPGrad()")
    with pytest.raises(AccordError, match="reaches no parameter"):
        balancer.backward({"typo": torch.tensor(1.0), "a": model.trunk(X).mean()})
    assert balancer.tasks == ()
    with pytest.raises(AccordError, match="reads no Gramian"):
        Balancer(model, "Sum()").backward(model.losses(X), features=[model.trunk(X)])


def test_the_step_reports_losses_and_repr_is_configuration():
    model = HardSharing()
    losses = model.losses(X)
    balancer = Balancer(model, accord.CAGrad(c=0.4))
    step = balancer.backward(losses)
    np.testing.assert_allclose(step.losses.numpy(), [v.item() for v in losses.values()])
    assert "CAGrad(c=0.4)" in repr(balancer)
