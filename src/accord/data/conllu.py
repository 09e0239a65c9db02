"""Sentences with words, tags, features and dependency trees, from files in the format CoNLL-U."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError

COLUMNS = 10
UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
    "SYM", "VERB", "X",
)  # fmt: skip
NEWDOC = "# newdoc id = "


@dataclass(frozen=True, eq=False)
class Treebank:
    """The words of N sentences, one after another; sentence i is ``offsets[i]:offsets[i + 1]``.

    Args:
        form: W words as they are written.
        upos: (W,) universal part of speech, a place in ``UPOS``.
        xpos: W parts of speech of the language's own tag set.
        features: W bundles of morphological features, such as ``Number=Sing``; ``_`` for none.
        head: (W,) the word that each depends on, counted from 1 in its sentence; 0 for the root.
        relation: W kinds of that dependency, with subtypes, such as ``nsubj:pass``.
        offsets: (N + 1,) where sentences begin.
        document: N names of the documents that the sentences stand in; "" where the file says none.
        ranges: lines for several words written as one, which were skipped.
        empty: lines for words that are not in the text, which were skipped.
    """

    form: list[str]
    upos: NDArray[np.int64]
    xpos: list[str]
    features: list[str]
    head: NDArray[np.int64]
    relation: list[str]
    offsets: NDArray[np.int64]
    document: list[str]
    ranges: int
    empty: int

    def __len__(self) -> int:
        return len(self.document)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) words of each sentence."""
        return np.diff(self.offsets)


def read_conllu(path: Path) -> Treebank:
    r"""The sentences of a file, plain or compressed (``.gz``).

    A word is a line with a whole number as its first column. Lines for several words written as one (``3-4``) and for
    words that are not in the text (``8.1``) are skipped. Each sentence must be a tree with one root.

    Source: https://universaldependencies.org/format.html.

    Raises:
        AccordError: if the file is missing, damaged, not UTF-8, empty or not in this format, with the line.

    Example:
        >>> import tempfile
        >>> line = "{}\t{}\t_\t{}\t_\t_\t{}\t{}\t_\t_\n"
        >>> text = line.format(1, "It", "PRON", 2, "nsubj") + line.format(2, "rains", "VERB", 0, "root") + "\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = (Path(folder) / "one.conllu").write_text(text)
        ...     treebank = read_conllu(Path(folder) / "one.conllu")
        >>> treebank.form, treebank.head.tolist(), treebank.offsets.tolist()
        (['It', 'rains'], [2, 0], [0, 2])
    """
    rows: list[str] = []
    lines: list[int] = []  # where each word stands
    ends, documents = [0], []
    document, ranges, empty = "", 0, 0
    for number, line in enumerate([*_text(path).split("\n"), ""], 1):
        line = line.removesuffix("\r")
        if not line:
            if len(rows) > ends[-1]:
                ends.append(len(rows))
                documents.append(document)
        elif line.startswith("#"):
            document = line.removeprefix(NEWDOC).strip() if line.startswith(NEWDOC) else document
        else:
            tabs, first, expected = line.count("\t"), line.partition("\t")[0], str(len(rows) - ends[-1] + 1)
            if tabs != COLUMNS - 1:
                raise _wrong(path, number, f"{tabs + 1} columns separated by tabs, expected {COLUMNS}")
            if first == expected:
                rows.append(line)
                lines.append(number)
            elif _is_pair(first, "-"):
                ranges += 1
            elif _is_pair(first, "."):
                empty += 1
            else:
                raise _wrong(path, number, f"the word has the number {first!r}, expected {expected}")
    if not rows:
        raise AccordError(f"{path} has no sentence; expected words in the format CoNLL-U. Get it anew.")
    cells = "\t".join(rows).split("\t")  # one list for all words: a list for each would keep the garbage collector busy
    form, upos, xpos, features, head, relation = (cells[column::COLUMNS] for column in (1, 3, 4, 5, 6, 7))
    offsets = np.array(ends)
    tags, heads = _tags(path, lines, upos), _heads(path, lines, head, offsets)
    return Treebank(form, tags, xpos, features, heads, relation, offsets, documents, ranges, empty)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _wrong(path, line, f"the byte 0x{content[error.start]:02x} is not UTF-8") from None
    except (EOFError, zlib.error, OSError) as error:  # gzip.BadGzipFile is an OSError
        raise AccordError(f"{path} cannot be read ({error}); expected a text in CoNLL-U. Get it anew.") from None


def _wrong(path: Path, line: int, found: str) -> AccordError:
    return AccordError(f"{path}, line {line}: {found}; mend the line or get the file anew.")


def _is_pair(text: str, between: str) -> bool:
    before, found, after = text.partition(between)
    return bool(found) and before.isdecimal() and after.isdecimal()


def _tags(path: Path, lines: list[int], names: list[str]) -> NDArray[np.int64]:
    """(W,) places in ``UPOS``."""
    place = {name: i for i, name in enumerate(UPOS)}
    found = np.array([place.get(name, -1) for name in names])
    if (found < 0).any():
        first = int(found.argmin())
        raise _wrong(path, lines[first], f"the part of speech {names[first]!r} is none of the {len(UPOS)} of UPOS")
    return found


def _heads(path: Path, lines: list[int], texts: list[str], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """(W,) heads, each sentence checked to be a tree."""
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    size = np.repeat(lengths, lengths)  # (W,) words of the sentence
    heads = np.array([int(t) if t.isdecimal() and len(t) < 10 else -1 for t in texts])
    bad = (heads < 0) | (heads > size)
    if bad.any():
        first = int(bad.argmax())
        raise _wrong(path, lines[first], f"the head is {texts[first]!r}, expected a number from 0 to {size[first]}")
    roots = np.add.reduceat(heads == 0, offsets[:-1], dtype=np.int64)  # (N,)
    if (roots != 1).any():
        sentence = int((roots != 1).argmax())
        raise _wrong(path, lines[offsets[sentence]], f"the sentence has {roots[sentence]} roots, expected 1")
    start = np.repeat(offsets[:-1], lengths)
    up = np.where(heads == 0, np.arange(len(heads)), start + heads - 1)  # (W,) the head's place; a root is its own
    for _ in range(longest.bit_length()):
        up = up[up]  # twice as far up
    if (heads[up] != 0).any():
        first = int((heads[up] != 0).argmax())
        raise _wrong(path, lines[first], "the word's heads lead round in a circle, expected a tree")
    return heads
