"""Methods that keep or read whole gradients, and Smoothed: against second implementations over many steps."""

from __future__ import annotations

import io
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import accord
from accord.errors import AccordError
from accord.linalg.simplex import onto_simplex
from accord.methods import Aggregation, Context, Weighting, parse
from accord.methods.bloop import Bloop
from accord.methods.db_mtl import DBMTL
from accord.methods.excess_mtl import ExcessMTL
from accord.methods.gcond import GCond
from accord.methods.memory import Memory
from accord.methods.moco import MoCo
from accord.methods.momentum_config import MomentumConFIG
from accord.methods.smoothed import Smoothed
from accord.methods.trimmed_mean import TrimmedMean
from accord.rows import Rows
from accord.scale import rescale

import inputs
from oracles import methods as slow

logging.getLogger("accord").setLevel(logging.ERROR)
STEPS = 14
MAKERS = {
    "MoCo": lambda: MoCo(),
    "MoCo, normalised": lambda: MoCo(normalise=True, rho=0.1),
    "MomentumConFIG": lambda: MomentumConFIG(),
    "GCond": lambda: GCond(),
    "Bloop": lambda: Bloop(main=1),
    "TrimmedMean": lambda: TrimmedMean(),
    "DBMTL": lambda: DBMTL(),
    "DBMTL, averaged": lambda: DBMTL(beta=0.9),
}


def history(k: int, seed: int = 0, drift: float = 0.3) -> list[Tensor]:
    """Conflicting gradients of a made-up training: a constant part and noise."""
    constant = inputs.conflicting(k, seed)
    return [constant + drift * inputs.normal(k, inputs.P, seed=1000 * seed + 100 + step) for step in range(STEPS)]


def with_gaps(steps: list[Tensor]) -> list[Tensor]:
    """Task 1 is absent in a third of the steps, and the last task appears in the fifth."""
    found = []
    for step, rows in enumerate(steps):
        here = rows.clone() if step >= 4 else rows[:-1].clone()
        if step % 3 == 1:
            here[1] = 0
        found.append(here)
    return found


def arrays(steps: list[Tensor]) -> list[np.ndarray]:
    return [rows.numpy() for rows in steps]


def directions(method: Aggregation, steps: list[Tensor], losses: list[Tensor] | None = None) -> list[Tensor]:
    return [method.aggregate(rows, None if losses is None else losses[n][: len(rows)]) for n, rows in enumerate(steps)]


def agree(found: list[Tensor], expected: list[np.ndarray], tolerance: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for d, e in zip(found, expected, strict=True):
        assert float((d - torch.from_numpy(e)).norm()) <= tolerance * max(1.0, float(np.linalg.norm(e)))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("k", [3, 5])
class TestOnMatrices:
    """The whole training again, slowly; also with tasks that are absent, and that appear."""

    def steps(self, k: int, gaps: bool, seed: int = 0) -> list[Tensor]:
        return with_gaps(history(k, seed)) if gaps else history(k, seed)

    def test_moco(self, k, gaps):
        for arguments in ((0.5, 0.5, 0.1, 0.5, 0.0), (1.0, 0.0, 0.01, 0.2, 3.0)):
            steps, method = self.steps(k, gaps), MoCo(*arguments)
            expected = slow.moco(arrays(steps), *arguments)
            agree(directions(method, steps), [d for d, _ in expected])
            weights = method.state_dict()["tasks"]["weight"].tolist()
            assert weights == pytest.approx([expected[-1][1][i] for i in range(k)], abs=1e-12)

    def test_moco_normalised(self, k, gaps):
        steps, losses = self.steps(k, gaps), [inputs.normal(k, seed=n).abs() + 0.1 for n in range(STEPS)]
        scaled = [
            rows * torch.nan_to_num(values[: len(rows)] / rows.norm(dim=1), posinf=0.0)[:, None]
            for rows, values in zip(steps, losses, strict=True)
        ]
        agree(directions(MoCo(normalise=True), steps, losses), [d.numpy() for d in directions(MoCo(), scaled)])

    def test_momentum_config(self, k, gaps):
        steps = self.steps(k, gaps)
        agree(directions(MomentumConFIG(), steps), slow.momentum_config(arrays(steps), 0.9, 0.999), 1e-7)
        agree(directions(MomentumConFIG((0.0, 0.5)), steps), slow.momentum_config(arrays(steps), 0.0, 0.5), 1e-7)

    def test_gcond(self, k, gaps):
        overruled = 0
        for seed in range(3):
            for thresholds in ((-0.8, -0.5, 0.0), (-0.4, -0.2, 0.0), (-0.9, -0.6, -0.1)):
                steps = self.steps(k, gaps, seed)
                expected, fights = slow.gcond(arrays(steps), thresholds, 0.85, 0.95, 3)
                agree(directions(GCond(thresholds), steps), expected)
                overruled += sum(fight[2] for fight in fights)
        assert overruled  # or the rule was not tried

    def test_gcond_without_limit_and_momentum(self, k, gaps):
        steps = self.steps(k, gaps)
        expected, _ = slow.gcond(arrays(steps), (-0.8, -0.5, 0.0), 0.0, 0.5, 0)
        agree(directions(GCond(momentum=0.0, norm_ema=0.5, window=0), steps), expected)

    def test_bloop(self, k, gaps):
        for main, weight, rate in ((0, 1.0, 0.01), (1, 0.5, 0.3)):
            steps = self.steps(k, gaps)
            agree(directions(Bloop(main, weight, rate), steps), slow.bloop(arrays(steps), main, weight, rate))

    def test_excess_mtl(self, k, gaps):
        for lr, warmup in ((0.01, 1), (1.0, 1), (0.3, 4)):
            steps, method = self.steps(k, gaps), ExcessMTL(lr, warmup)
            found = [method(gradients=rows).numpy() for rows in steps]
            for weights, expected in zip(found, slow.excess_mtl(arrays(steps), lr, warmup), strict=True):
                assert np.allclose(weights, expected, rtol=1e-10, atol=0)

    def test_db_mtl(self, k, gaps):
        """The gradients of the logarithms come from autograd."""
        for beta, sigma in ((0.0, 0.0), (0.9, 0.0), (0.5, 0.5)):
            steps, losses, logarithms = self.steps(k, gaps), [], []
            for n, rows in enumerate(steps):
                x = torch.ones(inputs.P, dtype=torch.float64, requires_grad=True)
                values = rows @ x + (0.3 + n + inputs.normal(k, seed=n).abs()[: len(rows)] - rows.sum(1))  # (k,)
                losses.append(values.detach())
                logarithms.append(
                    torch.stack([torch.autograd.grad((v + 1e-8).log(), x, retain_graph=True)[0] for v in values])
                )
            agree(directions(DBMTL(beta, sigma), steps, losses), slow.db_mtl(arrays(logarithms), beta, sigma))


@pytest.mark.parametrize("name", list(MAKERS))
def test_tensors_are_one_vector(name):
    """Spread over three parameters, every step gives the same numbers; the caller's rows stay, the result is fresh."""
    whole, parts = MAKERS[name](), MAKERS[name]()
    for n, rows in enumerate(history(3)):
        losses = inputs.normal(3, seed=n).abs() + 0.1
        split = Rows([[r[:7], r[7:19].view(3, 4), r[19:]] for r in rows.clone()], ["a", "b", "c"])
        context = Context(np.arange(3), 3, torch.Generator())
        found = parts.combine(split, (rows @ rows.T).numpy(), losses.numpy(), context)
        assert [d.shape for d in found] == [(7,), (3, 4), (41,)]
        joined = torch.cat([d.reshape(-1) for d in found])
        assert torch.allclose(joined, whole.aggregate(rows, losses), rtol=1e-9, atol=1e-12)
        again = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in split.rows])
        assert torch.equal(again, rows)
        for d in found:  # nobody holds it: the next steps must not change
            d.fill_(math.nan)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "TrimmedMean"])
def test_a_tensor_that_some_tasks_reach(name):
    """What a task does not reach counts as zeros; what nobody reaches stays None."""
    whole, parts = MAKERS[name](), MAKERS[name]()
    for n, rows in enumerate(history(3)):
        rows[0, :7] = 0
        rows[2, 7:20] = 0
        losses = inputs.normal(3, seed=n).abs() + 0.1
        split = [[r[:7], r[7:20], r[20:], None] for r in rows]
        split[0][0] = split[2][1] = None
        context = Context(np.arange(3), 3, torch.Generator())
        found = parts.combine(Rows(split, list("abcd")), (rows @ rows.T).numpy(), losses.numpy(), context)
        assert found[3] is None
        assert torch.allclose(torch.cat(found[:3]), whole.aggregate(rows, losses), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(MAKERS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_narrow_rows(name, dtype):
    """State is float32 at least, and results follow those of the same rows in float64."""
    narrow, exact = MAKERS[name](), MAKERS[name]()
    for n, rows in enumerate(history(3)):
        losses, rows = inputs.normal(3, seed=n).abs() + 0.1, rows.to(dtype)
        products = (rows.double() @ rows.double().T).numpy()
        context = Context(np.arange(3), 3, torch.Generator(), 1.2e-7)  # that of float32 products
        (d,) = narrow.combine(Rows([[row] for row in rows], ["w"]), products, losses.numpy(), context)
        expected = exact.aggregate(rows.double(), losses)
        assert float((d.double() - expected).norm()) <= 2**-8 * float(expected.norm()), n  # d itself may be bfloat16
    if "gradients" in narrow.state_dict():
        kept = narrow.state_dict()["gradients"].values()
        assert {tensor.dtype for tensors in kept for tensor in tensors.values()} <= {torch.float32}


@pytest.mark.parametrize("spelling", ["MoCo", "MomentumConFIG", "GCond", "DBMTL(beta=0.9)"])
def test_resumes_bit_for_bit_with_gaps(spelling):
    """The registry's round trip has all tasks in every step; here they come and go."""
    steps = with_gaps(history(4))
    losses = [inputs.normal(4, seed=n).abs() + 0.1 for n in range(STEPS)]
    expected = directions(parse(spelling), steps, losses)
    for cut in (3, 7):
        first, second, file = parse(spelling), parse(spelling), io.BytesIO()
        found = directions(first, steps[:cut], losses[:cut])
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        found += directions(second, steps[cut:], losses[cut:])
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_state_of_another_model_is_refused():
    method = MoCo()
    method.aggregate(torch.ones(2, 3))
    with pytest.raises(AccordError, match="was the state saved with another model"):
        method.aggregate(torch.ones(2, 4))


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_order_of_tasks_does_not_matter(name):
    """Over many steps; there are no ties in these gradients."""
    order = torch.tensor([2, 0, 3, 1])
    one, other = MAKERS[name](), Bloop(main=3) if name == "Bloop" else MAKERS[name]()
    for n, rows in enumerate(history(4)):
        losses = inputs.normal(4, seed=n).abs() + 0.1
        d = one.aggregate(rows, losses)
        assert torch.allclose(other.aggregate(rows[order], losses[order]), d, rtol=1e-7, atol=1e-9 * float(d.norm()))


class TestMoCo:
    def test_follows_mgda(self):
        """With gradients that stay as they are, λ descends to the point of least norm."""
        rows = inputs.gaussian(4, 0)
        method = MoCo(beta=1.0, beta_sigma=0.0, gamma=0.005, gamma_sigma=0.0)
        for _ in range(200):
            d = method.aggregate(rows)
        expected = parse("MGDA")(rows @ rows.T) @ rows
        assert torch.allclose(d, expected, atol=1e-6)

    def test_huge_gradients_keep_the_weights_on_the_simplex(self):
        rows = 1e12 * inputs.gaussian(3, 0)
        method = MoCo()
        for _ in range(3):
            assert torch.isfinite(method.aggregate(rows)).all()
            assert float(method.state_dict()["tasks"]["weight"].sum()) == pytest.approx(1.0)

    @given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6))
    @settings(max_examples=60, deadline=None)
    def test_projection_of_anything(self, entries):
        found = onto_simplex(np.array(entries) / len(entries))
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1.0)


class TestMomentumConFIG:
    def test_one_task_is_adam(self):
        """ConFIG of one gradient is that gradient; what remains is Adam, to be used with plain SGD."""
        start = inputs.normal(6, seed=0)
        ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
        method, adam = MomentumConFIG(), torch.optim.Adam([theirs], lr=0.1)
        for _ in range(20):
            adam.zero_grad()
            (theirs**4).sum().backward()
            adam.step()
            with torch.no_grad():
                ours -= 0.1 * method.aggregate(4 * ours[None] ** 3)
        assert torch.allclose(ours, theirs, rtol=1e-9)

    def test_one_loss_per_step_in_turn(self):
        """All tasks met so far decide, although one gradient is new."""
        steps = history(3)
        for n, rows in enumerate(steps):
            for i in {0, 1, 2} - {n % 3}:
                rows[i] = 0
        in_turn = [rows if n >= 2 else rows[: n + 1] for n, rows in enumerate(steps)]  # tasks are named when they come
        agree(directions(MomentumConFIG(), in_turn), slow.momentum_config(arrays(steps), 0.9, 0.999), 1e-7)

    def test_a_parameter_that_comes_late_takes_a_step_like_the_others(self):
        method, context = MomentumConFIG(), Context(np.arange(1), 1, torch.Generator())
        for step in range(100):
            row = [torch.ones(2), torch.ones(2) if step == 99 else None]
            found = method.combine(Rows([row], ["a", "b"]), np.eye(1), None, context)
        assert found[0].tolist() == pytest.approx([1.0, 1.0])
        assert found[1].tolist() == pytest.approx([1.0, 1.0])

    def test_opposite_averages_are_stationary(self):
        method = MomentumConFIG()
        assert method.aggregate(inputs.opposite(2)).tolist() == [0.0] * inputs.P
        assert [event.kind for event in method.take_events()] == ["stationary"]

    def test_averages_that_vanish_are_stationary(self):
        method = MomentumConFIG(betas=(0.5, 0.5))
        row = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
        method.aggregate(row)
        assert method.aggregate(-row / 2).tolist() == [0.0, 0.0]
        assert [event.kind for event in method.take_events()] == ["stationary"]


class TestGCond:
    def test_agreeing_gradients_are_summed(self):
        """RS beyond the first step: then momentum is all there is."""
        expected = torch.zeros(inputs.P, dtype=torch.float64)
        method = GCond()
        for step in range(5):
            rows = inputs.agreeing(3, step)
            expected = 0.85 * expected + 0.15 * rows.sum(0)
            assert torch.allclose(method.aggregate(rows), expected / (1 - 0.85 ** (step + 1)))

    def test_at_the_main_threshold_it_is_pcgrad(self):
        """φ = ½π for both: each loses its whole part along the other."""
        rows = torch.tensor([[2.0, 0.0], [-0.5, math.sqrt(0.75)]], dtype=torch.float64)
        expected = parse("PCGrad")(rows @ rows.T) @ rows
        assert torch.allclose(GCond().aggregate(rows), expected)

    def test_nothing_jumps_between_the_zones(self):
        """φ is continuous, from 0 at the weak threshold to π at the critical one."""
        method = GCond()
        angles = [method._angle(cosine) for cosine in np.linspace(-1, 0, 2001)]
        assert angles[0] == math.pi
        assert angles[-1] == 0
        assert max(abs(np.diff(angles))) <= 0.02

    def test_the_strong_win_at_first(self):
        """Nearly opposite: the longer gradient stays, whichever place it has."""
        rows = torch.tensor([[3.0, 0.0], [-1.0, 0.1]], dtype=torch.float64)
        for given_rows in (rows, rows.flip(0)):
            assert GCond().aggregate(given_rows).tolist() == pytest.approx([3.0, 0.1])


class TestBloop:
    def test_the_others_leave_the_average_alone(self):
        method, average = Bloop(main=2, weight=0.7, rate=0.1), torch.zeros(inputs.P, dtype=torch.float64)
        for rows in history(4):
            average = 0.9 * average + 0.1 * rows[2]
            d = method.aggregate(rows)
            assert float(d @ average) == pytest.approx(float(rows[2] @ average))

    def test_a_step_without_the_main_task(self):
        method, rows = Bloop(main=0), history(3)[0]
        alone = rows.clone()
        alone[0] = 0
        assert torch.equal(method.aggregate(alone), alone.sum(0))  # never met: nothing to keep clear of
        assert [event.kind for event in method.take_events()] == ["missing"]
        method.aggregate(rows)
        d = method.aggregate(alone)
        assert float(d @ rows[0]) == pytest.approx(0, abs=1e-9)
        assert [event.kind for event in method.take_events()] == ["missing"]

    def test_no_such_task(self):
        with pytest.raises(AccordError, match="there are 2 tasks"):
            Bloop(main=2).aggregate(torch.eye(2))


class TestTrimmedMean:
    @given(st.data())
    @settings(max_examples=80, deadline=None)
    def test_by_sorting(self, data):
        trim = data.draw(st.integers(0, 3))
        k = data.draw(st.integers(2 * trim + 1, 9))
        entry = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e30, 1e30))
        rows = data.draw(st.lists(st.lists(entry, min_size=4, max_size=4), min_size=k, max_size=k))
        rows = torch.tensor(rows, dtype=torch.float64)
        found = TrimmedMean(trim).reduce(rows, torch.Generator())
        expected = slow.trimmed_mean(rows.numpy(), trim)
        middle = np.abs(np.sort(rows.numpy(), axis=0)[trim : k - trim]).sum(0)  # the extremes leave no rounding behind
        assert (np.abs(found.numpy() - expected) <= 1e-15 * middle).all()

    def test_extremes_leave_no_rounding_behind(self):
        rows = torch.tensor([[1e30], [1.0], [-1e30], [2.0], [6.0]])
        assert TrimmedMean().reduce(rows, torch.Generator()).item() == 3.0

    def test_none_dropped_is_the_mean(self):
        rows = inputs.gaussian(4, 0)
        assert torch.allclose(TrimmedMean(trim=0).aggregate(rows), rows.mean(0), rtol=1e-12)

    def test_too_few_tasks(self):
        """As many are dropped as leave one or two, and one event says so, however many tensors there are."""
        method = TrimmedMean(trim=2)
        rows = Rows([[torch.tensor([float(i)])] * 5 for i in (1, 2, 9, 40)], list("abcde"))
        found = method.combine(rows, np.eye(4), None, Context(np.arange(4), 4, torch.Generator()))
        assert [g.item() for g in found] == [5.5] * 5
        (event,) = method.take_events()
        assert (event.kind, "reached by 4 active tasks; 1 values are dropped" in event.message) == ("missing", True)


class TestExcessMTL:
    def test_first_step_is_the_sum(self):
        assert ExcessMTL()(gradients=inputs.gaussian(5, 0)).tolist() == [1.0] * 5

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("sizes", [(1e-30, 1e10), (1e18, 1.0), (1.0, 1e15)])
    def test_any_size_is_finite(self, dtype, sizes):
        """Squares under- and overflow in float32 long before the gradients do."""
        method = ExcessMTL(lr=1.0)
        for size in (*sizes, *sizes):
            rows = (size * inputs.gaussian(3, 0)).to(dtype)
            weights = method.solve(None, None, context(Rows([[row] for row in rows], ["w"])))
            assert np.isfinite(weights).all()
            assert weights.sum() == pytest.approx(3.0)

    def test_more_weight_to_what_is_far(self):
        """The second gradient shrinks to a tenth: its task is nearly done."""
        method, rows = ExcessMTL(lr=0.1), inputs.orthogonal(2)
        for step in range(10):
            weights = method(gradients=rows * torch.tensor([[1.0], [0.8**step]], dtype=torch.float64))
        assert weights[0] > 1 > weights[1]


def context(rows: Rows) -> Context:
    return Context(np.arange(len(rows)), len(rows), torch.Generator(), rows=rows)


class TestDBMTL:
    def test_is_parallel_to_inverse_norms(self):
        rows, losses = inputs.unequal(1e3)(4, 0), inputs.normal(4, seed=1).abs() + 0.1
        d = DBMTL().aggregate(rows, losses)
        expected = parse("InverseNorm(ema=0.0)")(rows @ rows.T) @ rows
        assert torch.allclose(d / d.norm(), expected / expected.norm(), rtol=1e-9)

    def test_losses_without_logarithm(self):
        assert torch.isfinite(DBMTL().aggregate(torch.eye(2), torch.tensor([0.0, 1.0]))).all()
        with pytest.raises(AccordError, match="takes logarithms, but a loss is -1"):
            DBMTL().aggregate(torch.eye(2), torch.tensor([-1.0, 1.0]))
        with pytest.raises(AccordError, match="reads the losses"):
            DBMTL().aggregate(torch.eye(2))

    def test_averages_that_vanish(self):
        method = DBMTL(beta=0.5)
        rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
        losses = torch.ones(2, dtype=torch.float64)
        method.aggregate(rows, losses)
        found = method.aggregate(torch.stack([-rows[0] / 2, rows[1]]), losses)  # ĝ_1 = 0
        assert found.tolist() == pytest.approx([0.0, 1.5])


class TestSmoothed:
    def test_by_hand_after_the_scale(self):
        """UPGrad gives means; with scale="sum" the average is taken of what is K times as long."""
        method, inner = Smoothed(alpha=0.7), parse("UPGrad")
        kept, present = None, Context(np.arange(3), 3, torch.Generator())
        for rows in history(3):
            gramian = (rows @ rows.T).numpy()
            fresh = 3 * inner.solve(gramian, None, present)
            native = method.solve(gramian, None, present)
            scaled, _ = rescale(native, gramian, "sum", method.native_scale)
            found = method.finish(scaled, present)
            kept = fresh if kept is None else 0.7 * kept + 0.3 * fresh
            assert np.allclose(found, kept, rtol=1e-12)

    def test_absent_tasks_wait_and_new_ones_begin_with_their_own(self):
        method, inner = Smoothed(method="InverseNorm(ema=0.0)", alpha=0.5), parse("InverseNorm(ema=0.0)")
        kept: dict[int, float] = {}
        for rows in with_gaps(history(4)):
            fresh, found = inner(rows @ rows.T), method(rows @ rows.T)
            for i in range(len(rows)):
                if rows[i].any():
                    kept[i] = float(fresh[i]) if i not in kept else 0.5 * kept[i] + 0.5 * float(fresh[i])
                    assert float(found[i]) == pytest.approx(kept[i])
                else:
                    assert float(found[i]) == 0

    @pytest.mark.parametrize("spelling", ["UPGrad()", "NashMTL()", "DWA()", "PCGrad()", "ExcessMTL()"])
    def test_no_smoothing_is_the_method(self, spelling):
        smoothed, plain = Smoothed(method=spelling, alpha=0.0), parse(spelling)
        for step, rows in enumerate(history(3)):
            losses = inputs.normal(3, seed=step).abs() + 0.1
            found, expected = (
                method(
                    gradients=rows, losses=losses, generator=torch.Generator().manual_seed(step)
                ) for method in (smoothed, plain)
            )  # fmt: skip
            assert torch.equal(found, expected)
        assert smoothed.laws == plain.laws

    def test_has_the_capabilities_of_its_method(self):
        for spelling in ("UPGrad", "NashMTL", "FAMO", "DWA", "UncertaintyWeighting", "ExcessMTL", "Sum"):
            inner, method = parse(spelling), Smoothed(method=spelling)
            for name in (
                "needs_gramian", "needs_gradients", "needs_losses_after", "needs_second_batch", "needs_validation",
                "plain", "native_scale", "group", "default_heads",
            ):  # fmt: skip
                assert getattr(method, name) == getattr(inner, name), (spelling, name)
            assert method.laws == inner.laws & {"PE"}

    def test_spelling(self):
        for method in (
            Smoothed(),
            Smoothed(method=parse("CAGrad(c=0.4)"), alpha=0.5),
            Smoothed(method="MGDA(normalise='l2')"),
            Smoothed(method=Smoothed(method="FAMO", alpha=0.1)),
        ):
            again = parse(repr(method))
            assert isinstance(again, Smoothed)
            assert repr(again) == repr(method)
        assert repr(Smoothed(method="CAGrad")) == "Smoothed(method='CAGrad(c=0.5)', alpha=0.9)"

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("GradDrop()", "combines whole gradients and has no weights to smooth"),
            (MoCo(), "combines whole gradients and has no weights to smooth"),
            (3, "method=3 is no method and has no weights to smooth"),
            ("UPGrd()", "Did you mean 'UPGrad'"),
        ],
    )
    def test_what_cannot_be_smoothed(self, argument, message):
        with pytest.raises(AccordError, match=message):
            Smoothed(method=argument)

    def test_events_of_the_method_are_given_once(self):
        method, rows = Smoothed(method="UPGrad()"), inputs.strongly_stationary(2, 0)
        assert method(rows @ rows.T).tolist() == [0.0, 0.0]
        assert [event.kind for event in method.take_events()] == ["stationary"]
        assert method.take_events() == ()

    def test_losses_after_the_step_reach_the_method(self):
        smoothed, plain = Smoothed(method="FAMO(lr=0.1)", alpha=0.0), parse("FAMO(lr=0.1)")
        assert isinstance(plain, Weighting)
        for step in range(5):
            before, after = (inputs.normal(3, seed=2 * step + n).abs() + 0.1 for n in range(2))
            assert torch.equal(smoothed(losses=before), plain(losses=before))
            for method in (smoothed, plain):
                method.after_step(after.numpy(), Context(np.arange(3), 3, torch.Generator()))
        assert repr(smoothed.state_dict()["method"]) == repr(plain.state_dict())

    def test_in_a_balancer(self):
        """The weights of the Step are those that were applied."""
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2).double()
        balancer = accord.Balancer(model, Smoothed(method="InverseNorm(ema=0.0)", alpha=0.5))
        kept = None
        for seed in range(3):
            model.zero_grad()
            out = model(inputs.normal(5, 3, seed=seed))
            losses = {"a": (out**2).mean(), "b": out.sum()}
            rows = [torch.autograd.grad(loss, [*model.parameters()], retain_graph=True) for loss in losses.values()]
            norms = torch.stack([torch.cat([g.reshape(-1) for g in row]).norm() for row in rows])
            fresh = 2 / norms / (1 / norms).sum()
            kept = fresh if kept is None else 0.5 * kept + 0.5 * fresh
            step = balancer.backward(losses)
            assert torch.allclose(step.weights, kept)
            assert torch.allclose(model.weight.grad, kept[0] * rows[0][0] + kept[1] * rows[1][0])


SPELLINGS = [
    "MoCo()", "MomentumConFIG()", "GCond()", "Bloop(main=1)", "TrimmedMean()", "ExcessMTL(lr=0.1)", "DBMTL(beta=0.9)",
    "Smoothed(method='ExcessMTL(lr=0.1)')",
]  # fmt: skip


class Heads(torch.nn.Module):
    """A trunk and a head for each of three tasks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Linear(4, 5, dtype=torch.float64)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(5, 1, dtype=torch.float64) for _ in range(3)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x).tanh()
        return {str(i): ((head(hidden)[:, 0] - x[:, i]) ** 2).mean() for i, head in enumerate(self.heads)}


def train(model: Heads, balancer: accord.Balancer, steps: range, one_by_one: bool = False) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for step in steps:
        losses = model(inputs.normal(32, 4, seed=step))
        if one_by_one:
            losses = {str(step % 3): losses[str(step % 3)]}
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_training_goes_on_from_a_checkpoint(spelling):
    """Model and Balancer, saved half-way and loaded into fresh ones: the same parameters bit for bit; and it learns."""
    model, file = Heads(), io.BytesIO()
    balancer, start = accord.Balancer(model, spelling), model(inputs.normal(500, 4, seed=999))
    train(model, balancer, range(30))
    torch.save((model.state_dict(), balancer.state_dict()), file)
    train(model, balancer, range(30, 60))
    file.seek(0)
    again = Heads()
    other = accord.Balancer(again, spelling)
    saved = torch.load(file, weights_only=True)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    train(again, other, range(30, 60))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    end = model(inputs.normal(500, 4, seed=999))
    assert sum(loss.item() for loss in end.values()) < sum(loss.item() for loss in start.values())


def test_momentum_config_with_one_loss_per_step():
    """The shared parameters have to be named, as one loss shares nothing; all averages are kept and used."""
    model = Heads()
    balancer, start = accord.Balancer(model, "MomentumConFIG()", shared=["trunk"]), model(inputs.normal(500, 4, seed=9))
    train(model, balancer, range(90), one_by_one=True)
    end = model(inputs.normal(500, 4, seed=9))
    assert all(end[name].item() < start[name].item() for name in end)
    assert balancer.state_dict()["state"]["tasks"]["steps"].tolist() == [30, 30, 30]


def test_memory_keeps_what_a_step_does_not_reach():
    memory = Memory()
    both = Rows([[torch.ones(2), torch.ones(3)]], ["a", "b"])
    memory.blend([0], both, [0.5], [0.5])
    memory.blend([0], Rows([[torch.ones(2), None]], ["a", "b"]), [0.5], [0.5])
    kept = memory.rows([0], both).rows[0]
    assert kept[0].tolist() == [0.75, 0.75]
    assert kept[1].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("MoCo(beta=0)", "expected a finite number > 0 and <= 1"),
        ("MoCo(rho=-1)", "expected a finite number >= 0"),
        ("MoCo(normalise='l2')", "normalise='l2', expected True or False"),
        ("MomentumConFIG(betas=(0.9, 1.0))", "expected two numbers >= 0 and < 1"),
        ("MomentumConFIG(betas=(0.9,))", "expected two numbers >= 0 and < 1"),
        ("GCond(thresholds=(-0.5, -0.8, 0.0))", "expected three increasing cosines"),
        ("GCond(thresholds=(-0.5, 0.0))", "expected three increasing cosines"),
        ("GCond(window=-1)", "expected an integer >= 0"),
        ("GCond(momentum=1)", "expected a finite number >= 0 and < 1"),
        ("Bloop(main=-1)", "expected an integer >= 0"),
        ("Bloop(rate=0)", "expected a finite number > 0 and <= 1"),
        ("TrimmedMean(trim=1.5)", "expected an integer >= 0"),
        ("ExcessMTL(warmup=0)", "expected an integer >= 1"),
        ("DBMTL(beta=1)", "expected a finite number >= 0 and < 1"),
        ("Smoothed(alpha=1)", "expected a finite number >= 0 and < 1"),
    ],
)
def test_wrong_spelling(spelling, message):
    with pytest.raises(AccordError, match=message):
        parse(spelling)
