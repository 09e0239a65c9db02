"""Recipes that turn events as recorded into the three parts that models are trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accord.tpp.errors import TPPError, nearest
from accord.tpp.events import Events, Integers, Splits, split
from accord.tpp.parts import first_copies, join
from accord.tpp.tick import tick as detect

RECIPES = ("train_only", "paper10", "mean_gap", "none")
SPAN = 10.0  # largest time after ``paper10`` and ``train_only``


@dataclass(frozen=True)
class Prepared:
    """What a recipe did: everything left out is counted here.

    Args:
        recipe: its name.
        sequences: given.
        events: given.
        copies: sequences left out as copies of an earlier one.
        other_marks: events left out for their mark.
        at_zero: events left out because they lie at time 0.
        short: sequences left out because fewer than two events remained.
        short_events: the events that these still held.
        offset: subtracted from all times.
        factor: that times were multiplied by afterwards.
        tick: resolution before both, in the unit given; None: continuous or unknown.
        origin: for train, validation and test, which of the given sequences each one is, counted through the parts
            given: names that the source has for them are found by it.
    """

    recipe: str
    sequences: int
    events: int
    copies: int = 0
    other_marks: int = 0
    at_zero: int = 0
    short: int = 0
    short_events: int = 0
    offset: float = 0.0
    factor: float = 1.0
    tick: float | None = None
    origin: tuple[Integers, ...] = field(default=(), repr=False, compare=False)


def prepare(
    data: Events | Splits, recipe: str = "train_only", *, seed: int = 0, marks: int | None = 50
) -> tuple[Splits, Prepared]:
    """The three parts, cleaned and rescaled, and the count of what was left out.

    ============  ========================  =======================  ==============================
    recipe        marks kept                events, sequences        factor of all times
    ============  ========================  =======================  ==============================
    train_only    most frequent in train    as paper10               10 / largest time in train
    paper10       most frequent in all      none at 0, at least two  10 / largest time of all
    mean_gap      all                       all                      1 / mean scored gap of train
    none          all                       all, copies too          1
    ============  ========================  =======================  ==============================

    All but ``none`` leave out copies of a sequence (the first one stays, in the order train, validation, test) and move
    times that begin far from zero, such as Unix seconds, to begin one tick after it. A sequence whose event at time 0
    is left out starts at 0 from then on, if its start was unknown. All of this is done in float64.

    Args:
        data: whole, then it is cut 60/20/20 by whole sequences, or in parts that are kept.
        recipe: see above. ``paper10`` is the published order of operations; its marks and scale see the test data.
        seed: of the cut, which ``paper10`` makes at the end and the others before they look at train.
        marks: how many marks are kept, by frequency; None: all.

    Raises:
        TPPError: for an unknown recipe, or if a part ends up empty.

    Source:
        T. Bosser, S. Ben Taieb, arXiv 2412.08590 (order of operations of the authors' code).

    Example:
        >>> data = Events.of([[5.0, 6.0 + i, 30.0] for i in range(10)] + [[5.0, 6.0, 30.0]])
        >>> parts, done = prepare(data, "mean_gap")
        >>> len(parts.train), done.copies, round(float(parts.train.gaps[parts.train.scored].mean()), 12)
        (6, 1, 1.0)
    """
    if recipe not in RECIPES:
        raise TPPError(f"unknown recipe {recipe!r}.{nearest(recipe, RECIPES)}")
    if marks is not None and marks < 1:
        raise TPPError(f"marks={marks}; expected at least 1, or None for all.")
    given = (data,) if isinstance(data, Events) else (data.train, data.validation, data.test)
    events, whole = join(given), isinstance(data, Events)
    number = np.arange(len(events))  # (N,) of each sequence, among those given
    part = np.repeat(np.arange(len(given)), [len(each) for each in given])  # (N,) 0 train, 1 validation, 2 test
    done = Prepared(recipe, len(events), events.time.size)
    if recipe == "none":
        splits, done = _cut(events, number, _drawn(number.size, seed, done) if whole else part, done)
        return data if isinstance(data, Splits) else splits, done
    if events.tick is None:
        events = dataclasses.replace(events, tick=detect(events))
    first = first_copies(events) == number
    events, number, part = events.subset(number[first]), number[first], part[first]
    events, offset = _moved(events)
    done = dataclasses.replace(done, copies=int((~first).sum()), tick=events.tick, offset=offset)
    if whole and recipe != "paper10":
        part = _drawn(number.size, seed, done)
    if recipe != "mean_gap":
        seen = part[events.sequence] == 0 if recipe == "train_only" else np.ones(events.time.size, bool)
        events, long, done = _cleaned(events, seen, marks, done)
        number, part = number[long], part[long]
    if whole and recipe == "paper10":
        part = _drawn(number.size, seed, done)
    factor = _factor(events, part, recipe)
    if factor != 1:
        events = events.rescaled(factor, f"{1 / factor:.6g} × [{events.unit}]")
    return _cut(events, number, part, dataclasses.replace(done, factor=factor))


def _drawn(count: int, seed: int, done: Prepared) -> Integers:
    """(N,) the part of each of so many sequences, as `split` cuts them."""
    # One event each, at its own number, tells which sequences went where.
    numbers = Events(np.arange(count, dtype=np.float64), np.zeros(count, np.int64), np.arange(count + 1), ("",))
    part = np.empty(count, np.int64)
    try:
        for p, chosen in enumerate(vars(split(numbers, seed)).values()):
            part[chosen.time.astype(np.int64)] = p
    except TPPError as error:
        copies = f" ({done.copies:,} of {done.sequences:,} are copies of another)" if done.copies else ""
        raise TPPError(f"{str(error).removesuffix('.')}{copies}.") from None
    return part


def _cut(events: Events, number: Integers, part: Integers, done: Prepared) -> tuple[Splits, Prepared]:
    """The three parts, and where their sequences come from."""
    chosen = [np.flatnonzero(part == p) for p in range(3)]
    if any(c.size == 0 for c in chosen):
        least = "" if done.recipe == "mean_gap" else ", keep more marks, or use the recipe 'mean_gap'"
        raise TPPError(
            f"{' / '.join(str(c.size) for c in chosen)} sequences remain for train / validation / test, without "
            f"{done.copies:,} copies and {done.short:,} that were too short; give more sequences{least}."
        )
    origin = tuple(number[c] for c in chosen)
    return Splits(*(events.subset(c) for c in chosen)), dataclasses.replace(done, origin=origin)


def _moved(events: Events) -> tuple[Events, float]:
    """Times that begin far from zero, moved to begin one tick after it."""
    low, high = float(events.origin.min(initial=np.inf)), float(events.time.max(initial=-np.inf))
    if 0 <= low <= 0.1 * (high - low):
        return events, 0.0
    gaps = events.gaps[events.gaps > 0]
    # Never to zero itself, where `paper10` would take the first event for an artefact.
    offset = low - (events.tick or float(gaps.min(initial=1.0)))
    moved = {name: getattr(events, name) - offset for name in ("time", "start", "end")}
    return dataclasses.replace(events, **moved), offset


def _cleaned(
    events: Events, seen: NDArray[np.bool_], marks: int | None, done: Prepared
) -> tuple[Events, NDArray[np.bool_], Prepared]:
    """Only the most frequent marks of the events ``seen`` (E,), nothing at time 0, at least two events.

    Returns:
        the events, which sequences (N,) stayed, and the counts of what did not.
    """
    count = np.bincount(events.mark[seen], minlength=len(events.marks))  # (M,)
    order = np.argsort(-count, kind="stable")  # equally frequent: the smaller number first
    kept = np.sort(order[: np.count_nonzero(count)][:marks])
    known, away = np.isin(events.mark, kept), events.time != 0
    counts = np.bincount(events.sequence[known & away], minlength=len(events))  # (N,) left of each sequence
    long = counts >= 2
    rows = known & away & long[events.sequence]
    start = events.start.copy()
    begins = np.flatnonzero(events.lengths > 0)
    begins = begins[(events.time[events.offsets[begins]] == 0) & np.isnan(start[begins])]
    start[begins] = 0.0  # the event at 0 is left out, but that observation began there stays known
    kept = np.unique(events.mark[rows])
    number = np.zeros(len(events.marks), np.int64)
    number[kept] = np.arange(kept.size)
    cleaned = dataclasses.replace(
        events,
        time=events.time[rows],
        mark=number[events.mark[rows]],
        offsets=np.concatenate([[0], np.cumsum(counts[long])]),
        marks=tuple(events.marks[k] for k in kept),
        start=start[long],
        end=events.end[long],
    )
    done = dataclasses.replace(
        done,
        other_marks=int((~known).sum()),
        at_zero=int((known & ~away).sum()),
        short=int((~long).sum()),
        short_events=int(counts[~long].sum()),
    )
    return cleaned, long, done


def _factor(events: Events, part: Integers, recipe: str) -> float:
    train = np.ones(events.time.size, bool) if recipe == "paper10" else part[events.sequence] == 0
    if recipe == "mean_gap":
        size = float(events.gaps[train & events.scored].mean()) if (train & events.scored).any() else 0.0
        span = 1.0
    else:
        size, span = float(events.time[train].max(initial=0.0)), SPAN
    if size <= 0:
        raise TPPError(
            "train has no gap to scale times by: its sequences have one event each and no known start, or all gaps are "
            "0; give the starts, or more events."
        )
    return span / size
