"""Events: marked event sequences as flat arrays, the one form that everything else takes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.tpp.errors import TPPError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Events:
    """N sequences of marked events, one behind the other in flat arrays.

    Sequence i holds the events ``offsets[i]:offsets[i+1]``. Times of a sequence never decrease; equal times (ties) are
    legal and keep their order. A sequence may be empty if its window is known.

    Args:
        time: (E,) float64 times of all events, in ``unit``.
        mark: (E,) whole numbers 0..M-1.
        offsets: (N + 1,) with 0 first and E last.
        marks: names of the M marks.
        start: (N,) start of each observation window; NaN: unknown, then the first event of the sequence is where
            observation starts, and it is not scored.
        end: (N,) end of each window; NaN: unknown, then the sequence ends with its last event.
        unit: of time, for axes and reports.
        tick: resolution of the recording in ``unit``; None: continuous or unknown.
        name: of the data set.
        licence: of the data, or what is known of it.

    Raises:
        TPPError: naming the first sequence and event at fault: NaN or infinite times, decreasing times, unknown marks,
            events outside their window, offsets that do not fit.

    Example:
        >>> events = Events.of([[1.0, 2.5], [0.5]], [[0, 1], [1]], end=3.0)
        >>> events, events.lengths.tolist(), events.gaps.tolist(), events.scored.tolist()
        (Events(N=2, events=3, M=2), [2, 1], [0.0, 1.5, 0.0], [False, True, False])
    """

    time: Floats
    mark: Integers
    offsets: Integers
    marks: tuple[str, ...]
    start: Floats = field(default_factory=lambda: np.empty(0))
    end: Floats = field(default_factory=lambda: np.empty(0))
    unit: str = "1"
    tick: float | None = None
    name: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        given = {"time": np.float64, "mark": np.int64, "offsets": np.int64, "start": np.float64, "end": np.float64}
        for name, kind in given.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        if self.offsets.size == 0:
            raise TPPError("offsets are empty; expected N + 1 of them, beginning with 0.")
        for name in ("start", "end"):
            if getattr(self, name).size == 0 and len(self):
                object.__setattr__(self, name, np.full(len(self), np.nan))
        self._check()

    @classmethod
    def of(
        cls,
        times: Sequence[ArrayLike],
        marks: Sequence[ArrayLike] | None = None,
        *,
        start: ArrayLike = np.nan,
        end: ArrayLike = np.nan,
        names: Sequence[str] | None = None,
        **about: object,
    ) -> Events:
        """From one list of times, and one of marks, for each sequence.

        Args:
            times: N lists.
            marks: N lists as long; None: all events have mark 0.
            start: one number for all sequences, or N.
            end: the same.
            names: of the marks; by default ``0``, ``1`` and so on.
            about: ``unit``, ``tick``, ``name``, ``licence``.
        """
        if marks is None:
            marks = [np.zeros(np.size(t), np.int64) for t in times]
        if len(marks) != len(times):
            raise TPPError(f"{len(times)} lists of times and {len(marks)} lists of marks; expected one of each.")
        for i, (t, m) in enumerate(zip(times, marks, strict=True)):
            if np.ndim(t) != 1 or np.shape(t) != np.shape(m):
                raise TPPError(
                    f"sequence {i}: times have shape {np.shape(t)}, marks {np.shape(m)}; expected two lists as long."
                )
        mark = np.concatenate([np.empty(0), *map(np.asarray, marks)])  # (E,)
        if not np.array_equal(mark, np.floor(mark)):
            raise TPPError("marks are not whole numbers; give every kind of mark a number and its name in `names`.")
        if names is None:
            names = [str(k) for k in range(int(mark.max(initial=-1)) + 1)]
        return cls(
            time=np.concatenate([np.empty(0), *map(np.asarray, times)]),
            mark=mark.astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum([np.size(t) for t in times])]).astype(np.int64),
            marks=tuple(names),
            start=np.broadcast_to(np.asarray(start, np.float64), (len(times),)),
            end=np.broadcast_to(np.asarray(end, np.float64), (len(times),)),
            **about,  # type: ignore[arg-type]
        )

    def _check(self) -> None:
        o, t = self.offsets, self.time
        if o.ndim != 1 or o[0] != 0 or o[-1] != t.size or (np.diff(o) < 0).any() or t.ndim != 1:
            raise TPPError(f"offsets must go from 0 to the number of events ({t.size}) without decreasing.")
        if self.mark.shape != t.shape or self.start.shape != (len(self),) or self.end.shape != (len(self),):
            raise TPPError(
                f"{t.size} times, {self.mark.size} marks, {len(self)} sequences, {self.start.size} starts and "
                f"{self.end.size} ends do not fit together."
            )
        first = np.zeros(t.size, bool)  # (E,) is the event the first of its sequence?
        first[o[:-1][np.diff(o) > 0]] = True
        self._refuse(~np.isfinite(t), "has a time that is no finite number")
        endless = np.isinf(self.start) | np.isinf(self.end)
        if endless.any():
            raise TPPError(
                f"the window of sequence {int(endless.argmax())} is infinite; expected a time, or NaN: unknown."
            )
        self._refuse((np.diff(t, prepend=t[:1]) < 0) & ~first, "lies before the one in front of it; sort the times")
        self._refuse((self.mark < 0) | (self.mark >= len(self.marks)), f"has a mark outside 0..{len(self.marks) - 1}")
        self._refuse(t < self.start[self.sequence], "lies before the start of its window")
        self._refuse(t > self.end[self.sequence], "lies behind the end of its window")
        empty = (np.diff(o) == 0) & ~((self.start < self.end) & np.isfinite(self.end))
        if empty.any():
            raise TPPError(f"sequence {int(empty.argmax())} has no events and no known window; leave it out.")

    def _refuse(self, wrong: NDArray[np.bool_], text: str) -> None:
        if wrong.any():
            at = int(wrong.argmax())
            i = int(self.sequence[at])
            more = f" ({int(wrong.sum())} such events)" if wrong.sum() > 1 else ""
            raise TPPError(
                f"{self.name or 'events'}: sequence {i}, event {at - int(self.offsets[i])} (time {self.time[at]}, "
                f"mark {self.mark[at]}) {text}{more}."
            )

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return f"Events({name}N={len(self)}, events={self.time.size}, M={len(self.marks)})"

    @property
    def lengths(self) -> Integers:
        """(N,) events of each sequence."""
        return np.diff(self.offsets)

    @cached_property
    def sequence(self) -> Integers:
        """(E,) the sequence of each event."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def origin(self) -> Floats:
        """(N,) where observation starts: ``start``, or the first event where that is unknown."""
        found = self.start.copy()
        known = ~np.isnan(found)
        found[~known] = self.time[self.offsets[:-1][~known]]
        return found

    @cached_property
    def gaps(self) -> Floats:
        """(E,) time since the event before, or since ``origin``; taken in float64, before any rounding."""
        before = np.empty_like(self.time)
        before[1:] = self.time[:-1]
        some = self.lengths > 0
        before[self.offsets[:-1][some]] = self.origin[some]
        return self.time - before

    @cached_property
    def tails(self) -> Floats:
        """(N,) time from the last event, or from ``start`` if there is none, to ``end``; 0 where that is unknown."""
        last = self.start.copy()
        some = self.lengths > 0
        last[some] = self.time[self.offsets[1:][some] - 1]
        return np.where(np.isnan(self.end), 0.0, self.end - last)

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """(E,) whether an event counts in the likelihood: all but a first one that itself starts the observation."""
        counts = np.ones(self.time.size, bool)
        unknown = np.isnan(self.start) & (self.lengths > 0)
        counts[self.offsets[:-1][unknown]] = False
        return counts

    def subset(self, chosen: ArrayLike) -> Events:
        """The sequences with these numbers, in this order."""
        chosen = np.asarray(chosen, np.int64)
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return dataclasses.replace(
            self,
            time=self.time[rows],
            mark=self.mark[rows],
            offsets=offsets,
            start=self.start[chosen],
            end=self.end[chosen],
        )

    def rescaled(self, factor: float, unit: str = "1") -> Events:
        """The same with all times, windows and the tick multiplied by ``factor``."""
        if not 0 < factor < np.inf:
            raise TPPError(f"times cannot be multiplied by {factor}; expected a positive number.")
        tick = None if self.tick is None else self.tick * factor
        return dataclasses.replace(
            self, time=self.time * factor, start=self.start * factor, end=self.end * factor, tick=tick, unit=unit
        )

    def fingerprints(self) -> list[str]:
        """For each sequence a hash of its times, marks and window: equal for exact copies alone."""
        found = []
        for i, (a, b) in enumerate(zip(self.offsets[:-1], self.offsets[1:], strict=True)):
            parts = (self.time[a:b], self.mark[a:b], self.start[i], self.end[i])
            found.append(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
        return found


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set; only ``validation`` may choose anything, ``test`` is for final figures."""

    train: Events
    validation: Events
    test: Events

    def __post_init__(self) -> None:
        vocabularies = {part.marks for part in (self.train, self.validation, self.test)}
        if len(vocabularies) > 1:
            raise TPPError("train, validation and test have different vocabularies of marks; map them to one first.")


def split(events: Events, seed: int = 0, shares: tuple[float, float] = (0.6, 0.2)) -> Splits:
    """Cut by whole sequences, at random: 60 % train, 20 % validation, the rest test.

    Args:
        events: to cut.
        seed: decides the permutation alone.
        shares: of train and validation.

    Raises:
        TPPError: if a part would be empty.

    Example:
        >>> parts = split(Events.of([[1.0, 2.0]] * 10))
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (6, 2, 2)
    """
    order = np.random.default_rng(seed).permutation(len(events))
    cuts = np.cumsum([int(share * len(events)) for share in shares])
    chosen = [np.sort(part) for part in np.split(order, cuts)]
    if any(part.size == 0 for part in chosen):
        raise TPPError(f"{len(events)} sequences cannot be cut into three parts; give more, or give the parts.")
    return Splits(*(events.subset(part) for part in chosen))
