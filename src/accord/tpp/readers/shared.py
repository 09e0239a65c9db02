"""The project's common event sets: a parquet table and fixed splits by sequence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Integers, Splits
from accord.tpp.readers import table
from accord.tpp.tick import tick


def read_shared(parquet: str | Path, splits_json: str | Path, seed: int = 0, start: float | None = None) -> Splits:
    """The three parts of a data set under one of its fixed splits, times as recorded, with their tick.

    Args:
        parquet: columns ``sequence``, ``time``, ``mark``; metadata entry ``dataset``.
        splits_json: ``splits`` holds for each seed lists of sequence ids: ``train``, ``val``, ``test``.
        seed: which of them.
        start: of every sequence, where the source records no window but counts from a known time; None: as recorded.

    Raises:
        TPPError: if a file is damaged, there is no such split, or it does not fit the table.
    """
    events = table.read(parquet, start=start).parts["all"]
    ids = chosen(splits_json, seed)
    if not np.array_equal(np.sort(np.concatenate(ids)), np.arange(len(events))):
        raise TPPError(
            f"{Path(splits_json).name}: split {seed} does not name each of the {len(events)} sequences once; fetch it "
            "again."
        )
    events = dataclasses.replace(events, tick=tick(events))
    return Splits(*(events.subset(part) for part in ids))


def chosen(splits_json: str | Path, seed: int) -> list[Integers]:
    """The ids of the sequences in train, validation and test.

    Raises:
        TPPError: if the file is damaged, or has no such split.
    """
    name = Path(splits_json).name
    try:
        given = json.loads(Path(splits_json).read_text())
        splits = dict(zip(given["seeds"], given["splits"], strict=True))
        if seed in splits:
            return [np.asarray(splits[seed][part], np.int64) for part in ("train", "val", "test")]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise TPPError(f"{name}: no readable file of splits ({error}); fetch it again.") from error
    raise TPPError(f"{name}: no split for the seed {seed}; it has {', '.join(map(str, splits))}.")
