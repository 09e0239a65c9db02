"""Rules that read the tasks' gradients, each against the plainest loop over scalars; and the evidence itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.models import HardSharing, Hierarchy
from torch import Tensor, nn
from torch.nn.utils import parametrize

from accord.errors import AccordError
from accord.sparse import FISH, GPS, RULES, ConflictFree, SignAgreement, collect, parse_rule, select
from accord.sparse.evidence import STATISTICS
from accord.sparse.placed import Placed
from accord.sparse.rule import Target
from accord.sparse.rules import PSN
from accord.sparse.scores import best_places
from accord.sparse.selection import Rows

TASKS = ("t0", "t1", "t2")
WEIGHTS = ("trunk.0.weight", "trunk.3.weight", "trunk.6.weight")
DATA_RULES = [rule for rule in RULES if rule.needs_evidence]


def model(seed: int = 0, **options: str) -> HardSharing:
    torch.manual_seed(seed)
    return HardSharing(3, **options).double()


def batches(count: int = 4, size: int = 6) -> list[Tensor]:
    source = torch.Generator().manual_seed(7)
    return [torch.randn(size, 5, generator=source, dtype=torch.float64) for _ in range(count)]


def seen(net: HardSharing, xs: list[Tensor]):
    """The losses, batch by batch."""
    return (net.losses(x) for x in xs)


def gradients(net: nn.Module, xs: list[Tensor]) -> list[dict[str, dict[str, list[float]]]]:
    """``[batch][task][weight]`` as flat lists of numbers: one backward pass of PyTorch's own each."""
    named = dict(net.named_parameters())
    table = []
    for x in xs:
        table.append({})
        for task, loss in net.losses(x).items():
            found = torch.autograd.grad(loss, [named[w] for w in WEIGHTS], retain_graph=True)
            table[-1][task] = {w: g.reshape(-1).tolist() for w, g in zip(WEIGHTS, found, strict=True)}
    return table


def best(scores: list[float], weights: list[float], keep: int) -> list[int]:
    """The places of the best scores; of equal ones the largest weights, then the first."""
    order = sorted(range(len(scores)), key=lambda p: (-scores[p], -abs(weights[p]), p))
    return sorted(order[:keep])


def by_row(scores: dict[str, list[float]], net: nn.Module, keep: int) -> dict[str, list[list[int]]]:
    found = {}
    for w in WEIGHTS:
        weight = net.get_parameter(w).detach()
        out, fan_in = weight.shape
        flat = weight.reshape(-1).tolist()
        found[w] = [
            best(scores[w][r * fan_in : (r + 1) * fan_in], flat[r * fan_in : (r + 1) * fan_in], min(keep, fan_in))
            for r in range(out)
        ]
    return found


def chosen(mask) -> dict[str, list[list[int]]]:
    return {w: mask.selections[w].index.tolist() for w in WEIGHTS}


def over_tasks(net: nn.Module, each) -> dict[str, list[float]]:
    """Each task's score over its mean in all weights, then the mean over tasks; ``each(task, weight, place)``."""
    sizes = {w: net.get_parameter(w).numel() for w in WEIGHTS}
    total = {w: [0.0] * sizes[w] for w in WEIGHTS}
    for task in TASKS:
        own = {w: [each(task, w, p) for p in range(sizes[w])] for w in WEIGHTS}
        mean = sum(sum(values) for values in own.values()) / sum(sizes.values())
        for w in WEIGHTS:
            total[w] = [t + o / mean / len(TASKS) for t, o in zip(total[w], own[w], strict=True)]
    return total


@pytest.mark.parametrize("absolute", [False, True])
def test_gps_is_the_largest_accumulated_gradient_of_each_row(absolute):
    net, xs = model(), batches()
    table = gradients(net, xs)

    def each(task, w, p):
        numbers = [b[task][w][p] for b in table]
        return sum(map(abs, numbers)) if absolute else abs(sum(numbers))

    mask = select(net, GPS(k=3, absolute=absolute), heads="heads", losses=seen(net, xs))
    assert chosen(mask) == by_row(over_tasks(net, each), net, 3)


def test_fish_is_the_largest_fisher_information_of_all_weights():
    net, xs = model(), batches(count=9, size=1)  # single samples: exact
    table = gradients(net, xs)
    scores = over_tasks(net, lambda task, w, p: sum(b[task][w][p] ** 2 for b in table) / len(table))
    mask = select(net, FISH(k=3), heads="heads", losses=seen(net, xs))
    joined = [(w, p) for w in WEIGHTS for p in range(len(scores[w]))]
    total = 3 * (8 + 8 + 6)
    best_first = sorted(joined, key=lambda at: -scores[at[0]][at[1]])[:total]
    found = {(w, p) for w in WEIGHTS for p in mask.selections[w].places(mask.shapes[w]).tolist()}
    assert found == set(best_first)
    assert len(found) == total


def test_sign_agreement_is_magnitude_times_agreement():
    net, xs = model(), batches()
    table = gradients(net, xs)
    scores = {}
    for w in WEIGHTS:
        weight = net.get_parameter(w).reshape(-1).tolist()
        agreement = [
            sum(abs(sum((b[t][w][p] > 0) - (b[t][w][p] < 0) for t in TASKS)) / 3 for b in table) / len(table)
            for p in range(len(weight))
        ]
        scores[w] = [abs(v) * a for v, a in zip(weight, agreement, strict=True)]
    mask = select(net, SignAgreement(k=3), heads="heads", losses=seen(net, xs))
    assert chosen(mask) == by_row(scores, net, 3)


@pytest.mark.parametrize("by", ["magnitude", "product"])
@pytest.mark.parametrize("unit", [True, False])
def test_conflict_free_leaves_out_where_tasks_pull_apart(by, unit):
    net, xs = model(), batches()
    table = gradients(net, xs)
    scores = {w: [0.0] * net.get_parameter(w).numel() for w in WEIGHTS}
    for batch in table:
        norm = {t: sum(g * g for w in WEIGHTS for g in batch[t][w]) ** 0.5 if unit else 1.0 for t in TASKS}
        for w in WEIGHTS:
            for p in range(len(scores[w])):
                scores[w][p] += sum(
                    batch[i][w][p] * batch[j][w][p] / norm[i] / norm[j] for i, j in itertools.combinations(TASKS, 2)
                )
    if by == "magnitude":
        scores = {w: [min(0.0, s) for s in values] for w, values in scores.items()}
    mask = select(net, ConflictFree(k=3, by=by, unit=unit), heads="heads", losses=seen(net, xs))
    assert chosen(mask) == by_row(scores, net, 3)


def test_conflict_free_raises_the_cosines_of_what_is_trained():
    net, xs = model(), batches(1, 32)
    (table,) = gradients(net, xs)

    def cosines(mask) -> float:
        rows = {t: [table[t][w][p] for w in WEIGHTS for p in mask.selections[w].places(mask.shapes[w])] for t in TASKS}
        vectors = {t: torch.tensor(rows[t], dtype=torch.float64) for t in TASKS}
        pairs = itertools.combinations(TASKS, 2)
        return sum(float(torch.cosine_similarity(vectors[i], vectors[j], 0)) for i, j in pairs)

    free = select(net, ConflictFree(k=2), heads="heads", losses=seen(net, xs))
    assert cosines(free) > cosines(select(net, PSN(k=2), heads="heads")) + 0.5


@pytest.mark.parametrize("rule", DATA_RULES, ids=lambda rule: rule.name)
def test_data_rules_keep_the_budget_and_repeat_themselves(rule):
    net, xs = model(), batches()
    first = select(net, rule(density=0.4), heads="heads", losses=seen(net, xs))
    again = select(net, repr(rule(density=0.4)), heads="heads", losses=seen(net, xs), seed=5)
    turned = select(net, rule(density=0.4), heads="heads", losses=seen(net, xs[::-1]))
    assert first.hash == again.hash == turned.hash
    assert first.selected == select(net, PSN(density=0.4), heads="heads").selected


@pytest.mark.parametrize("rule", DATA_RULES, ids=lambda rule: rule.name)
def test_data_rules_without_any_say_fall_back_on_magnitude(rule):
    """Equal scores everywhere: dead units, a tensor that no task reaches."""
    weight = torch.tensor([[0.1, -5.0, 2.0, 2.0], [1.0, 1.0, 1.0, 9.0]])
    net = _Dead(weight)
    evidence = collect(net, [net.losses()], ["dead", "alive"], rule(k=2).statistics)
    targets = [Target("dead", weight, 2, evidence=evidence["dead"])]
    found = rule(k=2).choose(targets, torch.Generator())["dead"]
    places = found if isinstance(found, Tensor) else found.places(weight.shape)
    expected = [[1, 2], [0, 3]] if isinstance(found, Tensor) else [1, 2, 3, 7]
    assert places.tolist() == expected


class _Dead(nn.Module):
    """Of two weights, one is never used."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.dead, self.alive = nn.Parameter(weight.clone()), nn.Parameter(torch.ones(2, 4))

    def losses(self) -> dict[str, Tensor]:
        return {"a": self.alive.sum(), "b": self.alive.square().sum()}


def test_fish_repeats_a_large_choice_of_python():
    source = torch.Generator().manual_seed(3)
    shapes = [(30, 40), (10, 7), (5, 200)]
    scores = [torch.randint(0, 4, shape, generator=source).float() for shape in shapes]  # many ties
    weights = [torch.randint(-3, 4, shape, generator=source).float() for shape in shapes]
    flat = [(-s, -abs(w)) for a, b in zip(scores, weights, strict=True)
            for s, w in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)]  # fmt: skip
    for total in (1, 700, 2269, 2270):
        best_first = sorted(sorted(range(len(flat)), key=lambda p: (*flat[p], p))[:total])
        found, start = [], 0
        for part, shape in zip(best_places(scores, weights, total), shapes, strict=True):
            found += [start + int(p) for p in part.index]
            start += shape[0] * shape[1]
        assert found == best_first


@pytest.mark.parametrize("statistic", STATISTICS)
def test_each_statistic_is_its_formula(statistic):
    net, xs = model(), batches(2)
    table = gradients(net, xs)
    evidence = collect(net, seen(net, xs), WEIGHTS, [statistic])
    for w in WEIGHTS:
        mean = evidence[w].mean(statistic).flatten(1)
        for p in range(0, mean.shape[1], 7):
            by_hand = [[b[t][w][p] for t in TASKS] for b in table]
            norms = [[sum(g * g for v in WEIGHTS for g in b[t][v]) ** 0.5 for t in TASKS] for b in table]
            unit = [[g / n for g, n in zip(*both, strict=True)] for both in zip(by_hand, norms, strict=True)]

            def pairs(rows):
                return [sum(a * b for a, b in itertools.combinations(row, 2)) for row in rows]

            expected = {
                "gradient": [sum(c) / 2 for c in zip(*by_hand, strict=True)],
                "magnitude": [sum(map(abs, c)) / 2 for c in zip(*by_hand, strict=True)],
                "square": [sum(g * g for g in c) / 2 for c in zip(*by_hand, strict=True)],
                "agreement": [sum(abs(sum((g > 0) - (g < 0) for g in row)) / 3 for row in by_hand) / 2],
                "product": [sum(pairs(by_hand)) / 2],
                "unit product": [sum(pairs(unit)) / 2],
            }[statistic]
            assert mean[:, p].tolist() == pytest.approx(expected, abs=1e-14)


def test_partly_shared_tied_frozen_and_unused_weights_have_evidence():
    torch.manual_seed(0)
    net = Hierarchy().double()
    xs = batches()
    names = ["embed", "low.weight", "high.weight", "unused.weight", "a.weight", "frozen.weight"]
    evidence = collect(net, (net.losses(x) for x in xs), names, ["magnitude"])
    reached = {n: evidence[n].mean("magnitude").flatten(1).sum(1).gt(0).tolist() for n in names}
    assert reached == {
        "embed": [True, True, True],
        "low.weight": [True, True, True],
        "high.weight": [False, True, True],
        "unused.weight": [False] * 3,
        "a.weight": [True, False, False],
        "frozen.weight": [False] * 3,
    }
    loss = sum(net.losses(x)["tied"] for x in xs[:1])
    (whole,) = torch.autograd.grad(loss, [net.embed])
    one = collect(net, [net.losses(xs[0])], ["embed"], ["gradient"])["embed"]
    torch.testing.assert_close(one.of("tied").mean("gradient")[0], whole)


def test_collecting_leaves_no_trace():
    net = model(norm="batch").train()
    net.trunk.insert(2, nn.Dropout(0.3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    select(net, GPS(k=2), heads="heads", losses=seen(net, batches()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_whole_budgets_need_no_evidence():
    net = model()
    assert select(net, GPS(density=1.0), heads="heads", losses=[]).density == 1.0


def test_losses_are_taken_one_batch_at_a_time():
    net, alive = model(), []

    def lazily():
        for x in batches():
            alive.append("made")
            losses = net.losses(x)
            yield losses
            # The graph is gone by now: nobody can run it again.
            with pytest.raises(RuntimeError, match="second time"):
                next(iter(losses.values())).backward()
            alive.append("freed")

    collect(net, lazily(), WEIGHTS, ["square"])
    assert alive == ["made", "freed"] * 4


def test_weights_already_placed_count_whole():
    """Dynamic re-selection asks again during sparse training."""
    net, xs = model(), batches()
    whole = collect(net, seen(net, xs), WEIGHTS[:1], ["gradient"])[WEIGHTS[0]]
    layer = net.trunk[0]
    placed = Placed(layer.weight.requires_grad_(False), Rows(torch.tensor([[0, 3]] * 8)))
    parametrize.register_parametrization(layer, "weight", placed, unsafe=True)
    again = collect(net, seen(net, xs), WEIGHTS[:1], ["gradient"])[WEIGHTS[0]]
    torch.testing.assert_close(again.mean("gradient"), whole.mean("gradient"))
    assert not layer.parametrizations.weight.original.requires_grad
    with pytest.raises(AccordError, match="make losses= a generator"):
        collect(net, [net.losses(xs[0])], WEIGHTS[:1], ["gradient"])


def test_what_is_wrong_is_said():
    net, xs = model(), batches(2)
    rule = GPS(k=2)
    with pytest.raises(AccordError, match="losses="):
        select(net, rule, heads="heads")
    with pytest.raises(AccordError, match=r"one batch.*\[losses\]"):
        select(net, rule, heads="heads", losses=net.losses(xs[0]))
    with pytest.raises(AccordError, match="empty"):
        select(net, rule, heads="heads", losses=[])
    others = [net.losses(xs[0]), {"t0": net.losses(xs[1])["t0"]}]
    with pytest.raises(AccordError, match="batch 1 has the tasks"):
        select(net, rule, heads="heads", losses=others)
    broken = net.losses(xs[0])
    broken["t1"] = broken["t1"] * torch.inf
    with pytest.raises(AccordError, match=r"gradient of t1 in batch 0 is not finite"):
        select(net, rule, heads="heads", losses=[broken])
    with pytest.raises(AccordError, match="no parameter 'trunk.0.wait'.*trunk.0.weight"):
        collect(net, seen(net, xs), ["trunk.0.wait"], ["square"])
    with pytest.raises(AccordError, match="two tasks|compares tasks"):
        select(net, ConflictFree(k=2), heads="heads", losses=({"t0": net.losses(x)["t0"]} for x in xs))
    with pytest.raises(AccordError, match="magnitude"):
        parse_rule("ConflictFree(k=2, by='magnitud')")
    evidence = collect(net, seen(net, xs), WEIGHTS, ["square"])
    with pytest.raises(AccordError, match="no task 't7'"):
        evidence[WEIGHTS[0]].of("t7")
    with pytest.raises(AccordError, match="no 'gradient'"):
        evidence[WEIGHTS[0]].mean("gradient")
    net.trunk.requires_grad_(False)
    outside = ({"a": (net.trunk(x) * net.heads[0].weight.sum()).sum()} for x in xs)
    with pytest.raises(AccordError, match="no loss reaches any"):
        collect(net, outside, WEIGHTS, ["square"])


def test_one_task_by_itself_is_the_rule_of_that_task():
    """``Evidence.of`` and losses of one task say the same."""
    net, xs = model(), batches()
    alone = collect(net, ({"t1": net.losses(x)["t1"]} for x in xs), WEIGHTS, ["square"])
    among = collect(net, seen(net, xs), WEIGHTS, ["square"])
    for w in WEIGHTS:
        torch.testing.assert_close(alone[w].mean("square"), among[w].of("t1").mean("square"))
