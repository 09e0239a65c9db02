"""The catalogue against the manifest, the files and the problems."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from accord.data.catalogue import DATASETS, SHARING, dataset
from accord.data.catalogue.checksums import CHECKSUMS
from accord.data.places import right
from accord.errors import AccordError
from accord.problems import PROBLEMS

DATA = Path(os.environ.get("ACCORD_DATA", "/nowhere"))
FILES = [file for each in DATASETS.values() for file in each.files]
SHARED = {  # beginning of what the manifest says
    "open": "open licence",
    "share-alike": "share-alike",
    "research": "research use",
    "none stated": "no licence stated",
}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_every_problem_names_its_data(problem):
    assert problem.dataset in DATASETS, f"{problem.__name__}.dataset={problem.dataset!r} is not in the catalogue"


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_entries_say_what_a_user_must_know(entry):
    for value in (entry.title, entry.rows, entry.tasks, entry.licence, entry.citation, entry.origin):
        assert value
        assert value == value.strip()
        assert not value.endswith(".")
    assert entry.sharing in SHARING
    assert not entry.note or entry.note.endswith(".")
    assert bool(entry.layout) == (entry.kind == "original")
    assert bool(entry.files) == (entry.kind not in ("original", "bundled"))


def test_every_file_has_one_entry_and_a_checksum():
    assert sorted(file.path for file in FILES) == sorted(CHECKSUMS)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size > 0 for file in FILES)
    assert not any(file.path.startswith("/") or ".." in file.path for file in FILES)


def test_public_addresses_are_fixed_to_a_commit():
    public = [file.public for file in FILES if file.public]
    assert public
    assert all(re.match(r"https://[^/]+/[^/]+/[^/]+/[0-9a-f]{40}/", each.url) for each in public)
    assert all(each.pack or (each.size, each.sha256) == CHECKSUMS[file.path] for file in FILES if (each := file.public))


def test_what_may_not_be_passed_on_is_never_offered():
    for entry in DATASETS.values():
        if entry.sharing in ("research", "none stated"):
            assert not any(file.public for file in entry.files), entry.name


def test_the_manifest_agrees():
    if not (DATA / "manifest.json").is_file():
        pytest.skip("needs the data folder in ACCORD_DATA")
    listed = {entry["file"]: entry for entry in json.loads((DATA / "manifest.json").read_text())["files"]}
    prepared = {path for path, entry in listed.items() if entry["role"] != "raw_sample"}
    assert prepared - set(CHECKSUMS) == set()
    assert set(CHECKSUMS) - prepared == {"mtl/ud_ewt/LICENSE.txt"}
    for path in prepared:
        assert CHECKSUMS[path] == (listed[path]["bytes"], listed[path]["sha256"])
    order = list(SHARED)
    for entry in DATASETS.values():  # a set may be as free as the strictest of its files
        said = [listed[file.path]["redistribution"] for file in entry.files if file.path in prepared]
        found = {order.index(next(word for word in order if text.startswith(SHARED[word]))) for text in said}
        assert not found or order.index(entry.sharing) == max(found), entry.name


def test_the_files_at_hand_are_right():
    there = [file for file in FILES if (DATA / file.path).is_file()]
    if not there:
        pytest.skip("needs the data folder in ACCORD_DATA")
    assert [file.path for file in there if not right(DATA / file.path, file)] == []


def test_the_page_names_every_set_and_what_is_offered():
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    assert not [name for name, entry in DATASETS.items() if entry.kind != "events" and f"`{name}`" not in page]
    offered = next(line for line in page.splitlines() if "fixed commit" in line)
    assert {entry.name for entry in DATASETS.values() if any(file.public for file in entry.files)} == set(
        re.findall("`(.*?)`", offered)
    )


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(AccordError, match="data set 'nyu2' is unknown. Did you mean 'nyuv2'?"):
        dataset("nyu2")
