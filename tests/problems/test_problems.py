"""Every problem: equal data for equal seeds, parts made of disjoint originals, usable losses, one spelling."""

from __future__ import annotations

import functools
import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from accord.bench.config import configure
from accord.bench.training import Training
from accord.data import VARIABLE
from accord.errors import AccordError
from accord.methods import METHODS
from accord.problems import PROBLEMS, Data, Digits, Examples, MultiMNIST, Part, Problem, parse
from accord.problems.point_process import EventPart
from accord.problems.tpp_hawkes import TPPHawkes

BESIDE = Path(__file__).parents[3] / "shared" / "data"  # where a checkout beside shared data has them
REQUIRED = {"Constant": "weights", "PBI": "weights", "COSMOS": "ratio"}  # methods that have no default


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))


POSITIVE = {"FAMO", "GLS", "STCH", "GradNorm", "DBMTL"}  # take logarithms or ratios of losses; densities exceed 1
# every method on one problem of each form, two on the others
PAIRS = [
    (problem, method.__name__)
    for problem in PROBLEMS
    for method in METHODS
    if problem in (Digits, MultiMNIST, TPPHawkes) or method.__name__ in ("Sum", "UPGrad")
]


@functools.cache
def data_of(kind: type[Problem]) -> Data | str:
    """Of its tiny version with seed 0, or what it says if they are not at hand."""
    try:
        return kind.tiny().data(0)
    except AccordError as error:
        return str(error)


def tiny(kind: type[Problem]) -> Problem:
    found = data_of(kind)
    if isinstance(found, str):
        pytest.skip(found)
    return kind.tiny()


@pytest.fixture(params=PROBLEMS, ids=lambda problem: problem.name)
def problem(request) -> Problem:
    return tiny(request.param)


def columns(part: Part) -> dict[str, torch.Tensor]:
    """Everything in a part of a data set."""
    if not isinstance(part, EventPart):
        return dict(part.tensors)
    events = part.events
    return {name: torch.from_numpy(getattr(events, name)) for name in ("time", "mark", "offsets")}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_seed_gives_one_data_set_and_one_model(problem):
    first, second, other = problem.data(3), problem.data(3), problem.data(4)
    for part in ("train", "validation", "test"):
        assert equal(columns(getattr(first, part)), columns(getattr(second, part)))
    # a test part, or a validation part, that its originators fixed is the same for every seed
    assert not equal(columns(first.train), columns(other.train))
    before = torch.get_rng_state()
    assert equal(problem.model(3).state_dict(), problem.model(3).state_dict())
    assert not equal(problem.model(3).state_dict(), problem.model(4).state_dict())
    assert torch.equal(torch.get_rng_state(), before), "the global generator was touched"


def test_the_parts_share_no_original(problem):
    origin = problem.data(0).origin
    assert set(origin) == {"train", "validation", "test"}
    assert all(origin.values())
    assert not origin["train"] & origin["validation"]
    assert not origin["train"] & origin["test"]
    assert not origin["validation"] & origin["test"]


def test_an_epoch_holds_every_example_once_in_an_order_of_the_generator(problem):
    train = problem.data(0).train

    def order(seed: int) -> torch.Tensor:
        batches = list(train.shuffled(torch.Generator().manual_seed(seed)))
        assert len(batches) == len(train)
        if not isinstance(train, EventPart):
            return torch.cat([batch["row"] for batch in batches])
        return torch.cat([batch.source for batch in batches])

    if not isinstance(train, EventPart):
        expected = torch.arange(train.count)
        train = replace(train, tensors={**train.tensors, "row": expected})
        if isinstance(train, Examples):
            train = replace(train, prepare=None, augment=None)
    else:
        expected = torch.from_numpy(train.events.scored).nonzero()[:, 0]
    assert torch.equal(order(0), order(0))
    assert not torch.equal(order(0), order(1))
    assert torch.equal(order(0).sort()[0], expected)


def test_losses_are_finite_named_after_the_tasks_and_reach_the_model(problem):
    model = problem.model(0)
    losses = problem.losses(model, next(iter(problem.data(0).train)))
    assert tuple(losses) == problem.tasks
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.isfinite()
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_metrics_are_means_over_examples_whatever_the_batches(problem):
    model, data = problem.model(0), problem.data(0)
    if not isinstance(data.test, EventPart):
        model.eval()
        test = data.test
        cut = [
            replace(test, tensors={name: tensor[some] for name, tensor in test.tensors.items()}, batch=5)
            for some in (slice(5), slice(5, None))
        ]
        whole = problem.metrics(model, replace(test, batch=test.count))
        parts = problem.metrics(model, itertools.chain(*cut))
    else:
        whole = problem.metrics(model, data.test)
        parts = problem.metrics(model, EventPart(data.test.events, 3).shuffled(torch.Generator()))
    assert set(whole) == set(problem.tasks) == set(problem.metric)
    for task, (name, _) in problem.metric.items():
        assert whole[task][name] == pytest.approx(parts[task][name])
        assert whole[task]["loss"] == pytest.approx(parts[task]["loss"], rel=1e-5)


@pytest.mark.parametrize(("kind", "method"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_two_steps_with_every_method(kind, method, tmp_path, monkeypatch):
    problem = tiny(kind)
    monkeypatch.setattr(kind, "data", lambda *_: data_of(kind))  # all methods train on the same
    numbers = list(range(1, len(problem.tasks) + 1))
    spelling = f"{method}({REQUIRED[method]}={numbers})" if method in REQUIRED else f"{method}()"
    training = Training(configure(problem=repr(problem), method=spelling, monitor_every=1), tmp_path)
    before = [p.detach().clone() for p in training.model.parameters()]
    batches = training.data.train.shuffled(torch.Generator().manual_seed(0))
    beside = training.beside(0)
    if kind is TPPHawkes and method in POSITIVE:
        with pytest.raises(AccordError, match="expected losses"):
            training.step(next(batches), next(beside))
        return
    for _ in range(2):
        training.step(next(batches), next(beside))
    training.monitor.close()
    assert training.balancer.tasks == problem.tasks
    assert not any(torch.equal(p, old) for p, old in zip(training.model.parameters(), before, strict=True))
    assert all(p.isfinite().all() for p in training.model.parameters())


def test_one_spelling(problem):
    assert parse(repr(problem)) == problem
    assert repr(type(problem)()) == type(problem).name
    assert parse(f" {type(problem).name}(lr=1) ") == parse(f"{type(problem).name}(lr=1.0)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digts", "problem 'digts' is unknown. Did you mean 'digits'?"),
        ("Digits", "Did you mean 'digits'?"),
        ("digits(widht=3)", "has no setting 'widht'. Did you mean 'width'?"),
        ("digits(width=0)", "width=0, expected a whole number greater than 0"),
        ("digits(width=2.5)", "expected a whole number"),
        ("digits(width=True)", "expected a whole number"),
        ("digits(lr=1e999)", "expected a number greater than 0"),
        ("digits(width='8')", "expected a whole number"),
        ("digits(8)", "name every setting"),
        ("digits(**{})", "cannot be read"),
        ("digits(width=open('x'))", "the value of width must be a number, a quoted text, or a list of them"),
        ("", "cannot be read"),
        ("a\0b", "cannot be read"),
    ],
)
def test_wrong_spellings(text, message):
    with pytest.raises(AccordError) as error:
        parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
