"""What every method must do, applied to the registry; and the laws that each declares."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.methods import METHODS, Aggregation, Method, Weighting, parse
from accord.rows import Rows

import inputs
from laws import LAWS, direction, losses_of, weigh

logging.getLogger("accord").setLevel(logging.ERROR)


def example(cls: type[Method], k: int) -> Method:
    """The default configuration; what has no default gets one number per task."""
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]  # type: ignore[arg-type]
    return cls(**{name: tuple(range(1, k + 1)) for name in required})


ALONE = [cls for cls in METHODS if not cls.needs_validation]  # the others look at a model (test_bilevel.py)
WEIGHTINGS = [cls for cls in ALONE if issubclass(cls, Weighting)]
CASES = [
    pytest.param(cls, law, name, id=f"{cls.__name__}-{name}-{law.check.__name__}")
    for cls in ALONE
    for name in sorted(cls.laws)
    for law in LAWS[name]
]


@pytest.mark.parametrize(("cls", "law", "name"), CASES)
def test_law(cls, law, name):
    for k in (2, 3, 7) if name != "PE" else (2, 3, 5):
        for label, build in law.inputs.items():
            if k < 3 and label == "weakly stationary":
                continue
            for seed in range(3):
                law.check(example(cls, k), build(k, seed))


@pytest.mark.parametrize("cls", WEIGHTINGS)
@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_forty_tasks(cls, label):
    """Finite, and non-conflicting where declared, at K = 40."""
    rows = inputs.INPUTS[label](40, 0)
    method = example(cls, 40)
    assert torch.isfinite(direction(method, rows, losses_of(40))[0]).all()
    if "NC" in cls.laws:
        LAWS["NC"][0].check(method, rows)


@pytest.mark.parametrize("cls", ALONE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_small_integers_at_any_scale(cls, data):
    """Rows of small integers hit every degenerate case exactly: zero, equal, opposite and dependent rows, ties."""
    k = data.draw(st.integers(1, 5))
    entry = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    rows = torch.tensor(data.draw(st.lists(entry, min_size=k, max_size=k)), dtype=torch.float64)
    rows *= 10.0 ** torch.tensor(data.draw(st.lists(st.integers(-5, 5), min_size=k, max_size=k)))[:, None]
    d, _ = direction(example(cls, k), rows, losses_of(k))
    assert torch.isfinite(d).all()
    if "NC" in cls.laws and (rows != 0).any():
        LAWS["NC"][0].check(example(cls, k), rows)


@pytest.mark.parametrize("cls", ALONE)
def test_zero_row_adds_nothing(cls):
    for build in (inputs.gaussian, inputs.conflicting):
        rows, losses = build(3, 0), losses_of(4)
        before = direction(example(cls, 3), rows, losses[:3])[0]
        after = direction(example(cls, 4), torch.cat([rows, torch.zeros(1, inputs.P, dtype=rows.dtype)]), losses)[0]
        assert torch.allclose(before, after, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls", WEIGHTINGS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_task_is_left_out(cls, bad):
    """A gradient that is not finite gets weight 0 and does not change the others' weights; so does a loss."""
    rows, losses = inputs.conflicting(3, 0), losses_of(4)
    alone = weigh(example(cls, 3), rows, losses[:3], torch.Generator().manual_seed(0))
    broken = torch.cat([rows, torch.full((1, inputs.P), bad, dtype=rows.dtype)])
    weights = weigh(example(cls, 4), broken, losses, torch.Generator().manual_seed(0))
    assert torch.allclose(weights, torch.cat([alone, torch.zeros(1)]), rtol=1e-12, atol=0)
    losses[3] = bad
    weights = weigh(example(cls, 4), torch.cat([rows, rows[:1]]), losses, torch.Generator().manual_seed(0))
    assert torch.allclose(weights, torch.cat([alone, torch.zeros(1)]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls", WEIGHTINGS)
def test_nothing_left_is_zero_and_said(cls):
    method = example(cls, 2)
    weights = weigh(method, torch.zeros(2, 2), torch.tensor([1.0, 2.0]))
    assert weights.tolist() == [0.0, 0.0]
    assert [event.kind for event in method.take_events()] == ["stationary"]
    assert method.take_events() == ()


@pytest.mark.parametrize("cls", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_shape_follow_the_input(cls, dtype):
    weights = weigh(example(cls, 3), inputs.gaussian(3, 0).to(dtype), losses_of(3).to(dtype))
    assert weights.dtype == dtype
    assert weights.shape == (3,)
    assert torch.isfinite(weights).all()
    assert not weights.requires_grad


@pytest.mark.parametrize("cls", [cls for cls in WEIGHTINGS if "NC" in cls.laws])
@pytest.mark.parametrize("label", list(inputs.INPUTS))
def test_float32_gramian_is_not_trusted_too_far(cls, label):
    """With a Gramian rounded to float32, non-conflict holds to 1e-5."""
    for k in (2, 3, 9, 40):
        rows = inputs.INPUTS[label](k, 1)
        weights = example(cls, k)((rows @ rows.T).float()).double()
        norms = rows.norm(dim=1).clamp(min=1e-30)
        assert float((rows @ (weights @ rows) / norms).min()) >= -1e-5 * float((weights.abs() * norms).sum())


@pytest.mark.parametrize("cls", ALONE)
def test_draws_come_from_the_generator_alone(cls):
    rows, losses = inputs.conflicting(4, 0), losses_of(4)
    before = torch.get_rng_state()
    first = direction(example(cls, 4), rows, losses, seed=1)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, direction(example(cls, 4), rows, losses, seed=1)[0])


def test_random_methods_depend_on_the_seed():
    rows, losses = inputs.conflicting(4, 0), losses_of(4)
    random = {
        cls.__name__
        for cls in ALONE
        if not torch.equal(
            direction(example(cls, 4), rows, losses, 1)[0], direction(example(cls, 4), rows, losses, 2)[0]
        )
    }
    assert random == {"PCGrad", "GradVac", "GradDrop", "RandomWeighting"}


def run(method: Method, steps: range, k: int) -> list[torch.Tensor]:
    """Outputs of some steps of a made-up training; the inputs and draws depend on the step alone."""
    outputs = []
    for step in steps:
        rows, generator = inputs.conflicting(k, step), torch.Generator().manual_seed(step)
        if isinstance(method, Aggregation):
            outputs.append(method.aggregate(rows, losses_of(k, step), generator=generator))
            continue
        assert isinstance(method, Weighting)
        outputs.append(weigh(method, rows, losses_of(k, step), generator))
        if method.needs_losses_after:
            context = method_context(k, generator)
            method.after_step(losses_of(k, step + 100).numpy(), context)
    return outputs


def method_context(k: int, generator: torch.Generator):
    import numpy as np

    from accord.methods import Context

    return Context(np.arange(k), k, generator)


@pytest.mark.parametrize("cls", ALONE)
def test_state_round_trip(cls):
    """N steps are N/2 steps, save, load into a fresh object, N/2 steps: bit for bit."""
    k, half, full = 3, range(60), range(60, 120)
    unbroken = example(cls, k)
    expected = run(unbroken, half, k) + run(unbroken, full, k)
    first = example(cls, k)
    outputs = run(first, half, k)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    run(first, range(500, 503), k)  # what is saved is a copy
    file.seek(0)
    second = example(cls, k)
    second.load_state_dict(torch.load(file, weights_only=True))  # tensors, numbers, strings, lists and dicts only
    outputs += run(second, full, k)
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))


@pytest.mark.parametrize("cls", METHODS)
def test_foreign_state_is_refused(cls):
    with pytest.raises((ValueError, KeyError)):
        example(cls, 3).load_state_dict({"foreign": torch.zeros(3)})


@pytest.mark.parametrize("cls", WEIGHTINGS)
def test_tasks_may_appear(cls):
    """State grows with the tasks: two of them, then three."""
    if any(f.default is dataclasses.MISSING for f in dataclasses.fields(cls)):
        pytest.skip("its numbers name every task from the start")
    method = example(cls, 2)
    run(method, range(3), 2)
    assert all(torch.isfinite(weights).all() for weights in run(method, range(3, 8), 3))


@pytest.mark.parametrize("cls", WEIGHTINGS)
def test_absent_tasks_keep_their_state(cls):
    """Steps without task 1 leave its part of the state alone."""
    import numpy as np

    from accord.methods import Context

    method = example(cls, 3)
    run(method, range(3), 3)
    before = copy.deepcopy(method.state_dict())
    rows = inputs.conflicting(3, 7)[[0, 2]]
    gramian = (rows @ rows.T).numpy()
    given = {"rows": Rows([[row] for row in rows], [""]), "cross": gramian}
    weights = method.solve(gramian, np.array([0.5, 0.7]), Context(np.array([0, 2]), 3, torch.Generator(), **given))
    assert weights.shape == (2,)
    after = method.state_dict()
    before, after = before.get("tasks", before), after.get("tasks", after)
    for name, tensor in before.items():
        if not (cls.__name__ == "FAMO" and name == "before"):  # that one belongs to the step under way
            assert torch.allclose(tensor[1], after[name][1], rtol=0, atol=0, equal_nan=True), name


@pytest.mark.parametrize("cls", METHODS)
def test_spelling_round_trip(cls):
    method = example(cls, 3)
    again = parse(repr(method))
    assert type(again) is cls
    assert repr(again) == repr(method)
    if not any(f.default is dataclasses.MISSING for f in dataclasses.fields(cls)):
        assert repr(parse(cls.__name__)) == repr(method)


@pytest.mark.parametrize("cls", METHODS)
def test_declares_itself(cls):
    """Final, documented, with known laws; events are no part of configuration or state."""
    assert cls.__subclasses__() == []
    assert cls.laws <= LAWS.keys()
    assert "Example:" in (cls.__doc__ or "")
    method = example(cls, 3)
    state = repr(method), repr(method.state_dict())
    method.report("solver", "said")
    assert (repr(method), repr(method.state_dict())) == state
