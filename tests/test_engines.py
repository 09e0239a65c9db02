"""Engines against the explicit Jacobian: Gramians, blocks, combinations, memory."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

from accord import inner
from accord.blocks import Blocks
from accord.engines import Features, Segmented, Stacked
from accord.engines import segmented as seg
from accord.engines.sketch import SIZE, Sketch
from accord.errors import AccordError
from accord.sharing import discover, frontier

from models import HardSharing, Hierarchy, Recurrent, Residual
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
MODELS = [HardSharing, Hierarchy, Residual, Recurrent]
WEIGHTS = [0.3, 1.7, -0.2]


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * max(1e-30, float(b.abs().max())))


@pytest.mark.parametrize("engine", [Stacked, Segmented])
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("granularity", ["total", "module", "tensor"])
def test_gramians_are_those_of_the_explicit_jacobian_and_add_up(engine, make, granularity):
    model = make().double()
    losses = model.losses(X.double())
    want = oracle.gramian(model, losses)
    got = engine(model, discover(model, losses), list(losses.values()), granularity)
    close(got.gramians.sum(0), want)
    assert len(got.gramians) == len(got.blocks.names)


@pytest.mark.parametrize("granularity", ["module", "tensor"])
@pytest.mark.parametrize("make", MODELS)
def test_blocks_of_both_exact_engines_agree(make, granularity):
    model = make().double()
    losses = model.losses(X.double())
    first = Stacked(model, discover(model, losses), list(losses.values()), granularity, retain_graph=True)
    second = Segmented(model, discover(model, losses), list(losses.values()), granularity)
    assert first.blocks == second.blocks
    close(second.gramians, first.gramians)


@pytest.mark.parametrize(
    ("engine", "make"),
    [(e, m) for e in (Stacked, Segmented, Features) for m in MODELS if (e, m) != (Features, Hierarchy)],
)
def test_combination_is_the_weighted_sum_of_explicit_gradients(engine, make):
    model = make().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    sharing = discover(model, losses)
    weights = WEIGHTS[: len(losses)]
    combined = engine(model, sharing, list(losses.values())).combine(weights)
    want = dict(
        zip(
            [p for p in model.parameters() if p.requires_grad],
            oracle.expected(rows, dict(zip(losses, weights, strict=True)), "plain"),
            strict=True,
        )
    )
    for p, g in zip(sharing.shared, combined, strict=True):
        close(g, want[p])


@pytest.mark.parametrize("engine", [Stacked, Segmented, Features])
def test_heads_get_their_own_gradient(engine):
    model = HardSharing().double()
    losses = model.losses(X.double())
    rows = oracle.gradients(model, losses)
    parameters = [p for p in model.parameters() if p.requires_grad]
    got = engine(model, sharing := discover(model, losses), list(losses.values()))
    for own, gradients, row in zip(sharing.heads, got.heads, rows.values(), strict=True):
        for p, g in zip(own, gradients, strict=True):
            close(g, row[[p is q for q in parameters].index(True)])


def test_feature_gramian_is_that_of_the_gradients_at_the_representation():
    model = HardSharing().double()
    z = model.trunk(X.double())
    losses = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    rows = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in losses.values()])
    close(Features(model, discover(model, losses), list(losses.values())).gramians[0], rows @ rows.T)


def test_features_refuses_heads_on_two_levels():
    model = Hierarchy()
    losses = model.losses(X)
    with pytest.raises(AccordError, match="no clean cut"):
        Features(model, discover(model, losses), list(losses.values()))


@pytest.mark.parametrize("engine", [Stacked, Segmented, Features])
def test_a_task_without_weight_may_be_nan(engine):
    model = HardSharing()
    losses = model.losses(X)
    losses["t1"] = losses["t1"] * torch.nan
    got = engine(model, discover(model, losses), list(losses.values()))
    combined = got.combine([1.0, None, 1.0])
    assert all(g.isfinite().all() for g in combined)
    assert not got.gramians.sum(0)[1].isfinite().any()
    assert got.gramians.sum(0)[0, 2].isfinite()


def test_a_residual_net_is_cut_after_every_block():
    model = Residual(depth=6)
    sharing = discover(model, model.losses(X))
    found = seg.segments(sharing, frontier(sharing))
    owners = [{p for p, q in enumerate(sharing.shared) if p in s.parameters} for s in found]
    assert sum(map(len, owners)) == len(sharing.shared)
    assert max(sum(sharing.shared[p].numel() for p in s.parameters) for s in found) <= 8 * 12 * 2 + 20
    assert found[-1].end is None
    assert all(s.end is not None for s in found[:-1])


def test_small_segments_are_merged_up_to_the_largest():
    model = nn.Sequential(nn.Linear(5, 50), nn.Tanh(), *(nn.Sequential(nn.Linear(50, 50 if i else 5), nn.Tanh())
                          for i in (1, 1, 0)), nn.Linear(5, 3))  # fmt: skip
    z = model(X)
    losses = {"a": z[:, 0].sum(), "b": z[:, 1].sum()}
    sharing = discover(model, losses)
    merged = seg.merge(seg.segments(sharing, frontier(sharing)), sharing)
    sizes = [sum(sharing.shared[p].numel() for p in s.parameters) for s in merged]
    assert sum(sizes) == sharing.size
    assert max(sizes) == 50 * 50 + 50


def test_without_a_cut_groups_stay_below_their_share():
    widths = [nn.Linear(32, 32) for _ in range(16)]
    model = nn.ModuleList(widths)
    z, total = torch.randn(4, 32), 0.0
    for layer in widths:
        z = layer(z).tanh()
        total = total + z.mean()  # a head on every level
    losses = {"a": total, "b": z.square().mean() + total.square()}
    sharing = discover(model, losses)
    groups = seg.split(list(reversed(range(len(sharing.shared)))), sharing)
    sizes = [sum(sharing.shared[p].numel() for p in g) for g in groups]
    assert sum(sizes) == sharing.size
    assert max(sizes) <= sharing.size // seg.SHARE
    want = oracle.gramian(model, losses)
    close(Segmented(model, sharing, list(losses.values())).gramians.sum(0), want, rtol=1e-5)


def test_sketches_estimate_inner_products_without_bias():
    """Mean over seeds meets the truth; the spread is what the docstring says."""
    v, u = torch.randn(20_000), torch.randn(20_000)
    u += 0.05 * v
    estimates = []
    for seed in range(200):
        sketch = Sketch(Blocks(("a", "b"), (0, 1)), [15_000, 5_000], 2, v.device, seed)
        sketch.add(0, [v[:15_000], None])
        sketch.add(1, [v[15_000:], u[15_000:]])
        estimates.append(sketch.inner([u[:15_000], u[15_000:]]))
    estimates = torch.stack(estimates)  # (seeds, B, K)
    want = torch.tensor([[v[:15_000] @ u[:15_000], 0.0], [v[15_000:] @ u[15_000:], u[15_000:] @ u[15_000:]]]).double()
    scale = torch.tensor(
        [[v[:15_000].norm() * u[:15_000].norm(), 1.0], [v[15_000:].norm() * u[15_000:].norm(), u[15_000:].norm() ** 2]]
    ).double()
    error = (estimates - want) / scale
    assert error.mean(0).abs().max() < 4 * (2 / SIZE) ** 0.5 / 200**0.5
    assert error.std(0).max() < 1.2 * (2 / SIZE) ** 0.5
    assert estimates[:, 0, 1].abs().max() == 0  # the second task does not reach the first parameter


@pytest.mark.parametrize("make", MODELS)
def test_a_segmented_probe_tells_what_a_vector_does_to_each_task(make):
    model = make().double()
    losses = model.losses(X.double())
    sharing = discover(model, losses)
    exact = Stacked(model, sharing, list(losses.values()), "module", retain_graph=True, probe=True)
    rough = Segmented(model, discover(model, losses), list(losses.values()), "module", probe=True)
    vectors = [torch.randn_like(p) for p in sharing.shared]
    want, got = (
        exact.inner(vectors),
        rough.inner(vectors),
    )  # blocks below k entries do not collide: exact up to rounding
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 4095), (3, 4096), (4, 4097), (9, 70_001), (40, 9_000)])
def test_inner_products_are_exact_to_float32_rounding_of_short_sums(k, n):
    rows = torch.randn(k, n) * torch.logspace(-3, 3, k)[:, None]
    want = rows.double() @ rows.double().T
    scale = want.diagonal().sqrt().outer(want.diagonal().sqrt())
    assert ((inner.gramian(list(rows)) - want).abs() / scale).max() < 2e-7
    assert ((inner.dots(list(rows), rows[0]) - want[0]).abs() / scale[0]).max() < 1e-12


def test_one_float32_product_would_not_do():
    rows = torch.rand(2, 10_000_000) + 1  # all of one sign: the worst case for a running float32 sum
    want = rows.double() @ rows.double().T
    assert ((inner.gramian(list(rows)) - want).abs() / want).max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    rows = torch.randn(3, 5000).to(dtype)
    close(inner.gramian(list(rows)), rows.double() @ rows.double().T, rtol=1e-5)


@pytest.mark.parametrize("engine", [Stacked, Segmented, Features])
def test_the_graph_is_freed_by_the_last_pass(engine):
    model = HardSharing()
    z = model.trunk(X)
    losses = [head(z).square().mean() for head in model.heads]
    pass_ = engine(model, discover(model, dict(zip("abc", losses, strict=True))), losses)
    pass_.combine([1.0, 1.0, 1.0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(z.sum(), model.trunk[0].weight)


@pytest.mark.parametrize("engine", [Stacked, Segmented, Features])
def test_nothing_stays_alive_after_a_pass(engine):
    model = HardSharing()

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    def once() -> None:
        losses = model.losses(X)
        engine(model, discover(model, losses), list(losses.values())).combine([1.0, 1.0, 1.0])

    once()
    before = tensors()
    once()
    assert tensors() == before
