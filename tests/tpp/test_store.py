"""The store: what goes in comes out, and damage gives one line."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from accord.tpp import store
from accord.tpp.errors import TPPError
from accord.tpp.events import Events

MARKS = ("click", "größe", "x/y")


def parts() -> dict[str, Events]:
    rng = np.random.default_rng(0)
    found = {}
    for name, count in (("train", 7), ("validation", 3), ("test", 4)):
        times = [np.sort(rng.uniform(1e9, 1e9 + 5, rng.integers(0, 6))) for _ in range(count)]
        marks = [rng.integers(0, 3, t.size) for t in times]
        found[name] = Events.of(
            times, marks, start=1e9 - 1, end=1e9 + 6, names=MARKS, unit="second", tick=0.25, name="x", licence="CC0"
        )
    return found


def same(a: Events, b: Events) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k), equal_nan=True) for k in ("time", "start", "end")) and all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("mark", "offsets")
    )


def test_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    given = parts()
    source = tmp_path / "raw.csv"
    source.write_text("some bytes")
    place = store.save("shop-1", given, tmp_path / "a" / "store", source=source)
    assert sorted(p.name for p in place.iterdir()) == ["events.npz", "meta.json"]
    assert [p.name for p in place.parent.iterdir()] == ["shop-1"]
    found = store.load("shop-1", tmp_path / "a" / "store")
    assert list(found) == list(given)
    for part, events in found.items():
        assert same(events, given[part])
        assert (events.marks, events.unit, events.tick, events.licence) == (MARKS, "second", 0.25, "CC0")
        assert events.name == "shop-1"
    (entry,) = store.listing(tmp_path / "a" / "store")
    assert entry.source == "raw.csv"
    assert entry.sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert entry.sequences == {"train": 7, "validation": 3, "test": 4}
    assert entry.events == {part: events.time.size for part, events in given.items()}
    assert (entry.marks, entry.problem) == (3, "")


def test_names_of_sequences_come_back(tmp_path: Path) -> None:
    ids = {"train": tuple(f"u{i}" for i in range(7)), "test": ("a\nb", "größe", "", "x" * 9999)}
    store.save("x", parts(), tmp_path, ids=ids)
    assert store.load_ids("x", tmp_path) == ids
    assert same(store.load("x", tmp_path)["train"], parts()["train"])
    store.save("y", parts(), tmp_path)
    assert store.load_ids("y", tmp_path) == {}
    _flip(tmp_path / "x" / store.ARRAYS)
    with pytest.raises(TPPError, match="is damaged"):
        store.load_ids("x", tmp_path)


def test_unknown_windows_and_tick_come_back_unknown(tmp_path: Path) -> None:
    store.save("plain", {"all": Events.of([[1.0, 2.0]])}, tmp_path)
    found = store.load("plain", tmp_path)["all"]
    assert np.isnan(found.start).all()
    assert np.isnan(found.end).all()
    assert found.tick is None


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    store.save("x", {"all": Events.of([[1.0, 2.0]])}, tmp_path)
    with pytest.raises(TPPError, match="'x' is in the store already .* choose another name, or replace it"):
        store.save("x", {"all": Events.of([[3.0, 4.0]])}, tmp_path)
    assert store.load("x", tmp_path)["all"].time.tolist() == [1.0, 2.0]
    store.save("x", {"all": Events.of([[3.0, 4.0]])}, tmp_path, replace=True)
    assert store.load("x", tmp_path)["all"].time.tolist() == [3.0, 4.0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("broken", [1, 2])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    store.save("x", {"all": Events.of([[1.0, 2.0]])}, tmp_path)
    rename, calls = os.rename, []

    def failing(a: Path, b: Path) -> None:
        calls.append(b)
        if len(calls) == broken:
            raise OSError(28, "No space left on device")
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(TPPError, match="x: cannot be written to .*: No space left on device"):
        store.save("x", {"all": Events.of([[3.0, 4.0]])}, tmp_path, replace=True)
    monkeypatch.undo()
    assert store.load("x", tmp_path)["all"].time.tolist() == [1.0, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", ".x", "-x", "x" * 101, "a b", "x.", "a\n", "ä"]
)
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    for call in (lambda: store.save(name, parts(), tmp_path), lambda: store.load(name, tmp_path)):
        with pytest.raises(TPPError, match="is no name for a data set"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_set_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TPPError, match="no data set 'mooc' in the store. It is empty"):
        store.load("mooc", tmp_path / "none")
    store.save("mooc2", {"all": Events.of([[1.0, 2.0]])}, tmp_path)
    with pytest.raises(TPPError, match="no data set 'mooc' in the store. Did you mean 'mooc2'"):
        store.load("mooc", tmp_path)
    assert store.listing(tmp_path / "none") == []


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_half, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("file", [store.ARRAYS, store.META])
def test_damage_gives_one_line(tmp_path: Path, damage: object, file: str) -> None:
    place = store.save("x", parts(), tmp_path)
    damage(place / file)  # type: ignore[operator]
    with pytest.raises(TPPError, match=r"is damaged \(.*\); remove that folder and import it again") as caught:
        store.load("x", tmp_path)
    assert str(caught.value).count("\n") == 0
    assert len(store.listing(tmp_path)) == 1
    assert bool(store.listing(tmp_path)[0].problem) == (file == store.META)


def _resealed(place: Path, **changes: object) -> None:
    """Meta data as a forger would write them, checksum and all."""
    meta = json.loads((place / store.META).read_text())
    meta |= {"arrays": hashlib.sha256((place / store.ARRAYS).read_bytes()).hexdigest(), **changes}
    (place / store.META).write_text(json.dumps(meta))


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    place = store.save("x", {"all": Events.of([[1.0, 2.0]])}, tmp_path)

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "exploded"),))  # type: ignore[return-value]

    with np.load(place / store.ARRAYS) as file:
        arrays = dict(file)
    np.savez(place / store.ARRAYS, **{**arrays, "all.time": np.array([Bomb(), Bomb()], object)}, allow_pickle=True)
    _resealed(place)
    with pytest.raises(TPPError, match="is damaged .*allow_pickle=False"):
        store.load("x", tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "changes",
    [{"version": 9}, {"marks": 5}, {"name": "y"}, {"events": 3}, {"vocabulary": 3}, {"events": {}}, {"more": 1}],
)
def test_contradictions_are_damage(tmp_path: Path, changes: dict[str, object]) -> None:
    _resealed(store.save("x", parts(), tmp_path), **changes)
    with pytest.raises(TPPError, match="meta.json is damaged"):
        store.load("x", tmp_path)


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(TPPError, match="differ in marks, unit, tick or licence"):
        store.save("x", {"a": Events.of([[1.0]]), "b": Events.of([[1.0]], unit="hour")}, tmp_path)
    with pytest.raises(TPPError, match="no part to store"):
        store.save("x", {}, tmp_path)
    with pytest.raises(TPPError, match="gone.csv cannot be read: No such file"):
        store.save("x", parts(), tmp_path, source=tmp_path / "gone.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_source_has_a_name_and_no_checksum(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    store.save("x", parts(), tmp_path / "store", source=tmp_path / "raw")
    assert [(s.source, s.sha256) for s in store.listing(tmp_path / "store")] == [("raw", "")]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TPPError, match="cannot be written to"):
        store.save("x", parts(), tmp_path / "file")
