"""DataSet: what is known of one set of data, without the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accord.data.catalogue.checksums import CHECKSUMS

Kind = Literal["events", "multi-task", "text", "bundled", "original"]
Sharing = Literal["open", "share-alike", "research", "none stated"]

SHARING: dict[Sharing, str] = {
    "open": "may be passed on, with the notice",
    "share-alike": "may be passed on, with attribution and under the same licence",
    "research": "research use with citation; not to be passed on",
    "none stated": "no licence stated; not to be passed on",
}


@dataclass(frozen=True)
class Public:
    """A public address that gives the content of a prepared file.

    Args:
        url: fixed to one commit.
        size: bytes that it gives.
        sha256: of these bytes.
        pack: whether the prepared file is these bytes, compressed by gzip; else they are the file.
    """

    url: str
    size: int
    sha256: str
    pack: bool = False


@dataclass(frozen=True)
class File:
    """A prepared file.

    Args:
        path: below the data folder.
        public: where anybody can get it; None: nowhere.

    Example:
        >>> File("mtl/adult/adult.parquet").size
        403822
    """

    path: str
    public: Public | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return CHECKSUMS[self.path][0]

    @property
    def sha256(self) -> str:
        """The checksum of the file."""
        return CHECKSUMS[self.path][1]


@dataclass(frozen=True)
class DataSet:
    """What is known of a set of data. Licences are quoted as commonly stated: confirm them at the originator.

    Args:
        name: as in ``accord data show NAME``.
        title: what it is.
        kind: ``events``: sequences; ``multi-task`` and ``text``: prepared files; ``bundled``: comes with a package, or
            is simulated; ``original``: a folder in the layout of its originators, which the user has.
        rows: how many of what.
        tasks: with the number of classes where there are some.
        licence: as commonly stated.
        sharing: whether the prepared files may be passed on; see ``SHARING``.
        citation: whom to cite.
        origin: where the data come from, and where to ask.
        note: what to know before using it.
        files: below the data folder.
        layout: of an original folder.
    """

    name: str
    title: str
    kind: Kind
    rows: str
    tasks: str
    licence: str
    sharing: Sharing
    citation: str
    origin: str
    note: str = ""
    files: tuple[File, ...] = ()
    layout: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)
