"""Data sets that are missing, damaged, or hostile give one clear line."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from accord.data import VARIABLE, arrays, find, folder
from accord.errors import AccordError
from accord.problems import MultiMNIST
from accord.problems.multimnist import FILE


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def store(place, **changes):
    rng = np.random.default_rng(0)
    stored = {
        "train_image": rng.integers(0, 256, (30, 28, 28)).astype(np.uint8),
        "train_label": rng.integers(0, 10, 30).astype(np.uint8),
        "test_image": rng.integers(0, 256, (20, 28, 28)).astype(np.uint8),
        "test_label": rng.integers(0, 10, 20).astype(np.uint8),
    }
    path = place / FILE
    path.parent.mkdir(parents=True)
    np.savez(path, **{k: v for k, v in (stored | changes).items() if v is not None})
    return path


def test_missing_data_say_what_to_set(place):
    with pytest.raises(AccordError, match=f"{FILE} is not in .*; set {VARIABLE} to the folder"):
        MultiMNIST.tiny().data(0)


def test_a_variable_that_is_no_folder(place, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(place / "nowhere"))
    with pytest.raises(AccordError, match=f"{VARIABLE}=.*nowhere.* is no folder"):
        folder()


def test_without_a_variable_the_cache_is_used(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert folder().parts[-2:] == (".cache", "accord")


def test_multimnist_from_files_of_the_same_form(place):
    store(place)
    data = MultiMNIST.tiny().data(0)
    assert data.train.tensors["image"].shape == (64, 1, 36, 36)
    assert {name: len(ids) for name, ids in data.origin.items()} == {"train": 27, "validation": 3, "test": 20}


def test_the_manifest_is_heeded(place):
    path = store(place)
    manifest = place / "manifest.json"
    entry = {"file": FILE, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps({"files": [{"file": "other", "sha256": "0"}, entry]}))
    assert find(FILE) == path
    manifest.write_text(json.dumps({"files": [entry | {"sha256": "0" * 64}]}))
    with pytest.raises(AccordError, match="not the file that manifest"):
        find(FILE)
    manifest.write_text(json.dumps({"files": []}))
    assert find(FILE) == path
    for broken in ("{", "[]", '{"files": [{}]}'):
        manifest.write_text(broken)
        with pytest.raises(AccordError, match=r"manifest\.json is damaged"):
            find(FILE)


def test_damaged_arrays(place):
    path = store(place, test_label=None)
    with pytest.raises(AccordError, match="cannot be read"):
        MultiMNIST.tiny().data(0)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(AccordError, match="cannot be read"):
        MultiMNIST.tiny().data(0)


def test_nothing_is_unpickled(place):
    path = place / "objects.npz"
    np.savez(path, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(AccordError, match="allow_pickle=False"):
        arrays(path, ["names"])
