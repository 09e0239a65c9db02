"""Suites: which problems, architectures, methods and seeds are compared, in one validated YAML file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from accord import methods, problems
from accord.bench import additions
from accord.bench.config import explain
from accord.errors import AccordError, nearest

WEIGHTED = "WeightedSum"  # in the list of methods: weighted sums, weights and rate chosen on validation data
DENSE = "dense"  # in the list of rules: everything is trained
WHOLE = "shared"  # in the list of splits: every layer stays shared
EVERY = "every problem"  # key of a setting that is given once for all
SHARED = "hard"  # the architecture of a problem that does not say otherwise, and of tasks that are trained alone
Place = tuple[str | int, ...]
FLOAT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+")  # YAML 1.1 takes 1e-3 for a text


def _problem(text: str) -> str:
    return _spelled(text, problems.parse)


def _method(text: str) -> str:
    return text if text == WEIGHTED else _spelled(text, methods.parse)


def _rule(text: str) -> str:
    return text if text == DENSE else _spelled(text, additions.parse_rule)


def _layers(value: Any) -> Any:
    """One layer, or a list of those that are split together; ``shared`` is none."""
    if value == WHOLE:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def _spelled(text: str, parse: Callable[[str], object]) -> str:
    """The one right spelling."""
    try:
        return repr(parse(text))
    except AccordError as error:
        cut = text.count("(") != text.count(")")
        hint = " Within [ ] a comma begins the next entry: put quotes around it." if cut else ""
        raise AccordError(f"{error}{hint}") from None


def _distinct(values: list[Any]) -> list[Any]:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise AccordError(f"{value!r} is listed twice.")
    return values


def _counted(value: Any) -> Any:
    """A number of seeds means the first ones."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise AccordError(f"seeds is {value}; expected at least 1, or a list of seeds.")
        return list(range(value))
    return value


def _for_every(value: Any) -> Any:
    return value if isinstance(value, dict) else {EVERY: value}


Spellings = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_distinct), BeforeValidator(_counted)
]
Rules = Annotated[list[Annotated[str, AfterValidator(_rule)]], Field(min_length=1), AfterValidator(_distinct)]
Layers = Annotated[tuple[str, ...], BeforeValidator(_layers)]
Splits = Annotated[list[Layers], Field(min_length=1), AfterValidator(_distinct)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Strengths = Annotated[list[Strength], Field(min_length=1), AfterValidator(_distinct)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Search(BaseModel):
    """How learning rates are chosen, for every problem, architecture and method, by validation data alone.

    Args:
        trials: number of rates, evenly spaced in the logarithm; the same for every method.
        low: the lowest.
        high: the highest.
        seeds: of the trials.
        epochs: of a trial; None: those of the final runs.
        storage: URL of the Optuna storage; None: a file beside the trials.
        weights: number of weightings that ``WeightedSum`` tries, each with every rate; 0: there is no such arm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trials: Count = 8
    low: Rate = 1e-4
    high: Rate = 1e-2
    seeds: Seeds = [100]
    epochs: Count | None = None
    storage: str | None = None
    weights: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _ordered(self) -> Search:
        if self.low > self.high:
            raise AccordError(f"search.low is {self.low}, above search.high, which is {self.high}.")
        return self


class Suite(BaseModel):
    """A comparison. Read it with ``read``; the fields are explained in docs/bench.md.

    Args:
        name: of the suite, and of its folder.
        problems: spellings.
        methods: spellings; ``WeightedSum`` stands for weighted sums chosen by ``search``.
        seeds: a list, or how many: 0, 1, 2 and so on.
        architectures: spellings, tried with every problem; None: the problem's own.
        encoders: likewise.
        single_tasks: whether each task is trained alone as well: the baselines of Delta-m.
        sparse: rules of ``accord.sparse``, tried with every method; ``dense`` trains everything. None: dense alone.
        sparse_order: see ``RunConfig``.
        sparse_look: see ``RunConfig``.
        sparse_single_tasks: whether each task is trained alone under every rule, too; no baseline of anything.
        split: layers that every task gets a copy of, tried likewise: a name, a list of names that are split together,
            or ``shared``. None: everything stays shared.
        anchor: pulls towards the initial values, tried likewise; 0 is none. None: none alone.
        epochs: of every problem, or by problem; else the problem's own.
        lr: learning rate, likewise.
        optimizer: see ``RunConfig``, as for the next three.
        select: which epoch's test metrics are the result.
        monitor_every: look at every n-th step; 0: never.
        threads: per run.
        mode: ``equal-steps``, or ``equal-compute``: each method gets as many steps as cost what those of the plain sum
            do.
        search: how learning rates are chosen; None: they are given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    problems: Annotated[list[Annotated[str, AfterValidator(_problem)]], Field(min_length=1), AfterValidator(_distinct)]
    methods: Annotated[list[Annotated[str, AfterValidator(_method)]], Field(min_length=1), AfterValidator(_distinct)]
    seeds: Seeds = [0, 1, 2]
    architectures: Spellings | None = None
    encoders: Spellings | None = None
    single_tasks: bool = False
    sparse: Rules | None = None
    sparse_order: Literal["mask-then-combine", "combine-then-mask"] = "mask-then-combine"
    sparse_look: Annotated[int, Field(ge=0)] | None = None
    sparse_single_tasks: bool = False
    split: Splits | None = None
    anchor: Strengths | None = None
    epochs: Annotated[dict[str, Count], BeforeValidator(_for_every)] = {}
    lr: Annotated[dict[str, Rate], BeforeValidator(_for_every)] = {}
    optimizer: Literal["Adam", "AdamW", "SGD"] = "Adam"
    select: Literal["last", "validation"] = "last"
    monitor_every: Annotated[int, Field(ge=0)] = 10
    threads: Count = 1
    mode: Literal["equal-steps", "equal-compute"] = "equal-steps"
    search: Search | None = None

    def given(self, name: Literal["epochs", "lr"], problem: str) -> dict[str, Any]:
        """What the suite says about this setting of a problem of its list: at most one entry."""
        values: dict[str, Any] = getattr(self, name)
        for key in (problem, problems.parse(problem).name, EVERY):
            if key in values:
                return {name: values[key]}
        return {}


def composed(problem: str, architecture: str | None, encoder: str | None) -> str:
    """The problem with another architecture and encoder, where they are given.

    Raises:
        AccordError: if it has no such setting, or the spelling is wrong.

    Example:
        >>> composed("digits", "hard", None)
        'digits'
    """
    found = problems.parse(problem)
    fields = {field.name: field.default for field in dataclasses.fields(found)}  # type: ignore[arg-type]
    changes = {}
    for name, value in (("architecture", architecture), ("encoder", encoder)):
        if value is None or (name == "architecture" and name not in fields and value.split("(")[0] == SHARED):
            continue
        if name not in fields:
            raise AccordError(
                f"{found.name} has no setting {name!r}, so it cannot be combined with {value!r}; "
                "put it into a suite of its own."
            )
        if getattr(found, name) != fields[name]:
            raise AccordError(f"{problem} says its {name} itself; leave {name}s out, or say it there.")
        changes[name] = value
    return repr(dataclasses.replace(found, **changes)) if changes else problem  # type: ignore[type-var]


def read(path: str | os.PathLike[str]) -> Suite:
    """Read and check a suite.

    Args:
        path: of a YAML file.

    Raises:
        AccordError: one line for each mistake, with its place in the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise AccordError(f"the suite {path} cannot be read ({reason}); name a YAML file.") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Suite:
    """The suite in a text; see ``read``.

    Args:
        text: YAML.
        name: of the file, for messages.

    Example:
        >>> suite = parse("{name: a, problems: [digits], methods: [UPGrad, Sum], seeds: 2}", "a.yaml")
        >>> suite.methods, suite.seeds
        (['UPGrad()', 'Sum()'], [0, 1])
    """
    values, lines = _load(text, name)
    found: list[tuple[Place, str]] = []
    try:
        suite = Suite(**values)
        found = list(_inconsistent(suite))
    except ValidationError as error:
        found = [(entry["loc"], _explained(entry)) for entry in error.errors()]
    if found:
        numbered = sorted({(_line(place, lines), text) for place, text in found})
        raise AccordError("\n".join(f"{name}, line {line}: {text}" for line, text in numbered))
    return suite


def _explained(entry: Any) -> str:
    """One of pydantic's findings in one line."""
    inner = entry["loc"][:1] == ("search",)
    return explain(entry, Search.model_fields if inner else Suite.model_fields, "the suite")


def _inconsistent(suite: Suite) -> Iterator[tuple[Place, str]]:
    """What is right by itself and does not fit together."""
    for field in ("architectures", "encoders"):
        for i, text in enumerate(getattr(suite, field) or ()):
            for problem in suite.problems:
                try:
                    composed(problem, *((text, None) if field == "architectures" else (None, text)))
                except AccordError as error:
                    yield (field, i), str(error)
    names = [*suite.problems, *(problems.parse(problem).name for problem in suite.problems)]
    for field in ("epochs", "lr"):
        for key in getattr(suite, field):
            if key != EVERY and key not in names:
                yield (
                    (field, key),
                    f"{field} is given for {key!r}, which is no problem of the suite.{nearest(key, names)}",
                )
    rules = [rule for rule in suite.sparse or () if rule != DENSE]
    for field in ("sparse_order", "sparse_look", "sparse_single_tasks"):
        if not rules and getattr(suite, field) != Suite.model_fields[field].default:
            yield (field,), f"{field} is given without a rule; say sparse: ['PSN(density=0.6)'] as well."
    if WEIGHTED in suite.methods and not (suite.search and suite.search.weights):
        yield (
            ("methods", suite.methods.index(WEIGHTED)),
            f"{WEIGHTED} is chosen by a search; say search: {{weights: 8}}.",
        )


def _line(place: Place, lines: dict[Place, int]) -> int:
    """The line of this place, or of the nearest one around it that is in the file."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _load(text: str, name: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """The values in a YAML text, and the line of each."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only; nothing in the file is ever called."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
    loader = Loader(text)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1
                raise AccordError(f"{name}, line {line}: *{event.anchor} is an alias; write the value out.")
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        if node is not None:
            _walk(node, (), lines, name)
        values = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise AccordError(f"{name}{where}: this is no YAML: {reason}.") from None
    except RecursionError:
        raise AccordError(f"{name}: its brackets are nested too deeply for a suite.") from None
    except ValueError as error:
        raise error if isinstance(error, AccordError) else AccordError(f"{name}: {error}.") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise AccordError(f"{name} holds no suite; expected `name: value` on each line, such as `problems: [digits]`.")
    return values, lines


def _walk(node: Any, place: Place, lines: dict[Place, int], name: str) -> None:
    """Note the line of every value below this node; no key may come twice, for one of both would be lost in silence."""
    lines[place] = node.start_mark.line + 1
    if node.id == "sequence":
        for i, item in enumerate(node.value):
            _walk(item, (*place, i), lines, name)
    elif node.id == "mapping":
        seen: set[Hashable] = set()
        for key, value in node.value:
            word = key.value if isinstance(key.value, str) else str(key.value)
            line = key.start_mark.line + 1
            if word in seen:
                raise AccordError(f"{name}, line {line}: {word!r} is given twice.")
            seen.add(word)
            _walk(value, (*place, word), lines, name)
            lines[(*place, word)] = line
