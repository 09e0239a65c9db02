"""Methods that look at other parameters, against autograd through the look itself; and methods of two batches."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from accord.engines.displaced import Displaced
from accord.errors import AccordError
from accord.linalg.hinge_qp import hinge_qp
from accord.methods import FORUM, MOML, AutoLambda, Context, MoDo, SDMGrad, Weighting
from accord.rows import Rows

import inputs
from oracles import methods as slow

TASKS = ("a", "b", "c")


class Toy(nn.Module):
    """Two layers in float64, three outputs; ``smooth=False`` makes all losses quadratic in what is trained."""

    def __init__(self, smooth: bool = True, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Linear(4, 5)
        self.heads = nn.Linear(5, 3)
        self.smooth = smooth
        if not smooth:
            self.heads.requires_grad_(False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z = self.trunk(x)
        return self.heads(z.tanh() if self.smooth else z)  # (N, 3)


def batches(seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and targets of two batches."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tuple(torch.randn(6, n, generator=generator, dtype=torch.float64) for n in (4, 3))
        for name in ("training", "validation")
    }


def at(net: Toy, data: tuple[Tensor, Tensor], parameters: dict[str, Tensor]) -> Tensor:
    """(3,) the losses with these parameters; differentiable in them."""
    return (functional_call(net, parameters, (data[0],)) - data[1]).square().mean(0)


def look_at(net: Toy, data, tasks=TASKS, optimizer=None) -> Displaced:
    def losses(name: str):
        return lambda: dict(zip(TASKS, (net(data[name][0]) - data[name][1]).square().mean(0), strict=True))

    return Displaced(net, losses("training"), losses("validation"), tasks, optimizer)


def context(look: Displaced, active=(0, 1, 2), total: int = 3) -> Context:
    return Context(np.array(active), total, torch.Generator(), elsewhere=look)


def giving(**losses):
    """A function that gives these losses, computed anew in every call."""
    return lambda: {name: loss() for name, loss in losses.items()}


def named(net: Toy) -> dict[str, Tensor]:
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


def slope_of(method) -> np.ndarray:
    """What Adam was given in the first step: a tenth of it is its first moment."""
    state = method.state_dict()
    return state.get("tasks", state)["first_moment"].numpy() * 10


# AutoLambda


def step_of_sgd(net: Toy, optimizer, gradients: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
    """θ', with whatever SGD would do, written down for autograd."""
    moved = {}
    for name, p in named(net).items():
        group = next((g for g in optimizer.param_groups if any(p is q for q in g["params"])), {}) if optimizer else {}
        g = gradients[name] + group.get("weight_decay", 0.0) * p.detach()
        buffer = optimizer.state.get(p, {}).get("momentum_buffer") if optimizer else None
        g = g if buffer is None else group["momentum"] * buffer + g
        moved[name] = p.detach() - group.get("lr", rate) * g
    return moved


def through_the_step(net: Toy, data, weights: Tensor, primary: list[int], optimizer=None, rate: float = 0.1) -> Tensor:
    """(3,) the gradient in the weights of the primary tasks' validation losses after one step, by autograd."""
    weights = weights.detach().requires_grad_()
    here = {name: p.detach().requires_grad_() for name, p in named(net).items()}
    loss = weights @ at(net, data["training"], here)
    gradients = dict(zip(here, torch.autograd.grad(loss, list(here.values()), create_graph=True), strict=True))
    there = step_of_sgd(net, optimizer, gradients, rate)
    return torch.autograd.grad(at(net, data["validation"], there)[primary].sum(), weights)[0]


def trained(net: Toy, data, **options) -> torch.optim.Optimizer:
    """SGD that has gathered momentum, with a learning rate of its own for the heads."""
    optimizer = torch.optim.SGD(
        [{"params": net.trunk.parameters(), "lr": 0.05}, {"params": net.heads.parameters(), "lr": 0.2}], **options
    )
    for _ in range(3):
        optimizer.zero_grad()
        (net(data["training"][0]) - data["training"][1]).square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("primary", [None, (0,), (2, 1)])
@pytest.mark.parametrize("options", [None, {"momentum": 0.0}, {"momentum": 0.9, "weight_decay": 0.1}])
def test_autolambda_is_the_gradient_through_the_step(primary, options):
    net, data = Toy(), batches()
    optimizer = None if options is None else trained(net, data, **options)
    weights = torch.full((3,), 0.3, dtype=torch.float64)
    expected = through_the_step(net, data, weights, list(primary or range(3)), optimizer).numpy()
    for form, tolerance in (("exact", 1e-12), ("finite-difference", 1e-3)):
        method = AutoLambda(primary=primary, init=0.3, form=form)
        method.solve(None, None, context(look_at(net, data, optimizer=optimizer)))
        assert np.allclose(slope_of(method), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(5))
def test_central_differences_are_exact_for_quadratic_losses(seed):
    net, data = Toy(smooth=False, seed=seed), batches(seed)
    found = {}
    for form in ("exact", "finite-difference"):
        method = AutoLambda(form=form)
        method.solve(None, None, context(look_at(net, data)))
        found[form] = slope_of(method)
    assert np.allclose(found["exact"], found["finite-difference"], rtol=1e-9, atol=1e-12)


def test_autolambda_looks_where_the_optimiser_would_go():
    """The virtual step is the step that torch's SGD makes from the weighted gradient."""
    net, data = Toy(), batches()
    optimizer = trained(net, data, momentum=0.9, weight_decay=0.1)
    look, seen = look_at(net, data, optimizer=optimizer), []

    class Spy:
        def __getattr__(self, name):
            return getattr(look, name)

        def gradient(self, batch, weights, shift=None):
            seen.append((batch, shift))
            return look.gradient(batch, weights, shift)

    AutoLambda(init=0.3).solve(None, None, context(Spy()))
    assert [batch for batch, _ in seen] == ["training", "validation"]
    before = [p.detach().clone() for p in look.parameters]
    optimizer.zero_grad()
    (0.3 * (net(data["training"][0]) - data["training"][1]).square().mean(0).sum()).backward()
    optimizer.step()
    for p, old, step in zip(look.parameters, before, seen[1][1], strict=True):
        assert torch.allclose(p - old, step, atol=1e-12)


def test_autolambda_with_adam_steps_plainly_and_leaves_the_rest_alone():
    """The slope is that of a step with the learning rate of Adam; what Adam does not have does not move."""
    net, data = Toy(), batches()
    optimizer = torch.optim.Adam(net.trunk.parameters(), lr=0.05, weight_decay=0.1)
    method = AutoLambda(form="exact", init=0.3)
    method.solve(None, None, context(look_at(net, data, optimizer=optimizer)))
    only = torch.optim.SGD(
        [{"params": net.trunk.parameters(), "lr": 0.05}, {"params": net.heads.parameters(), "lr": 0.0}]
    )
    expected = through_the_step(net, data, torch.full((3,), 0.3, dtype=torch.float64), [0, 1, 2], only)
    assert np.allclose(slope_of(method), expected.numpy(), rtol=1e-10)


def test_autolambda_over_many_steps():
    """With torch's Adam on λ and autograd through every step."""
    net, method = Toy(), AutoLambda(lr=0.05, form="exact")
    weights = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True)
    adam, sgd = torch.optim.Adam([weights], lr=0.05), torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(8):
        data = batches(step)
        weights.grad = through_the_step(net, data, weights, [0, 1, 2])
        adam.step()
        found = method.solve(None, None, context(look_at(net, data, optimizer=sgd)))
        assert np.allclose(found, weights.detach().numpy(), rtol=1e-9)
        sgd.zero_grad()
        (weights.detach() @ at(net, data["training"], dict(net.named_parameters()))).backward()
        sgd.step()


def test_autolambda_without_a_primary_task_stands_still():
    method = AutoLambda(primary=(1,))
    weights = method.solve(None, None, context(look_at(Toy(), batches(), ("a", "c")), (0, 2)))
    assert weights.tolist() == [0.1, 0.1]
    assert [event.kind for event in method.take_events()] == ["missing"]


# MOML


def hypergradients(net: Toy, data, logits: Tensor, rate: float) -> np.ndarray:
    """(3, 3) the gradients in x of the validation losses after one step, by autograd."""
    logits = logits.detach().requires_grad_()
    here = {name: p.detach().requires_grad_() for name, p in named(net).items()}
    loss = torch.softmax(logits, 0) @ at(net, data["training"], here)
    gradients = torch.autograd.grad(loss, list(here.values()), create_graph=True)
    there = {name: p - rate * g for (name, p), g in zip(here.items(), gradients, strict=True)}
    losses = at(net, data["validation"], there)
    return torch.stack([torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in losses]).numpy()


@pytest.mark.parametrize("seed", range(6))
def test_moml_is_mgda_on_the_gradients_through_the_step(seed):
    net, method, adam = Toy(seed=seed), MOML(lr=0.1), None
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1)
    for step in range(4):
        data = batches(10 * seed + step)
        rows = hypergradients(net, data, logits, 0.1)
        common = slow.mgda(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        logits.grad = torch.tensor(common if np.linalg.norm(common) > 1e-6 else 0 * common)
        adam.step()
        found = method.solve(None, None, context(look_at(net, data)))
        assert np.allclose(found, torch.softmax(logits, 0).detach().numpy(), atol=1e-6)
        assert found.sum() == pytest.approx(1)


def test_moml_stands_still_where_the_validation_losses_disagree():
    """One validation loss wants the first task trained, the other the second."""
    net = nn.Linear(2, 1, bias=False).double()
    first, second = (lambda: net.weight[0, 0]), (lambda: net.weight[0, 1])
    apart, same = giving(a=first, b=second), giving(a=lambda: net.weight.sum(), b=lambda: net.weight.sum())
    method = MOML(lr=0.5)
    for losses in (apart, apart, same):  # and in the last case it does not matter
        look = Displaced(net, losses, losses, ["a", "b"])
        assert method.solve(None, None, context(look, (0, 1), 2)).tolist() == [0.5, 0.5]
    alone = Displaced(net, apart, apart, ["a"])
    assert method.solve(None, None, context(alone, (0,), 2)).tolist() == [1.0]


# FORUM


def value(cosines: np.ndarray, along: np.ndarray, reach: float, shares: np.ndarray) -> float:
    """The objective of ``hinge_qp``."""
    s = along @ shares
    return shares @ cosines @ shares + s * max(reach - s, 0)


@pytest.mark.parametrize("seed", range(40))
def test_hinge_qp_by_enumeration(seed):
    """All three cases: below, at and above the hinge."""
    rng = np.random.default_rng(seed)
    k, size = int(rng.integers(1, 5)), int(rng.integers(2, 7))
    rows = rng.normal(size=(k, size))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    q = rng.normal(size=size) + (seed % 4) * rows.mean(0)
    q *= 10 ** rng.uniform(-1, 1)
    length = np.linalg.norm(q)
    for phi in (0.03, 0.3, *np.clip(rows @ q / length**2, 1e-3, None), 3.0):
        _, lowest = slow.forum(rows, q, phi)
        found = hinge_qp(rows @ rows.T, rows @ q / length, phi * length, 1e-10)
        assert found.converged
        shares = found.value
        assert shares.min() >= 0
        assert shares.sum() == pytest.approx(1)
        push = max(phi - rows @ q @ shares / length**2, 0.0)
        reached = np.sum((shares @ rows + push * q) ** 2) - push * phi * length**2
        assert reached == pytest.approx(lowest, abs=1e-8 * (1 + abs(lowest)))


@pytest.mark.parametrize("k", [2, 9, 40])
@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_hinge_qp_has_no_better_neighbour(k, label):
    """The problem is convex, so no step towards a vertex or a random point may lower it."""
    rng = np.random.default_rng(0)
    rows = inputs.INPUTS[label](k, 0).numpy()
    rows = rows[np.linalg.norm(rows, axis=1) > 0]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for q in (rows.mean(0), rng.normal(size=inputs.P), -rows[0]):
        if np.linalg.norm(q) < 1e-9:
            continue
        along = rows @ q / np.linalg.norm(q)
        for reach in (0.0, 0.01, 0.1, 0.2, 1.0, 10.0):
            found = hinge_qp(rows @ rows.T, along, reach, 1e-10)
            assert found.converged
            here = value(rows @ rows.T, along, reach, found.value)
            for other in (*np.eye(len(rows)), *rng.dirichlet(np.ones(len(rows)), 5)):
                for share in (1.0, 0.1, 1e-3):
                    near = (1 - share) * found.value + share * other
                    assert value(rows @ rows.T, along, reach, near) >= here - 1e-8


def gap_gradient(net: Toy, data, logits: Tensor, steps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """q in x and in the parameters, by autograd; the end of the inner steps counts as a constant."""
    logits = logits.detach().requires_grad_()
    here = {name: p.detach().requires_grad_() for name, p in named(net).items()}
    there = {name: p.detach() for name, p in here.items()}
    for _ in range(steps):
        leaves = {name: p.detach().requires_grad_() for name, p in there.items()}
        loss = torch.softmax(logits.detach(), 0) @ at(net, data["training"], leaves)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        there = {name: p.detach() - rate * g for (name, p), g in zip(leaves.items(), gradients, strict=True)}
    gap = torch.softmax(logits, 0) @ (at(net, data["training"], here) - at(net, data["training"], there))
    inside, *outside = torch.autograd.grad(gap, [logits, *here.values()])
    return inside.numpy(), torch.cat([g.reshape(-1) for g in outside]).numpy()


def validation_rows(net: Toy, data) -> np.ndarray:
    here = {name: p.detach().requires_grad_() for name, p in named(net).items()}
    losses = at(net, data["validation"], here)
    rows = [torch.autograd.grad(loss, list(here.values()), retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows]).numpy()


def combine(method: FORUM, look: Displaced, active=(0, 1, 2), total: int = 3) -> np.ndarray:
    """d as one vector; the arguments that the method does not read are empty."""
    found = method.combine(Rows([[] for _ in active]), np.zeros((len(active),) * 2), None, context(look, active, total))
    return torch.cat(
        [(torch.zeros_like(p) if d is None else d).reshape(-1) for d, p in zip(found, look.parameters, strict=True)]
    ).numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("phi", [0.02, 0.3, 2.0])
def test_forum_by_autograd_and_enumeration(phi, seed):
    """Some steps over two epochs, with torch's Adam on x, λ̄ as published, and the problem solved by enumeration."""
    net, method = Toy(seed=seed), FORUM(phi=phi, inner_steps=3, inner_lr=0.2, lr=0.05)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam, smooth = torch.optim.Adam([logits], lr=0.05), np.zeros(3)
    for step in range(4):
        data, epoch = batches(10 * seed + step), step // 2
        if step == 2:
            method.epoch()
        inside, outside = gap_gradient(net, data, logits, 3, 0.2)
        rows = validation_rows(net, data)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        q = np.append(inside, outside)
        wide = np.hstack([np.zeros((3, 3)), rows])
        shares, _ = slow.forum(wide, q, phi)
        smooth += (epoch + 1) ** -0.75 * (shares - smooth)
        push = max((phi - wide @ q / (q @ q)) @ smooth, 0)
        d = smooth @ wide + push * q
        assert d @ q >= phi * q @ q - 1e-9
        logits.grad = torch.tensor(d[:3])
        adam.step()
        assert np.allclose(combine(method, look_at(net, data)), d[3:], atol=1e-6)
        state = method.state_dict()["tasks"]
        assert np.allclose(state["share"].numpy(), smooth, atol=1e-6)
        assert np.allclose(state["logit"].numpy(), logits.detach().numpy(), atol=1e-6)


def test_forum_lowers_what_it_says():
    """Along d the validation losses fall together, and the training loss falls, too."""
    net, data, method = Toy(), batches(), FORUM()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    look = look_at(net, data)
    before = look.values("training"), look.values("validation")
    for _ in range(60):
        optimizer.zero_grad()
        found = method.combine(Rows([[], [], []]), np.eye(3), None, context(look_at(net, data)))
        for p, d in zip(net.parameters(), found, strict=True):
            p.grad = d
        optimizer.step()
    assert (look.values("validation") < before[1]).all()
    assert look.values("training").sum() < before[0].sum()


def test_forum_at_the_edges():
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(net.weight)
    first, second = (lambda: net.weight[0, 0] ** 2), (lambda: net.weight[0, 1] ** 2)
    zero, nan = (lambda: 0 * net.weight.sum()), (lambda: math.nan * net.weight.sum())
    train, none = giving(a=first, b=second), giving(a=zero, b=zero)

    def run(compute, validate, **options):
        method = FORUM(**options)
        d = combine(method, Displaced(net, compute, validate, ["a", "b"]), (0, 1), 2)
        return d, [event.kind for event in method.take_events()], method.state_dict()["tasks"]["logit"].tolist()

    for missing in (zero, nan):  # one of two: the other is followed, F = (1, 0) with q = (1, 1)
        d, events, _ = run(train, giving(a=first, b=missing), phi=0.1)
        assert np.allclose(d, [1.0, 0.0])
        assert events == ["solver"]
    d, events, _ = run(train, none, phi=0.5)  # nothing to follow: φq
    assert np.allclose(d, [0.5, 0.5])
    d, events, _ = run(none, giving(a=lambda: net.weight[0, 0], b=lambda: -net.weight[0, 0]))
    assert (d.tolist(), events) == ([0.0, 0.0], ["stationary"])
    d, events, logits = run(giving(a=lambda: first() ** 4, b=second), train, inner_lr=1e200)  # diverges
    assert np.isfinite(d).all()
    assert (events, logits) == (["solver"], [0.0, 0.0])
    d, events, logits = run(giving(a=first, b=nan), train)
    assert (d.tolist(), logits) == ([0.0, 0.0], [0.0, 0.0])
    assert "solver" in events


def test_forum_counts_epochs_or_windows():
    net = Toy()
    told, counted = FORUM(lr=0.0), FORUM(lr=0.0, window=2)
    for step in range(6):
        look = look_at(net, batches(step))
        if step and step % 2 == 0:
            told.epoch()
            told.epoch()  # an epoch without steps is none
            counted.epoch()  # means nothing to it
        assert np.allclose(combine(told, look), combine(counted, look), rtol=1e-12)
    assert told.state_dict()["epochs"] == 2


# All three


def act(method, look: Displaced, active=(0, 1, 2), total: int = 3) -> np.ndarray:
    if isinstance(method, FORUM):
        return combine(method, look, active, total)
    return method.solve(None, None, context(look, active, total))


LOOKING = [
    AutoLambda(lr=0.05),
    AutoLambda(lr=0.05, form="exact"),
    AutoLambda(lr=0.05, primary=(1,)),
    MOML(lr=0.1),
    FORUM(lr=0.1),
]


@pytest.mark.parametrize("method", LOOKING, ids=repr)
def test_order_of_tasks_does_not_matter(method):
    """PE, over some steps."""
    order = [2, 0, 1]
    one, other = copy.deepcopy(method), copy.deepcopy(method)
    if isinstance(other, AutoLambda) and other.primary is not None:
        other.primary = tuple(order.index(i) for i in other.primary)
    for step in range(4):
        net, data = Toy(seed=step), batches(step)
        found = act(one, look_at(net, data))
        permuted = act(other, look_at(net, data, [TASKS[i] for i in order]))
        assert np.allclose(permuted, found if isinstance(method, FORUM) else found[order], atol=1e-6)


@pytest.mark.parametrize("method", LOOKING, ids=repr)
def test_state_round_trip(method):
    def run(own, steps):
        return [act(own, look_at(Toy(seed=step), batches(step))) for step in steps]

    unbroken, first, second = copy.deepcopy(method), copy.deepcopy(method), copy.deepcopy(method)
    expected = run(unbroken, range(5)) + run(unbroken, range(5, 10))
    found = run(first, range(5))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    run(first, range(20, 22))  # what is saved is a copy
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    found += run(second, range(5, 10))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises((ValueError, KeyError)):
        copy.deepcopy(method).load_state_dict({"foreign": torch.zeros(3)})


@pytest.mark.parametrize("method", LOOKING, ids=repr)
def test_tasks_may_appear_and_be_absent(method):
    method, net, data = copy.deepcopy(method), Toy(), batches()
    act(method, look_at(net, data, TASKS[:2]), (0, 1), 2)
    act(method, look_at(net, data))
    state = method.state_dict()
    before = {name: tensor[1].item() for name, tensor in state.get("tasks", state).items()}
    assert np.isfinite(act(method, look_at(net, data, ("a", "c")), (0, 2))).all()
    state = method.state_dict()
    assert {name: tensor[1].item() for name, tensor in state.get("tasks", state).items()} == before


@pytest.mark.parametrize("method", [m for m in LOOKING if not isinstance(m, FORUM)], ids=repr)
def test_weights_stand_still_where_nothing_is_known(method):
    """A validation loss that is not finite is an event, not a weight."""
    net, data = Toy(), batches()
    method = copy.deepcopy(method)
    before = act(method, look_at(net, data))
    method.take_events()
    data["validation"][1][0] = math.nan
    assert act(method, look_at(net, data)).tolist() == before.tolist()
    assert [event.kind for event in method.take_events()] == ["solver"]


@pytest.mark.parametrize("method", LOOKING, ids=repr)
def test_they_need_a_balancer(method):
    call = method if isinstance(method, Weighting) else method.aggregate
    with pytest.raises(AccordError, match="use it in a Balancer"):
        call(torch.eye(2))


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (AutoLambda, {"primary": ()}, "expected columns of tasks"),
        (AutoLambda, {"primary": 1}, "expected columns of tasks"),
        (AutoLambda, {"primary": ("depth",)}, "expected columns of tasks, counted from 0, as in primary=(0, 2)"),
        (AutoLambda, {"primary": (0, 0)}, "expected columns of tasks"),
        (AutoLambda, {"form": "Exact"}, "Did you mean 'exact'?"),
        (AutoLambda, {"inner_lr": 0}, "expected a finite number > 0"),
        (MOML, {"inner_lr": -1}, "expected a finite number > 0"),
        (FORUM, {"inner_steps": 0}, "inner_steps=0, expected an integer >= 1"),
        (FORUM, {"phi": -0.1}, "expected a finite number >= 0"),
        (FORUM, {"window": 0}, "window=0, expected an integer >= 1"),
        (SDMGrad, {"lam": -1}, "expected a finite number >= 0"),
        (SDMGrad, {"momentum": 1}, "expected a finite number >= 0 and < 1"),
        (SDMGrad, {"pref": (0.0, 1.0)}, "expected positive preferences"),
        (MoDo, {"gamma": 0}, "expected a finite number > 0"),
    ],
)
def test_wrong_arguments(cls, arguments, message):
    with pytest.raises(AccordError) as error:
        cls(**arguments)
    assert message in str(error.value)


# SDMGrad and MoDo


def pairs(k: int, seed: int, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Gradients of two independent batches per step: the same means with different noise."""
    made = []
    for step in range(steps):
        mean = inputs.conflicting(k, 100 * seed + step)
        made.append((mean + 0.3 * inputs.gaussian(k, 7000 + step), mean + 0.3 * inputs.gaussian(k, 8000 + step)))
    return made


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("pref", [False, True])
def test_sdmgrad_by_torch_sgd(k, pref):
    """Small rates and large; A is not symmetric, so a transposed one would be seen."""
    own = tuple(range(1, k + 1)) if pref else None
    share = np.arange(1, k + 1) / np.arange(1, k + 1).sum() if pref else np.full(k, 1 / k)
    for settings in ((0.3, 0.1, 0.5, 20), (1.0, 0.5, 0.0, 3), (0.0, 10.0, 0.5, 1)):
        lam, lr, momentum, rounds = settings
        method = SDMGrad(lam=lam, pref=own, lr=lr, momentum=momentum, iterations=rounds)
        made = pairs(k, 0, 5)
        expected = slow.sdmgrad([(a.numpy(), b.numpy()) for a, b in made], lam, share, lr, momentum, rounds)
        for (first, second), weights in zip(made, expected, strict=True):
            found = method(first @ first.T, cross=first @ second.T)
            assert np.allclose(found.numpy(), weights, atol=1e-8)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_modo_on_vectors(k):
    made = pairs(k, 1, 6)
    method = MoDo(gamma=0.01, rho=0.2)
    for (first, second), weights in zip(
        made, slow.modo([(a.numpy(), b.numpy()) for a, b in made], 0.01, 0.2), strict=True
    ):
        assert np.allclose(method(first @ first.T, cross=first @ second.T).numpy(), weights, atol=1e-12)


@pytest.mark.parametrize("label", list(inputs.INPUTS))
@pytest.mark.parametrize(("method", "steps"), [(SDMGrad(lr=0.1), 60), (MoDo(gamma=0.002, rho=0.0), 1500)], ids=repr)
def test_they_find_their_optimum_on_full_batches(method, steps, label):
    """With one and the same batch and small steps, w minimises what it says, up to what so many steps leave."""
    rows = inputs.INPUTS[label](3, 0)
    rows = rows[rows.norm(dim=1) > 1e-3 * rows.norm()]
    gramian = rows @ rows.T
    method = copy.deepcopy(method)
    for _ in range(steps):
        weights = method(gramian, cross=gramian)
    lam = getattr(method, "lam", 0.0)
    pull = np.full(len(rows), lam / len(rows))
    best = slow.simplex_qp(gramian.numpy(), gramian.numpy() @ pull, np.ones(len(rows)))
    expected = (best + pull) / (1 + lam) @ rows.numpy()
    d = (weights @ rows).numpy()
    assert d @ d <= expected @ expected + 1e-3 * float(gramian.diagonal().max())


@pytest.mark.parametrize("k", [2, 3, 7])
def test_modo_does_not_see_the_order_of_tasks(k):
    """On gradients of the size that γ is made for; far above, its projection puts one of equal tasks first."""
    rows = inputs.conflicting(k, 0)
    order = torch.randperm(k, generator=torch.Generator().manual_seed(1))
    weights = [MoDo(gamma=0.01)(cross=r @ r.T, losses=torch.ones(k)) for r in (rows, rows[order])]
    assert torch.allclose(weights[1], weights[0][order], rtol=1e-6)
    assert float(weights[0].std()) > 0


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_sdmgrad_does_not_see_the_unit_of_the_losses(size):
    """With a step that converges; the published η = 10 blows rounding up, so that no tolerance could be promised."""
    for k in (2, 3, 7):
        rows = inputs.conflicting(k, 0)
        weights = [SDMGrad(lr=0.1)(cross=scale * rows @ rows.T, losses=torch.ones(k)) for scale in (1.0, size**2)]
        assert torch.allclose(weights[0], weights[1], rtol=1e-6)


def test_sdmgrad_stays_where_it_is_optimal():
    """Orthonormal rows: the mean is optimal, and with the published rate of 10 rounding would grow to anything."""
    rows = inputs.orthogonal(7, 0)
    for _ in range(3):
        assert SDMGrad()(rows @ rows.T, cross=rows @ rows.T).tolist() == pytest.approx([1 / 7] * 7, rel=1e-9)


@pytest.mark.parametrize("size", [0.0, -1.0, 1e-300, 1e300])
@pytest.mark.parametrize("cls", [SDMGrad, MoDo])
def test_strange_products_give_weights(cls, size):
    method, cross = cls(), size * inputs.normal(3, 3, seed=0)
    for _ in range(3):
        weights = method(torch.eye(3, dtype=torch.float64), cross=cross)
        assert float(weights.min()) >= 0
        assert float(weights.sum()) == pytest.approx(1)
