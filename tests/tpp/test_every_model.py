"""The laws of section 16 of the specification, for every model that `build` knows.

A model gets its tests by being in `build.NAMES`. All is float64 unless said otherwise; tolerances are 1e-8 for closed
forms and 1e-5 where a compensator is a quadrature.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord.tpp.batch import Batch, collate
from accord.tpp.build import NAMES, build, split_name
from accord.tpp.events import Events
from accord.tpp.model import TASKS, Likelihood, PointProcess

M = 3
CLOSED = {"thp": 1e-8, "fnn": 1e-8, "lnm": 1e-8, "rmtpp": 1e-8, "joint-lnm": 1e-8, "poisson": 1e-8, "hawkes": 1e-8}
QUADRATURE = 1e-5
LENGTHS = (4, 1, 9, 6, 2, 6)
ends = pytest.mark.parametrize("end", [0.3, 3.0, 50.0])
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def sequences(start: float = 0.0, shift: float = 0.0) -> Events:
    """Six sequences with a known end; the first has a tie, the third and the last an event at their end."""
    random = np.random.default_rng(1)
    times = [np.cumsum(random.exponential(0.7, length)) for length in LENGTHS]
    marks = [random.integers(0, M, length) for length in LENGTHS]
    times[0][2] = times[0][1]
    end = [t[-1] + extra for t, extra in zip(times, (1.0, 2.5, 0.0, 0.1, 3.0, 0.0), strict=True)]
    names = [str(k) for k in range(M)]
    return Events.of([t + shift for t in times], marks, start=start + shift, end=np.add(end, shift), names=names)


def model_of(name: str, **options: str) -> PointProcess:
    """Parameters moderately away from where they start."""
    model = build(name, M, **options)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.project_()
    return model


def terms(found: Likelihood, batch: Batch, events: Events) -> tuple[Tensor, Tensor, Tensor]:
    """Log f and log p of each event and the window of each sequence, in the order of the data set."""
    time, mark = (torch.full((events.time.size,), math.nan) for _ in TASKS)
    time[batch.source], mark[batch.source] = found.time.detach().double(), found.mark.detach().double()
    window = torch.full((len(events),), math.nan)
    window[batch.order] = found.window.detach().double()
    return time, mark, window


def scored(model: PointProcess, events: Events, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
    batch = collate(events, dtype=dtype)
    return terms(model(batch), batch, events)


def histories(model: PointProcess, count: int) -> tuple[Tensor, Tensor]:
    """(count, D) twice: what the encoders say of the first tokens of `sequences`."""
    with torch.no_grad():
        h_time, h_mark = model.encode(collate(sequences()))
    return h_time[:count], h_mark[:count]


def tolerance(name: str) -> float:
    return CLOSED.get(split_name(name)[0], QUADRATURE)


def constant_rate(model: PointProcess) -> None:
    """Change parameters so that no intensity moves between events."""
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            last = parameter.split(".", 2)[2]
            if last in ("time.weight", "growth") or (last == "out.weight" and "time" in parameter):
                value.zero_()  # a of THP, w of RMTPP, w_3 of STHP
            if last == "out.weight" and split_name(str(model.settings["name"]))[0] == "fnn":
                value.zero_()
            if last == "levels.weight":
                value[: len(value) // 2] = value[len(value) // 2 :]
            if last == "log_alpha":
                value.fill_(-1e3)


@pytest.mark.parametrize("name", [n for n in NAMES if "lnm" not in n])
def test_constant_intensity_has_its_closed_form(name):
    model = model_of(name)
    constant_rate(model)
    h, h_mark = histories(model, 12)
    tau = torch.logspace(-4, 2, 12)
    decoded = model.decode(h, h_mark, tau)
    rate = torch.exp(decoded.log_density + decoded.compensator)
    later = model.decode(h, h_mark, 2 * tau)
    torch.testing.assert_close(torch.exp(later.log_density + later.compensator), rate, rtol=1e-8, atol=0)
    torch.testing.assert_close(decoded.compensator, rate * tau, rtol=1e-8, atol=0)


@every
@ends
def test_density_and_survival_fill_the_unit_interval(name, end):
    model = model_of(name)
    h, h_mark = histories(model, 3)
    edges = torch.logspace(math.log10(model.floor), math.log10(end), 40)
    x, w = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(16))
    times = (edges[:-1, None] + edges.diff()[:, None] * (x + 1) / 2).flatten()
    weights = torch.outer(edges.diff(), w / 2).flatten()
    for row, row_mark in zip(h, h_mark, strict=True):
        many = (row.expand(len(times), -1), row_mark.expand(len(times), -1))
        mass = weights @ model.decode(*many, times).log_density.exp()
        first, left = torch.exp(-model.time_part.compensator(row.expand(2, -1), edges[[0, -1]]))
        torch.testing.assert_close(mass, first - left, rtol=0, atol=max(tolerance(name), 1e-7))


@every
def test_slope_of_the_compensator_is_the_intensity(name):
    model = model_of(name)
    h, h_mark = histories(model, 12)
    tau = torch.logspace(-5, 0.5, 12).requires_grad_()
    (slope,) = torch.autograd.grad(model.time_part.compensator(h, tau).sum(), tau)
    decoded = model.decode(h, h_mark, tau)
    rate = torch.exp(decoded.log_density + decoded.compensator)
    torch.testing.assert_close(slope, rate, rtol=tolerance(name), atol=1e-10)


@every
def test_compensator_starts_at_zero_and_never_falls(name):
    model = model_of(name)
    h, _ = histories(model, 6)
    times = torch.cat((torch.zeros(1), torch.logspace(-8, 3, 100)))
    for row in h:
        grown = model.time_part.compensator(row.expand(101, -1), times)
        assert grown[0] == 0
        assert (grown.diff() >= -1e-12 * grown[1:]).all()
    single = model.float().time_part.compensator(h.float(), torch.zeros(6, dtype=torch.float32))
    assert (single == 0).all()


@every
def test_mark_probabilities_sum_to_one(name):
    model = model_of(name)
    decoded = model.decode(*histories(model, 12), torch.logspace(-5, 2, 12))
    torch.testing.assert_close(decoded.log_marks.exp().sum(1), torch.ones(12))
    rate = torch.exp(decoded.log_density + decoded.compensator)
    torch.testing.assert_close(decoded.log_intensities.exp().sum(1), rate)


@every
def test_shifting_time_changes_nothing(name):
    model = model_of(name)
    for a, b in zip(scored(model, sequences()), scored(model, sequences(shift=37.0)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def rescale_lnm(maps: nn.Linear, c: float) -> None:
    maps.bias.chunk(3)[1].add_(math.log(c))


def rescale_rmtpp(part: nn.Module, c: float) -> None:
    part.level.bias.sub_(math.log(c))
    part.growth.div_(c)
    part.rate.div_(c)


def rescale_thp(part: nn.Module, c: float) -> None:
    for value in (part.history.weight, part.history.bias, part.time.bias):
        value.div_(c)
    part.time.weight.div_(c * c)
    part.b.copy_(c * (part.b + 1e-3) - 1e-3)


def rescale_fnn(part: nn.Module, c: float) -> None:
    part.hidden.bias.sub_(part.hidden.weight[:, 0] * math.log(c))
    part.mu.div_(c)
    part.floor *= c


def rescale_hawkes(part: nn.Module, c: float) -> None:
    part.log_mu.sub_(math.log(c))
    part.log_beta.sub_(math.log(c))


RESCALE: dict[str, Callable[[nn.Module, float], object]] = {
    "thp": rescale_thp,
    "fnn": rescale_fnn,
    "rmtpp": rescale_rmtpp,
    "lnm": lambda part, c: rescale_lnm(part.maps, c),
    "joint-lnm": lambda part, c: rescale_lnm(part.maps, c),
    "poisson": lambda part, c: part.log_rates.sub_(math.log(c)),
    "hawkes": rescale_hawkes,
}  # tanh of STHP and GELU of SAHP know no other unit


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n in NAMES if split_name(n)[0] in RESCALE])
def test_another_unit_of_time_shifts_log_densities(name):
    model, c = model_of(name), 60.0
    h, h_mark = histories(model, 12)
    other = copy.deepcopy(model)
    RESCALE[split_name(name)[0]](other.time_part, c)
    other.floor *= c
    tau = torch.logspace(-7, 2, 12)
    here, there = model.decode(h, h_mark, tau), other.decode(h, h_mark, c * tau)
    torch.testing.assert_close(there.log_density, here.log_density - math.log(c), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(there.compensator, here.compensator, rtol=1e-8, atol=1e-12)


@every
@pytest.mark.parametrize("history", ["gru", "attention"])
def test_no_term_sees_what_happens_later(name, history):
    model, kept = model_of(name, history=history), 2
    events = sequences()
    later = np.arange(events.time.size) - events.offsets[events.sequence] >= kept  # (E,)
    random = np.random.default_rng(2)
    time, mark, end = events.time.copy(), events.mark.copy(), events.end.copy()
    for i in range(len(events)):
        rows = slice(events.offsets[i] + kept, events.offsets[i + 1])
        gaps = random.exponential(0.7, len(time[rows]))
        time[rows] = time[rows.start - 1] + np.cumsum(gaps)
        mark[rows] = random.integers(0, M, len(gaps))
        end[i] = max(end[i], time[events.offsets[i + 1] - 1]) + 1
    changed = Events(time, mark, events.offsets, events.marks, events.start, end)
    before, after = scored(model, events), scored(model, changed)
    assert (before[0][later] != after[0][later]).all()
    for a, b in zip(before[:2], after[:2], strict=True):
        assert torch.equal(a[~later], b[~later])


@every
@pytest.mark.parametrize("history", ["gru", "attention"])
def test_results_do_not_depend_on_who_shares_a_batch(name, history):
    model, events = model_of(name, history=history), sequences()
    together = scored(model, events)
    pieces = [scored(model, events.subset([i])) for i in range(len(events))]
    alone = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    order = [3, 0, 5, 2, 1, 4]
    permuted = scored(model, events.subset(order))[2]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(permuted, together[2][order], rtol=1e-10, atol=1e-10)


@every
def test_totals_are_sums_over_sequences(name):
    model, events = model_of(name), sequences()
    total = model(collate(events)).losses("sum")
    for task in TASKS:
        single = [model(collate(events, [i])).losses("sum")[task] for i in range(len(events))]
        torch.testing.assert_close(total[task], torch.stack(single).sum(), rtol=1e-10, atol=1e-10)
        mean = model(collate(events)).losses()[task]
        torch.testing.assert_close(mean * events.time.size, total[task])


@every
def test_single_precision_is_close_to_double(name):
    model, events = model_of(name), sequences()
    double = scored(model, events)
    batch = collate(events, dtype=torch.float32)
    found = model.float()(batch)
    assert {found.time.dtype, found.mark.dtype, found.window.dtype} == {torch.float32}
    for a, b in zip(terms(found, batch, events), double, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_gaps_have_finite_losses_and_gradients(name, dtype):
    model = build(name, M).to(dtype)  # as it starts
    events = Events.of([[0.0, 0.0, 1e-12, 1e3], [1e3]], [[0, 1, 2, 0], [1]], start=0.0, end=2e3, names=list("abc"))
    losses = model(collate(events, dtype=dtype)).losses()
    for loss in losses.values():
        assert loss.isfinite()
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        assert all(g.isfinite().all() for g in grads if g is not None)


@every
def test_tasks_reach_their_own_parameters_and_no_others(name):
    model = model_of(name)
    losses = model(collate(sequences())).losses()
    reached = {}
    for task in TASKS:
        grads = torch.autograd.grad(losses[task], list(model.parameters()), retain_graph=True, allow_unused=True)
        reached[task] = [g is not None for g in grads]
    for (parameter, tag), time, mark in zip(model.task_of().items(), *reached.values(), strict=True):
        assert (time, mark) == {"time": (True, False), "mark": (False, True)}.get(tag, (time, mark)), parameter
    shared = [tag == "shared" for tag in model.task_of().values()]
    both = np.logical_and(*reached.values())
    assert model.disjoint == (not any(shared)) == (not both.any())
    assert set(model.task_of()) == set(model.block_of()) == {n for n, _ in model.named_parameters()}
    assert np.logical_or(*reached.values()).all()


@every
def test_gradients_are_the_same_for_both_tasks_at_once(name):
    model = model_of(name)
    losses = torch.stack(list(model(collate(sequences())).losses().values()))  # (2,)
    parameters = list(model.parameters())
    together = torch.autograd.grad(
        losses, parameters, torch.eye(2), is_grads_batched=True, retain_graph=True, allow_unused=True
    )
    for i in range(2):
        alone = torch.autograd.grad(losses[i], parameters, retain_graph=True, allow_unused=True)
        for a, b in zip(together, alone, strict=True):
            if b is not None:
                torch.testing.assert_close(a[i], b, rtol=1e-9, atol=1e-12)


@every
def test_bounds_hold_where_a_family_has_one(name):
    model = model_of(name)
    h, h_mark = histories(model, 12)
    low, width = torch.rand(12), 5 * torch.rand(12)
    try:
        bound = model.time_part.bound(h, low, low + width)
    except NotImplementedError:
        assert split_name(name)[0] in ("lnm", "joint-lnm", "fnn")
        return
    for share in torch.linspace(0, 1, 51):
        decoded = model.decode(h, h_mark, low + share * width)
        assert (torch.exp(decoded.log_density + decoded.compensator) <= bound * (1 + 1e-9)).all()


@every
def test_projection_keeps_fresh_parameters_and_is_idempotent(name):
    model = model_of(name)
    before = copy.deepcopy(model.state_dict())
    model.project_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@every
def test_unknown_starts_leave_first_events_unscored(name):
    model, events = model_of(name), sequences(start=math.nan)
    batch = collate(events)
    assert batch.count == events.time.size - len(events)
    found = model(batch)
    assert found.time.isfinite().all()
    assert found.mark.isfinite().all()
