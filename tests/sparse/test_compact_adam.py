"""Optimisers on compact values are, bit for bit, dense ones whose gradients, moments and decay are masked."""

from __future__ import annotations

import copy

import pytest
import torch
from places import trained
from torch import Tensor

from accord import Balancer
from accord.sparse.training import SparseTraining

from models import HardSharing

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
STEPS = 12


class MaskedAdam:
    """Dense Adam or AdamW, in words: the gradient where it is trained, decay where it is trained."""

    def __init__(self, model, kept, lr, decay, decoupled):
        self.model, self.kept, self.lr, self.decay, self.decoupled = model, kept, lr, decay, decoupled
        self.m = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        self.v = copy.deepcopy(self.m)
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for name, p in self.model.named_parameters():
            kept, m, v = self.kept[name], self.m[name], self.v[name]
            g = torch.where(kept, p.grad, 0.0)
            if self.decoupled:
                p.copy_(torch.where(kept, p * (1 - self.lr * self.decay), p))
            else:
                g = torch.where(kept, g + self.decay * p, 0.0)
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            change = (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-8)
            p.sub_(torch.where(kept, self.lr * change, 0.0))


def clear(model):
    for p in model.parameters():
        p.grad = None


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("decoupled", [False, True], ids=["Adam", "AdamW"])
@pytest.mark.parametrize("kind", ["plain", "foreach", "fused"])
def test_compact_equals_dense_masked_to_rounding(kind, decoupled, decay):
    dense, sparse = (model := HardSharing()), copy.deepcopy(model)
    training = SparseTraining(sparse, "PSN(k=2)", heads="heads")
    forms = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    adam = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = adam(training.parameters(), 1e-2, weight_decay=decay, **forms[kind])
    oracle = MaskedAdam(dense, trained(dense, training.mask), 1e-2, decay, decoupled)
    for _ in range(STEPS):
        clear(dense), optimizer.zero_grad()
        sum(dense.losses(X).values()).backward(), sum(sparse.losses(X).values()).backward()
        oracle.step(), optimizer.step()
    training.merge()
    for a, b in zip(dense.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def masked_dense_steps(dense, kept, optimizer):
    """PyTorch's own dense optimiser, with what is frozen put back after each step: it may move, but not stay so."""
    for _ in range(STEPS):
        clear(dense)
        sum(dense.losses(X).values()).backward()
        start = {n: p.detach().clone() for n, p in dense.named_parameters()}
        for n, p in dense.named_parameters():
            p.grad.masked_fill_(~kept[n], 0.0)
        optimizer.step()
        with torch.no_grad():
            for n, p in dense.named_parameters():
                p.copy_(torch.where(kept[n], p, start[n]))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax"])
@pytest.mark.parametrize("foreach", [False, True])
def test_compact_equals_pytorchs_dense_optimiser_bit_for_bit(name, foreach, decay):
    dense, sparse = (model := HardSharing()), copy.deepcopy(model)
    training = SparseTraining(sparse, "PSN(k=2)", heads="heads")
    options = {"lr": 1e-2, "weight_decay": decay, "foreach": foreach}
    options |= {"momentum": 0.9} if name == "SGD" else {}
    kind = getattr(torch.optim, name)
    masked_dense_steps(dense, trained(dense, training.mask), kind(dense.parameters(), **options))
    optimizer = kind(training.parameters(), **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(sparse.losses(X).values()).backward()
        optimizer.step()
    training.verify()
    training.merge()
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), sparse.parameters(), strict=True))


def test_state_is_carried_by_the_name_of_the_optimiser_alone():
    """The moments of a compact run are the trained entries of the dense ones."""
    dense, sparse = (model := HardSharing()), copy.deepcopy(model)
    training = SparseTraining(sparse, "PSN(k=2)", heads="heads")
    first, second = torch.optim.Adam(dense.parameters()), torch.optim.Adam(training.parameters())
    masked_dense_steps(dense, trained(dense, training.mask), first)
    for _ in range(STEPS):
        second.zero_grad()
        Balancer(sparse, "Sum()").backward(sparse.losses(X))
        second.step()
    for name, site in training.sites.items():
        large: Tensor = first.state[dict(dense.named_parameters())[name]]["exp_avg_sq"]
        assert torch.equal(site.placed.selection.gather(large), second.state[site.placed.values]["exp_avg_sq"])
