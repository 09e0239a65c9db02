"""From a suite to its runs: what is compared, in which order, what of it is there already, and what has changed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accord import problems
from accord.bench import config as configuration
from accord.bench import files, store
from accord.bench.config import RunConfig, configure, vary
from accord.bench.run import differences
from accord.bench.suite import DENSE, SHARED, WEIGHTED, Suite, composed
from accord.errors import AccordError

PLAN, COPY = "plan.json", "suite.yaml"
REMEDY = "Remove this one file: it is written anew, and no run is lost."
TUNED = "tuned weighted sum"  # the arm of weighted sums whose weights are chosen on validation data


def arms(suite: Suite) -> list[RunConfig]:
    """What is compared: the runs of the first seed.

    For each problem its methods with every architecture and encoder, then each task alone. A task alone has nothing to
    share, so it is trained once, with one encoder and one head, whatever the architectures are. Rates and weights that
    a search will choose are those that hold without one.

    Raises:
        AccordError: for settings that do not fit together.

    Example:
        >>> from accord.bench.suite import parse
        >>> suite = parse("{name: a, problems: [digits], methods: [UPGrad], single_tasks: true, lr: 0.5}", "a.yaml")
        >>> [(arm.label, arm.lr) for arm in arms(suite)]
        [('UPGrad()', 0.5), ('single-left', 0.5), ('single-right', 0.5), ('single-sum', 0.5)]
    """
    common: dict[str, Any] = {
        "optimizer": suite.optimizer, "select": suite.select, "threads": suite.threads, "seed": suite.seeds[0],
    }  # fmt: skip
    chosen = list(suite.methods)
    if suite.search is not None and suite.search.weights and WEIGHTED not in chosen:
        chosen.append(WEIGHTED)
    found = []
    for problem in suite.problems:
        given = {**common, **suite.given("epochs", problem), **suite.given("lr", problem)}
        tasks = problems.parse(problem).tasks
        equal = f"Constant(weights={[1.0] * len(tasks)})"
        for spelled in _variants(suite, problem):
            for added, method in itertools.product(_additions(suite), chosen):
                named = {"method": equal, "arm": TUNED} if method == WEIGHTED else {"method": method}
                found.append(configure(**given, **named, **added, problem=spelled, monitor_every=suite.monitor_every))
        for encoder, rule in itertools.product(suite.encoders or (None,), _single(suite)):
            home = alone(composed(problem, None, encoder))
            found += [configure(**given, **rule, problem=home, tasks=(task,), monitor_every=0) for task in tasks]
    return _each_once(found)


def _additions(suite: Suite) -> list[dict[str, Any]]:
    """What is done to the model beside, every choice with every other."""
    splits = [{"split": layers} if layers else {} for layers in suite.split or ((),)]
    anchors = [{"anchor": strength} if strength else {} for strength in suite.anchor or (0.0,)]
    return [{**s, **r, **a} for s, r, a in itertools.product(splits, _rules(suite), anchors)]


def _rules(suite: Suite) -> list[dict[str, Any]]:
    given = {"sparse_order": suite.sparse_order, "sparse_look": suite.sparse_look}
    return [{} if rule == DENSE else {"sparse": rule, **given} for rule in suite.sparse or (DENSE,)]


def _single(suite: Suite) -> list[dict[str, Any]]:
    """How tasks are trained alone: dense, the baselines, and with every rule, which nobody looks at."""
    rules = [{**rule, "sparse_look": 0} for rule in _rules(suite) if rule] if suite.sparse_single_tasks else []
    return [{}, *rules] if suite.single_tasks else rules


def _variants(suite: Suite, problem: str) -> list[str]:
    pairs = [(a, e) for e in suite.encoders or (None,) for a in suite.architectures or (None,)]
    return [composed(problem, architecture, encoder) for architecture, encoder in pairs]


def alone(problem: str) -> str:
    """The problem with which its tasks are trained alone: an encoder and a head.

    Example:
        >>> alone("digits(width=64)")
        'digits(width=64)'
    """
    found = problems.parse(problem)
    if not hasattr(found, "architecture"):
        return problem
    return repr(dataclasses.replace(found, architecture=SHARED))  # type: ignore[type-var]


def _each_once(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Without repetitions; two different runs in one folder are a mistake."""
    found: dict[Path, RunConfig] = {}
    for config in configs:
        if config.place in found and found[config.place].settings() != config.settings():
            name, one, other = next(differences(found[config.place], config))
            raise AccordError(f"two runs of the suite are both called {config.place}: {name} is {one!r} and {other!r}.")
        found.setdefault(config.place, config)
    return list(found.values())


def runs(suite: Suite, chosen: Sequence[RunConfig]) -> list[RunConfig]:
    """Every arm with every seed; seed by seed, so that a busy minute slows all methods alike.

    Args:
        suite: has the seeds.
        chosen: the arms, with the rates, weights and numbers of steps that they finally have.
    """
    return [vary(arm, seed=seed) for seed in suite.seeds for arm in chosen]


def conflicts(configs: Sequence[RunConfig], root: Path) -> None:
    """Refuse to begin where a folder holds a run with other settings.

    Raises:
        AccordError: with the first of them, and how many there are.
    """
    found = []
    for config in configs:
        path = root / config.place / store.CONFIG
        if path.exists():
            different = next(differences(configuration.read(path), config), None)
            if different is not None:
                found.append((config.place, *different))
    if found:
        place, name, theirs, ours = found[0]
        raise AccordError(
            f"{root} holds {len(found)} of {len(configs)} runs with other settings, first {place}, with "
            f"{name}={theirs!r}, now {ours!r}; choose another folder with --out, or remove those runs."
        )


def changes(suite: Suite, root: Path) -> Iterator[str]:
    """In which fields the suite that was last run in this folder differs from this one.

    Raises:
        AccordError: if the stored plan is damaged.
    """
    path = root / PLAN
    if not path.exists():
        return
    before, now = files.read_json(path, remedy=REMEDY).get("suite", {}), suite.model_dump(mode="json")
    if not isinstance(before, dict):
        raise files.damaged(path, f"its suite is a {type(before).__name__}, expected a dict", REMEDY)
    for name in {**before, **now}:
        one, other = before.get(name), now.get(name)
        if one == other:
            continue
        if isinstance(one, list) and isinstance(other, list):
            words = [f"+ {value}" for value in other if value not in one]
            words += [f"- {value}" for value in one if value not in other]
            yield f"{name}: {', '.join(words) or 'another order'}"
        else:
            yield f"{name}: {one} before, {other} now"


def write(
    suite: Suite, configs: Sequence[RunConfig], root: Path, costs: Any = None, search: Any = None, final: bool = True
) -> None:
    """Store the plan.

    Args:
        suite: what was asked for.
        configs: the runs in order.
        root: folder of the suite.
        costs: of the methods, where numbers of steps depend on them.
        search: its budget and what it chose.
        final: whether the rates, and tuned weights, are known; else they are null.
    """
    planned = []
    for config in configs:
        unknown = [] if final else ["lr", "method"] if config.arm == TUNED else ["lr"]
        planned.append({"place": config.place.as_posix(), **config.settings(), **dict.fromkeys(unknown)})
    total = sum(config.epochs for config in configs)
    files.write_json(
        root / PLAN,
        {
            "suite": suite.model_dump(mode="json"),
            "counts": {"runs": len(configs), "epochs": total},
            "search": search,
            "costs": costs,
            "runs": planned,
        },
    )
