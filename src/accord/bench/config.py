"""The configuration of one run: validated, frozen, and stored beside its results."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from torch import nn

from accord import methods, problems
from accord.balancer import Balancer
from accord.bench import additions, files
from accord.errors import AccordError, nearest

ABOUT = ("machine", "versions")  # where and with what a run was made; no setting


def versions() -> dict[str, str]:
    """Of what decides numbers, as installed here."""
    names = ("accord", "torch", "numpy")
    return {**{name: version(name) for name in names}, "python": platform.python_version()}


def _machine() -> str:
    return f"{platform.system()} {platform.machine()} {platform.processor()}".strip()


class RunConfig(BaseModel):
    """Everything that decides the numbers of a run, and where it was made.

    Make it with ``configure``, which gives one line for a mistake. ``epochs`` and ``lr`` are those of the problem
    unless given; ``epochs`` then becomes part of the problem's spelling.

    Args:
        problem: its spelling, such as ``digits(width=64)``.
        method: its spelling, such as ``CAGrad(c=0.5)``.
        tasks: only these are trained and reported; None means all. A single one is a baseline for Delta-m.
        seed: of data, initial parameters, order of batches and everything else random.
        epochs: passes over the training data.
        lr: learning rate, constant.
        optimizer: ``Adam``, ``AdamW`` or ``SGD``, with PyTorch's defaults.
        scale: see ``Balancer``.
        heads: see ``Balancer``; None is the method's own default.
        engine: see ``Balancer``.
        monitor_every: look at every n-th step; 0: never.
        blocks: granularity of what the Monitor records.
        select: the epoch whose test metrics are the result: ``last``, or the one that is best on ``validation``.
        threads: of PyTorch; with 1 the numbers do not depend on how many runs go on beside each other.
        max_steps: training stops there, if it comes before the last epoch is over; None: nowhere. It is not part of
            the folder's name.
        arm: name in tables and folders in place of the method's spelling, such as ``tuned weighted sum``.
        sparse: spelling of a rule of ``accord.sparse``, such as ``PSN(k=300)``: only the weights that it selects are
            trained. None: all are.
        sparse_order: see ``SparseTraining``.
        sparse_trains: ``selected``, or ``all``: then training is dense, and the selected weights are only watched.
        sparse_look: record the Gramians of the trained and of the frozen weights at every n-th step; 0: never; None:
            as often as ``monitor_every``.
        split: layers of which every task gets a copy of its own, see ``accord.restructure``; None: all stay shared.
        split_after: epochs in which these layers are shared before; the optimiser's state is carried over. None: none.
        anchor: strength of a pull of the shared parameters towards their initial values, see ``bench.anchor``.
        machine: kind of machine.
        versions: of accord, torch, numpy and Python.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    problem: str
    method: str = "Sum()"
    tasks: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    optimizer: Literal["Adam", "AdamW", "SGD"] = "Adam"
    scale: str = "sum"
    heads: str | None = None
    engine: str = "auto"
    monitor_every: Annotated[int, Field(ge=0)] = 10
    blocks: Literal["module", "tensor", "total"] = "module"
    select: Literal["last", "validation"] = "last"
    threads: Annotated[int, Field(ge=1)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    arm: str | None = None
    sparse: str | None = None
    sparse_order: Literal["mask-then-combine", "combine-then-mask"] = "mask-then-combine"
    sparse_trains: Literal["selected", "all"] = "selected"
    sparse_look: Annotated[int, Field(ge=0)] | None = None
    split: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    split_after: Annotated[int, Field(ge=1)] | None = None
    anchor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    machine: str = Field(default_factory=_machine)
    versions: dict[str, str] = Field(default_factory=versions)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Spell problem and method in the one right way, and take from the problem what is not given."""
        if not isinstance(values, dict) or not isinstance(values.get("problem"), str):
            return values
        problem = problems.parse(values["problem"])
        epochs = values.get("epochs")
        if isinstance(epochs, int) and epochs >= 1:  # else the field's own check speaks
            problem = type(problem)(**{**vars(problem), "epochs": epochs})
        filled = {"epochs": problem.epochs, "lr": problem.lr, **values, "problem": repr(problem)}
        if isinstance(filled.get("method"), str):
            filled["method"] = repr(methods.parse(filled["method"]))
        if isinstance(filled.get("sparse"), str):
            filled["sparse"] = additions.spelled(filled["sparse"])
        for name in ("tasks", "split"):
            if isinstance(filled.get(name), list):
                filled[name] = tuple(filled[name])  # JSON has no tuples
        return filled

    @field_validator("tasks", "split")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) != max(len(names), 1):
            raise AccordError(f"{info.field_name} is {list(names)}; expected at least one, each once.")
        return names

    @field_validator("arm")
    @classmethod
    def _named(cls, arm: str | None) -> str | None:
        taken = arm is not None and arm.startswith(("single-", "."))
        if arm is not None and (taken or not arm.strip() or not arm.isprintable() or set(arm) & set("/\\")):
            raise AccordError(f"arm is {arm!r}; expected a name for a folder, without slashes, not single-...")
        return arm

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        """The tasks exist, and the Balancer accepts the combination."""
        additions.check(self)
        known = problems.parse(self.problem).tasks
        for task in self.tasks or ():
            if task not in known:
                raise AccordError(f"{self.problem} has no task {task!r}.{nearest(task, known)}")
        self.balancer(nn.Identity())  # without parameters, which would cost random numbers
        return self

    @property
    def label(self) -> str:
        """What is trained, and what is done to the model: ``UPGrad() + PSN(k=300)``."""
        return " + ".join([self.name, *self.additions])

    @property
    def name(self) -> str:
        """The arm, if it has a name; else the method's spelling, or ``single-<task>`` for a task trained alone."""
        if self.arm is not None:
            return self.arm
        return self.method if self.tasks is None else "single-" + "+".join(self.tasks)

    @property
    def additions(self) -> tuple[str, ...]:
        """What is done to the model beside choosing a method, in words that make the label unique; mostly nothing."""
        return additions.words(self)

    @property
    def baseline(self) -> bool:
        """Whether this is one task alone with nothing else done to it, which Delta-m compares with."""
        return self.tasks is not None and len(self.tasks) == 1 and not self.additions

    @property
    def looks(self) -> int:
        """Every how many steps the trained and the frozen weights are looked at; 0: never."""
        if self.sparse is None:
            return 0
        return self.monitor_every if self.sparse_look is None else self.sparse_look

    @property
    def place(self) -> Path:
        """The folder of this run below the folder of all runs."""
        return Path(self.problem) / self.label / f"seed-{self.seed}"

    def balancer(self, model: nn.Module) -> Balancer:
        """A fresh Balancer for this run, which checks ``scale``, ``heads`` and ``engine``."""
        choices: dict[str, Any] = {"scale": self.scale, "heads": self.heads, "engine": self.engine}
        return Balancer(model, self.method, seed=self.seed, **choices)

    def settings(self) -> dict[str, Any]:
        """All fields that decide the numbers."""
        return self.model_dump(exclude=set(ABOUT))


def configure(**values: Any) -> RunConfig:
    """A checked configuration.

    Args:
        values: fields of ``RunConfig``; only ``problem`` is required.

    Raises:
        AccordError: one line for the first mistake.

    Example:
        >>> config = configure(problem="digits", method="UPGrad", epochs=4)
        >>> config.problem, config.method, config.place.as_posix()
        ('digits(epochs=4)', 'UPGrad()', 'digits(epochs=4)/UPGrad()/seed-0')
    """
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise _first(error) from None


def vary(config: RunConfig, **changes: Any) -> RunConfig:
    """The same configuration with other values for some fields, checked again, made here and now.

    Args:
        config: to begin with.
        changes: fields of ``RunConfig``.

    Raises:
        AccordError: one line for the first mistake.

    Example:
        >>> vary(configure(problem="digits", lr=0.5), seed=3).place.as_posix()
        'digits/Sum()/seed-3'
    """
    return configure(**{**config.settings(), **changes})


def read(path: Path) -> RunConfig:
    """A stored configuration.

    Raises:
        AccordError: if the file is damaged or holds something else.
    """
    values = files.read_json(path)
    try:
        return configure(**values)
    except AccordError as error:
        raise files.damaged(path, str(error)) from None


def _first(error: ValidationError) -> AccordError:
    """The first mistake in one line."""
    found: Any = error.errors()[0]
    return AccordError(explain(found, RunConfig.model_fields, "the configuration"))


def explain(found: Mapping[str, Any], fields: Iterable[str], what: str) -> str:
    """One of pydantic's findings in one line, with the nearest right spelling.

    Args:
        found: an entry of ``ValidationError.errors()``.
        fields: that there are, for one that there is not.
        what: has these fields.
    """
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, AccordError):
        return str(cause)
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"{what} has no field {name!r}.{nearest(str(found['loc'][-1]), fields)}"
    if found["type"] == "missing":
        return f"{what} needs the field {name!r}."
    message = found["msg"][0].lower() + found["msg"][1:]
    hint = ""
    if found["type"] == "literal_error":
        hint = nearest(str(found["input"]), re.findall("'([^']*)'", found["ctx"]["expected"]))
        hint = hint if hint.startswith(" Did") else ""
    return f"{name} is {found['input']!r}: {message}.{hint}"
