"""The real event sequences of the conflict study and of others' benchmarks, and any data set that was imported."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from accord.data import find, folder
from accord.errors import AccordError
from accord.problems.point_process import PointProcessProblem
from accord.tpp import store
from accord.tpp.errors import TPPError
from accord.tpp.events import Splits
from accord.tpp.model import TASKS
from accord.tpp.prepare import prepare
from accord.tpp.readers.shared import read_shared

STORE = "imported"  # below the data folder
IMPORTED = "tpp:"
SEEDS = 5  # fixed splits of each real set; more seeds use them again, with other initial parameters


@dataclass(frozen=True, repr=False)
class RealEvents(PointProcessProblem):
    """Real event sequences from ``tpp/NAME.parquet`` below the data folder, with five fixed splits by sequence.

    Args:
        kind: the model; see ``PointProcessProblem`` for the other settings.
    """

    tasks: ClassVar[tuple[str, ...]] = TASKS
    metric: ClassVar[dict[str, tuple[str, bool]]] = {"time": ("pce", False), "mark": ("accuracy", True)}
    recipe: ClassVar[str] = "none"
    start: ClassVar[float | None] = None

    def splits(self, seed: int) -> Splits:
        """One of the five fixed splits."""
        return _read(*self.files(), seed % SEEDS, self.start, self.recipe)

    def files(self) -> tuple[Path, Path]:
        """The table of events, and the file of its splits.

        Raises:
            AccordError: if one is missing.
        """
        stem = self.name.removeprefix("tpp-")
        return find(f"tpp/{stem}.parquet"), find(f"tpp/{stem}.splits.json")


@cache
def _read(parquet: Path, splits: Path, seed: int, start: float | None, recipe: str) -> Splits:
    return prepare(read_shared(parquet, splits, seed, start), recipe)[0]


def _named(name: str, text: str, recipe: str, start: float | None) -> type[PointProcessProblem]:
    namespace = {"name": f"tpp-{name}", "recipe": recipe, "start": start, "dataset": name}
    namespace |= {"__doc__": text, "__module__": __name__}
    return make_dataclass(f"TPP{name.title()}", [], bases=(RealEvents,), namespace=namespace, frozen=True, repr=False)


# Those of the study come with all times scaled to [0, 10] and observation from 0; the others are scaled here, by the
# training part alone.
LASTFM = _named("lastfm", "Songs of 50 artists played by users of Last.fm.", "none", 0.0)
MOOC = _named("mooc", "50 kinds of actions of students in an online course.", "none", 0.0)
REDDIT = _named("reddit", "Posts of users in 50 subreddits.", "none", 0.0)
STACKOVERFLOW = _named("stackoverflow", "22 badges that users of Stack Overflow earn.", "none", 0.0)
GITHUB = _named("github", "8 kinds of actions of developers on GitHub.", "train_only", None)
TAXI = _named("taxi", "Pick-ups and drop-offs of taxis in 5 boroughs of New York.", "train_only", None)
TAOBAO = _named("taobao", "Clicks of customers of a shop on 17 groups of goods.", "train_only", None)

REAL = (LASTFM, MOOC, GITHUB, REDDIT, STACKOVERFLOW, TAXI, TAOBAO)


@cache
def imported(name: str) -> type[PointProcessProblem]:
    """The problem of a data set that was imported as ``name``: ``tpp:NAME``.

    Parts that the data set has (train, validation, test) stay; otherwise it is cut 60/20/20, a seed for each cut. Times
    are divided by the mean gap of the training part.

    Raises:
        AccordError: if there is no such data set.
    """
    known = [entry.name for entry in store.listing(folder() / STORE)]
    if name not in known:
        listed = f"It has {', '.join(known)}." if known else "It is empty."
        raise AccordError(
            f"no data set {name!r} was imported. {listed} Import one: accord data import FILE --as {name}"
        )

    def splits(self: PointProcessProblem, seed: int) -> Splits:
        return _stored(name, folder() / STORE, seed)

    namespace = {"name": f"{IMPORTED}{name}", "splits": splits, "__doc__": f"The imported data set {name}."}
    namespace["__module__"] = __name__
    return make_dataclass("TPPImported", [], bases=(RealEvents,), namespace=namespace, frozen=True, repr=False)


@cache
def _stored(name: str, place: Path, seed: int) -> Splits:
    parts = store.load(name, place)
    if {"train", "validation", "test"} <= parts.keys():
        whole = Splits(parts["train"], parts["validation"], parts["test"])
        return prepare(whole, "mean_gap", marks=None)[0]
    if len(parts) > 1:
        raise TPPError(f"{name} has the parts {', '.join(parts)}; a problem needs train, validation and test, or one.")
    return prepare(next(iter(parts.values())), "mean_gap", seed=seed, marks=None)[0]
