"""An optimiser goes on with the copies as it would have gone on with the layer."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import TASKS, Plain
from torch import nn

from accord.errors import AccordError
from accord.restructure import carry, task_specific

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
}


def trained(make):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = make(net.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_equal_gradients_keep_copies_equal_to_the_layer(make):
    net, optimizer = trained(make)
    twin = copy.deepcopy(net)
    other = make(twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    x, target = torch.randn(5, 4), torch.randn(5, 2)
    before = net(x)
    model = task_specific(net, "2", ("a", "b"))
    assert carry(optimizer, model) == 2
    assert carry(optimizer, model) == 0
    out = model(x)
    assert torch.equal(out["a"], before)
    assert torch.equal(out["b"], before)
    for _ in range(2):
        optimizer.zero_grad()
        # each task sends the layer what the whole loss sent; the shared layers get the mean of two equal gradients
        outputs = model(x)
        gradients = {task: (outputs[task] - target).square().sum() for task in outputs}
        sum(gradients.values()).backward()
        for name, p in model.named_parameters():
            p.grad.mul_(1 if name.startswith("2.") else 0.5)
        optimizer.step()
        other.zero_grad()
        (twin(x) - target).square().sum().backward()
        other.step()
    copies = model.copies()["2"]
    assert torch.equal(copies.a.weight, copies.b.weight)
    torch.testing.assert_close(copies.a.weight, twin[2].weight)
    torch.testing.assert_close(net[0].weight, twin[0].weight)


def test_state_is_a_copy_and_groups_keep_their_settings():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": list(net[0].named_parameters()), "lr": 0.1}, {"params": list(net[1].named_parameters())}]
    optimizer = torch.optim.Adam(groups, lr=0.5)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    model = task_specific(net, "1", ("a", "b", "c"))
    assert carry(optimizer, model) == 4
    first, second = optimizer.param_groups
    assert (first["lr"], second["lr"]) == (0.1, 0.5)
    assert len(first["params"]) == 2
    order = [id(p) for p in model.copies()["1"].parameters()]
    assert [id(p) for p in second["params"]] == order
    assert second["param_names"][:2] == ["1.a.weight", "1.a.bias"]
    copies = model.copies()["1"]
    moments = [optimizer.state[each.weight]["exp_avg"] for each in copies.children()]
    assert torch.equal(moments[0], moments[2])
    moments[0].zero_()
    assert bool(moments[2].any())


def test_a_new_optimiser_loads_the_state():
    net, optimizer = trained(OPTIMIZERS["AdamW"])
    model = task_specific(net, "2", ("a", "b"))
    carry(optimizer, model)
    fresh = torch.optim.AdamW(model.parameters(), lr=0.01)
    fresh.load_state_dict(optimizer.state_dict())
    for p in model.parameters():
        assert torch.equal(fresh.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


def test_optimisers_that_cannot_carry():
    model = task_specific(Plain(), "second", TASKS)
    with pytest.raises(AccordError, match="holds no parameter of second"):
        carry(torch.optim.SGD(model.base.first.parameters(), lr=0.1), model)
    with pytest.raises(AccordError, match="L-BFGS keeps one history"):
        carry(torch.optim.LBFGS(model.parameters()), model)
