"""vi_dpp: pickles of columns, as used by VI-DPP."""

from __future__ import annotations

from pathlib import Path

from accord.tpp.readers.found import Found
from accord.tpp.readers.gntpp import ENDINGS, ragged
from accord.tpp.readers.rows import mention


def recognises(path: str | Path) -> bool:
    """Whether pickles here name the fields of this format; nothing is unpickled."""
    return mention(path, ENDINGS, "timestamps", "types", "timeintervals")


def read(path: str | Path) -> Found:
    """Events from ``{timestamps, types, lengths, timeintervals}``.

    No number of marks is stored: the vocabulary consists of the marks that occur in any part. Windows are unknown.

    Args:
        path: a pickle, or a folder of ``train``, ``val`` and ``test``, which get one vocabulary.

    Returns:
        The parts; warnings if ``timeintervals`` contradict the times, or padding was left out.

    Raises:
        TPPError: naming file, sequence and field at fault.

    Source:
        specification of this package, section 12.
    """
    return ragged(path, "timeintervals")
