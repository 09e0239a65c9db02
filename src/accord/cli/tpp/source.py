"""Which events a user means: a problem such as tpp-mooc, an imported set such as tpp:NAME, or a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord import problems
from accord.cli.reading import Reading
from accord.data import folder
from accord.problems.point_process import PointProcessProblem
from accord.problems.tpp_sets import IMPORTED, SEEDS, STORE, RealEvents
from accord.tpp import store
from accord.tpp.batch import eligible
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits
from accord.tpp.parts import join
from accord.tpp.prepare import Prepared, prepare
from accord.tpp.readers.shared import chosen, read_shared

Names = NDArray[np.object_]  # (N,)
PARTS = ("train", "validation", "test")
ELSEWHERE = ("kind", "history", "encoding", "epochs", "batch", "lr")  # settings of problems that are options here


@dataclass(frozen=True, eq=False)
class Recorded:
    """Data as their source has them, not rescaled.

    Args:
        parts: events by part.
        notes: of the reader, a line each.
        ids: by part what the sequences are called in the source: by its own names, or by their numbers from 0.
    """

    parts: Mapping[str, Events]
    notes: tuple[str, ...]
    ids: Mapping[str, Names]

    @classmethod
    def of(cls, parts: Mapping[str, Events], notes: tuple[str, ...], named: Mapping[str, Sequence[str]]) -> Recorded:
        """With numbers where there are no names."""
        ids = {part: np.array(named.get(part, range(len(each))), object) for part, each in parts.items()}
        return cls(parts, notes, ids)


@dataclass(frozen=True, eq=False)
class Taken:
    """Data to train on.

    Args:
        splits: in the unit that models see.
        raw: by part the same sequences as recorded, with all events.
        ids: by part what they are called in the source; see `Recorded`.
        done: how they came there.
        unit: of time as recorded.
        simulated: whether the data are.
    """

    splits: Splits
    raw: Mapping[str, Events]
    ids: Mapping[str, Names]
    done: Prepared
    unit: str
    simulated: bool = False


def recorded(text: str, reading: Reading, seed: int = 0) -> Recorded:
    """The parts as their source has them.

    Args:
        text: a problem, ``tpp:NAME``, a file or a folder.
        reading: of files.
        seed: of the split of a problem.

    Raises:
        TPPError: if there is no such thing, or it cannot be read.
        AccordError: for an unknown problem, or one whose files are missing.
    """
    return _recorded(text, _problem(text), reading, seed)


def training(text: str, reading: Reading, seed: int) -> Taken:
    """The three parts that a model is trained on.

    Problems have their own recipe and splits, the same as under ``accord run``. Files and imported sets keep the parts
    train, validation and test, or are cut 60/20/20, and their times are divided by the mean gap of the training part.

    Args:
        text: as for ``recorded``.
        reading: of files.
        seed: of the split.

    Raises:
        TPPError: if the parts are no three and not one, besides what ``recorded`` raises.
    """
    problem = _problem(text)
    source = _recorded(text, problem, reading, seed)
    parts = source.parts
    names: tuple[str, ...] = PARTS if set(PARTS) <= parts.keys() else tuple(parts)
    if names != PARTS and len(names) > 1:
        raise TPPError(f"{text} has the parts {', '.join(parts)}; expected {', '.join(PARTS)}, or a single part.")
    simulated = problem is not None and not isinstance(problem, RealEvents)
    own = problem is not None and not problem.name.startswith(IMPORTED)
    recipe = problem.recipe if own and isinstance(problem, RealEvents) else "none" if own else "mean_gap"
    given = [parts[name] for name in names]
    splits, done = prepare(given[0] if len(given) == 1 else Splits(*given), recipe, seed=seed)
    raw, ids = join(given), np.concatenate([source.ids[name] for name in names])
    origin = dict(zip(PARTS, done.origin, strict=True))
    if problem is not None and problem.limit < max(map(len, done.origin)):
        kept = {name: eligible(part)[: problem.limit] for name, part in vars(splits).items()}
        splits = Splits(**{name: getattr(splits, name).subset(kept[name]) for name in PARTS})
        origin = {name: origin[name][kept[name]] for name in PARTS}
    return Taken(
        splits,
        {name: raw.subset(origin[name]) for name in PARTS},
        {name: ids[origin[name]] for name in PARTS},
        done,
        raw.unit,
        simulated,
    )


def canonical(text: str) -> str:
    """The data by a name that does not depend on the working folder.

    Raises:
        TPPError: if there are none of that name.
        AccordError: for an unknown problem.
    """
    return text if _problem(text) is not None else os.path.abspath(text)


def fingerprint(events: Events) -> str:
    """A hash of all sequences."""
    return hashlib.sha256("".join(events.fingerprints()).encode()).hexdigest()


def _problem(text: str) -> PointProcessProblem | None:
    """The problem of that name; None for a file or folder."""
    name = text.strip().split("(")[0]
    known = {problem.name for problem in problems.PROBLEMS}
    if name not in known and not name.startswith(IMPORTED):
        if os.path.exists(text):
            return None
        if "/" in text or Path(text).suffix:
            raise TPPError(f"{text}: no such file or folder, or it may not be read.")
    problem = problems.parse(text)
    if not isinstance(problem, PointProcessProblem):
        raise TPPError(f"{name} is no set of event sequences; expected one such as tpp-mooc, tpp:NAME or a file.")
    plain = problems.parse(name)
    for setting in ELSEWHERE:
        if getattr(problem, setting) != getattr(plain, setting):
            raise TPPError(f"{text}: {setting} is an option of this command, not a setting of the data.")
    return problem


def _recorded(text: str, problem: PointProcessProblem | None, reading: Reading, seed: int) -> Recorded:
    if problem is None:
        found = reading.read(text)
        return Recorded.of(found.parts, found.warnings, found.ids)
    if problem.name.startswith(IMPORTED):
        name, place = problem.name.removeprefix(IMPORTED), folder() / STORE
        return Recorded.of(store.load(name, place), (), store.load_ids(name, place))
    if not isinstance(problem, RealEvents):
        return Recorded.of(vars(problem.splits(seed)), (), {})
    table, splits = problem.files()
    seed %= SEEDS
    ids = zip(PARTS, chosen(splits, seed), strict=True)
    parts = vars(read_shared(table, splits, seed, problem.start))
    return Recorded.of(parts, (), {part: [str(number) for number in numbers] for part, numbers in ids})
