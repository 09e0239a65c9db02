"""Methods that protect a task: A-GEM, GradCosine, Lexicographic; and GradOPS, which protects all from all."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.linalg.cone import onto_dual_cone
from accord.methods import AGEM, GradCosine, GradOPS, Lexicographic, UPGrad, Weighting, parse

import inputs
from laws import protects_first
from oracles import methods as slow

logging.getLogger("accord").setLevel(logging.ERROR)
SEEDS = range(8)


def direction(method: Weighting, rows: torch.Tensor) -> torch.Tensor:
    return method(rows @ rows.T) @ rows


def close(found: torch.Tensor, expected: object, rows: torch.Tensor, tolerance: float = 1e-9) -> bool:
    """Up to a share of the rows' size; directions with terms that cancel cannot be compared entry by entry."""
    return float((found - torch.as_tensor(expected)).norm()) <= tolerance * float(rows.norm())


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_on_vectors(k, label):
    """Without Gramian and coefficients, for every place of the main task."""
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        rows = rows[rows.norm(dim=1) > 0]
        for main in range(len(rows)):
            assert close(direction(AGEM(main=main), rows), slow.agem(rows.numpy(), main), rows)
            always = direction(AGEM(main=main, when="always"), rows)
            assert close(always, slow.agem(rows.numpy(), main, always=True), rows)
            for weighted in (True, False):
                expected = slow.grad_cosine(rows.numpy(), main, weighted)
                assert close(direction(GradCosine(main=main, weighted=weighted), rows), expected, rows)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_projections_by_enumeration(k, label):
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        unit = rows / rows.norm(dim=1, keepdim=True)  # enumeration does not survive a norm ratio of 1e6
        for ranks in (tuple(range(k)), tuple(range(k, 0, -1)), (1, *([0] * (k - 1))), tuple(i // 2 for i in range(k))):
            expected = slow.lexicographic(unit.numpy(), ranks)
            assert close(direction(Lexicographic(ranks=ranks), unit), expected, unit, 1e-6)
        assert close(direction(GradOPS(), unit), slow.gradops(unit.numpy()), unit, 1e-6)


@pytest.mark.parametrize("label", ["rank deficient", "opposite", "parallel", "strongly stationary"])
def test_gradops_of_dependent_rows(label):
    """Rows in the span of the others vanish if they are in conflict, and nothing else does."""
    for seed in SEEDS:
        rows = inputs.INPUTS[label](5, seed)
        assert close(direction(GradOPS(), rows), slow.gradops(rows.numpy()), rows, 1e-6)


@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_permuted_together_with_the_argument(label):
    for k in (2, 3, 5):
        rows = inputs.INPUTS[label](k, 0)
        order = torch.randperm(k, generator=torch.Generator().manual_seed(1)).tolist()
        ranks = tuple(i // 2 for i in range(k))
        pairs = [(Lexicographic(ranks=ranks), Lexicographic(ranks=[ranks[i] for i in order]))]
        for main in range(k - 1):  # the last row may be zero
            pairs += [(cls(main=main), cls(main=order.index(main))) for cls in (AGEM, GradCosine)]
        for method, permuted in pairs:
            assert close(direction(permuted, rows[order]), direction(method, rows), rows, 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_tasks(seed):
    """PCGrad is A-GEM in both directions at once; GradOPS is PCGrad; first in the order is main."""
    rows = inputs.unequal(1e3)(2, seed)
    gramian = rows @ rows.T
    first, second = AGEM(main=0)(gramian), AGEM(main=1)(gramian)
    pcgrad = torch.stack([first[0], second[1]])
    assert torch.allclose(pcgrad, parse("PCGrad")(gramian), rtol=1e-12)  # type: ignore[operator]
    assert torch.allclose(pcgrad, 2 * UPGrad()(gramian), rtol=1e-12)
    assert torch.allclose(pcgrad, GradOPS()(gramian), rtol=1e-8)
    assert torch.allclose(first, Lexicographic()(gramian), rtol=1e-8)
    assert torch.allclose(second, Lexicographic(ranks=(2, 1))(gramian), rtol=1e-8)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_always_projected_neither_helps_nor_harms(k, label):
    """``g_m·d = n_m²``, whatever the others want; where all of them conflict with it, it is the other form."""
    for seed in SEEDS:
        rows = inputs.INPUTS[label](k, seed)
        unit = rows / rows.norm(dim=1, keepdim=True)
        d = direction(AGEM(when="always"), unit)
        assert float(unit[0] @ d) == pytest.approx(1.0, abs=1e-9)
        pulled = torch.where((unit @ unit[0] > 0)[:, None], -unit, unit)  # all others against the main task
        pulled[0] = unit[0]
        assert close(direction(AGEM(when="always"), pulled), direction(AGEM(), pulled), pulled)
    helpful = inputs.agreeing(k, 0)
    assert float(helpful[0] @ direction(AGEM(), helpful)) > float(helpful[0] @ helpful[0])  # help is kept by default


@pytest.mark.parametrize("k", [2, 3, 9])
@pytest.mark.parametrize("label", list(inputs.FULL_RANK))
def test_one_before_all_others_is_agem(k, label):
    """On a half-space, the projection is that of A-GEM."""
    rows = inputs.INPUTS[label](k, 0)
    expected = direction(AGEM(), rows)
    assert close(direction(Lexicographic(ranks=(0, *([1] * (k - 1)))), rows), expected, rows, 1e-8)


@pytest.mark.parametrize("k", [2, 3, 9])
def test_the_last_of_all_is_gem(k):
    """The least important task adds its projection on the dual cone of the others to what they do without it."""
    for seed in SEEDS:
        rows = inputs.conflicting(k, seed)
        unit = rows / rows.norm(dim=1, keepdim=True)
        earlier = (unit @ unit.T).numpy()[:-1, :-1]
        # Its part outside their span is untouched, so the projection may be made inside the span.
        inside = np.linalg.solve(earlier, (unit[:-1] @ rows[-1]).numpy())
        projected = rows[-1] + torch.as_tensor(onto_dual_cone(earlier, inside).value - inside) @ unit[:-1]
        expected = rows[:-1].sum(0) + projected
        assert close(direction(Lexicographic(ranks=(*([0] * (k - 1)), 1)), rows), expected, rows, 1e-7)


def test_gem_of_the_mean_for_two():
    """Where the sum of two harms the main task, its projection is A-GEM's d without g_m: the step of that paper."""
    found = 0
    for seed in range(40):
        rows = inputs.unequal(10.0)(2, seed)
        if float(rows.sum(0) @ rows[0]) >= 0:
            continue
        found += 1
        norms = rows.norm(dim=1)
        cosines = (rows @ rows.T / norms[:, None] / norms).numpy()
        projected = torch.as_tensor(onto_dual_cone(cosines, norms.numpy()).value) / norms @ rows
        assert close(projected, direction(AGEM(), rows) - rows[0], rows, 1e-8)
    assert found > 5


def test_everybody_alike_is_the_sum():
    rows = inputs.conflicting(4, 0)
    assert Lexicographic(ranks=(1, 1, 1, 1))(rows @ rows.T).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("k", [2, 3, 9])
def test_without_conflict(k):
    """The sum, exactly; GradCosine counts agreeing tasks in full when unweighted, by their cosine otherwise."""
    rows = inputs.agreeing(k, 0)
    for method in (AGEM(main=1), Lexicographic(), GradOPS(), GradCosine(main=1, weighted=False)):
        assert method(rows @ rows.T).tolist() == [1.0] * k
    cosines = torch.nn.functional.cosine_similarity(rows, rows[:1])
    assert torch.allclose(GradCosine()(rows @ rows.T), cosines)


def test_one_after_the_other_protects_only_the_last():
    """Why the projection on a cone: made orthogonal to g_1 and then to g_2, g_3 works against g_1 again."""
    rows = torch.tensor([[1.0, 0.0], [-0.8, 0.6], [-0.6, -0.8]], dtype=torch.float64)
    left = rows[2] - (rows[2] @ rows[0]) * rows[0]
    left = left - min(float(left @ rows[1]), 0.0) * rows[1]
    assert float(left @ rows[0]) < -0.1
    ours = direction(Lexicographic(ranks=(0, 0, 1)), rows) - rows[:2].sum(0)
    assert float((rows[:2] @ ours).min()) >= -1e-9


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_protected_task_gains_as_if_alone(data):
    """``g_m·d ≥ n_m²`` for any main task, on degenerate rows of any size."""
    k = data.draw(st.integers(2, 5))
    entry = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)
    rows = torch.tensor(data.draw(st.lists(entry, min_size=k, max_size=k)), dtype=torch.float64)
    rows *= 10.0 ** torch.tensor(data.draw(st.lists(st.integers(-3, 3), min_size=k, max_size=k)))[:, None]
    main = data.draw(st.integers(0, k - 1))
    order = [main, *(i for i in range(k) if i != main)]
    for method in (AGEM(main=main), GradCosine(main=main), GradCosine(main=main, weighted=False)):
        d = direction(method, rows)
        assert float(rows[main] @ d) >= float(rows[main] @ rows[main]) * (1 - 1e-7)
    protects_first(Lexicographic(), rows[order])


def test_gradops_may_stop_where_a_common_direction_exists():
    """Four rows of a plane, each in conflict with another: all vanish, although (0, 1) serves everybody."""
    rows = torch.tensor([[3.0, 1.0], [2.0, 1.0], [-2.0, 1.0], [-3.0, 1.0]], dtype=torch.float64)
    method = GradOPS()
    assert method(rows @ rows.T).tolist() == [0.0] * 4
    (event,) = method.take_events()
    assert event.kind == "stationary"
    assert "every gradient lies in the span of the others" in event.message
    assert float((rows @ direction(UPGrad(), rows)).min()) > 0


def test_gradops_ignores_a_conflict_within_rounding():
    """A cosine of -1e-16 is no reason to lose the whole component along a third task."""
    rows = torch.tensor([[1.0, 0.0, 0.0], [-1e-16, 1.0, 0.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    assert GradOPS()(rows @ rows.T).tolist() == [1.0] * 3


@pytest.mark.parametrize("method", [AGEM(main=1), GradCosine(main=1), GradCosine(main=1, weighted=False)])
@pytest.mark.parametrize("entry", [0.0, float("nan")])
def test_without_the_main_task(method, entry):
    """Its gradient is zero or not finite: the others are added up, and the step says so."""
    rows = inputs.conflicting(3, 0)
    gramian = rows @ rows.T
    gramian[1], gramian[:, 1] = entry, entry
    assert method(gramian).tolist() == [1.0, 0.0, 1.0]
    (event,) = method.take_events()
    assert event.kind == "missing"
    assert "the main task has no gradient in this step; the others are added up" in event.message
    method(rows @ rows.T)
    assert method.take_events() == ()


@pytest.mark.parametrize("cls", [AGEM, GradCosine])
def test_the_main_task_keeps_its_name(cls):
    """Without the first task, column 2 is still the third task."""
    rows = inputs.conflicting(4, 0)
    gramian = rows @ rows.T
    gramian[0], gramian[:, 0] = 0, 0
    alone = cls(main=1)((rows @ rows.T)[1:, 1:])
    assert cls(main=2)(gramian).tolist() == [0.0, *alone.tolist()]


def test_the_order_without_a_task():
    rows = inputs.conflicting(4, 0)
    gramian = rows @ rows.T
    gramian[1], gramian[:, 1] = 0, 0
    rest = rows[[0, 2, 3]]
    for ranks, left in ((None, None), ((3, 0, 2, 2), (3, 2, 2))):
        expected = Lexicographic(ranks=left)(rest @ rest.T)
        assert Lexicographic(ranks=ranks)(gramian)[[0, 2, 3]].tolist() == expected.tolist()


WRONG = [
    ("AGEM(main=-1)", "AGEM: main=-1, expected an integer >= 0."),
    ("AGEM(when='never')", "AGEM: when='never', expected one of 'conflict', 'always'."),
    ("GradCosine(main=0.5)", "GradCosine: main=0.5, expected an integer >= 0."),
    ("GradCosine(weighted=2)", "GradCosine: weighted=2, expected one of True, False."),
    ("Lexicographic(ranks=1)", "Lexicographic: ranks=1, expected finite numbers, one per task"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_arguments(text, message):
    with pytest.raises(AccordError) as error:
        parse(text)
    assert message in str(error.value)


CALLS = [
    (
        AGEM(main=2),
        "AGEM(main=2, when='conflict'): there are 2 tasks, counted from 0 in the order of the losses, so main",
    ),
    (GradCosine(main=5), "so main=5 is none of them"),
    (Lexicographic(ranks=(1, 2, 3)), "ranks has 3 entries, but there are 2 tasks; give one per task"),
]


@pytest.mark.parametrize(("method", "message"), CALLS)
def test_wrong_number_of_tasks(method, message):
    with pytest.raises(AccordError) as error:
        method(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
    assert message in str(error.value)
