import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.readers import FORMATS, read, recognise
from accord.tpp.readers.found import Found

TIMES = [[0.5, 1.25, 1.25, 3.0], [0.0, 2.0000001], [0.1, 0.2, 0.30000000000000004]]
MARKS = [[0, 1, 0, 2], [2, 1], [1, 1, 0]]
EVENTS = Events.of(TIMES, MARKS, start=0.0, end=4.0)


def same(one: Events, other: Events) -> None:
    for name in ("time", "mark", "offsets", "start", "end"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert one.marks == other.marks


# --- writers: the reverse of each reader, one file or folder for times and marks ------------------------------------


class Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 does: strings of bytes, without their coding."""

    dispatch = dict(pickle._Pickler.dispatch)

    def string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = string


def dump(file, content, protocol=4):
    with file.open("wb") as stream:
        (Python2(stream, 2) if protocol == "python2" else pickle.Pickler(stream, protocol)).dump(content)
    return file


def dicts(times, marks, number=float):
    return [
        [
            {"time_since_start": number(a), "time_since_last_event": number(a - b), "type_event": k}
            for a, b, k in zip(t, [0.0, *t], m, strict=False)
        ]
        for t, m in zip(times, marks, strict=True)
    ]


def gatech(folder, times, marks, protocol=4, number=float):
    content = {"dim_process": 3, "train": [], "dev": dicts(times, marks, number), "devtest": [], "args": None}
    return dump(folder / "dev.pkl", content, protocol)


def records(times, marks):
    steps = [[0.0, *np.diff(t)][: len(t)] for t in times]
    names = ("seq_len", "time_since_start", "time_since_last_event", "type_event")
    columns = zip(map(len, times), times, steps, marks, strict=True)
    return [{"dim_process": 3, "seq_idx": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(columns)]


def easytpp(folder, times, marks):
    (folder / "dev.json").write_text(json.dumps(records(times, marks)))
    return folder / "dev.json"


def easytpp_lines(folder, times, marks):
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, records(times, marks))) + "\n")
    return folder / "dev.jsonl"


def ifl_tpp(folder, times, marks, kind=list, zipped=None, **common):
    window = {} if common else {"t_start": 0.0, "t_end": 4.0}
    sequences = [{"arrival_times": kind(t), "marks": kind(m), **window} for t, m in zip(times, marks, strict=True)]
    content = {"sequences": sequences, "num_marks": 3, **common}
    if zipped is None:
        return dump(folder / "dev.pkl", content)
    torch.save(content, folder / "dev.pkl", _use_new_zipfile_serialization=zipped)
    return folder / "dev.pkl"


def npz(folder, times, marks):
    ragged = {"arrival_times": np.empty(len(times), object), "marks": np.empty(len(times), object)}
    ragged["arrival_times"][:], ragged["marks"][:] = times, marks
    np.savez(folder / "dev.npz", **ragged)
    return folder / "dev.npz"


def authors(folder, times, marks, wrap=lambda events: events, **args):
    sequences = [
        wrap([{"time": a, "labels": [k]} for a, k in zip(t, m, strict=True)]) for t, m in zip(times, marks, strict=True)
    ]
    (folder / "val.json").write_text(json.dumps(sequences))
    (folder / "args.json").write_text(json.dumps({"window": None, "marks": 3, "val_size": len(times), **args}))
    return folder


def du_text(folder, times, marks):
    for word, rows in (("time", times), ("event", marks)):
        (folder / f"{word}-dev.txt").write_text("".join(" ".join(map(repr, row)) + " \n" for row in rows))
    return folder


def ragged(lists):
    array = np.empty(len(lists), object)
    array[:] = [np.array(values) for values in lists]
    return array


def gntpp(folder, times, marks):
    content = {"timestamps": ragged(times), "types": ragged(marks), "t_max": np.float64(9.0), "event_type_num": 3}
    content |= {"intervals": ragged([np.diff(t, prepend=0) for t in times]), "lengths": np.array([*map(len, times)])}
    return dump(folder / "val_manifold_format.pkl", content)


def vi_dpp(folder, times, marks, longest=0):
    content = {"timestamps": times, "types": marks, "timeintervals": [np.diff(t, prepend=0).tolist() for t in times]}
    content = {k: [row + [0] * (longest - len(row)) for row in rows] for k, rows in content.items()}
    return dump(folder / "dev.pkl", content | {"lengths": [*map(len, times)]})


NAN = float("nan")
WRITERS = {  # name: writer, known start, known end
    **{f"gatech-{p}": (lambda *a, p=p: gatech(*a, protocol=p), NAN, NAN) for p in (0, 1, 2, 3, 4, 5, "python2")},
    "gatech-float64": (lambda *a: gatech(*a, number=np.float64), NAN, NAN),
    "gatech-float64-python2": (lambda *a: gatech(*a, protocol="python2", number=np.float64), NAN, NAN),
    "easytpp": (easytpp, NAN, NAN),
    "easytpp-lines": (easytpp_lines, NAN, NAN),
    "ifl_tpp-lists": (ifl_tpp, 0.0, 4.0),
    "ifl_tpp-torch": (lambda *a: ifl_tpp(*a, kind=lambda x: torch.tensor(x, dtype=torch.float64), zipped=True), 0, 4),
    "ifl_tpp-torch-legacy": (lambda *a: ifl_tpp(*a, kind=lambda x: torch.tensor(x).double(), zipped=False), 0, 4),
    "ifl_tpp-torch-numpy": (lambda *a: ifl_tpp(*a, kind=np.array, zipped=True), 0.0, 4.0),
    "ifl_tpp-torch-mixed": (lambda *a: ifl_tpp(*a, kind=np.array, zipped=False, t_max=torch.tensor(4.0)), 0.0, 4.0),
    "ifl_tpp-npz": (npz, 0.0, NAN),
    "authors": (authors, 0.0, NAN),
    "authors-window": (lambda *a: authors(*a, window=4.0), 0.0, 4.0),
    "authors-records": (lambda *a: authors(*a, wrap=lambda events: {"events": events}), 0.0, NAN),
    "du_text": (du_text, NAN, NAN),
    "gntpp": (gntpp, NAN, NAN),
    "vi_dpp": (vi_dpp, NAN, NAN),
    "vi_dpp-padded": (lambda *a: vi_dpp(*a, longest=6), NAN, NAN),
}
EXACT = [name for name in WRITERS if name != "ifl_tpp-torch-legacy"]  # float32 tensors round


@pytest.mark.parametrize("name", EXACT)
def test_every_format_gives_the_same_events(name, tmp_path):
    write, start, end = WRITERS[name]
    path = write(tmp_path, TIMES, MARKS)
    assert recognise(path) == name.split("-")[0]
    found = read(path)
    assert list(found.parts) == ["validation"]
    same(found.parts["validation"], Events.of(TIMES, MARKS, start=start, end=end))
    padding = [warning for warning in found.warnings if "padding" in warning]
    assert list(found.warnings) == padding
    assert len(padding) == (3 if name == "vi_dpp-padded" else 0)


def test_float32_tensors_keep_their_rounding(tmp_path):
    found = read(WRITERS["ifl_tpp-torch-legacy"][0](tmp_path, TIMES, MARKS)).parts["validation"]
    np.testing.assert_array_equal(found.time, EVENTS.time.astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(found.mark, EVENTS.mark)


@pytest.mark.parametrize("name", [name for name in WRITERS if name[:7] not in ("ifl_tpp", "authors")])
def test_start_need_not_be_zero(name, tmp_path):
    moved = [[t + 151000.0 for t in row] for row in TIMES]
    found = read(WRITERS[name][0](tmp_path, moved, MARKS)).parts["validation"]
    np.testing.assert_array_equal(found.time, EVENTS.time + 151000.0)
    assert np.isnan(found.start).all()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", range(0, 100, 10))
def test_a_file_cut_off_is_one_error(name, share, tmp_path):
    path = WRITERS[name][0](tmp_path, TIMES, MARKS)
    file = next(file for file in sorted(path.glob("*")) if file.name != "args.json") if path.is_dir() else path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * share // 100])
    with pytest.raises(TPPError) as error:
        read(path, format=name.split("-")[0])
    assert len(str(error.value).splitlines()) <= 2
    assert tmp_path.name in str(error.value)


BAD = {
    "nan": ([[0.5, NAN], [1.0]], [[0, 1], [2]], "sequence 0, event 1"),
    "infinite": ([[0.5], [1.0, float("inf")]], [[0], [1, 2]], "sequence 1, event 1"),
    "unsorted": ([[0.5], [2.0, 1.0]], [[0], [1, 2]], "sequence 1, event 1 .*lies before"),
    "negative mark": ([[0.5], [1.0, 2.0]], [[0], [1, -1]], "sequence 1, event 1 has mark -1"),
    "mark between": ([[0.5], [1.0, 2.0]], [[0], [1, 0.5]], "sequence 1, event 1 has mark 0.5"),
    "mark nan": ([[0.5], [1.0, 2.0]], [[0], [1, NAN]], "sequence 1, event 1 has mark nan"),
    "no events": ([[0.5], [], [1.0]], [[0], [], [1]], "sequence 1 .*no events"),
}
PLAIN = ["gatech-4", "easytpp", "ifl_tpp-npz", "authors", "du_text", "gntpp", "vi_dpp"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", PLAIN)
def test_bad_rows_name_file_sequence_and_event(name, bad, tmp_path):
    times, marks, message = BAD[bad]
    path = WRITERS[name][0](tmp_path, times, marks)
    with pytest.raises(TPPError, match=message) as error:
        read(path)
    assert tmp_path.name in str(error.value)


@pytest.mark.parametrize("name", ["ifl_tpp-lists", "ifl_tpp-torch", "authors-window"])
def test_a_sequence_without_events_stays_if_its_window_is_known(name, tmp_path):
    found = read(WRITERS[name][0](tmp_path, [[1.0], [], [2.0]], [[0], [], [1]])).parts["validation"]
    assert found.lengths.tolist() == [1, 0, 1]
    assert found.tails.tolist() == [3.0, 4.0, 2.0]


@pytest.mark.parametrize("name", ["gatech-4", "easytpp", "ifl_tpp-lists", "authors", "gntpp"])
def test_declared_marks(name, tmp_path):
    write = WRITERS[name][0]
    found = read(write(tmp_path, [[1.0, 2.0]], [[0, 1.0]])).parts["validation"]
    assert found.marks == ("0", "1", "2")
    assert found.mark.tolist() == [0, 1]
    with pytest.raises(TPPError, match="event 1 has mark 3, but 3 marks are declared"):
        read(write(tmp_path, [[1.0, 2.0]], [[0, 3]]))


@pytest.mark.parametrize("name", ["ifl_tpp-npz", "du_text", "vi_dpp"])
def test_marks_keep_the_numbers_of_the_source(name, tmp_path):
    found = read(WRITERS[name][0](tmp_path, [[1.0, 2.0, 3.0]], [[7, 1, 10]])).parts["validation"]
    assert found.marks == ("1", "7", "10")
    assert found.mark.tolist() == [1, 0, 2]


@pytest.mark.parametrize("name", PLAIN)
def test_lengths_that_disagree(name, tmp_path):
    if name == "gatech-4":
        rows = dicts(TIMES, MARKS)
        del rows[1][0]["type_event"]
        path, message = dump(tmp_path / "dev.pkl", {"dim_process": 3, "dev": rows}), "sequence 1, event 0 .*type_event"
    elif name == "authors":
        path, message = authors(tmp_path, TIMES, MARKS), "sequence 0, event 1"
        (path / "val.json").write_text('[[{"time": 1.0, "labels": [1]}, {"labels": [1]}]]')
    elif name in ("gntpp", "vi_dpp"):  # a value behind the stated length could be padding; a missing one could not
        path, message = WRITERS[name][0](tmp_path, TIMES, [[0, 1, 0, 2], [2], [1, 1, 0]]), "sequence 1 has 1 values but"
    else:
        path = WRITERS[name][0](tmp_path, TIMES, [[0, 1, 0, 2], [2, 1, 1], [1, 1, 0]])
        message = "sequence 1: 2 and 3 times and marks"
    with pytest.raises(TPPError, match=message):
        read(path)


def test_only_one_value_repeated_is_padding(tmp_path):
    with pytest.raises(TPPError, match="sequence 1 has 4 values but length 2"):
        read(vi_dpp(tmp_path, TIMES, [[0, 1, 0, 2], [2, 1, 1, 0], [1, 1, 0]]))


def test_sequence_counts_that_disagree(tmp_path):
    path = du_text(tmp_path, TIMES, MARKS[:2])
    with pytest.raises(TPPError, match="3 and 2 sequences"):
        read(path)


@pytest.mark.parametrize("name", ["gatech", "easytpp"])
def test_stored_gaps_that_contradict_the_times(name, tmp_path):
    path = {"gatech": gatech, "easytpp": easytpp}[name](tmp_path, TIMES, MARKS)
    if name == "gatech":
        content = pickle.loads(path.read_bytes())
        content["dev"][0][3]["time_since_last_event"] = 0.25
        dump(path, content)
    else:
        content = json.loads(path.read_text())
        content[0]["time_since_last_event"][3] = 0.25
        path.write_text(json.dumps(content))
    found = read(path)
    assert found.parts["validation"].time[3] == 3.0
    assert "1 of 6 stored gaps contradict the times, by up to 1.5; the times were used" in found.warnings[0]
    found = read(path, stored_dt=True)
    np.testing.assert_allclose(found.parts["validation"].time, [0.5, 1.25, 1.25, 1.5, *EVENTS.time[4:]], rtol=1e-12)
    assert "the stored gaps were used" in found.warnings[0]


def test_gaps_rounded_to_float32_are_no_contradiction(tmp_path):
    times = [np.float32(np.cumsum([0.3, 0.7, 1e-4, 2.0])).astype(float).tolist()]
    content = {"dim_process": 1, "train": dicts(times, [[0] * 4])}
    for event, step in zip(content["train"][0], [0.3, 0.7, 1e-4, 2.0], strict=True):
        event["time_since_last_event"] = step
    assert read(dump(tmp_path / "a.pkl", content)).warnings == ()


def test_a_folder_has_parts_of_one_vocabulary(tmp_path):
    authors(tmp_path, TIMES, MARKS)
    (tmp_path / "args.json").unlink()
    (tmp_path / "train.json").write_text('[[{"time": 1.0, "labels": [5]}]]')
    (tmp_path / "cal.json").write_text('[[{"time": 1.0, "labels": [0]}]]')
    found = read(tmp_path)
    assert set(found.parts) == {"train", "validation", "cal"}
    assert {part.marks for part in found.parts.values()} == {("0", "1", "2", "5")}


def test_split_folders_and_stated_sizes(tmp_path):
    (tmp_path / "split_0").mkdir()
    path = authors(tmp_path / "split_0", TIMES, MARKS, val_size=7)
    assert "3 sequences, but args.json states 7" in read(path).warnings[0]
    with pytest.raises(TPPError, match="split_0"):
        read(tmp_path, format="authors")


def test_several_labels_need_a_policy(tmp_path):
    path = authors(tmp_path, TIMES, MARKS)
    (path / "val.json").write_text('[[{"time": 1.0, "labels": [2, 0]}, {"time": 2.0, "labels": [1]}]]')
    with pytest.raises(TPPError, match="sequence 0, event 0 has 2 labels.*multilabel='first'"):
        read(path)
    first, each = (read(path, multilabel=policy).parts["validation"] for policy in ("first", "each"))
    assert (first.time.tolist(), first.mark.tolist()) == ([1.0, 2.0], [2, 1])
    assert (each.time.tolist(), each.mark.tolist()) == ([1.0, 1.0, 2.0], [2, 0, 1])
    assert any("1 events have several labels" in warning for warning in read(path, multilabel="each").warnings)
    with pytest.raises(TPPError, match="multilabel"):
        read(path, multilabel="last")
    (path / "val.json").write_text('[[{"time": 1.0, "labels": []}]]')
    with pytest.raises(TPPError, match="event 0 has no label"):
        read(path, multilabel="first")


def test_read_says_what_it_knows(tmp_path):
    path = gatech(tmp_path, TIMES, MARKS)
    events = read(path, name="mine", unit="hour", licence="CC0").parts["validation"]
    assert (events.name, events.unit, events.licence) == ("mine", "hour", "CC0")
    with pytest.raises(TPPError, match="no option 'stored'. Did you mean 'stored_dt'"):
        read(path, stored=True)
    with pytest.raises(TPPError, match="no format 'gatec'. Did you mean 'gatech'"):
        read(path, format="gatec")
    with pytest.raises(TPPError, match="no such file"):
        read(tmp_path / "missing")
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(TPPError, match="unknown format.*" + ".*".join(FORMATS)):
        read(tmp_path / "notes.md")


def test_found_needs_parts_of_one_vocabulary():
    with pytest.raises(TPPError, match="no part"):
        Found({})
    with pytest.raises(TPPError, match="different vocabularies"):
        Found({"train": EVENTS, "test": dataclasses.replace(EVENTS, marks=("a", "b", "c"))})
