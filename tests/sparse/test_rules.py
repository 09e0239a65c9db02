"""Laws of every selection rule, and each rule without data against an obvious second implementation."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from accord.errors import AccordError
from accord.sparse import (
    PSN,
    RULES,
    Blocks,
    Columns,
    GlobalMagnitude,
    RandomBlock,
    RandomNeuron,
    Smallest,
    Target,
    count,
    parse_rule,
    select,
)  # fmt: skip
from accord.sparse import selection as forms
from accord.sparse.mask import count as size_of
from accord.sparse.top import top_columns, top_places

SPELLED = {rule: rule() if rule.name == "BitFit" else rule(density=0.4) for rule in RULES}
SCALE_FREE = {"PSN", "Smallest", "GlobalMagnitude", "Columns", "Blocks", "RandomNeuron", "RandomBlock", "BitFit"}


def model() -> nn.Module:
    """Two blocks, matrices of unequal width, one convolution."""
    block = lambda: nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12))  # noqa: E731
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.Flatten(), nn.ModuleList([block(), block()]), nn.Linear(12, 2))


def evidence(net: nn.Module):
    """Two batches of two losses that reach everything."""
    for batch in (1.0, 2.0):
        yield {
            "up": sum((p * p).sum() for p in net.parameters()) * batch,
            "down": sum((p - batch).pow(4).sum() for p in net.parameters()),
        }


def chosen(net: nn.Module, rule, **options):
    losses = evidence(net) if rule.needs_evidence else None
    return select(net, rule, heads="3", losses=losses, **options)


def bits(net: nn.Module, mask) -> dict[str, torch.Tensor]:
    """The mask as booleans in the shape of each weight."""
    found = {}
    for name, shape in mask.shapes.items():
        full = torch.full((shape.numel(),), name in mask.whole)
        if name in mask.selections:
            full[mask.selections[name].places(shape)] = True
        found[name] = full.view(shape)
    return found


@pytest.mark.parametrize("rule", SPELLED.values(), ids=repr)
class TestEveryRule:
    def test_places_are_inside_ascending_and_once(self, rule):
        net = model()
        mask = chosen(net, rule)
        parts = [*mask.selections, *mask.whole, *mask.frozen, *mask.heads]
        assert sorted(parts) == sorted(name for name, _ in net.named_parameters())
        for name, found in mask.selections.items():
            fan_in = mask.shapes[name].numel() // mask.shapes[name][0]
            index = found.index.long()
            assert found.index.dtype == torch.int16
            assert index.min() >= 0
            assert index.max() < (mask.shapes[name].numel() if isinstance(found, forms.Flat) else fan_in)
            assert (index.diff(dim=-1) > 0).all()
            assert len(found.places(mask.shapes[name]).unique()) == size_of(found, mask.shapes[name])

    def test_the_budget_is_kept(self, rule):
        net = model()
        mask = chosen(net, rule)
        assert mask.trainable == count(net, rule, heads="3").trainable
        if rule.trains_weights and not rule.everywhere:
            for name, found in mask.selections.items():
                rows = bits(net, mask)[name].flatten(1).sum(1)
                fan_in = mask.shapes[name].numel() // mask.shapes[name][0]
                assert (rows == rows[0]).all()
                assert rows[0] <= round(0.4 * fan_in), found

    def test_the_same_seed_gives_the_same_mask_and_the_model_is_left_alone(self, rule):
        net = model()
        before = copy.deepcopy(net.state_dict())
        state = torch.get_rng_state()
        first, again = chosen(net, rule, seed=3), chosen(net, rule, seed=3)
        assert first.hash == again.hash
        assert first.origin == again.origin
        assert torch.equal(torch.get_rng_state(), state)
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        other = chosen(net, rule, seed=4)
        assert (other.hash != first.hash) == (rule.name in ("RandomNeuron", "RandomBlock"))

    def test_spelling_round_trip(self, rule):
        assert parse_rule(repr(rule)) == rule
        assert select(model(), repr(rule), heads="3").rule == repr(rule) if not rule.needs_evidence else True

    def test_scale_does_not_matter_where_it_should_not(self, rule):
        if rule.name not in SCALE_FREE:
            pytest.skip("reads gradients, which scale in their own way")
        net = model()
        first = chosen(net, rule)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(-4)  # a power of two: exact
        assert chosen(net, rule).hash == first.hash

    def test_each_k_of_the_budget_adds_places(self, rule):
        if not rule.trains_weights:
            pytest.skip("has no budget")
        net = model()
        few, many = (chosen(net, type(rule)(density=d)) for d in (0.3, 0.7))
        assert few.selected < many.selected


@pytest.mark.parametrize("kind", [rule for rule in RULES if rule.trains_weights], ids=lambda rule: rule.name)
def test_density_one_trains_everything(kind):
    net = model()
    mask = chosen(net, kind(density=1.0))
    assert (mask.selections, mask.frozen, mask.density) == ({}, (), 1.0)


@pytest.mark.parametrize("kind", [rule for rule in RULES if rule.trains_weights], ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"k": 0}, "k=0 trains nothing"),
        ({"k": -3}, "k=-3 trains nothing"),
        ({"k": 2.5}, "no whole number"),
        ({"k": True}, "no whole number"),
        ({"density": 0}, "outside"),
        ({"density": 1.5}, "outside"),
        ({"density": float("nan")}, "no number"),
        ({"density": "half"}, "no number"),
        ({"k": 3, "density": 0.5}, "two budgets"),
        ({"layers": {"x": 0}}, r"layers\['x'\]=0"),
        ({"layers": [3]}, "no mapping"),
    ],
)
def test_wrong_budgets(kind, arguments, match):
    with pytest.raises(AccordError, match=match):
        kind(**arguments)


def test_wrong_names_and_budgets_that_do_not_fit():
    net = model()
    with pytest.raises(AccordError, match="rule 'PNS' is unknown. Did you mean 'PSN'"):
        select(net, "PNS(k=3)")
    with pytest.raises(AccordError, match="PSN has no argument 'kk'. Did you mean 'k'"):
        select(net, "PSN(kk=3)")
    with pytest.raises(AccordError, match=r"k=28 is above every fan-in \(the largest is 27\).*density=1.0"):
        select(net, PSN(k=28))
    with pytest.raises(AccordError, match="k=13 is above every fan-in"):
        select(net, PSN(k=5, layers={"2.0.0": 13}))
    with pytest.raises(AccordError, match="layers: '2.0.7' matches no parameter"):
        select(net, PSN(k=5, layers={"2.0.7": 3}))
    with pytest.raises(AccordError, match="side=0"):
        Blocks(side=0)
    with pytest.raises(AccordError, match="group=0"):
        Columns(group=0)
    assert select(net, PSN(k=27)).density == 1.0  # of every row exactly all: it may be asked for


def test_budgets_by_layer():
    net = model()
    mask = select(net, PSN(k=4, layers={"2.0": 0.5, "2.*.weight": 3}), heads="3")
    kept = {name: found.index.shape[1] for name, found in mask.selections.items()}
    assert kept == {"0.weight": 4, "2.0.0.weight": 6, "2.0.2.weight": 10, "2.1.0.weight": 3, "2.1.2.weight": 3}


def by_hand(scores: list[float], keep: int) -> list[int]:
    """Places of the largest, of equal ones the first: Python's sort is stable."""
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:keep])


values = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 1e-30, -3e38])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_top_columns_and_places_against_python(data):
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    matrix = data.draw(st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    weights = torch.tensor(matrix, dtype=dtype)
    keep = data.draw(st.integers(1, columns))
    magnitudes = weights.abs().double().tolist()
    assert top_columns(weights, keep, magnitude=True).tolist() == [by_hand(row, keep) for row in magnitudes]
    assert top_columns(weights, keep).tolist() == [by_hand(row, keep) for row in weights.double().tolist()]
    low = [by_hand([-m for m in row], keep) for row in magnitudes]
    assert top_columns(weights, keep, magnitude=True, smallest=True).tolist() == low
    total = data.draw(st.integers(0, rows * columns))
    cut = data.draw(st.integers(0, rows))
    found = top_places([weights[:cut], weights[cut:]], total, magnitude=True)
    flat = [*found[0].tolist(), *(found[1] + cut * columns).tolist()]
    assert flat == by_hand([m for row in magnitudes for m in row], total)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ties_of_low_precision_are_those_of_its_exact_float32_copy(dtype):
    weights = torch.randn(300, 768).to(dtype)
    low = top_columns(weights, 300, magnitude=True)
    wide = weights.float().abs().sort(dim=1, descending=True, stable=True).indices[:, :300].sort(dim=1).values
    assert torch.equal(low, wide)
    ordered = weights.float().abs().sort(dim=1, descending=True).values
    assert (ordered[:, 299] == ordered[:, 300]).float().mean() > (0.5 if dtype == torch.bfloat16 else 0.05)


def test_large_tensors_are_cut_into_chunks_that_change_nothing(monkeypatch):
    weights = [torch.randn(40, 30).mul(4).round(), torch.randn(7, 30).mul(4).round()]  # many ties
    whole = top_columns(weights[0], 11, magnitude=True), top_places(weights, 500, magnitude=True)
    monkeypatch.setattr("accord.sparse.top.CHUNK", 100)
    assert torch.equal(top_columns(weights[0], 11, magnitude=True), whole[0])
    for a, b in zip(top_places(weights, 500, magnitude=True), whole[1], strict=True):
        assert torch.equal(a, b)


def draw(rule, *targets):
    return rule.choose(targets, torch.Generator().manual_seed(0))


def test_smallest_is_the_other_end():
    weights = torch.randn(5, 9)
    large, small = (draw(rule, Target("w", weights, keep=k))["w"] for rule, k in ((PSN(), 4), (Smallest(), 5)))
    for row in range(5):
        assert sorted(large[row].tolist() + small[row].tolist()) == list(range(9))


def test_global_magnitude_is_one_sort_over_everything():
    net = model()
    mask = select(net, GlobalMagnitude(density=0.2), heads="3")
    weights = {name: p.detach() for name, p in net.named_parameters() if p.ndim > 1 and not name.startswith("3")}
    scored = [(-abs(v), name, i) for name, w in weights.items() for i, v in enumerate(w.reshape(-1).tolist())]
    total = sum(len(w) * round(0.2 * w[0].numel()) for w in weights.values())
    expected = {(name, i) for _, name, i in sorted(scored)[:total]}
    got = {(name, i) for name, s in mask.selections.items() for i in s.places(mask.shapes[name]).tolist()}
    assert got == expected


def test_random_rules_are_uniform():
    """Each place is drawn as often as any other, within five standard errors."""
    target, generator = Target("w", torch.zeros(50, 8), keep=3, block="b"), torch.Generator().manual_seed(0)
    rows, places = torch.zeros(8), torch.zeros(400)
    for _ in range(100):
        rows += RandomNeuron().choose([target], generator)["w"].reshape(-1).bincount(minlength=8)
        places[RandomBlock().choose([target], generator)["w"].index.long()] += 1
    spread = (3 / 8 * 5 / 8) ** 0.5
    assert ((rows / 5_000 - 3 / 8).abs() < 5 * spread / 5_000**0.5).all()
    assert ((places / 100 - 3 / 8).abs() < 5 * spread / 100**0.5).all()


def test_random_block_gives_equal_blocks_equal_counts():
    net = model()
    mask = select(net, RandomBlock(k=4), heads="3")
    held = {block: sum(s.index.numel() for n, s in mask.selections.items() if n.startswith(block)) for block in
            ("2.0", "2.1", "0")}  # fmt: skip
    assert held == {"2.0": 32 * 4, "2.1": 32 * 4, "0": 12 * 4}


@pytest.mark.parametrize("group", [None, 1, 3, 5, 100])
def test_columns_share_inputs_in_each_group(group):
    weights = torch.randn(10, 7)
    found = draw(Columns(group=group), Target("w", weights, keep=3))["w"]
    for row in range(10):
        size = min(10, group or 10)
        start = row // size * size
        sums = weights[start : start + size].abs().double().sum(0).tolist()
        assert found.places(weights.shape).view(10, 3)[row].tolist() == [row * 7 + c for c in by_hand(sums, 3)]
    if group == 1:
        assert torch.equal(found.index.long(), draw(PSN(), Target("w", weights, keep=3))["w"])


@pytest.mark.parametrize(("side", "keep"), [(2, 4), (2, 5), (3, 3), (4, 3), (3, 7), (100, 6)])
def test_blocks_are_the_heaviest_tiles(side, keep):
    weights = torch.randn(7, 8)
    rule, target = Blocks(side=side), Target("w", weights, keep=keep)
    found = draw(rule, target)["w"].places(weights.shape)
    width = min(side, keep)
    expected = []
    for row in range(7):
        start = row // side * side
        tile = [weights[start : start + side, c : c + width].double().norm().item() for c in
                range(0, 8 - width + 1, width)]  # fmt: skip
        expected += [row * 8 + t * width + i for t in by_hand(tile, keep // width) for i in range(width)]
    assert found.tolist() == expected
    assert rule.size(target) == len(expected)
