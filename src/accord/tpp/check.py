"""What a user should know of a data set before trusting a model of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accord.tpp.events import Events, Integers
from accord.tpp.inner import inner_gaps, within
from accord.tpp.parts import first_copies, join
from accord.tpp.shift import SHUFFLES, distance, exceeds_chance
from accord.tpp.tick import tick

SHIFT = 0.1  # Kolmogorov-Smirnov distance of gaps between parts from which on it is worth a word
MISSING = ("", "nan", "na", "n/a", "none", "null", "nil", "<na>", "missing", "undefined")  # in any case of letters
_ORDER = ("error", "warning", "note")

Parts = Mapping[str, Events]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Args:
        severity: ``error``: results would be wrong; ``warning``: results would mislead; ``note``: good to know.
        kind: a short name, the same for all findings of one check.
        text: what, with numbers.
        remedy: what to do.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    text: str
    remedy: str


def check(parts: Parts) -> list[Finding]:
    """All findings, the most severe first.

    Looked for: parts without sequences, copies of sequences across and within parts, copies of events, ties, a coarse
    time grid, very unequal lengths, marks that are constant, unused, spelled like a missing value or missing from
    train, unknown windows, sequences without scored events, times far from zero, and gaps that differ between train and
    the other parts.

    Args:
        parts: events by part, as readers give them, before any preparation.

    Example:
        >>> events = Events.of([[0.5, 2.0]], start=0.0)
        >>> for finding in check({"train": events, "test": events}):
        ...     print(finding.severity, finding.kind)
        error copies
        warning constant marks
        note time grid
        note windows
    """
    empty = [*_empty(parts)]
    parts = {name: events for name, events in parts.items() if len(events)}
    if not parts:
        return empty
    whole = join(list(parts.values()))
    part = np.repeat(np.arange(len(parts)), [len(events) for events in parts.values()])  # (N,)
    found = [
        *empty,
        *_copies(whole, part, list(parts)),
        *_repeated_events(whole),
        *_ties(whole),
        *_grid(whole),
        *_lengths(whole),
        *_marks(whole),
        *_missing_marks(whole),
        *_unseen_marks(parts),
        *_windows(whole),
        *_unscored(whole),
        *_far(whole),
        *_shifts(parts),
    ]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def _empty(parts: Parts) -> Iterator[Finding]:
    names = [name for name, events in parts.items() if len(events) == 0]
    if names or not parts:
        yield Finding(
            "error",
            "no sequences",
            f"there are no sequences in {', '.join(names)}." if names else "there are no sequences at all.",
            "Find out where they were left; nothing can be said about them, or measured on them.",
        )


def _copies(whole: Events, part: Integers, names: list[str]) -> Iterator[Finding]:
    first = first_copies(whole)
    copy = first != np.arange(len(whole))
    across = copy & (part != part[first])
    if across.any():
        pairs, counts = np.unique(np.stack([part[first[across]], part[across]]), axis=1, return_counts=True)
        where = ", ".join(f"{c:,} of {names[b]} in {names[a]}" for (a, b), c in zip(pairs.T, counts, strict=True))
        yield Finding(
            "error",
            "copies",
            _of(across.sum(), len(whole), "sequences is an exact copy", "sequences are exact copies")
            + f" of one in another part ({where}).",
            "Prepare with any recipe but 'none', which keeps the first copy, or cut the parts anew.",
        )
    if (within := int((copy & ~across).sum())) > 0:
        yield Finding(
            "warning",
            "copies",
            _of(within, len(whole), "sequences is an exact copy", "sequences are exact copies")
            + " of one in the same part.",
            "Prepare with any recipe but 'none', which keeps the first copy.",
        )


def _repeated_events(whole: Events) -> Iterator[Finding]:
    order = np.lexsort((whole.mark, whole.time, whole.sequence))
    same = np.ones(max(whole.time.size - 1, 0), bool)
    for column in (whole.sequence, whole.time, whole.mark):
        same &= np.diff(column[order]) == 0
    if same.any():
        yield Finding(
            "note",
            "repeated events",
            _of(same.sum(), whole.time.size, "events repeats", "events repeat")
            + " time and mark of another one of the same sequence.",
            "Find out whether they were recorded twice; nothing removes them.",
        )


def _ties(whole: Events) -> Iterator[Finding]:
    gaps = inner_gaps(whole)
    if (share := float(np.mean(gaps == 0)) if gaps.size else 0.0) > 0:
        yield Finding(
            "warning" if share > 0.01 else "note",
            "ties",
            f"{share:.2%} of the gaps are zero: events at the same time, whose order is that of the file.",
            "Densities grow without bound there: judge the time by the dequantised likelihood or the calibration.",
        )


def _grid(whole: Events) -> Iterator[Finding]:
    unit = tick(whole)
    if unit is None:
        return
    gaps = inner_gaps(whole)
    near = float(np.mean(gaps < 9.5 * unit)) if gaps.size else 0.0
    yield Finding(
        "warning" if near > 0.01 else "note",
        "time grid",
        f"times lie on a grid of {unit:.6g} {_unit(whole)}; {near:.1%} of the gaps are shorter than ten steps of it.",
        "A density can win likelihood by spikes on the grid: report the dequantised likelihood too.",
    )


def _lengths(whole: Events) -> Iterator[Finding]:
    median, longest = float(np.median(whole.lengths)), int(whole.lengths.max())
    if longest > 20 * max(median, 1.0):
        share = longest / whole.time.size
        yield Finding(
            "note",
            "unequal lengths",
            f"the longest sequence has {longest:,} events, {longest / max(median, 1.0):.0f} times the median "
            f"({median:.0f}) and {share:.1%} of all.",
            "Figures per sequence then vary much between splits: compare methods on the same ones, and on several.",
        )


def _marks(whole: Events) -> Iterator[Finding]:
    count = np.bincount(whole.mark, minlength=len(whole.marks))  # (M,)
    used = int(np.count_nonzero(count))
    if used <= 1:
        yield Finding(
            "warning",
            "constant marks",
            "all events have the same mark, so there is nothing to predict about it.",
            "Measure the time alone, or read another column as the mark.",
        )
    elif used < len(whole.marks):
        example = whole.marks[int(np.argmin(count))]
        yield Finding(
            "note",
            "unused marks",
            _of(len(whole.marks) - used, len(whole.marks), "marks never occurs", "marks never occur")
            + f", for example {example!r}.",
            "Leave them out, unless they can occur later; the recipes 'train_only' and 'paper10' do.",
        )


def _missing_marks(whole: Events) -> Iterator[Finding]:
    count = np.bincount(whole.mark, minlength=len(whole.marks))  # (M,)
    odd = [k for k, mark in enumerate(whole.marks) if mark.strip().lower() in MISSING and count[k] > 0]
    if odd:
        names = ", ".join(repr(whole.marks[k]) for k in odd)
        yield Finding(
            "warning",
            "missing marks",
            _of(int(count[odd].sum()), whole.time.size, "events has", "events have")
            + f" a mark that may stand for a missing one: {names}.",
            "If it does, leave these events out or give them their mark; a model would learn it as one more kind.",
        )


def _unseen_marks(parts: Parts) -> Iterator[Finding]:
    if "train" not in parts:
        return
    known = np.bincount(parts["train"].mark, minlength=len(parts["train"].marks)) > 0
    for name, events in parts.items():
        if unseen := int((~known[events.mark]).sum()):
            yield Finding(
                "warning",
                "marks missing from train",
                _of(unseen, events.time.size, f"events of {name} has", f"events of {name} have")
                + " a mark that train never shows.",
                "Prepare with 'train_only', which leaves them out and counts them, or cut the parts anew.",
            )


def _windows(whole: Events) -> Iterator[Finding]:
    start, end = float(np.isnan(whole.start).mean()), float(np.isnan(whole.end).mean())
    if start or end:
        yield Finding(
            "note",
            "windows",
            f"the start of the observation is unknown for {start:.0%} of the sequences, the end for {end:.0%}.",
            "The first event is then not scored, and the time after the last one does not count; "
            "give start and end if you know them.",
        )


def _unscored(whole: Events) -> Iterator[Finding]:
    scored = np.bincount(whole.sequence[whole.scored], minlength=len(whole))
    if (none := int((scored == 0).sum())) > 0:
        yield Finding(
            "warning",
            "nothing scored",
            _of(none, len(whole), "sequences has", "sequences have")
            + " no scored event: without events, or with one and an unknown start.",
            "Such sequences are left out of all figures; give the starts if you know them.",
        )


def _far(whole: Events) -> Iterator[Finding]:
    gaps = inner_gaps(whole)
    largest = float(np.abs(whole.time).max(initial=0.0))
    rounded = np.diff(whole.time.astype(np.float32).astype(np.float64))[within(whole)]
    error = np.abs(rounded - gaps)[gaps > 0] / gaps[gaps > 0]
    if error.size and (worst := float(np.quantile(error, 0.99))) > 0.01:
        yield Finding(
            "note",
            "float32",
            f"in float32 one gap in a hundred is wrong by {min(worst, 1):.1%} or more (times up to {largest:.6g}).",
            "Nothing is lost here, where gaps are taken in float64; for other programs subtract an offset first.",
        )


def _shifts(parts: Parts) -> Iterator[Finding]:
    for name in ("validation", "test"):
        if "train" not in parts or name not in parts:
            continue
        a, b = inner_gaps(parts["train"]), inner_gaps(parts[name])
        if min(a.size, b.size) == 0 or (apart := distance(a, b)) < SHIFT:
            continue
        if exceeds_chance(parts["train"], parts[name]):
            yield Finding(
                "warning",
                "shift",
                f"the gaps of {name} are distributed differently from those of train: Kolmogorov-Smirnov distance "
                f"{apart:.3f}, more than in any of {SHUFFLES} random regroupings of the sequences; "
                f"median {np.median(b):.3g} against {np.median(a):.3g} {_unit(parts[name])}.",
                "Figures on it measure the shift too: cut the parts anew at random, or say so beside the figures.",
            )


def _of(count: int, total: int, one: str, many: str) -> str:
    """``1 of 5 sequences has``, ``2 of 5 sequences have``."""
    return f"{count:,} of {total:,} {one if count == 1 else many}"


def _unit(events: Events) -> str:
    """For texts, where a bare ``1``, ``60 s`` or ``1 = 60 s`` would read as part of the number before it."""
    if events.unit == "1":
        return "units"
    return f"× [{events.unit}]" if events.unit[:1].isdigit() else events.unit
