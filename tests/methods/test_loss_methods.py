"""Loss weightings and scalarisations: weights against autograd of the objective, limits, windows, refusals."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import accord
from accord.errors import AccordError
from accord.methods import COSMOS, DWA, FAMO, IMTL, IMTLL, PBI, STCH, Context, GradNorm, InverseNorm, Weighting, parse

import inputs


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def history(steps: int, k: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(k, generator=generator, dtype=torch.float64).exp() for _ in range(steps)]


def context(*active: int, total: int) -> Context:
    return Context(np.array(active), total, torch.Generator())


def gradient(objective, losses: Tensor) -> Tensor:
    losses = losses.clone().requires_grad_()
    objective(losses).backward()
    return losses.grad


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm() * b.norm())


def distance(losses: Tensor, ray: Tensor, theta: float) -> Tensor:
    unit = ray / ray.norm()
    along = losses @ unit
    return along + theta * ((losses - along * unit).square().sum() + 1e-12).sqrt()


RAY, LOW = (3.0, 1.0, 2.0), (0.5, -1.0, 0.25)
OBJECTIVES = {
    "GLS()": lambda x: x.prod() ** (1 / 3),
    "IMTLL(init=-0.3)": lambda x: (math.exp(-0.3) * x + 0.3).sum(),
    "STCH()": lambda x: x.log().sum(),
    "STCH(mode='bare')": lambda x: (x / 3).exp().sum().log(),
    f"STCH(mode='bare', mu=0.4, pref={RAY}, ideal={LOW})": lambda x: (
        0.4 * torch.logsumexp(vector(*RAY) * (x - vector(*LOW)) / 0.4, 0)
    ),
    f"PBI(weights={RAY})": lambda x: distance(x, vector(*RAY), 5.0),
    f"PBI(weights={RAY}, theta=0.7, ideal={LOW})": lambda x: distance(x - vector(*LOW), vector(*RAY), 0.7),
    f"COSMOS(ratio={RAY})": lambda x: vector(*RAY) @ x - 2 * cosine(vector(*RAY), x),
    f"COSMOS(ratio={RAY}, penalty=8.0)": lambda x: vector(*RAY) @ x - 8 * cosine(vector(*RAY), x),
}


@pytest.mark.parametrize("spelling", list(OBJECTIVES))
@settings(max_examples=40, deadline=None)
@given(losses=st.lists(st.floats(0.05, 20.0), min_size=3, max_size=3))
def test_weights_are_the_gradient_of_the_objective(spelling, losses):
    losses = vector(*losses)
    expected = gradient(OBJECTIVES[spelling], losses)
    # next to the ray the two cancel differently before they are divided by 1e-6
    tolerance = 1e-6 if spelling.startswith("PBI") else 1e-9
    assert torch.allclose(parse(spelling)(losses=losses), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("spelling", "build"),
    [
        ("GLS()", lambda peer: peer.GeometricMean()),
        ("IMTLL(init=0.0)", lambda peer: peer.IMTLL(3)),
        ("STCH(mode='bare', mu=0.1)", lambda peer: peer.STCH(0.1)),
        (f"PBI(weights={RAY}, theta=2.0)", lambda peer: peer.PBI(2.0, vector(*RAY))),
        (f"COSMOS(ratio={RAY}, penalty=3.0)", lambda peer: peer.COSMOS(3.0, vector(*RAY))),
    ],
)
def test_torchjd(spelling, build):
    import torchjd.scalarization as peer

    for losses in history(5, 3):
        assert torch.allclose(parse(spelling)(losses=losses), gradient(build(peer).double(), losses), rtol=1e-6)


# IMTL-L and the hybrid


def test_imtll_is_twice_uncertainty_weighting_at_minus_s():
    """At any s; and along a training, as Adam does not see the factor two, up to its 1e-8."""
    losses = history(1, 3)[0]
    assert torch.equal(
        parse("IMTLL(init=0.7)")(losses=losses), 2 * parse("UncertaintyWeighting(init=-0.7)")(losses=losses)
    )
    ours, other = parse("IMTLL(lr=0.05)"), parse("UncertaintyWeighting(lr=0.05)")
    for losses in history(50, 3):
        assert torch.allclose(ours(losses=losses), 2 * other(losses=losses), rtol=1e-6)


def test_imtll_learns_like_torch():
    method, s = IMTLL(init=0.0, lr=0.05), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.05)
    for losses in history(30, 3):
        assert torch.allclose(method(losses=losses), s.exp().detach(), rtol=1e-9)
        optimizer.zero_grad()
        (s.exp() * losses - s).sum().backward()
        optimizer.step()


def test_imtll_first_loss_without_logarithm():
    method = IMTLL()
    assert method(losses=vector(-1.0, 2.0)).tolist() == [1.0, 0.5]
    (event,) = method.take_events()
    assert event.kind == "scale"
    assert "starts at s=0" in event.message


def paper_imtl(rows: Tensor, s: Tensor) -> Tensor:
    """Algorithm 1 with its differences D and U, on the gradients of the scaled losses."""
    scaled = s.exp()[:, None] * rows
    units = scaled / scaled.norm(dim=1, keepdim=True)
    differences, turned = scaled[0] - scaled[1:], units[0] - units[1:]
    others = scaled[0] @ turned.T @ torch.linalg.inv(differences @ turned.T)
    return torch.cat([1 - others.sum()[None], others]) @ scaled


def test_imtl_by_the_paper_with_vectors():
    method, s = IMTL(init=0.0, lr=0.05), torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.05)
    for step, losses in enumerate(history(20, 4)):
        rows = inputs.gaussian(4, step)
        found = method(rows @ rows.T, losses) @ rows
        assert torch.allclose(found, paper_imtl(rows, s.detach()), rtol=1e-8, atol=1e-10)
        optimizer.zero_grad()
        (s.exp() * losses - s).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("k", [2, 3, 6])
def test_imtl_has_the_direction_of_imtlg_in_all_units(k):
    rows, units = inputs.conflicting(k, 0), vector(*(10.0 ** torch.arange(k)).tolist())
    losses = history(1, k)[0]
    d = parse("IMTL")(rows @ rows.T, losses) @ rows
    other = units[:, None] * rows
    assert torch.allclose(parse("IMTL")(other @ other.T, units * losses) @ other, d, rtol=1e-6)
    plain = parse("IMTLG")(rows @ rows.T) @ rows
    assert torch.allclose(d / d.norm(), plain / plain.norm(), rtol=1e-8)


def test_imtl_says_where_it_is_stationary():
    rows = inputs.strongly_stationary(2, 0)
    method = IMTL()
    assert method(rows @ rows.T, vector(1.0, 2.0)).tolist() == [0.0, 0.0]
    (event,) = method.take_events()
    assert event.kind == "stationary"
    assert event.message.startswith("IMTL(")


# GLS, STCH


def test_gls_keeps_its_range_and_has_the_geometric_mean_as_weighted_losses():
    losses = vector(*10.0 ** np.linspace(-12, -8, 40))  # the product is 1e-400
    weighted = parse("GLS")(losses=losses) * losses
    assert torch.allclose(weighted, torch.full_like(losses, 1e-10 / 40))


@pytest.mark.parametrize("pref", [None, (1.0, 2.0, 0.5)])
def test_stch_tends_to_the_weighted_maximum(pref):
    losses = vector(3.0, 2.0, 5.0)
    weights = vector(*(pref or [1 / 3] * 3))
    found = STCH(mode="bare", mu=1e-3, pref=pref)(losses=losses)
    worst = int((weights * losses).argmax())
    assert torch.allclose(found, torch.nn.functional.one_hot(torch.tensor(worst), 3) * weights)


@pytest.mark.parametrize("mu", [1e-6, 1.0, 1e6])
def test_stch_is_finite_for_large_losses(mu):
    found = STCH(mode="bare", mu=mu)(losses=vector(1e6, 1e8, -1e8))
    assert torch.isfinite(found).all()
    assert float(found.sum()) == pytest.approx(1 / 3)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_stch_after_its_warm_up(by_epoch):
    """The nadir is the mean of the third window; from then on K μ log Σ exp(log(L/nadir)/μ), and nothing moves."""
    method = STCH(mu=0.5, warmup=2, window="epoch" if by_epoch else 4)
    steps = history(24, 3)
    nadir = torch.stack(steps[8:12]).mean(0)
    for i, losses in enumerate(steps):
        found = method(losses=losses)
        expected = gradient(
            lambda x, i=i: x.log().sum() if i < 12 else 3 * 0.5 * torch.logsumexp((x / nadir).log() / 0.5, 0), losses
        )
        assert torch.allclose(found, expected, rtol=1e-9)
        if i % 4 == 3:
            method.epoch()  # means nothing where windows are counted in steps


def test_stch_nadir_of_a_task_that_comes_later():
    method = STCH(warmup=0, window=1)
    method.solve(None, np.array([4.0]), context(0, total=1))
    found = method.solve(None, np.array([2.0, 3.0]), context(0, 1, total=2))  # L/nadir = (1/2, 1)
    assert found.tolist() == pytest.approx([2 * (1 / 3) / 2, 2 * (2 / 3) / 3])
    found = method.solve(None, np.array([2.0, 6.0]), context(0, 1, total=2))  # (1/2, 2)
    assert found.tolist() == pytest.approx([2 * (1 / 5) / 2, 2 * (4 / 5) / 6])


# PBI, COSMOS


def test_pbi_and_cosmos_without_penalty_are_linear():
    for losses in history(5, 3):
        assert torch.allclose(PBI(weights=RAY, theta=0.0)(losses=losses), vector(*RAY) / vector(*RAY).norm())
        assert torch.equal(COSMOS(ratio=RAY, penalty=0.0)(losses=losses), vector(*RAY))


@pytest.mark.parametrize("method", [PBI(weights=RAY), COSMOS(ratio=RAY)])
def test_the_penalty_vanishes_on_the_ray(method):
    weights = method(losses=0.1 * vector(*RAY))
    assert torch.allclose(weights / weights.norm(), vector(*RAY) / vector(*RAY).norm(), atol=1e-6)


@given(
    ray=st.lists(st.floats(0.1, 1.0), min_size=2, max_size=6),
    seed=st.integers(0, 1000),
    theta=st.floats(0.0, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_pbi_without_negative_weights_for_small_theta(ray, seed, theta):
    unit = vector(*ray) / vector(*ray).norm()
    method = PBI(weights=ray, theta=theta * float(unit.min()))
    assert float(method(losses=history(1, len(ray), seed)[0]).min()) >= -1e-12
    assert float(PBI(weights=(1.0, 1.0))(losses=vector(1.0, 2.0))[0]) < 0  # but at θ = 5


@pytest.mark.parametrize("spelling", ["PBI(weights={})", "COSMOS(ratio={})"])
def test_permuting_tasks_permutes_weights(spelling):
    order = [2, 0, 3, 1]
    ray, losses = (1.0, 2.0, 3.0, 4.0), history(1, 4)[0]
    found = parse(spelling.format(tuple(ray[i] for i in order)))(losses=losses[order])
    assert torch.allclose(found, parse(spelling.format(ray))(losses=losses)[order], rtol=1e-12)


@pytest.mark.parametrize("method", [PBI(weights=(1.0, 0.0)), COSMOS(ratio=(1.0, 0.0))])
def test_no_angle_no_nan(method):
    """Losses of zero; and a step whose only task has preference 0."""
    assert torch.isfinite(method(losses=vector(0.0, 0.0))).all()
    assert method.solve(None, np.array([0.0]), context(1, total=2)).tolist() == [0.0]
    assert np.isfinite(method.solve(None, np.array([3.0]), context(1, total=2))).all()


def test_cosmos_ratio_between_steps():
    method = COSMOS(ratio=(0.5, 0.5))
    start = repr(method)
    method.ratio = torch.tensor([0.25, 0.75])
    assert torch.equal(method(losses=vector(1.0, 2.0)), COSMOS(ratio=(0.25, 0.75))(losses=vector(1.0, 2.0)))
    assert repr(method) == start  # a run that is resumed must find itself
    again = COSMOS(ratio=(0.5, 0.5))
    again.load_state_dict(method.state_dict())
    assert tuple(again.ratio) == (0.25, 0.75)
    method.ratio = (-1.0, 2.0)
    with pytest.raises(AccordError, match="expected numbers >= 0"):
        method(losses=vector(1.0, 2.0))


# GradNorm


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_gradnorm_with_autograd(alpha):
    """The paper's L1 objective with its target held constant, plain gradient descent, sum K."""
    method, w = GradNorm(alpha=alpha, lr=0.002), torch.ones(3, dtype=torch.float64)
    steps = history(40, 3)
    for i, losses in enumerate(steps):
        rows = inputs.gaussian(3, i) * vector(0.3, 1.0, 2.0)[:, None]
        assert torch.allclose(method(rows @ rows.T, losses), w, rtol=1e-9)
        w.requires_grad_()
        lengths = (w[:, None] * rows).norm(dim=1)
        rates = losses / steps[0]
        target = (lengths.mean() * (rates / rates.mean()) ** alpha).detach()
        (change,) = torch.autograd.grad((lengths - target).abs().sum(), w)
        w = (w.detach() - 0.002 * change).clamp(min=1e-3)
        w = 3 * w / w.sum()


def test_gradnorm_favours_what_lags_behind():
    """The paper's sign: equal gradients, the second loss has not fallen, so its weight grows."""
    method, gramian = GradNorm(), torch.eye(2, dtype=torch.float64)
    assert method(gramian, vector(1.0, 1.0)).tolist() == [1.0, 1.0]
    method(gramian, vector(0.5, 1.0))
    weights = method(gramian, vector(0.5, 1.0))
    assert weights[0] < 1 < weights[1]
    assert float(weights.sum()) == pytest.approx(2.0)


def test_gradnorm_equal_gradients_stay_equal():
    """Norms that have reached their targets do not move, whatever the rounding of the mean says."""
    method, gramian = GradNorm(lr=1.0), 0.01 * torch.eye(7, dtype=torch.float64)
    for _ in range(5):
        assert method(gramian, torch.full((7,), 0.3, dtype=torch.float64)).tolist() == pytest.approx([1.0] * 7)


@pytest.mark.parametrize(
    "steps", [[(0.0, 1.0)] * 4, [(0.0, 0.0)] * 3, [(0.0, 1.0), (2.0, 1.0), (1.0, 0.0), (0.0, 0.0)]]
)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_gradnorm_with_losses_of_zero(steps, size):
    method, gramian = GradNorm(), torch.diag(vector(size, 1.0)) ** 2
    for losses in steps:
        weights = method(gramian, vector(*losses))
        assert torch.isfinite(weights).all()
        assert float(weights.min()) > 0
        assert float(weights.sum()) == pytest.approx(2.0)


def test_gradnorm_on_the_last_shared_layer():
    """``shared=`` restricts the norms; the weights hold for the whole trunk."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"trunk": torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))}
        | {name: torch.nn.Linear(3, 1) for name in "ab"}
    )
    x = torch.randn(8, 4)
    method = GradNorm(lr=0.1)
    balancer = accord.Balancer(model, method, shared=["trunk.2"])
    norms = []
    for factor in (1.0, 0.5):
        z = model["trunk"](x)
        losses = {"a": model["a"](z).square().mean(), "b": factor * (model["b"](z) - 1).square().mean()}
        last = list(model["trunk"][2].parameters())
        norms.append(
            [
                math.sqrt(sum(float(g.square().sum()) for g in torch.autograd.grad(loss, last, retain_graph=True)))
                for loss in losses.values()
            ]
        )
        step = balancer.backward(losses)
    first = np.array(norms[0])
    expected = 1 - 0.1 * np.sign(first - first.mean()) * first
    assert step.weights.tolist() == pytest.approx((2 * expected / expected.sum()).tolist(), rel=1e-5)


# windows and epochs


@pytest.mark.parametrize("count", [1, 3])
def test_dwa_epochs_are_windows(count):
    """Epochs of so many steps each, told by the hook, are windows of so many steps."""
    by_steps, by_epoch = DWA(window=count), DWA(window="epoch")
    for i, losses in enumerate(history(4 * count, 3)):
        assert torch.equal(by_steps(losses=losses), by_epoch(losses=losses))
        by_steps.epoch()  # means nothing there
        if i % count == count - 1:
            by_epoch.epoch()


def test_dwa_epochs_of_unequal_length():
    method, epochs = DWA(window="epoch", temperature=0.5), [history(n, 2, n) for n in (3, 5, 2)]
    for epoch in epochs[:2]:
        for losses in epoch:
            assert method(losses=losses).tolist() == [1.0, 1.0]
        method.epoch()
        method.epoch()  # an epoch without steps is none
    means = [torch.stack(epoch).mean(0) for epoch in epochs]
    expected = 2 * torch.softmax(means[1] / means[0] / 0.5, 0)
    for losses in epochs[2]:
        assert torch.allclose(method(losses=losses), expected, rtol=1e-12)


def test_epoch_is_for_every_method():
    for cls in accord.METHODS:
        assert callable(cls.epoch)
    parse("UPGrad").epoch()


@pytest.mark.parametrize(
    "spelling",
    [
        "DWA(window='epoch')",
        "STCH(window='epoch', warmup=1)",
        "STCH(window=3, warmup=1)",
        "STCH(mode='bare')",
        "FAMO(amortized=True)",
        "InverseNorm(form='jaxpi', refresh=3)",
        "GradNorm(alpha=0.5)",
        "COSMOS(ratio=(1.0, 2.0))",
    ],
)
def test_state_round_trip_in_the_middle(spelling):
    """As in the conformance tests, for other configurations and in the middle of a window."""

    def go(method: Weighting, steps: range) -> list[Tensor]:
        outputs = []
        for step in steps:
            rows = inputs.conflicting(2, step)
            outputs.append(method(rows @ rows.T, history(1, 2, step)[0]))
            if step % 5 == 4:
                method.epoch()
        return outputs

    expected, first = go(parse(spelling), range(24)), parse(spelling)
    outputs = go(first, range(12))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    go(first, range(3))  # what is saved is a copy
    file.seek(0)
    second = parse(spelling)
    second.load_state_dict(torch.load(file, weights_only=True))
    outputs += go(second, range(12, 24))
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))


# FAMO, InverseNorm


def test_famo_amortized_takes_the_next_losses():
    """The same as plain FAMO that is told the next step's losses as those after the step."""
    plain, amortized, steps = FAMO(lr=0.1, decay=0.01), FAMO(lr=0.1, decay=0.01, amortized=True), history(20, 3)
    for now, after in zip(steps, [*steps[1:], steps[0]], strict=True):
        assert torch.equal(plain(losses=now), amortized(losses=now))
        plain.after_step(after.numpy(), context(0, 1, 2, total=3))


def test_famo_amortized_learns_from_tasks_in_both_steps_only():
    method = FAMO(amortized=True)
    method.solve(None, np.array([1.0, 2.0]), context(0, 1, total=2))
    before = copy.deepcopy(method.state_dict())
    method.solve(None, np.array([1.0]), context(2, total=3))  # nobody to compare with
    assert torch.equal(method.state_dict()["logit"], torch.cat([before["logit"], torch.zeros(1)]))
    assert method.solve(None, np.array([1.0, 1.0]), context(0, 2, total=3)).sum() == pytest.approx(1.0)


def test_famo_amortized_needs_no_losses_after():
    assert FAMO.needs_losses_after
    assert FAMO().needs_losses_after
    method = parse("FAMO(amortized=True)")
    assert not method.needs_losses_after
    with pytest.raises(TypeError, match="does not learn from the losses after the step"):
        method.after_step(np.ones(2), context(0, 1, total=2))
    model = torch.nn.Linear(2, 2)
    balancer = accord.Balancer(model, method)
    for _ in range(3):
        out = model(torch.eye(2)).square().mean(0)
        assert balancer.backward({"a": out[0], "b": out[1]}).events == ()
    with pytest.raises(AccordError, match="leave after_step out"):
        balancer.after_step({"a": out[0], "b": out[1]})


def test_inverse_norm_in_the_form_of_jaxpi():
    """By hand: mean(n)/n_i smoothed from 1 on, every second step, without rescaling."""
    method = InverseNorm(form="jaxpi", refresh=2)
    first, second = torch.diag(vector(1.0, 9.0)), torch.diag(vector(16.0, 1.0))
    start = [0.9 + 0.1 * 2 / 1, 0.9 + 0.1 * 2 / 3]
    assert method(first).tolist() == pytest.approx(start)
    assert method(second).tolist() == pytest.approx(start)
    assert method(second).tolist() == pytest.approx([0.9 * start[0] + 0.1 * 2.5 / 4, 0.9 * start[1] + 0.1 * 2.5 / 1])


@pytest.mark.parametrize("k", [2, 5])
def test_inverse_norm_forms_agree_up_to_a_factor(k):
    """The one has the harmonic mean of the norms over n_i, the other their arithmetic mean, which is not less."""
    rows = inputs.unequal(1e3)(k, 0)
    ours, jaxpi = (InverseNorm(ema=0.0, form=form)(rows @ rows.T) for form in ("normalised", "jaxpi"))
    factor = jaxpi / ours
    assert torch.allclose(factor, factor.mean().expand(k), rtol=1e-9)
    assert float(factor[0]) >= 1
    assert torch.allclose(InverseNorm(ema=0.0, form="jaxpi")(torch.eye(k).double()), torch.ones(k).double())


def test_inverse_norm_of_a_task_that_appears_between_updates():
    method = InverseNorm(refresh=10)
    method.solve(np.diag([1.0, 9.0]), None, context(0, 1, total=2))
    weights = method.solve(np.diag([1.0, 9.0, 9.0]), None, context(0, 1, 2, total=3))
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(3.0)


# refusals

SPELLINGS = [
    ("DWA(window='epochs')", "window='epochs', expected one of 'epoch'. Did you mean 'epoch'?"),
    ("STCH(window=0)", "window=0, expected an integer >= 1."),
    ("STCH(warmup=-1)", "expected an integer >= 0."),
    ("STCH(mode='mlt')", "Did you mean 'mtl'?"),
    ("STCH(mu=0)", "mu=0, expected a finite number > 0."),
    ("STCH(pref=(1, 2))", "pref=(1, 2) has no meaning in mode='mtl'; leave it out."),
    ("STCH(mode='bare', pref=(1, 0))", "expected positive preferences"),
    ("PBI", "PBI needs the argument 'weights'"),
    ("PBI(weights=(0, 0))", "expected numbers >= 0 that are not all 0"),
    ("PBI(weights=(1, 1), theta=-1)", "theta=-1, expected a finite number >= 0."),
    ("COSMOS", "COSMOS needs the argument 'ratio'"),
    ("COSMOS(ratio=(-1, 2))", "expected numbers >= 0 that are not all 0"),
    ("GradNorm(alpha=-1)", "alpha=-1, expected a finite number >= 0."),
    ("IMTLL(init='zero')", "IMTLL: init='zero', expected 'log' or a number."),
    ("IMTL(init='zero')", "IMTL: init='zero', expected 'log' or a number."),
    ("IMTL(lr=-1)", "IMTL: lr=-1, expected a finite number >= 0."),
    ("FAMO(amortized=1)", "amortized=1, expected True or False."),
    ("InverseNorm(form='jax')", "expected one of 'normalised', 'jaxpi'."),
    ("InverseNorm(refresh=0)", "refresh=0, expected an integer >= 1."),
]


@pytest.mark.parametrize(("text", "message"), SPELLINGS)
def test_wrong_spelling(text, message):
    with pytest.raises(AccordError) as error:
        parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


LOSSES = [
    ("GLS()", vector(1.0, 0.0), "takes logarithms, but a loss is 0; expected losses > 0"),
    ("GLS()", vector(1.0, -2.0), "takes logarithms, but a loss is -2; expected losses > 0"),
    ("STCH()", vector(1.0, 0.0), "takes logarithms, but a loss is 0; expected losses > 0"),
    ("FAMO(amortized=True)", vector(1.0, -2.0), "takes logarithms, but a loss is -2; expected losses >= 0"),
    ("GradNorm()", vector(1.0, -2.0), "compares every loss with its first, but a loss is -2; expected losses >= 0"),
    ("PBI(weights=(1, 2, 3))", vector(1.0, 2.0), "weights has 3 entries, but there are 2 tasks"),
    ("COSMOS(ratio=(1, 2, 3))", vector(1.0, 2.0), "ratio has 3 entries, but there are 2 tasks"),
    *((f"{name}", None, "reads the losses") for name in ("IMTLL()", "IMTL()", "GLS()", "STCH()", "GradNorm()")),
    ("STCH(mode='bare')", None, "reads the losses"),
]


@pytest.mark.parametrize(("spelling", "losses", "message"), LOSSES)
def test_wrong_losses(spelling, losses, message):
    with pytest.raises(AccordError) as error:
        parse(spelling)(torch.eye(2, dtype=torch.float64), losses)
    assert message in str(error.value)
