"""ConflictAwareLR: the rule against a slow second one, what leaves it alone, and the scheduler's rate left in peace."""

from __future__ import annotations

import copy
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, SequentialLR

from accord import AccordError, Balancer, ConflictAwareLR, Monitor
from accord.bench import checkpoint
from accord.blocks import Blocks, partition
from accord.step import Step

from models import HardSharing
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


def optimizer_of(lr=0.1, groups=1):
    parameters = [nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(groups)]
    return torch.optim.SGD([{"params": [p]} for p in parameters], lr=lr)


def step_of(*gradients, tasks="abcdef", blocks=("total",), absent=()):
    """A Step of these gradients (K, P), or, for several blocks, of one such matrix for each."""
    matrices = [torch.as_tensor(np.asarray(g, dtype=float)) for g in (gradients if len(blocks) > 1 else [gradients])]
    names = tuple(tasks[: len(matrices[0])])
    columns = [i for i in range(len(names)) if i not in absent]
    step = Step.begin(0, names, columns, torch.zeros(len(columns), dtype=torch.float64))
    step.measure(blocks, torch.stack([(m @ m.T)[columns][:, columns] for m in matrices]), columns)
    return step


def slow(history, ema, statistic, **rule):
    """The threshold rule once more: all gradients of the past, one pair after the other."""
    factor, seen = 1.0, {}
    for rows in history:
        cosines = []
        for pair in combinations(sorted(rows), 2):
            past = seen.setdefault(pair, [])
            past.append((rows[pair[0]], rows[pair[1]]))
            weights = [ema ** (len(past) - 1 - age) for age in range(len(past))]
            product, left, right = (
                sum(w * float(f(a, b)) for w, (a, b) in zip(weights, past, strict=True))
                for f in (np.dot, lambda a, b: a @ a, lambda a, b: b @ b)
            )
            cosines.append(product / math.sqrt(left * right))
        if cosines:
            negative = [c for c in cosines if c < 0] or cosines
            options = {"mean": np.mean(cosines), "min": min(cosines), "conflicting": np.mean(negative)}
            worse = 1 - options[statistic] > rule["threshold"]
            factor = (
                max(rule["shrink"] * factor, rule["floor"]) if worse else min(rule["grow"] * factor, rule["ceiling"])
            )
        yield factor


# The rule


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["mean", "min", "conflicting"]), st.floats(0, 0.95), st.floats(0.5, 1.5), st.integers(0, 999))
def test_the_threshold_rule_is_the_slow_one(statistic, ema, threshold, seed):
    draw = np.random.default_rng(seed)
    rule = {"threshold": threshold, "shrink": 0.7, "grow": 1.3, "floor": 0.2, "ceiling": 1.5}
    rates = ConflictAwareLR(optimizer_of(), ema=ema, statistic=statistic, **rule)
    history, found = [], []
    for _ in range(12):
        gradients = draw.standard_normal((4, 3)) * 10.0 ** draw.uniform(-3, 3, (4, 1))
        absent = set(np.flatnonzero(draw.random(4) < 0.3))
        history.append({i: g for i, g in enumerate(gradients) if i not in absent})
        if len(absent) < 4:
            rates.update(step_of(*gradients, absent=absent))
        found.append(rates.factors["total"])
    np.testing.assert_allclose(found, list(slow(history, ema, statistic, **rule)))


def test_conflict_shrinks_to_the_floor_and_agreement_grows_to_the_ceiling():
    rates = ConflictAwareLR(optimizer_of(), shrink=0.5, grow=2.0, floor=0.2, ceiling=1.5, ema=0.0)
    found = []
    for cosine in [-1, -1, -1, 1, 1, 1, 1]:
        rates.update(step_of([1, 0], [cosine, 0]))
        found.append(rates.factors["total"])
    assert found == [0.5, 0.25, 0.2, 0.4, 0.8, 1.5, 1.5]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(["threshold", "cancellation"]),
)
def test_parallel_gradients_leave_the_rate_alone(steps, rule):
    """The factor is 1 when gradients are parallel, however their lengths change from step to step."""
    rates = ConflictAwareLR(optimizer_of(), rule=rule)
    for lengths in steps:
        rates.update(step_of(*np.outer(lengths, [0.6, -0.8])))
    assert rates.factors["total"] == pytest.approx(1.0, rel=1e-12)


def test_the_cancellation_rule_by_hand():
    """rho of (3, 0), (0, 4) is 5/7; of (1, 0), (-1, 0) it is 0; the average has the weights 0.5 and 1."""
    rates = ConflictAwareLR(optimizer_of(), rule="cancellation", ema=0.5, floor=0.25, power=2.0)
    rates.update(step_of([3, 0], [0, 4]))
    assert rates.factors["total"] == pytest.approx((5 / 7) ** 2)
    rates.update(step_of([1, 0], [-1, 0]))
    assert rates.smoothed["total"] == pytest.approx(0.5 * 5 / 7 / 1.5)
    assert rates.factors["total"] == 0.25**2


def test_orthogonal_tasks_are_slowed_by_cancellation_but_not_by_the_threshold():
    """K orthogonal gradients of equal length leave 1/sqrt(K) of their sum, without any conflict."""
    found = {}
    for rule in ("threshold", "cancellation"):
        rates = ConflictAwareLR(optimizer_of(), rule=rule)
        rates.update(step_of(*np.eye(4)))
        found[rule] = rates.factors["total"]
    assert found == {"threshold": 1.0, "cancellation": pytest.approx(0.5)}


def test_averages_first_then_one_cosine():
    """Skewed noise: the mean gradients agree (1 and 2.3), the cosine of single steps is -1 in 7 of 10."""
    rates = ConflictAwareLR(optimizer_of(), ema=0.99)
    for _ in range(50):
        for second in [10] * 3 + [-1] * 7:
            rates.update(step_of([1.0], [second]))
    lengths = math.sqrt(1 * (0.3 * 100 + 0.7 * 1))
    assert rates.smoothed["total"] == pytest.approx(2.3 / lengths, abs=0.02)  # too small: the norm holds the noise
    assert rates.factors["total"] == 1.0


def test_the_mean_cosine_tells_on_which_side_of_orthogonal_the_unit_gradients_add_up():
    """What the page says of statistic="mean": negative exactly if the unit gradients' sum is shorter than sqrt(K)."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        gradients = draw.standard_normal((5, 4))
        rates = ConflictAwareLR(optimizer_of(), ema=0.0)
        rates.update(step_of(*gradients))
        unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
        expected = (np.linalg.norm(unit.sum(0)) ** 2 - 5) / 20
        assert rates.smoothed["total"] == pytest.approx(expected)


def quadratic(optima, noise, steps, lr, rates_of, size=200):
    """Two tasks ``|theta - optimum|^2 / 2`` whose gradients have independent noise, started at zero."""
    theta = nn.Parameter(torch.zeros(size, dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=lr)
    rates, balancer = rates_of(optimizer), Balancer(nn.ParameterList([theta]), "Sum()")
    monitor = Monitor(nn.ParameterList([theta]), every=1)
    monitor.attach(balancer)
    draw, trajectory = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        optimizer.zero_grad()
        shaken = [o + noise * torch.randn(size, generator=draw, dtype=torch.float64) for o in optima]
        losses = {name: (theta - o).square().sum() / 2 for name, o in zip("ab", shaken, strict=True)}
        rates.update(balancer.backward(losses))
        optimizer.step()
        trajectory.append(rates.factors["total"])
    return trajectory


def test_on_a_noisy_quadratic_only_conflicting_tasks_are_slowed():
    """Aligned optima: the signal (distance 1 per entry) outweighs the noise. Opposite optima: cosine about -1/2."""
    one = torch.ones(200, dtype=torch.float64)
    aligned = quadratic([one, one], 1.0, 60, 1e-3, ConflictAwareLR)
    opposite = quadratic([one, -one], 1.0, 60, 1e-3, ConflictAwareLR)
    assert aligned == [1.0] * 60
    assert opposite[:45] == pytest.approx([0.95**n for n in range(1, 45)] + [0.1])
    assert opposite[44:] == pytest.approx([0.1] * 16)


def test_the_factor_falls_at_every_minimum_of_the_sum():
    """There the gradients add up to zero, so that two tasks have cosine -1: the rule is a decay in disguise."""
    first, second = torch.full((2, 200), 3.0, dtype=torch.float64).unbind()
    second = second.clone()
    second[:2] = 2.0  # the tasks agree in 198 of 200 directions
    trajectory = quadratic([first, second], 0.0, 120, 0.3, ConflictAwareLR)
    assert trajectory[:10] == [1.0] * 10
    assert trajectory[-1] == pytest.approx(0.1)


# What leaves the factor as it is


def test_what_is_undefined_changes_nothing():
    rates = ConflictAwareLR(optimizer_of(), shrink=0.5)
    rates.update(step_of([1, 0], [-1, 0]))
    before = (rates.factors, rates.smoothed)
    bare = Step.begin(1, ("a", "b"), [0, 1], torch.zeros(2, dtype=torch.float64))
    broken = step_of([1, 0], [-1, 0])
    broken.gramians[0, 1] = torch.nan
    for step in (None, bare, step_of([1, 0], [0, 0]), step_of([1, 0], [1, 0], absent=[1]), broken):
        rates.update(step)
        assert (rates.factors, rates.smoothed) == before


def test_nothing_is_known_before_the_first_pair():
    rates = ConflictAwareLR(optimizer_of())
    assert rates.factors == {"total": 1.0}
    assert math.isnan(rates.smoothed["total"])
    rates.update(step_of([1, 0]))
    assert rates.factors == {"total": 1.0}


def test_pairs_that_are_at_hand_decide():
    rates = ConflictAwareLR(optimizer_of(), ema=0.5)
    rates.update(step_of([1, 0], [-1, 0], [1, 0]))  # mean cosine -1/3
    assert rates.smoothed["total"] == pytest.approx(-1 / 3)
    rates.update(step_of([1, 0], [0, 0], [1, 0], absent=[1]))
    assert rates.smoothed["total"] == 1.0
    rates.update(step_of([1, 0], [-1, 0], [1, 0], [1, 0]))  # a fourth task appears
    assert rates.smoothed["total"] == pytest.approx(0.0, abs=1e-15)


def test_other_tasks_are_refused():
    rates = ConflictAwareLR(optimizer_of())
    rates.update(step_of([1], [1]))
    with pytest.raises(AccordError, match=r"has tasks \['x', 'y'\], but earlier ones had \['a', 'b'\]"):
        rates.update(step_of([1], [1], tasks="xy"))


def test_a_step_is_skipped_on_its_own_cosine():
    optimizer = optimizer_of()
    rates = ConflictAwareLR(optimizer, skip_below=-0.5)
    (p,) = optimizer.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    for _ in range(20):
        rates.update(step_of([1, 0], [1, 0]))
    rates.update(step_of([1, 0], [-1, 0]))
    assert rates.factors == {"total": 0.0}
    assert rates.smoothed["total"] > 0
    before = p.detach().clone()
    optimizer.step()
    assert torch.equal(p, before)
    rates.update(None)  # nothing known of the next step: it is not skipped
    assert rates.factors == {"total": 1.0}


# The optimiser and its scheduler


def schedulers(optimizer):
    yield ExponentialLR(optimizer, 0.9)
    yield CosineAnnealingLR(optimizer, 7)
    warm, decay = LinearLR(optimizer, 0.3, total_iters=3), ExponentialLR(optimizer, 0.7)
    yield SequentialLR(optimizer, [warm, decay], [3])


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("tensor", [False, True])
def test_the_schedulers_rate_is_the_same_with_and_without(which, tensor):
    """Chainable schedulers multiply the rate that they find: a scaled one would compound."""
    rate = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    ours, theirs = optimizer_of(copy.copy(rate) if not tensor else rate.clone()), optimizer_of(rate)
    rates = ConflictAwareLR(ours)
    schedule, plain = ([*schedulers(o)][which] for o in (ours, theirs))
    (p,) = ours.param_groups[0]["params"]
    for t in range(10):
        p.grad = torch.ones_like(p)
        rates.update(step_of([1, 0], [1 if t > 6 else -1, 0]))
        lr, before = float(ours.param_groups[0]["lr"]), p.detach().clone()
        ours.step()
        torch.testing.assert_close(before - p.detach(), torch.full_like(p, lr * rates.factors["total"]))
        theirs.step()
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        schedule.step()
        plain.step()
        assert schedule.get_last_lr() == plain.get_last_lr()


def test_one_tensor_that_two_groups_share_is_scaled_once():
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = optimizer_of(rate, groups=2)
    rates = ConflictAwareLR(optimizer, shrink=0.5)
    rates.update(step_of([1, 0], [-1, 0]))
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    assert [group["params"][0].tolist() for group in optimizer.param_groups] == [[0.75, 0.75]] * 2
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate == 0.5


def test_a_step_that_raises_leaves_no_scaled_rate_for_the_next():
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("out of memory")

    p = nn.Parameter(torch.ones(2))
    optimizer = Fails([p], lr=0.1)
    rates = ConflictAwareLR(optimizer)
    for _ in range(3):  # not 0.1 * 0.95 ** 3
        rates.update(step_of([1, 0], [-1, 0]))
        assert optimizer.param_groups[0]["lr"] == 0.1
        with pytest.raises(RuntimeError, match="out of memory"):
            optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.7  # somebody else's rate is left alone
    rates.update(None)
    assert optimizer.param_groups[0]["lr"] == 0.7


def test_the_closure_of_lbfgs_sees_one_rate():
    p = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
    optimizer = torch.optim.LBFGS([p], lr=0.5, max_iter=1)
    rates = ConflictAwareLR(optimizer, shrink=0.5)
    rates.update(step_of([1, 0], [-1, 0]))

    def closure():
        optimizer.zero_grad()
        loss = p.sum() / 4  # gradient 1/4: the first step is lr * gradient, at most lr
        loss.backward()
        return loss

    optimizer.step(closure)
    assert p.item() == 4 - 0.25 * 0.25
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_factor_of_one_changes_no_bit():
    first = HardSharing().double()
    second = copy.deepcopy(first)
    for model, watch in ((first, False), (second, True)):
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        rates = ConflictAwareLR(optimizer, threshold=2.0) if watch else None
        balancer = Balancer(model, "UPGrad()")
        for _ in range(3):
            optimizer.zero_grad()
            step = balancer.backward(model.losses(X))
            if rates:
                rates.update(step)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_a_plain_loop_with_a_monitor():
    model = HardSharing().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    rates, monitor = ConflictAwareLR(optimizer), Monitor(model, every=2)
    for t in range(4):
        losses = model.losses(X)
        step = monitor.observe(losses)
        rates.update(step)
        assert (step is None) == bool(t % 2)
    assert -1 <= rates.smoothed["total"] <= 1


def test_closing_takes_the_hooks_off():
    optimizer = optimizer_of()
    rates = ConflictAwareLR(optimizer, shrink=0.5)
    rates.update(step_of([1, 0], [-1, 0]))
    with pytest.raises(AccordError, match="already has a ConflictAwareLR; close"):
        ConflictAwareLR(optimizer)
    rates.close()
    rates.close()
    (p,) = optimizer.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.tolist() == [0.9, 0.9]
    ConflictAwareLR(optimizer)


# One factor per parameter group


def test_each_group_has_the_factor_of_its_own_block():
    optimizer = optimizer_of(groups=3)
    rates = ConflictAwareLR(optimizer, per_group=True, shrink=0.5)
    conflicting, aligned = [[1, 0], [-1, 0]], [[1, 0], [1, 0]]
    rates.update(step_of(conflicting, aligned, conflicting, blocks=("group 1", "group 0", "(others)")))
    assert rates.factors == {"group 0": 1.0, "group 1": 0.5, "group 2": 1.0}  # nothing was measured in group 2
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    moved = [1 - group["params"][0][0].item() for group in optimizer.param_groups]
    assert moved == pytest.approx([0.1, 0.05, 0.1])
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert rates.factors["group 3"] == 1.0


def test_the_blocks_of_the_groups_partition_the_shared_parameters():
    model = HardSharing()
    optimizer = torch.optim.SGD(
        [
            {"params": model.trunk[6].parameters()},
            {"params": [*model.trunk[0].parameters(), *model.heads.parameters()]},
        ],
        lr=0.1,
    )
    rates = ConflictAwareLR(optimizer, per_group=True)
    shared = list(model.trunk.parameters())
    measured = [True] * 5 + [False]
    expected = Blocks(("group 0", "group 1", "(others)"), (1, 1, 2, 2, 0, -1))  # trunk.3 is in no group
    assert partition(model, shared, measured, rates.blocks) == expected
    assert partition(model, shared[:2], [True] * 2, rates.blocks) == Blocks(("group 1",), (0, 0))
    assert partition(model, shared, [False] * 6, rates.blocks) == Blocks((), (-1,) * 6)


@pytest.mark.parametrize("engine", ["stacked", "segmented"])
def test_a_balancer_measures_the_groups(engine):
    """Also on the steps of a Monitor that asks for other blocks."""
    model = HardSharing().double()
    first, rest = [*model.trunk[0].parameters()], [*model.trunk[3].parameters(), *model.trunk[6].parameters()]
    optimizer = torch.optim.SGD([{"params": rest}, {"params": [*model.heads.parameters()]}, {"params": first}], lr=0.1)
    rates = ConflictAwareLR(optimizer, per_group=True, ema=0.0)
    balancer = Balancer(model, "UPGrad()", engine=engine, blocks=rates.blocks)
    Monitor(model, every=2, blocks="tensor").attach(balancer)
    for _ in range(2):
        losses = model.losses(X)
        rows = oracle.gradients(model, losses)
        step = balancer.backward(losses)
        assert step.blocks == ("group 0", "group 2")
        rates.update(step)
    for name, at in (("group 2", slice(0, 2)), ("group 0", slice(2, 6))):
        flat = torch.stack([torch.cat([g.flatten() for g in row[at]]) for row in rows.values()])
        unit = flat / flat.norm(dim=1, keepdim=True)
        expected = ((unit @ unit.T).sum() - 3) / 6  # the mean over three pairs
        assert rates.smoothed[name] == pytest.approx(float(expected))
    assert math.isnan(rates.smoothed["group 1"])


def test_a_step_without_the_groups_blocks_is_refused():
    rates = ConflictAwareLR(optimizer_of(groups=2), per_group=True)
    with pytest.raises(
        AccordError, match=r"blocks \['total'\], expected \['group 0', 'group 1'\].*blocks=rates.blocks"
    ):
        rates.update(step_of([1, 0], [1, 0]))


# State, words, mistakes


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    def begin():
        torch.manual_seed(3)
        model = HardSharing().double()
        optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)
        return model, optimizer, Balancer(model, "UPGrad()"), ConflictAwareLR(optimizer, threshold=0.5, skip_below=-0.9)

    def train(model, optimizer, balancer, rates, steps):
        for t in steps:
            optimizer.zero_grad()
            losses = model.losses(X)
            if t % 3 == 2:
                losses.pop("t0")
            rates.update(balancer.backward(losses))
            optimizer.step()

    unbroken = begin()
    train(*unbroken, range(12))
    before, after = begin(), begin()
    train(*before, range(7))
    checkpoint.save(tmp_path / "state", {"parts": [part.state_dict() for part in before]})
    train(*before, range(7, 9))  # the state was a copy
    for part, state in zip(after, checkpoint.load(tmp_path / "state")["parts"], strict=True):
        part.load_state_dict(state)
    train(*after, range(7, 12))
    assert after[3].factors == unbroken[3].factors != {"total": 1.0}
    assert after[3].smoothed == unbroken[3].smoothed
    assert all(torch.equal(p, q) for p, q in zip(after[0].parameters(), unbroken[0].parameters(), strict=True))


def test_a_state_of_other_settings_is_refused():
    state = ConflictAwareLR(optimizer_of()).state_dict()
    with pytest.raises(AccordError, match="the state is of .*'ema': 0.9.*, but this ConflictAwareLR has .*'ema': 0.5"):
        ConflictAwareLR(optimizer_of(), ema=0.5).load_state_dict(state)
    with pytest.raises(AccordError, match="the state is of None"):
        ConflictAwareLR(optimizer_of()).load_state_dict({})


def test_the_repr_is_the_configuration():
    text = repr(ConflictAwareLR(optimizer_of(), floor=1))
    assert text == (
        "ConflictAwareLR(SGD, rule='threshold', threshold=1.0, shrink=0.95, grow=1.05, floor=1.0, ceiling=1.0, "
        "power=1.0, ema=0.9, statistic='mean', skip_below=None, per_group=False, halves=False, "
        "factors={'total': 1.0})"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 2.1}, r"threshold=2.1, expected a finite number in \[0, 2\]"),
        ({"threshold": math.nan}, "threshold=nan"),
        ({"shrink": 1}, r"shrink=1, expected a finite number in \(0, 1\)"),
        ({"shrink": True}, "shrink=True"),
        ({"grow": 0.99}, "grow=0.99, expected a finite number >= 1"),
        ({"floor": 0}, r"floor=0, expected a finite number in \(0, 1\]"),
        ({"ceiling": 0.5}, "ceiling=0.5"),
        ({"ceiling": math.inf}, "ceiling=inf"),
        ({"power": 0}, "power=0"),
        ({"ema": 1}, r"ema=1, expected a finite number in \[0, 1\)"),
        ({"ema": "0.9"}, "ema='0.9'"),
        ({"skip_below": -2}, r"skip_below=-2, expected a finite number in \[-1, 1\], or None"),
        ({"statistic": "minimum"}, "statistic='minimum' is not known. Did you mean 'min'"),
        ({"rule": "treshold"}, "rule='treshold' is not known. Did you mean 'threshold'"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    optimizer = optimizer_of()
    with pytest.raises(AccordError, match=f"ConflictAwareLR: {message}"):
        ConflictAwareLR(optimizer, **arguments)
    ConflictAwareLR(optimizer)  # a refused one leaves no hooks


def test_only_optimisers_with_a_rate_are_taken():
    with pytest.raises(AccordError, match="optimizer is a Linear; expected a torch optimiser with lr"):
        ConflictAwareLR(nn.Linear(1, 1))  # type: ignore[arg-type]
