"""The reader of CoNLL-U: what it finds in real files, and what it says about damaged ones."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from accord.data import VARIABLE, find
from accord.data.conllu import UPOS, read_conllu
from accord.errors import AccordError

BESIDE = Path(__file__).parents[2] / "shared" / "data"


def word(number, head, form="w", upos="NOUN", features="_", relation="dep") -> str:
    return "\t".join((str(number), form, "_", upos, "NN", features, str(head), relation, "_", "_"))


def sentence(*heads: int) -> str:
    return "\n".join(word(i, head) for i, head in enumerate(heads, 1)) + "\n\n"


EMAIL, BLOG = "# newdoc id = email-7\n# text = w w\n", "# newdoc id = blog-x\n"
GOOD = EMAIL + sentence(2, 0) + sentence(0) + BLOG + sentence(0, 1, 2)


def write(folder: Path, content: str | bytes, name: str = "some.conllu") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_words_and_documents(tmp_path):
    treebank = read_conllu(write(tmp_path, GOOD))
    assert treebank.offsets.tolist() == [0, 2, 3, 6]
    assert treebank.lengths.tolist() == [2, 1, 3]
    assert treebank.head.tolist() == [2, 0, 0, 0, 1, 2]
    assert treebank.document == ["email-7", "email-7", "blog-x"]
    assert [UPOS[i] for i in treebank.upos] == ["NOUN"] * 6
    assert set(treebank.relation) == {"dep"}
    assert (treebank.ranges, treebank.empty) == (0, 0)


def test_ranges_and_empty_nodes_are_skipped_and_counted(tmp_path):
    lines = [word("1-2", "_", "don't"), word(1, 0, "do"), word(2, 1, "n't"), word("2.1", "_", "go"), word(3, 1, ".")]
    treebank = read_conllu(write(tmp_path, "\n".join(lines)))  # nor does the last sentence need an empty line
    assert treebank.form == ["do", "n't", "."]
    assert (treebank.ranges, treebank.empty) == (1, 1)


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: f"\n\n{text}\n\n\n"])
def test_line_ends_and_empty_lines_do_not_matter(tmp_path, change):
    expected, found = (read_conllu(write(tmp_path, text)) for text in (GOOD, change(GOOD)))
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.form == expected.form


def test_compressed_files(tmp_path):
    path = write(tmp_path, gzip.compress(GOOD.encode()), "some.conllu.gz")
    assert read_conllu(path).form == read_conllu(write(tmp_path, GOOD)).form


def test_heads_are_checked_as_a_walk_up_from_every_word_would(tmp_path):
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        heads = rng.integers(0, 5, size=4)
        trees = True
        for start in range(1, 5):
            at, steps = start, 0
            while at and steps < 5:
                at, steps = int(heads[at - 1]), steps + 1
            trees &= at == 0
        good = trees and (heads == 0).sum() == 1
        path = write(tmp_path, sentence(0) + sentence(*heads) + sentence(2, 0))
        if good:
            assert read_conllu(path).head.tolist() == [0, *heads, 2, 0]
        else:
            with pytest.raises(AccordError, match=r"line [3-6]: .*(roots|circle)"):
                read_conllu(path)
        outcomes.add(good)
    assert outcomes == {True, False}


BROKEN = {
    "columns": (sentence(0) + "1\tw\tNOUN\n", "line 3: 3 columns separated by tabs, expected 10"),
    "spaces": ("1 w _ NOUN NN _ 0 root _ _\n", "line 1: 1 columns separated by tabs"),
    "head too far": (sentence(0, 3), "line 2: the head is '3', expected a number from 0 to 2"),
    "head no number": (sentence(0) + word(1, "_"), "line 3: the head is '_', expected a number from 0 to 1"),
    "negative head": (word(1, -1), "the head is '-1'"),
    "no root": (sentence(2, 1), "line 1: the sentence has 0 roots, expected 1"),
    "two roots": (sentence(0) + sentence(0, 0), "line 3: the sentence has 2 roots, expected 1"),
    "circle": (sentence(0, 3, 2), "line 2: the word's heads lead round in a circle"),
    "own head": (sentence(0, 2), "line 2: the word's heads lead round in a circle"),
    "tag": (sentence(0) + word(1, 0, upos="NOUNS"), "line 3: the part of speech 'NOUNS' is none of the 17"),
    "number missing": (word(1, 0) + "\n" + word(3, 1), "line 2: the word has the number '3', expected 2"),
    "number no number": (word("one", 0), "line 1: the word has the number 'one', expected 1"),
    "encoding": ((sentence(0) + word(1, 0, "caf\xe9")).encode("latin-1"), "line 3: the byte 0xe9 is not UTF-8"),
    "empty": ("", "has no sentence"),
    "comments alone": ("# text = none\n\n", "has no sentence"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("compressed", [False, True])
def test_broken_files(tmp_path, content, message, compressed):
    content = content.encode() if isinstance(content, str) else content
    path = write(tmp_path, gzip.compress(content) if compressed else content, "x.conllu" + ".gz" * compressed)
    with pytest.raises(AccordError) as error:
        read_conllu(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [lambda packed: packed[:-20], lambda packed: packed[:-4], lambda packed: packed[:15] + b"\0" * 40 + packed[55:],
     lambda packed: packed[:-8] + bytes(4) + packed[-4:], lambda packed: b"none" + packed],
    ids=["cut", "cut in the checksum", "overwritten", "wrong checksum", "no gzip"],
)  # fmt: skip
def test_damaged_compression(tmp_path, damage):
    path = write(tmp_path, damage(gzip.compress(GOOD.encode() * 20)), "x.conllu.gz")
    with pytest.raises(AccordError, match="cannot be read") as error:
        read_conllu(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(AccordError, match="cannot be read"):
        read_conllu(tmp_path / "none.conllu")


COUNTS = {  # sentences, words, ranges, empty nodes, documents
    "train": (12544, 204577, 2614, 37, 540),
    "dev": (2001, 25147, 359, 4, 318),
    "test": (2077, 25094, 354, 2, 316),
}


@pytest.mark.parametrize("part", COUNTS)
def test_the_treebank(part, monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))
    try:
        path = find(f"mtl/ud_ewt/en_ewt-ud-{part}.conllu.gz")
    except AccordError as error:
        pytest.skip(str(error))
    found = read_conllu(path)
    assert (len(found), len(found.form), found.ranges, found.empty, len(set(found.document))) == COUNTS[part]
    assert len(np.unique(found.upos)) == 17
    if part == "train":
        assert (len(set(found.xpos)), len(set(found.relation)), len(set(found.features))) == (49, 51, 230)
