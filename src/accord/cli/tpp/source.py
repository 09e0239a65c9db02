"""Which events a user means: a problem such as tpp-mooc, an imported set such as tpp:NAME, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accord import problems
from accord.cli.reading import Reading
from accord.data import find, folder
from accord.problems.point_process import PointProcessProblem
from accord.problems.tpp_sets import IMPORTED, SEEDS, STORE, RealEvents
from accord.tpp import store
from accord.tpp.batch import eligible
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits
from accord.tpp.prepare import Prepared, prepare
from accord.tpp.readers.shared import read_shared

PARTS = ("train", "validation", "test")
ELSEWHERE = ("kind", "history", "encoding", "epochs", "batch", "lr")  # settings of problems that are options here


@dataclass(frozen=True)
class Taken:
    """Data to train on.

    Args:
        splits: in the unit that models see.
        done: how they came there.
        unit: of time as recorded.
        simulated: whether the data are.
    """

    splits: Splits
    done: Prepared
    unit: str
    simulated: bool = False


def recorded(text: str, reading: Reading, seed: int = 0) -> tuple[Mapping[str, Events], tuple[str, ...]]:
    """The parts as their source has them, not rescaled, and what its reader noted.

    Args:
        text: a problem, ``tpp:NAME``, a file or a folder.
        reading: of files.
        seed: of the split of a problem.

    Raises:
        TPPError: if there is no such thing, or it cannot be read.
        AccordError: for an unknown problem, or one whose files are missing.
    """
    problem = _problem(text)
    if problem is None:
        found = reading.read(text)
        return found.parts, found.warnings
    if problem.name.startswith(IMPORTED):
        return store.load(problem.name.removeprefix(IMPORTED), folder() / STORE), ()
    return vars(_with_splits(problem, seed)), ()


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
    real = problem is None or isinstance(problem, RealEvents)
    whole: Splits | Events
    if problem is not None and not problem.name.startswith(IMPORTED):
        whole = _with_splits(problem, seed)
        splits, done = prepare(whole, problem.recipe if isinstance(problem, RealEvents) else "none")
        unit = whole.train.unit
    else:
        parts, _ = recorded(text, reading)
        unit = next(iter(parts.values())).unit
        if set(PARTS) <= parts.keys():
            whole = Splits(*(parts[name] for name in PARTS))
        elif len(parts) == 1:
            whole = next(iter(parts.values()))
        else:
            raise TPPError(f"{text} has the parts {', '.join(parts)}; expected {', '.join(PARTS)}, or a single part.")
        splits, done = prepare(whole, "mean_gap", seed=seed, marks=None)
    return Taken(splits if problem is None else _limited(splits, problem.limit), done, unit, not real)


def fingerprint(events: Events) -> str:
    """A hash of all sequences."""
    return hashlib.sha256("".join(events.fingerprints()).encode()).hexdigest()


def _problem(text: str) -> PointProcessProblem | None:
    """The problem of that name; None for a file or folder."""
    name = text.strip().split("(")[0]
    known = {problem.name for problem in problems.PROBLEMS}
    if name not in known and not name.startswith(IMPORTED):
        if Path(text).exists():
            return None
        if "/" in text or Path(text).suffix:
            raise TPPError(f"{text}: no such file or folder.")
    problem = problems.parse(text)
    if not isinstance(problem, PointProcessProblem):
        raise TPPError(f"{name} is no set of event sequences; expected one such as tpp-mooc, tpp:NAME or a file.")
    plain = problems.parse(name)
    for setting in ELSEWHERE:
        if getattr(problem, setting) != getattr(plain, setting):
            raise TPPError(f"{text}: {setting} is an option of this command, not a setting of the data.")
    return problem


def _with_splits(problem: PointProcessProblem, seed: int) -> Splits:
    """Its parts before its recipe."""
    if not isinstance(problem, RealEvents):
        return problem.splits(seed)
    stem = problem.name.removeprefix("tpp-")
    files = [find(f"tpp/{stem}{ending}") for ending in (".parquet", ".splits.json")]
    return read_shared(files[0], files[1], seed % SEEDS, problem.start)


def _limited(splits: Splits, limit: int) -> Splits:
    if limit >= max(len(part) for part in vars(splits).values()):
        return splits
    return Splits(*(part.subset(eligible(part)[:limit]) for part in vars(splits).values()))
