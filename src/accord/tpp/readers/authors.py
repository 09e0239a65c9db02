"""authors: json of the gradient-conflict study and of neuralTPPs, events with a list of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Floats
from accord.tpp.readers.found import Found
from accord.tpp.readers.rows import ARGS, Rows, build, load_json, mention, notes, numbers, sources

POLICIES = (None, "first", "each")


def recognises(path: str | Path) -> bool:
    """Whether json here names the fields of this format."""
    return mention(path, (".json",), '"time"', '"labels"')


def read(path: str | Path, *, multilabel: str | None = None) -> Found:
    """Events from ``split_i/{train,val,cal,test}.json``: lists of ``{"time", "labels": [k]}`` or ``{"events": [...]}``.

    Windows start at 0. Of an ``args.json`` beside the files ``marks`` gives the vocabulary 0..M-1, used or not, and
    ``window``, if it is not null, the end of all windows. Without it the vocabulary consists of the marks that occur
    in any part and ends are unknown. Its other settings are not applied.

    Args:
        path: a json file, or the folder of one split.
        multilabel: for events with several labels: None refuses them, ``first`` keeps the first label, ``each`` makes
            one event of each label, all at the same time and in the order given, which adds zero gaps.

    Returns:
        The parts; warnings where labels were left out or split, or sizes in ``args.json`` differ from what was found.

    Raises:
        TPPError: naming file, sequence and event at fault.

    Source:
        https://github.com/tanguybosser/grapTPP_tmlr; specification of this package, section 12.
    """
    path = Path(path)
    if multilabel not in POLICIES:
        raise TPPError(f"multilabel={multilabel!r}; expected None, 'first' or 'each'.")
    splits = sorted(folder.name for folder in path.glob("split_*") if folder.is_dir())
    if splits and not any(path.glob("*.json")):
        raise TPPError(f"{path}: holds {', '.join(splits[:6])}; give the folder of one of them.")
    files = sources(path, ".json")
    beside = next(iter(files.values())).with_name(ARGS)
    args = load_json(beside) if beside.is_file() else {}
    if not isinstance(args, dict):
        raise TPPError(f"{beside}: found {type(args).__name__}; expected a dict of settings.")
    window = args.get("window")
    end = np.nan if window is None else float(numbers([window], f"{beside}: window")[0])
    parts = {part: _rows(file, multilabel, end) for part, file in files.items()}
    for part, file in files.items():
        size = args.get(f"{file.stem}_size")
        if size not in (None, len(parts[part].times)):
            parts[part].notes.append(f"{file}: {len(parts[part].times)} sequences, but {ARGS} states {str(size)[:20]}.")
    return Found(build(parts, path.stem, args.get("marks")), notes(parts.values()))


def _rows(file: Path, multilabel: str | None, end: float) -> Rows:
    sequences = load_json(file)
    if not isinstance(sequences, list):
        raise TPPError(f"{file}: found {type(sequences).__name__}; expected a list of sequences.")
    rows, marks, several = Rows(str(file), [], None, 0.0, end), [], 0
    for i, sequence in enumerate(sequences):
        where = f"{file}: sequence {i}"
        events = sequence.get("events") if isinstance(sequence, dict) else sequence
        if not isinstance(events, list):
            raise TPPError(f"{where}: found {type(events).__name__}; expected a list of events.")
        times, mark, more = _events(events, where, multilabel)
        rows.times.append(times)
        marks.append(mark)
        several += more
    rows.marks = marks
    if several:
        what = "their first label was kept" if multilabel == "first" else "each label became an event"
        rows.notes.append(f"{file}: {several} events have several labels; {what}.")
    return rows


def _events(events: list[Any], where: str, multilabel: str | None) -> tuple[Floats, Floats, int]:
    """Times, marks and how many events had several labels."""
    try:
        times = [event["time"] for event in events]
        labels = [event["labels"] for event in events]
        if set(map(type, labels)) - {list}:
            raise TypeError
        counts = np.array(list(map(len, labels)), np.int64)
    except (KeyError, TypeError, IndexError):
        at = next(j for j, event in enumerate(events) if not _is_event(event))
        raise TPPError(
            f"{where}, event {at}: expected a 'time' and a list of 'labels'. Mend or leave it out."
        ) from None
    if (counts == 0).any():
        raise TPPError(f"{where}, event {int(counts.argmin())} has no label; expected one. Mend or leave it out.")
    if (counts > 1).any() and multilabel is None:
        at = int((counts > 1).argmax())
        raise TPPError(
            f"{where}, event {at} has {counts[at]} labels; expected one. multilabel='first' keeps the first, "
            "multilabel='each' makes an event of each."
        )
    kept = counts if multilabel == "each" else np.minimum(counts, 1)  # (L,) events made of each
    chosen = [k for label, n in zip(labels, kept.tolist(), strict=True) for k in label[:n]]
    t, mark = numbers(times, f"{where}, time"), numbers(chosen, f"{where}, labels")
    return np.repeat(t, kept), mark, int((counts > 1).sum())


def _is_event(event: object) -> bool:
    return isinstance(event, dict) and "time" in event and isinstance(event.get("labels"), list)
