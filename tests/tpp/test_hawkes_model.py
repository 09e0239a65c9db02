"""The Hawkes model: its likelihood against sums over all pairs of events, and against the exact one of ``hawkes``."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.tpp.batch import Batch, collate
from accord.tpp.decoders.hawkes import Hawkes
from accord.tpp.encoders.hawkes_state import HawkesState
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.hawkes.likelihood import log_likelihood
from accord.tpp.hawkes.process import HawkesProcess
from accord.tpp.model import PointProcess

M = 3
LENGTHS = (6, 0, 2, 9, 1)
decays = pytest.mark.parametrize("decay", ["pair", "global"])


def some_events(seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    times = [1.5 + np.cumsum(rng.exponential(size=length)) for length in LENGTHS]
    kinds = [rng.integers(M, size=length) for length in LENGTHS]
    return Events.of(times, kinds, start=1.0, end=40.0, names=[str(k) for k in range(M)])


def some_model(decay: str) -> PointProcess:
    decoder = Hawkes(M, decay).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return PointProcess({"shared": HawkesState(decoder)}, {"shared": decoder}, M)


def process_of(decoder: Hawkes) -> HawkesProcess:
    beta = decoder.beta.expand(M, M)
    return HawkesProcess(*(value.detach().numpy() for value in (decoder.mu, decoder.alpha, beta)))


def by_pairs(decoder: Hawkes, times: Tensor, kinds: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of time and mark of one sequence, from sums over all pairs of events."""
    mu, alpha, beta = decoder.mu, decoder.alpha, decoder.beta.expand(M, M)
    time = mark = -(mu * (end - start)).sum()
    mark = torch.zeros_like(time)
    for i, (t, k) in enumerate(zip(times, kinds, strict=True)):
        lam = mu + sum(
            (alpha[:, kinds[j]] * beta[:, kinds[j]] * (-beta[:, kinds[j]] * (t - times[j])).exp() for j in range(i)),
            torch.zeros_like(mu),
        )
        time = time + lam.sum().log() - (alpha[:, k] * -torch.expm1(-beta[:, k] * (end - t))).sum()
        mark = mark + lam[k].log() - lam.sum().log()
    return time, mark


@decays
def test_likelihood_and_gradient_against_all_pairs(decay: str) -> None:
    model, events = some_model(decay), some_events()
    decoder = model.decoder["shared"]
    losses = model(collate(events, dtype=torch.float64)).losses("sum")
    expected = [torch.zeros((), dtype=torch.float64)] * 2
    for a, b, start, end in zip(events.offsets, events.offsets[1:], events.start, events.end, strict=False):
        times, kinds = torch.from_numpy(events.time[a:b]), torch.from_numpy(events.mark[a:b])
        terms = by_pairs(decoder, times, kinds, float(start), float(end))
        expected = [total - term for total, term in zip(expected, terms, strict=True)]
    parameters = list(decoder.parameters())
    for found, wanted in zip((losses["time"], losses["mark"]), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        gradients = torch.autograd.grad(found, parameters, retain_graph=True)
        oracle = torch.autograd.grad(wanted, parameters, retain_graph=True)
        for g, w in zip(gradients, oracle, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-10)


@decays
def test_likelihood_of_every_event_against_the_exact_one(decay: str) -> None:
    model, events = some_model(decay), some_events(1)
    batch = collate(events, dtype=torch.float64)
    found = model(batch)
    exact = log_likelihood(process_of(model.decoder["shared"]), events)
    rows = batch.source  # all events are scored, so that they are numbered alike
    torch.testing.assert_close(found.time, torch.from_numpy(exact.time)[rows], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.mark, torch.from_numpy(exact.mark)[rows], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.window, torch.from_numpy(exact.window)[batch.order], rtol=1e-9, atol=1e-9)


@decays
def test_compensator_is_the_integral_of_the_intensity(decay: str) -> None:
    decoder = some_model(decay).decoder["shared"]
    h, tau = 2 * torch.rand(4, decoder.size).double(), torch.tensor([0.0, 1e-9, 0.3, 5.0], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(40))
    grid = tau[:, None] * (nodes + 1) / 2  # (n, 40)
    rows = decoder.log_intensities(h.repeat_interleave(40, 0), grid.flatten()).exp().view(4, 40, M)
    expected = (rows * weights[:, None]).sum(1) * tau[:, None] / 2
    torch.testing.assert_close(decoder.compensators(h, tau), expected, rtol=1e-9, atol=1e-20)
    units, compensators = decoder.both(h, tau)
    assert torch.equal(compensators, decoder.compensators(h, tau))
    assert torch.equal(units, decoder.log_intensities(h, tau))
    assert torch.equal(compensators[0], torch.zeros(M, dtype=torch.float64))


@decays
def test_bound_holds(decay: str) -> None:
    decoder = some_model(decay).decoder["shared"]
    h, low = torch.rand(5, decoder.size).double(), torch.rand(5).double()
    bound = decoder.bound(h, low, low + 2)
    for share in (0.0, 0.4, 1.0):
        assert (decoder.log_intensities(h, low + 2 * share).exp().sum(1) <= bound * (1 + 1e-12)).all()
    assert torch.equal(bound, decoder.log_intensities(h, low).exp().sum(1))


@decays
def test_state_one_event_at_a_time(decay: str) -> None:
    model, batch = some_model(decay), collate(some_events(), dtype=torch.float64)
    encoder = model.encoder["shared"]
    h = encoder(batch)
    state, found = encoder.start(len(batch), batch.gap)
    assert torch.equal(found, h[: len(batch)])
    for i, size in enumerate(batch.sizes[1:], 1):
        rows = batch.step == i
        state = encoder.select(state, torch.arange(size))
        state, found = encoder.advance(state, batch.gap[rows], batch.mark[rows], batch.age[rows])
        torch.testing.assert_close(found, h[rows], rtol=1e-12, atol=1e-12)


@decays
def test_state_sees_its_own_past_alone(decay: str) -> None:
    encoder, events = some_model(decay).encoder["shared"], some_events()
    batch = collate(events, dtype=torch.float64)
    h = encoder(batch)
    for i in range(1, len(batch.sizes)):
        late = batch.step >= i
        changed = {"mark": (batch.mark + late.long()) % M, "gap": torch.where(late, 2 * batch.gap + 1, batch.gap)}
        assert torch.equal(encoder(Batch(**(vars(batch) | changed)))[~late], h[~late])
    for rank, number in enumerate(batch.order):
        alone = encoder(collate(events, [int(number)], dtype=torch.float64))
        torch.testing.assert_close(alone, h[batch.rank == rank], rtol=1e-12, atol=1e-12)


@decays
def test_both_task_gradients_at_once(decay: str) -> None:
    model, batch = some_model(decay), collate(some_events(), dtype=torch.float64)
    rows, beta = model.encoder["shared"](batch), model.decoder["shared"].log_beta
    cotangents = torch.randn(2, *rows.shape, dtype=torch.float64)
    (both,) = torch.autograd.grad(rows, beta, cotangents, is_grads_batched=True, retain_graph=True)
    for i in range(2):
        (one,) = torch.autograd.grad(rows, beta, cotangents[i], retain_graph=True)
        torch.testing.assert_close(both[i], one, rtol=1e-10, atol=1e-12)


@decays
def test_parameters_are_registered_once_and_survive_copies(decay: str) -> None:
    model, batch = some_model(decay), collate(some_events(), dtype=torch.float64)
    beta = M * M if decay == "pair" else 1
    assert {name: p.numel() for name, p in model.state_dict().items()} == {
        "decoder.shared.log_mu": M,
        "decoder.shared.log_alpha": M * M,
        "decoder.shared.log_beta": beta,
    }
    assert set(model.block_of()) == set(model.state_dict())
    twin = copy.deepcopy(model)
    assert twin.encoder["shared"].decoder is twin.decoder["shared"]
    with torch.no_grad():
        twin.decoder["shared"].log_beta += 1
    assert not torch.equal(twin(batch).time, model(batch).time)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(batch).time, model(batch).time)


@decays
def test_without_history_and_excitation_it_is_poisson(decay: str) -> None:
    decoder = Hawkes(4, decay, scale=0.25).double()
    tau = torch.tensor([0.1, 2.0], dtype=torch.float64)
    log_f, compensator, log_p = decoder.joint(torch.zeros(2, decoder.size).double(), tau)
    torch.testing.assert_close(compensator, 2 * tau)  # ground rate 0.5 / scale
    torch.testing.assert_close(log_f, math.log(2) - 2 * tau)
    torch.testing.assert_close(log_p, torch.full_like(log_p, -math.log(4)))


def test_mistakes_are_named() -> None:
    with pytest.raises(TPPError, match="Did you mean 'global'"):
        Hawkes(2, "globl")
    with pytest.raises(TPPError, match="expected positive numbers"):
        Hawkes(2, scale=0.0)
