"""The fast GRU against PyTorch's own on the same packed tokens, in float64."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from accord.tpp.encoders.recurrence import gru, step
from accord.tpp.errors import TPPError

# lengths of the sequences, tokens' size, units: ragged, one sequence, one token, exactly one and more than one register
CASES = {
    "ragged": ([7, 5, 5, 2, 1], 3, 5),
    "equal": ([4, 4, 4], 8, 16),
    "one sequence": ([6], 2, 4),
    "one token": ([1, 1, 1], 3, 17),
    "one of each": ([1], 1, 1),
    "wide": ([9, 8, 3], 8, 42),
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def case(name: str) -> tuple[nn.GRU, Tensor, list[int], Tensor]:
    lengths, size, units = CASES[name]
    torch.manual_seed(0)
    sizes = [sum(length > t for length in lengths) for t in range(lengths[0])]
    x = torch.randn(sum(sizes), size, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(len(lengths), units, dtype=torch.float64, requires_grad=True)
    return nn.GRU(size, units).double(), x, sizes, initial


def reference(module: nn.GRU, x: Tensor, sizes: list[int], initial: Tensor) -> Tensor:
    return module(PackedSequence(x, torch.tensor(sizes)), initial[None])[0].data


def gradients(hidden: Tensor, points: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(hidden, points, cotangent, retain_graph=True)


@pytest.mark.parametrize("name", CASES)
def test_values_and_all_gradients(name):
    module, x, sizes, initial = case(name)
    points = [x, initial, *module.parameters()]
    fast, slow = gru(module, x, sizes, initial), reference(module, x, sizes, initial)
    torch.testing.assert_close(fast, slow, **EXACT)
    with torch.no_grad():
        assert torch.equal(gru(module, x, sizes, initial), fast)
    for _ in range(2):  # a second pass through the same graph, as for the second task
        cotangent = torch.randn_like(slow)
        for a, b in zip(gradients(fast, points, cotangent), gradients(slow, points, cotangent), strict=True):
            torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("name", CASES)
def test_batched_cotangents(name):
    module, x, sizes, initial = case(name)
    points = [x, initial, *module.parameters()]
    hidden = gru(module, x, sizes, initial)
    cotangents = torch.randn(3, *hidden.shape, dtype=torch.float64)
    apart = [torch.stack(g) for g in zip(*(gradients(hidden, points, c) for c in cotangents), strict=True)]
    together = torch.autograd.grad(hidden, points, cotangents, is_grads_batched=True, retain_graph=True)
    mapped = torch.vmap(lambda c: gradients(hidden, points, c))(cotangents)
    for a, b, c in zip(together, mapped, apart, strict=True):
        torch.testing.assert_close(a, c, **EXACT)
        torch.testing.assert_close(b, c, **EXACT)


def test_zeros_are_the_default_start():
    module, x, sizes, initial = case("ragged")
    assert torch.equal(gru(module, x, sizes), gru(module, x, sizes, torch.zeros_like(initial)))


def test_only_some_gradients_are_wanted():
    module, x, sizes, initial = case("ragged")
    for frozen in range(4):
        for i, p in enumerate(module.parameters()):
            p.requires_grad_(i != frozen)
        points = [p for p in module.parameters() if p.requires_grad]
        cotangent = torch.randn(len(x), module.hidden_size, dtype=torch.float64)
        fast = gradients(gru(module, x.detach(), sizes, initial.detach()), points, cotangent)
        slow = gradients(reference(module, x.detach(), sizes, initial.detach()), points, cotangent)
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a, b, **EXACT)


def test_result_does_not_depend_on_the_other_sequences():
    module, x, sizes, _ = case("ragged")
    hidden = gru(module, x, sizes)
    starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
    alone = gru(module, x[starts[:7]], [1] * 7)
    torch.testing.assert_close(hidden[starts[:7]], alone, **EXACT)


def test_float32_stays_near_float64():
    module, x, sizes, initial = case("wide")
    exact = gru(module, x, sizes, initial)
    torch.testing.assert_close(
        gru(module.float(), x.float(), sizes, initial.float()).double(), exact, rtol=1e-5, atol=1e-6
    )


def test_step_continues_where_the_sequence_ends():
    module, x, _, _ = case("one sequence")
    hidden = gru(module, x, [1] * 6)
    torch.testing.assert_close(step(module, x[5:], hidden[4:5]), hidden[5:], **EXACT)


def test_a_second_derivative_is_refused():
    module, x, sizes, _ = case("ragged")
    (slope,) = torch.autograd.grad(gru(module, x, sizes).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once on CPU"):
        torch.autograd.grad(slope.square().sum(), x)


def test_no_warnings():
    module, x, sizes, _ = case("ragged")
    hidden = gru(module, x, sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.autograd.grad(hidden, x, torch.stack([hidden, hidden]).detach(), is_grads_batched=True)


@pytest.mark.parametrize("sizes", [[], [2, 3], [3, 3], [5, 0], [6, -1]])
def test_sizes_that_do_not_fit(sizes):
    with pytest.raises(TPPError, match="decreasing length"):
        gru(nn.GRU(2, 3), torch.zeros(5, 2), sizes)


def test_other_modules_are_refused():
    for module in (nn.GRU(2, 3, num_layers=2), nn.GRU(2, 3, bidirectional=True), nn.GRU(2, 3, bias=False)):
        with pytest.raises(TPPError, match="one layer"):
            gru(module, torch.zeros(1, 2), [1])
