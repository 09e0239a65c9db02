"""Choosing again on the way: moments are carried as dense arrays would, and nothing jumps."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import trained

from accord import Balancer
from accord.errors import AccordError
from accord.sparse.mask import Mask
from accord.sparse.reselect import Reselection, exchange, reselect
from accord.sparse.training import SparseTraining

from models import HardSharing

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["Adam", "SGD", "RMSprop", "AdamW"])
@pytest.mark.parametrize("rule", ["Smallest(k=2)", "RandomNeuron(k=2)", "PSN(k=2)"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_equals_dense_arrays_that_are_masked_anew(kind, rule, share):
    """Oracle: PyTorch's dense optimiser; at a new mask its state is set to zero where nothing is trained any more."""
    dense, sparse = (model := HardSharing()), copy.deepcopy(model)
    training = SparseTraining(sparse, rule, heads="heads")
    options = {"lr": 0.05} | ({"momentum": 0.9} if kind == "SGD" else {})
    first = getattr(torch.optim, kind)(dense.parameters(), **options)
    second = getattr(torch.optim, kind)(training.parameters(), **options)
    kept, exchanged = trained(dense, training.mask), 0
    for i in range(12):
        first.zero_grad(), second.zero_grad()
        sum(dense.losses(X).values()).backward(), sum(sparse.losses(X).values()).backward()
        before = {n: p.detach().clone() for n, p in dense.named_parameters()}
        for n, p in dense.named_parameters():
            p.grad.masked_fill_(~kept[n], 0.0)
        first.step(), second.step()
        with torch.no_grad():
            for n, p in dense.named_parameters():
                p.copy_(torch.where(kept[n], p, before[n]))
        if i % 4 == 3:
            exchanged += reselect(training, second, share=share)
            kept = trained(dense, training.mask)
            for n, p in dense.named_parameters():
                for entry in first.state[p].values():
                    if isinstance(entry, torch.Tensor) and entry.shape == p.shape:
                        entry.masked_fill_(~kept[n], 0.0)
    training.verify()
    assert exchanged > 0
    training.merge()
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), sparse.parameters(), strict=True))


def test_the_function_does_not_jump_and_what_is_dropped_stays():
    model = HardSharing()
    training = SparseTraining(model, "Smallest(k=2)", heads="heads")
    optimizer = torch.optim.AdamW(training.parameters(), 0.05)
    for _ in range(5):
        optimizer.zero_grad()
        sum(model.losses(X).values()).backward()
        optimizer.step()
    before = [loss.item() for loss in model.losses(X).values()]
    old = training.mask
    assert reselect(training, optimizer) > 0
    assert training.mask.hash != old.hash
    assert training.mask.trainable == old.trainable
    assert [loss.item() for loss in model.losses(X).values()] == before
    assert all(p.grad is None for name, p in training.named_parameters().items() if name in training.sites)


def test_every_n_steps_with_a_share_that_falls():
    model = HardSharing()
    training = SparseTraining(model, "RandomNeuron(k=2)", heads="heads")
    optimizer = torch.optim.SGD(training.parameters(), 0.01)
    dynamic = Reselection(training, optimizer, every=3, share=0.5, until=12)
    shares, hashes = [], []
    for _ in range(15):
        sum(model.losses(X).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        shares.append(dynamic.now())
        hashes.append(training.mask.hash)
    assert training.reselections == 3  # after steps 3, 6 and 9; at 12 it is over
    assert shares[5] == pytest.approx(0.25 * (1 + math.cos(math.pi / 2)))
    assert len(set(hashes)) <= 4
    assert hashes[-1] == hashes[8]
    dynamic.stop()
    state = dynamic.state_dict()
    other = Reselection(training, optimizer, every=3)
    other.load_state_dict(state)
    assert other.steps == 15
    assert other.now() == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 6), st.floats(0.01, 1), st.integers(0, 99))
def test_an_exchange_stays_between_old_and_new(rows, k, extra, share, seed):
    generator = torch.Generator().manual_seed(seed)
    old, new = (
        torch.stack([torch.randperm(k + extra, generator=generator)[:k].sort().values for _ in range(rows)])
        for _ in range(2)
    )
    found = exchange(old.to(torch.int16), new.to(torch.int16), share, generator)
    assert found.dtype == torch.int16
    for f, o, n in zip(found.tolist(), old.tolist(), new.tolist(), strict=True):
        assert f == sorted(set(f))
        assert len(f) == k
        assert set(o) & set(n) <= set(f) <= set(o) | set(n)
        assert len(set(f) - set(o)) == min(len(set(n) - set(o)), round(share * k))


def test_a_dynamic_run_is_resumed():
    def build(mask=None):
        torch.manual_seed(0)
        model = HardSharing()
        training = SparseTraining(model, mask or "Smallest(k=2)", heads=() if mask else "heads")
        optimizer = torch.optim.Adam(training.parameters(), 0.05)
        return model, training, optimizer, Reselection(training, optimizer, 2, rule="Smallest(k=2)", share=0.6)

    def go(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            Balancer(model, "Sum()").backward(model.losses(X))
            optimizer.step()

    whole = build()
    go(whole[0], whole[2], 5)
    kept = copy.deepcopy([part.state_dict() for part in whole])
    go(whole[0], whole[2], 5)
    parts = build()
    parts[1].load_state_dict(kept[1])
    for part, state in zip(parts, kept, strict=True):
        part.load_state_dict(state) if part is not parts[1] else None
    parts[1].verify()
    go(parts[0], parts[2], 5)
    assert parts[1].mask.hash == whole[1].mask.hash
    assert parts[1].reselections == whole[1].reselections == 5
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), parts[0].parameters(), strict=True))
    assert Mask.from_state(kept[1]["mask"]).hash != whole[1].first
    other = build(Mask.from_state(kept[1]["mask"]))  # begins with the mask of the checkpoint
    other[1].load_state_dict(kept[1])
    other[0].load_state_dict(kept[0])
    other[1].verify()
    assert (other[1].first, other[1].reselections) == (whole[1].first, 2)


def test_rules_that_need_data_and_frozen_parts():
    """Gradients are taken at the whole weights; a layer that the user froze stays frozen, look or no look."""
    model = HardSharing()
    model.trunk[3].requires_grad_(False)
    batches = lambda: (model.losses(x) for x in X.split(8))  # noqa: E731
    training = SparseTraining(model, "GPS(k=2)", heads="heads", losses=batches(), look=1)
    assert set(training.sites) == {"trunk.0.weight", "trunk.6.weight"}
    optimizer = torch.optim.Adam(training.parameters(), 0.1)
    balancer = Balancer(model, "UPGrad()")
    training.attach(balancer)
    Reselection(training, optimizer, every=2, losses=batches)
    for _ in range(6):
        balancer.backward(model.losses(X))
        optimizer.step()
        optimizer.zero_grad()
    training.verify()
    assert training.reselections == 3
    assert training.mask.hash != training.first
    assert set(training.sites) == {"trunk.0.weight", "trunk.6.weight"}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: torch.optim.Rprop(p), "Rprop keeps 'step_size'"),
        (lambda p: torch.optim.ASGD(p), "ASGD keeps 'ax'"),
        (lambda p: torch.optim.Adafactor(p), "Adafactor keeps 'row_var'"),
        (lambda p: torch.optim.LBFGS(p), "LBFGS keeps"),
    ],
)
def test_states_that_cannot_be_carried_are_refused(optimizer, message):
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    optimizer = optimizer(training.parameters())

    def closure():
        optimizer.zero_grad()
        loss = sum(model.losses(X).values())
        loss.backward()
        return loss

    optimizer.step(closure)
    before = training.mask.hash
    with pytest.raises(AccordError, match=message):
        reselect(training, optimizer)
    assert training.mask.hash == before


def test_wrong_numbers():
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    optimizer = torch.optim.SGD(training.parameters(), 0.1)
    with pytest.raises(AccordError, match="share=0"):
        reselect(training, optimizer, share=0)
    with pytest.raises(AccordError, match="every=0"):
        Reselection(training, optimizer, 0)
    with pytest.raises(AccordError, match="until=0"):
        Reselection(training, optimizer, 1, until=0)
    with pytest.raises(AccordError, match="share=2"):
        Reselection(training, optimizer, 1, share=2)
    with pytest.raises(AccordError, match="other tensors"):
        reselect(training, optimizer, "PSN(density=1.0)")
    with pytest.raises(AccordError, match="as many trained scalars"):
        reselect(training, optimizer, "PSN(k=3)", share=0.5)
    reselect(training, optimizer, "PSN(k=3)")
    assert training.mask.selections["trunk.0.weight"].index.shape == (8, 3)
    sum(model.losses(X).values()).backward()
    optimizer.step()
    training.verify()
