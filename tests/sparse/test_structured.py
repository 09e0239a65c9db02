"""Structured layers give the gradients of ``Placed`` with fewer operations, and keep less of their input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from accord.sparse import count, select, structured
from accord.sparse.install import install, remove
from accord.sparse.selection import Columns, Rows

LINEAR, CONV = (nn.Linear(12, 10), (4, 3, 12)), (nn.Conv2d(3, 10, 3, padding=1), (2, 3, 7, 6))
LAYERS = {
    "linear": LINEAR,
    "one row of inputs": (nn.Linear(12, 10, bias=False), (12,)),
    "conv": CONV,
    "stride and dilation": (nn.Conv2d(3, 10, (3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 2)), (2, 3, 9, 8)),
    "pointwise": (nn.Conv2d(12, 10, 1, bias=False), (2, 12, 5, 5)),
    "channels last": (nn.Conv2d(3, 10, 3).to(memory_format=torch.channels_last), (2, 3, 7, 6)),
}
GROUPS = {"one group": 10, "three groups": 4, "many groups": 2}


def columns(layer, k, group, seed=0):
    """k input channels (of linear layers: columns) for each group, ascending; the last group may be smaller."""
    torch.manual_seed(seed)
    groups, taps = -(-len(layer.weight) // group), layer.weight[0, 0].numel()
    channels = torch.stack([torch.randperm(layer.weight.shape[1])[:k].sort().values for _ in range(groups)])
    index = (channels[:, :, None] * taps + torch.arange(taps)).flatten(1)
    return Columns(index.to(torch.int16), group)


def both(layer, selection):
    """The same layer twice: structured, and by ``Placed`` alone."""
    fast = copy.deepcopy(layer)
    slow = copy.deepcopy(layer)
    rows = Rows(selection.index.repeat_interleave(selection.group, 0)[: len(layer.weight)])
    install(fast, {"weight": selection}), install(slow, {"weight": rows})
    assert type(fast).forward is not type(slow).forward
    return fast, slow


def gradients(layer, x, rest=False):
    x = x.clone().requires_grad_()
    found = parametrize_of(layer)
    found.original.requires_grad_(rest)
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    kept = [found.original.grad] if rest else []
    return [out.detach(), x.grad, found[0].values.grad, *kept, *([] if layer.bias is None else [layer.bias.grad])]


def parametrize_of(layer):
    return layer.parametrizations["weight"]


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rest", [False, True])
def test_the_same_numbers_as_placed(name, k, group, rest):
    layer, shape = LAYERS[name]
    layer = copy.deepcopy(layer).double()
    x = torch.randn(shape, dtype=torch.float64)
    fast, slow = both(layer, columns(layer, min(k, layer.weight.shape[1]), group))
    for a, b in zip(gradients(fast, x, rest), gradients(slow, x, rest), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("layer", "shape"), [LINEAR, CONV])
def test_looking_at_the_rest_does_not_change_the_gradient_by_a_bit(layer, shape):
    x = torch.randn(shape)
    fast, _ = both(layer, columns(layer, 3, 10))
    again = copy.deepcopy(fast)
    plain, (*looked, _rest, bias) = gradients(fast, x), gradients(again, x, rest=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, [*looked, bias], strict=True))


@pytest.mark.parametrize(("layer", "shape"), [LINEAR, CONV])
def test_under_autocast_as_placed(layer, shape):
    x = torch.randn(shape)
    fast, slow = both(layer, columns(layer, 3, 10))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = gradients(fast, x), gradients(slow, x)
    assert [t.dtype for t in first] == [t.dtype for t in second]
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-1)


def flops(layer, x):
    with FlopCounterMode(display=False) as counter:
        layer(x.requires_grad_()).sum().backward()
    return counter.get_total_flops()


def test_operations_are_saved():
    """2·N·out·fan_in each for output and input gradient; 2·N·out·k, not fan_in, for the weight's."""
    n, fan_in, out, k = 32, 64, 48, 16
    layer, x = nn.Linear(fan_in, out), torch.randn(n, fan_in)
    fast, slow = both(layer, columns(layer, k, out))
    assert flops(slow, x) == 3 * 2 * n * fan_in * out
    assert flops(fast, x) == 2 * 2 * n * fan_in * out + 2 * n * k * out
    conv, x = nn.Conv2d(16, 24, 3, padding=1), torch.randn(4, 16, 8, 8)
    fast, slow = both(conv, columns(conv, 4, 24))
    dense = 2 * 4 * 64 * 144 * 24
    assert flops(slow, x) == 3 * dense
    assert flops(fast, x) == 2 * dense + dense // 4


def kept(layer, x):
    """Bytes of the activations that a graph keeps: what it saves beside parameters."""
    found = {}

    def pack(tensor):
        if not any(tensor.data_ptr() == p.data_ptr() for p in layer.parameters()):
            found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(found.values())


def test_activations_are_saved():
    layer, x = nn.Linear(64, 48), torch.randn(32, 64)
    fast, slow = both(layer, columns(layer, 16, 48))
    assert kept(slow, x) == 32 * 64 * 4
    assert kept(fast, x) == 32 * 16 * 4


def test_runs_of_columns():
    for index, run in (
        ([[0, 1, 2, 6, 7, 8]], 3),
        ([[0, 1, 4, 5], [2, 3, 4, 5]], 2),
        ([[1, 2]], 1),
        ([[0, 1, 2, 3]], 4),
    ):
        assert Columns(torch.tensor(index)).run == run


def test_columns_that_are_no_whole_channels_are_left_to_placed():
    conv, x = nn.Conv2d(2, 4, 3), torch.randn(1, 2, 5, 5)
    install(conv, {"weight": Columns(torch.tensor([[0, 4, 12]]), 4)})
    placed = conv.parametrizations["weight"][0]
    assert structured.fits(conv, "weight", placed) == "columns that are no whole input channels"
    conv(x).sum().backward()
    assert placed.values.grad.shape == (4, 3)


def test_the_rule_takes_whole_channels_of_a_convolution():
    """As many as fit; below one channel, single columns."""
    conv = nn.Conv2d(4, 6, 3)
    for k, width, run in ((20, 18, 9), (9, 9, 9), (5, 5, 1)):
        rule, net = f"Columns(k={k})", nn.Sequential(copy.deepcopy(conv))
        found = select(net, rule).selections["0.weight"]
        assert found.index.shape == (1, width)
        assert k < 9 or found.run % run == 0
        assert count(net, rule).trainable == 6 * width + 6
    best = conv.weight.detach().abs().sum((0, 2, 3)).argmax()
    chosen = select(nn.Sequential(conv), "Columns(k=9)").selections["0.weight"]
    assert chosen.index.tolist() == [list(range(9 * best, 9 * best + 9))]


def test_copies_states_and_merging():
    layer = nn.Linear(6, 4)
    selection = columns(layer, 2, 4)
    install(layer, {"weight": selection})
    other = copy.deepcopy(layer)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), other(x))
    with torch.no_grad():
        parametrize_of(other)[0].values.add_(1)
    assert not torch.equal(layer(x), other(x))
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), other(x))
    site = next(iter(install(fresh := nn.Linear(6, 4), {"weight": selection}).values()))
    remove(site)
    assert type(fresh) is nn.Linear
    assert fresh.forward.__func__ is nn.Linear.forward


def test_a_write_between_forward_and_backward_is_noticed():
    layer = nn.Linear(6, 4)
    install(layer, {"weight": columns(layer, 2, 4)})
    x = torch.randn(3, 6, requires_grad=True)
    old = layer(x).sum()
    with torch.no_grad():
        parametrize_of(layer)[0].values.add_(1)
    layer(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        old.backward()


class Subclass(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Subclass(6, 4), "own way"),
        (nn.Conv2d(4, 4, 3, groups=2), "grouped"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding"),
        (nn.Conv2d(4, 4, 3, padding="same"), "padding"),
        (nn.Conv1d(4, 4, 3), "own way"),
    ],
)
def test_others_fall_back_to_placed(layer, reason):
    selection = columns(layer, 2, 4)
    site = next(iter(install(copy.deepcopy(layer), {"weight": selection}).values()))
    module, attribute = site.users[0]
    assert reason in structured.fits(module, attribute, site.placed)
    assert parametrize.is_parametrized(module)
    assert "forward" not in vars(type(module))


def test_more_groups_than_are_worth_it():
    layer = nn.Linear(6, structured.MOST_GROUPS + 1)
    site = next(iter(install(layer, {"weight": columns(layer, 2, 1)}).values()))
    assert "more than" in structured.fits(layer, "weight", site.placed)
