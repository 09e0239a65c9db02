"""Mixtures of experts against their formulas, written out example by example, and in the limits where they coincide."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from accord.architectures import (
    CGC,
    GRU,
    MLP,
    PLE,
    Bottleneck,
    Conv,
    DSelectK,
    Form,
    HardSharing,
    MMoE,
    per_token,
    vector,
)
from accord.architectures.dselect_k import Selectors, smooth_step
from accord.architectures.glance import Glance, mix
from accord.errors import AccordError

VECTOR = Form("vector", 5)
HEADS = {"a": vector(3), "b": vector(1)}


def model(architecture, encoder=None, inputs=VECTOR, heads=HEADS, seed=0):
    torch.manual_seed(seed)
    return architecture.build(encoder or MLP(width=6), inputs, heads).double()


def inputs(count=7):
    return torch.randn(count, 5, dtype=torch.float64)


def softmax(z):
    e = [math.exp(v) for v in z]
    return [v / sum(e) for v in e]


def close(found, expected):
    assert found.keys() == expected.keys()
    for task, y in found.items():
        torch.testing.assert_close(y, expected[task])


def gated(linear, seen, outputs):
    """The mixture of a softmax gate for one example."""
    weights = softmax((linear.weight @ seen + linear.bias).tolist())
    assert len(weights) == len(outputs)
    return sum(w * y for w, y in zip(weights, outputs, strict=True))


def test_mmoe_is_a_loop_over_experts():
    m, x = model(MMoE(experts=3)), inputs()
    for n, row in enumerate(x):
        outputs = [expert(row[None])[0] for expert in m.experts]
        for task, y in m(x).items():
            mixed = gated(m.gates[task][0], row, outputs)
            torch.testing.assert_close(y[n], m.heads[task].linear(mixed))


@pytest.mark.parametrize(
    ("encoder", "form", "shape"),
    [
        (Conv(channels=2, layers=2), Form("map", 3, (12, 16)), (2, 3, 12, 16)),
        (Bottleneck(width=3), Form("map", 3, (12, 16)), (2, 3, 12, 16)),
        (GRU(width=4, embedding=3), Form("tokens", 9, (6,)), (2, 6)),
    ],
)
def test_mmoe_mixes_features_of_every_form(encoder, form, shape):
    heads = {"a": vector(2)} | ({"b": per_token(2)} if form.kind == "tokens" else {})
    m = model(MMoE(experts=2), encoder, form, heads)
    tokens = form.kind == "tokens"
    x = torch.randint(1, 9, shape) if tokens else torch.randn(shape, dtype=torch.float64)
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2]) if tokens else None
    seen = m.glance(x, valid)
    outputs = [expert(x, valid) for expert in m.experts]
    for task, y in m(x, valid).items():
        mixed = torch.stack([gated(m.gates[task][0], seen[n], [o[n] for o in outputs]) for n in range(2)])
        torch.testing.assert_close(y, m.heads[task](mixed, valid))


def test_the_glance_at_a_map_is_a_grid_of_means():
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    found = Glance(Form("map", 3, (8, 12)))(x).view(2, 3, 4, 4)
    for n, c, i, j in itertools.product(range(2), range(3), range(4), range(4)):
        torch.testing.assert_close(found[n, c, i, j], x[n, c, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean())


def test_the_glance_at_tokens_is_a_mean_over_valid_ones():
    glance = Glance(Form("tokens", 9, (5,)))
    x, valid = torch.tensor([[4, 2, 8, 0, 0]]), torch.tensor([[True, True, True, False, False]])
    table = glance.embedding.weight
    torch.testing.assert_close(glance(x, valid)[0], (table[4] + table[2] + table[8]) / 3)


def test_the_glance_at_other_inputs_has_no_parameters():
    x, valid = torch.randn(1, 3, 2), torch.tensor([[True, True, False]])
    torch.testing.assert_close(Glance(Form("sequence", 2, (3,)))(x, valid), x[:, :2].mean(1))
    row = inputs()
    assert torch.equal(Glance(VECTOR)(row), row)
    assert not list(Glance(VECTOR).parameters())


def test_groups_of_experts_are_mixed_as_one():
    weights, outputs = torch.rand(4, 5), torch.randn(4, 5, 2, 3)
    expected = torch.stack([sum(w * y for w, y in zip(weights[n], outputs[n], strict=True)) for n in range(4)])
    torch.testing.assert_close(mix(weights, outputs), expected)
    torch.testing.assert_close(mix(weights, outputs[:, :1], outputs[:, 1:4], outputs[:, 4:]), expected)


def test_one_expert_is_hard_sharing():
    m, hard, x = model(MMoE(experts=1)), model(HardSharing(), seed=1), inputs()
    hard.encoder.load_state_dict(m.experts[0].state_dict())
    hard.heads.load_state_dict(m.heads.state_dict())
    close(m(x), hard(x))


def test_without_experts_of_their_own_cgc_is_mmoe():
    x = inputs()
    close(model(CGC(shared=3, specific=0))(x), model(MMoE(experts=3))(x))


def test_ple_with_one_level_is_cgc():
    x = inputs()
    close(model(PLE(shared=2, specific=2, levels=1))(x), model(CGC(shared=2, specific=2))(x))


def test_cgc_is_a_loop_over_experts():
    m, x = model(CGC(shared=2, specific=1)), inputs()
    for task, y in m(x).items():
        for n, row in enumerate(x):
            outputs = [expert(row[None])[0] for expert in [*m.common, *m.own[task]]]
            mixed = gated(m.gates[0][task][0], row, outputs)
            torch.testing.assert_close(y[n], m.heads[task].linear(mixed))


@pytest.mark.parametrize(("specific", "levels"), [(1, 2), (2, 3), (0, 2)])
def test_ple_is_a_loop_over_levels_and_experts(specific, levels):
    spec = PLE(shared=2, specific=specific, levels=levels)
    m, x = model(spec, MLP(width=6, layers=3)), inputs(3)
    groups = {2: [(0, 1), (2,)], 3: [(0,), (1,), (2,)]}[levels]
    for n, row in enumerate(x):
        h = {"a": row, "b": row, None: row}
        for level, group in enumerate(groups):
            outputs = {None: [], "a": [], "b": []}
            for name, experts in [(None, m.common), ("a", m.own["a"]), ("b", m.own["b"])]:
                for expert in experts:
                    y = h[name]
                    for index in group:
                        y = expert.stages[index](y)
                    outputs[name].append(y)
            after = {t: gated(m.gates[level][t][0], h[t], outputs[None] + outputs[t]) for t in ("a", "b")}
            if level < levels - 1:
                after[None] = gated(m.joint[level][0], h[None], outputs[None] + outputs["a"] + outputs["b"])
            h = after
        for task, y in m(x).items():
            torch.testing.assert_close(y[n], m.heads[task].linear(h[task]))


def test_stages_are_cut_into_even_levels():
    for levels, expected in [(1, [[0, 1, 2, 3, 4]]), (2, [[0, 1, 2], [3, 4]]), (3, [[0, 1], [2, 3], [4]])]:
        m = model(PLE(levels=levels), MLP(width=2, layers=5))
        assert [list(group) for group in m.groups] == expected


def step(z):
    return 0.0 if z <= -0.5 else 1.0 if z >= 0.5 else -2 * z**3 + 1.5 * z + 0.5


def selection(gate, seen):
    """For one example: each selector's probabilities of the experts, and the weights of the selectors."""
    experts, digits = gate.codes.shape

    def affine(linear):
        return (linear.weight @ seen + (0 if linear.bias is None else linear.bias)).tolist()

    z, k = affine(gate.places), gate.shares.out_features
    r = [
        [
            math.prod(step(z[i * digits + b]) if e >> b & 1 else 1 - step(z[i * digits + b]) for b in range(digits))
            for e in range(experts)
        ]
        for i in range(k)
    ]
    return r, softmax(affine(gate.shares))


def excited(m, seed=3):
    """With larger gates, so that selectors differ and some are exactly 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in m.gates.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.4)
    return m


@pytest.mark.parametrize("static", [False, True])
def test_dselect_k_is_its_formula(static):
    m, x = excited(model(DSelectK(experts=8, k=3, static=static))), inputs()
    entropies = m.regulariser(x)
    for task, y in m(x).items():
        gate, total = m.gates[task], 0.0
        for n, row in enumerate(x):
            r, shares = selection(gate, torch.ones(1, dtype=torch.float64) if static else row)
            q = [sum(share * ri[e] for share, ri in zip(shares, r, strict=True)) for e in range(8)]
            assert math.isclose(sum(q), 1)
            mixed = sum(w * expert(row[None])[0] for w, expert in zip(q, m.experts, strict=True))
            torch.testing.assert_close(y[n], m.heads[task].linear(mixed))
            total -= sum(p * math.log(p) for ri in r for p in ri if p > 0)
        assert math.isclose(
            entropies[task].item(), total / len(x), abs_tol=1e-4
        )  # a small number is under the logarithm


def test_static_gates_look_at_nothing():
    m = model(DSelectK(static=True), GRU(width=4, embedding=3), Form("tokens", 9, (6,)))
    assert "glance" not in {name.split(".")[0] for name, _ in m.named_parameters()}
    one, two = m.glance(torch.zeros(2, 6)), m.glance(torch.ones(2, 6))
    assert torch.equal(one, two)


def test_at_most_k_experts_are_kept_once_selectors_are_sure():
    gate = Selectors(3, 8, 2, bias=True).double()
    with torch.no_grad():
        gate.places.weight.zero_()
        gate.places.bias.copy_(torch.tensor([0.6, -0.5, 2.0, -0.7, 0.5, -9.0]))  # codes 101 and 010, digit 0 first
    q = gate(inputs(4)[:, :3])
    assert q[:, [0, 1, 3, 4, 6, 7]].eq(0).all()
    assert q[:, [5, 2]].gt(0).all()
    assert gate.entropy(inputs(4)[:, :3]).abs() < 1e-5


def test_gates_start_undecided():
    m, x = model(DSelectK(experts=8, k=3)), inputs()
    for entropy in m.regulariser(x).values():
        assert 0.99 * 3 * math.log(8) < entropy <= 3 * math.log(8)


def test_the_regulariser_reaches_gates_alone_and_stays_finite():
    m, x = excited(model(DSelectK(experts=4, k=2)), seed=0), inputs()
    with torch.no_grad():
        m.gates["a"].places.bias.fill_(5)  # every selector is sure: p log p has an infinite slope at 0
    sum(m.regulariser(x).values()).backward()
    for name, p in m.named_parameters():
        reached = name.startswith("gates.") and ".places." in name
        assert (p.grad is not None) == reached, name
        assert not reached or p.grad.isfinite().all()


def test_the_entropy_drives_selectors_to_single_experts():
    torch.manual_seed(0)
    gate, seen = Selectors(1, 4, 2, bias=False), torch.ones(1, 1)
    optimizer = torch.optim.SGD(gate.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        gate.entropy(seen).backward()
        optimizer.step()
    assert gate.selected(seen).max(-1).values.gt(0.999).all()


def test_the_smooth_step_is_differentiable():
    z = torch.tensor([-1.0, -0.5, -0.3, 0.0, 0.2, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    y = smooth_step(z)
    assert y.tolist() == pytest.approx([step(v) for v in z.tolist()])
    y.sum().backward()
    assert z.grad.tolist() == pytest.approx([0, 0, 1.5 - 6 * 0.09, 1.5, 1.5 - 6 * 0.04, 0, 0])


def test_numbers_of_experts_between_powers_of_2_are_refused():
    for experts in (3, 5, 12):
        with pytest.raises(AccordError, match=f"experts={experts}, expected a power of 2"):
            DSelectK(experts=experts)
