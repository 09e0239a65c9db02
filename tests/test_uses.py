"""Gradients by use: they add up to the gradient, and each is that of a network whose uses are different tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from accord import AccordError, conflict
from accord.engines.by_use import contributions, use_gramians, uses
from accord.through_time import unroll

T, N = 6, 4  # time steps and samples


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stem_and_branches(stem, copies):
    """Three unlike branches on a stem's output, and two losses of which the second leaves one branch out."""
    a, b, c = copies
    flat = [z.flatten(1) for z in (a.tanh(), b * b, c.cos())]
    return {"all": sum((i + 1) * z.mean() for i, z in enumerate(flat)), "two": (flat[0] - flat[2]).square().mean()}


STEMS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), (N, 5)),
    "conv": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()), (N, 1, 6, 6)),
}


def stem_case(kind):
    torch.manual_seed(0)
    make, shape = STEMS[kind]
    stem = make().double()
    copies = uses(stem(draw(*shape)), 3)
    return stem_and_branches(stem, copies), copies, list(stem.parameters())


class Step(nn.Module):
    """One step of a recurrent cell with a state that may be a pair."""

    def __init__(self, kind):
        super().__init__()
        self.cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](3, 4)

    def forward(self, x, state):
        return self.cell(x, state)


def first(state):
    return state[0] if isinstance(state, tuple) else state


def time_case(kind, copied=True):
    """A recurrence whose weights are handed out by time step; an early loss, and a late one."""
    torch.manual_seed(0)
    cell = Step(kind).double()
    zero = torch.zeros(N, 4, dtype=torch.float64)
    state = (zero, zero) if kind == "lstm" else zero
    weights = dict(cell.named_parameters())
    copies = uses(weights, T) if copied else [weights] * T
    inputs = list(zip(copies, draw(T, N, 3), strict=True))
    states = unroll(lambda x, h: functional_call(cell, x[0], (x[1], h)), inputs, state)
    losses = {"early": (first(states[2]) - 1).square().mean(), "late": first(states[-1]).sin().mean()}
    return losses, copies, list(weights.values())


CASES = {f"stem-{kind}": lambda kind=kind: stem_case(kind) for kind in STEMS} | {
    f"time-{kind}": lambda kind=kind: time_case(kind) for kind in ("rnn", "gru", "lstm")
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def dense(gradients, like):
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]


# The law


def test_contributions_add_up_to_the_gradient(case):
    losses, copies, parameters = case
    total = contributions(losses, copies, parameters).total()
    for found, loss in zip(total, losses.values(), strict=True):
        expected = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        torch.testing.assert_close(dense(found, parameters), dense(expected, parameters), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_at_the_uses_of_a_weight_nothing_is_passed_below(kind):
    losses, copies, parameters = time_case(kind)
    below, at = contributions(losses, copies, parameters), contributions(losses, copies)
    for i in range(2):
        for u in range(T):
            torch.testing.assert_close(dense(at.parts[i][u], parameters), dense(below.parts[i][u], parameters))


def test_each_contribution_is_that_of_a_network_with_different_weights():
    """The oracle: h_t = tanh(x W_t + h V_t) with T pairs of leaves that happen to be equal."""
    v, w = draw(4, 4, seed=1).requires_grad_(), draw(3, 4, seed=2).requires_grad_()
    x, h0 = draw(T, N, 3, seed=3), torch.zeros(N, 4, dtype=torch.float64)

    def late(pairs):
        h = h0
        for t, (v_t, w_t) in enumerate(pairs):
            h = (x[t] @ w_t + h @ v_t).tanh()
        return h.square().mean()

    copies = uses((v, w), T)
    found = contributions(late(copies), copies)
    leaves = [(v.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()) for _ in range(T)]
    expected = torch.autograd.grad(late(leaves), [p for pair in leaves for p in pair])
    torch.testing.assert_close([g for part in found.parts[0] for g in part], list(expected))
    assert not found.parts[0][0][0].any()  # h_0 = 0: the first step uses V and learns nothing from it


def test_a_branch_is_the_stems_gradient_with_the_others_detached():
    """The oracle for a stem: detach the other branches' inputs and differentiate as usual."""
    losses, copies, parameters = stem_case("mlp")
    found = contributions(losses, copies, parameters)
    torch.manual_seed(0)
    stem = STEMS["mlp"][0]().double()
    for u in range(3):
        z = stem(draw(N, 5))
        alone = stem_and_branches(stem, [z if v == u else z.detach() for v in range(3)])
        for i, loss in enumerate(alone.values()):
            if loss.requires_grad:
                expected = torch.autograd.grad(loss, list(stem.parameters()), retain_graph=True)
                torch.testing.assert_close(found.parts[i][u], list(expected))
    assert found.parts[1][1] == [None] * len(parameters)  # the second loss leaves the second branch out


def test_tied_embeddings():
    """One matrix that reads tokens in and writes scores out: two uses of different kinds."""
    table = draw(6, 3).requires_grad_()
    tokens, labels = torch.tensor([0, 2, 5]), torch.tensor([1, 2, 3])
    read, write = copies = uses(table, 2)
    loss = nn.functional.cross_entropy(read[tokens].tanh() @ write.T, labels)
    found = contributions(loss, copies)
    assert not found.parts[0][0][0][[1, 3, 4]].any()  # tokens that were not read
    torch.testing.assert_close(found.total()[0], list(torch.autograd.grad(loss, table)))
    assert found.tasks == ("loss",)


# Gramians


def test_gramian_is_that_of_the_flattened_parts(case):
    losses, copies, parameters = case
    found = contributions(losses, copies, parameters)
    rows = torch.stack(
        [torch.cat([g.flatten() for g in dense(part, parameters)]) for parts in found.parts for part in parts]
    )  # (K n, P)
    expected = (rows @ rows.T).view(len(losses), len(copies), len(losses), len(copies))
    torch.testing.assert_close(found.gramian(), expected)
    by_use = torch.stack([expected[:, u, :, u] for u in range(len(copies))])
    by_loss = torch.stack([expected[i, :, i] for i in range(len(losses))])
    torch.testing.assert_close(use_gramians(losses, copies, parameters), by_use)
    torch.testing.assert_close(use_gramians(losses, copies, parameters, within="loss"), by_loss)


def test_no_signal_is_not_no_conflict():
    """Steps after the early loss have no cosine with it: undefined, not zero."""
    losses, copies, _ = time_case("rnn")
    angles = conflict.cosine(use_gramians(losses, copies).numpy())[:, 0, 1]
    assert [bool(a == a) for a in angles] == [True, True, False, False, False, False]


# What it leaves alone


def test_values_gradients_and_memory_are_those_without_uses():
    for kind in ("rnn", "gru", "lstm"):
        plain, _, weights = time_case(kind, copied=False)
        split, _, others = time_case(kind)
        torch.testing.assert_close(list(plain.values()), list(split.values()), rtol=0, atol=0)
        sum(plain.values()).backward()
        sum(split.values()).backward()
        torch.testing.assert_close([p.grad for p in weights], [p.grad for p in others], rtol=1e-13, atol=1e-15)
    z = draw(3).requires_grad_()
    assert all(copy.data_ptr() == z.data_ptr() for copy in uses(z, 3))


def test_the_step_can_follow_and_no_grad_is_touched():
    losses, copies, parameters = stem_case("conv")
    use_gramians(losses, copies, parameters)
    contributions(losses, copies, parameters)
    assert all(p.grad is None for p in parameters)
    sum(losses.values()).backward()


def test_without_gradients_uses_are_plain_tensors():
    with torch.no_grad():
        first, second = uses(torch.ones(2, requires_grad=True), 2)
    assert not first.requires_grad
    assert torch.equal(first, second)


# What cannot be


def test_changing_a_use_in_place_is_refused():
    """It would change the other uses, whose contributions would then be those of something else."""
    first, _ = uses(draw(3).requires_grad_() * 1, 2)
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        first.relu_()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: uses(z, 0), "expected at least one place"),
        (lambda z: uses((), 2), "a use holds nothing; expected tensors"),
        (lambda z: uses({"z": 1}, 2), r"a use holds \['int'\]; expected tensors"),
        (lambda z: contributions(z.sum(), []), "expected some, and equally many"),
        (lambda z: contributions(z.sum(), [z, (z, z)]), "expected some, and equally many"),
        (lambda z: contributions(z.sum(), [z.detach()]), "a use requires no gradient"),
        (lambda z: contributions(z.sum(), [z, z]), "2 uses, of which 1 are different"),
        (lambda z: contributions(z, uses(z, 2)), "expected one real number"),
        (lambda z: contributions(z.detach().sum(), uses(z, 2)), "reaches no parameter"),
        (lambda z: use_gramians(z.sum(), uses(z, 2), within="task"), "expected 'use' or 'loss'"),
    ],
)
def test_mistakes(call, message):
    z = draw(3).requires_grad_()
    with pytest.raises(AccordError, match=message):
        call(z)


def test_uses_that_depend_on_each_other_are_refused():
    z = draw(3).requires_grad_()
    (first,) = uses(z, 1)
    (second,) = uses(first.tanh(), 1)
    with pytest.raises(AccordError, match="one use depends on another"):
        contributions(second.sum(), [first, second])
