import functools
import io
import os
import pickle
import subprocess
import time
import zipfile

import numpy as np
import pytest
import torch

from accord.tpp.errors import TPPError
from accord.tpp.readers import archive, read
from accord.tpp.readers.unpickle import load, loads


class Call:
    """Pickles as a call of a function, which plain unpickling would run."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


TRAPS = {  # by the last part of the name, which old protocols keep
    "system": lambda: Call(os.system, "touch trap"),
    "eval": lambda: Call(eval, "open('trap', 'w')"),
    "exec": lambda: Call(exec, "open('trap', 'w')"),
    "getattr": lambda: Call(getattr, "text", "upper"),
    "open": lambda: Call(open, "trap", "w"),
    "Popen": lambda: Call(subprocess.Popen, ["touch", "trap"]),
    "partial": lambda: Call(functools.partial, os.system, "touch trap"),
    "bytearray": lambda: bytearray(3),
    "fromfile": lambda: Call(np.fromfile, "trap"),
    "zeros": lambda: Call(np.zeros, 3),
    "memmap": lambda: Call(np.memmap, "trap", "f4", "w+", 0, (3,)),
    "load": lambda: Call(torch.load, "trap"),
}


def content(trap):
    event = {"time_since_start": 1.0, "time_since_last_event": 1.0, "type_event": 0}
    return {"dim_process": 1, "train": [[event, {**event, "arrival_times": trap}]], "sequences": [trap]}


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("name", TRAPS)
def test_no_global_but_the_known_ones_is_touched(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train.pkl"
    file.write_bytes(pickle.dumps(content(TRAPS[name]()), protocol))
    with pytest.raises(TPPError, match=rf"train.pkl: refused: the pickle calls '[\w.]+\.{name}'"):
        read(file)
    assert os.listdir(tmp_path) == ["train.pkl"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["system", "eval", "Popen", "fromfile"])
def test_torch_saved_files_neither(name, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content(TRAPS[name]()), "train.pkl", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TPPError, match=rf"refused: the pickle calls '[\w.]*{name}'"):
        read(tmp_path / "train.pkl", format="ifl_tpp")
    assert os.listdir(tmp_path) == ["train.pkl"]


def test_arrays_of_objects_neither(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.empty(1, object)
    array[0] = Call(os.system, "touch trap")
    np.savez("train.npz", arrival_times=array)
    with pytest.raises(TPPError, match="refused: the pickle calls 'posix.system'"):
        read(tmp_path / "train.npz")
    assert os.listdir(tmp_path) == ["train.npz"]


HAND_MADE = {
    "old instance": (b"(S'touch trap'\nios\nsystem\n.", "os.system"),
    "name of names": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch trap\x85R.", "os.system"),
    "through numpy": (b"cnumpy\nf2py.os.system\n(S'touch trap'\ntR.", "numpy.f2py.os.system"),
    "own names": (b"caccord.tpp.readers.unpickle\n_Plain\n.", "accord.tpp.readers.unpickle._Plain"),
    "state of a list": (b"]}b.", "references or objects"),
    "state of a class": (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "references or objects"),
    "persistent": (b"Ptrap\n.", "references or objects"),
    "extension": (b"\x82\x01.", "references or objects"),
    "new object": (b"\x80\x02cnumpy\nndarray\nI1000000000000\n\x85\x81.", "references or objects"),
    "call of a call": (b"cfunctools\npartial\n(cos\nsystem\nS'touch trap'\ntR(tR.", "functools.partial"),
    "set": (b"\x80\x04\x8f(K\x01\x90.", "references or objects"),
    "out of band": (b"\x80\x05\x97.", "references or objects"),
    "inflating codec": (b"c_codecs\nencode\n(Vab\nVzip\ntR.", "_codecs.encode to zip"),
    "list as mapping": (b"]I0\nI1\ns.", "dict with other keys"),
    "nested key": (b"}(" + b"I1\n" + b"\x85" * 100_000 + b"I1\nu.", "dict with other keys"),
    "nested key, made by dict": (b"c__builtin__\ndict\n(((I1\n" + b"\x85" * 100_000 + b"I1\ntltR.", "other keys"),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_programs_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, message = HAND_MADE[name]
    with pytest.raises(TPPError, match=message):
        loads(data, "x")
    assert os.listdir(tmp_path) == []


def length(count, size):
    return count.to_bytes(size, "little")


BOMBS = {
    "bytes": b"\x80\x04\x8e" + length(2**50, 8) + b"abc.",
    "bytearray": b"\x80\x05\x96" + length(2**50, 8) + b"abc.",
    "text": b"\x80\x04\x8d" + length(2**50, 8) + b"abc.",
    "frame": b"\x80\x04\x95" + length(2**50, 8),
    "whole number": b"\x80\x02\x8b" + length(2**31 - 1, 4) + b"\x01.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "made by length": b"c__builtin__\nbytes\n(I1000000000000\ntR.",
    "recursion": b"(" * 100_000,
    "nothing": b"",
    "text, no pickle": b"time,mark\n1,2\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_declared_sizes_are_not_believed(name):
    with pytest.raises(TPPError, match="cut off, damaged") as error:
        loads(BOMBS[name], "x.pkl")
    assert len(str(error.value).splitlines()) == 1


def test_a_memo_index_costs_nothing():
    began = time.process_time()
    assert loads(b"]r" + length(2**32 - 1, 4) + b".", "x") == []
    assert time.process_time() - began < 10  # the unpickler written in C would fill 64 GB


def test_shapes_must_be_filled():
    assert loads(pickle.dumps(Call(np.ndarray, (10**13,))), "x").size == 0
    whole = pickle.dumps(np.arange(3.0), 4)
    for wrong in (10, 2**31 - 1):
        with pytest.raises(TPPError, match="does not fill its shape"):
            loads(whole.replace(b"K\x03\x85", b"J" + length(wrong, 4) + b"\x85", 1), "x")
    for kind in ("V8", "M8[s]", "f4,f4", "c8"):
        with pytest.raises(TPPError, match=r"refused|damaged"):
            loads(pickle.dumps(np.zeros(3, kind)), "x")


def test_depth_and_shared_lists_do_not_unfold(tmp_path):
    file = tmp_path / "train.pkl"
    event = {"time_since_start": 1.0, "time_since_last_event": 1.0, "type_event": 0}
    file.write_bytes(pickle.dumps({"dim_process": 1, "train": [[event] * 10_000] * 10_000}))
    with pytest.raises(TPPError, match="more events unfold than the file has bytes"):
        read(file)
    times = [0.0] * 10_000
    file.write_bytes(pickle.dumps({"sequences": [{"arrival_times": times}] * 10_000}))
    with pytest.raises(TPPError, match="damaged or a trap"):
        read(file)
    nested = [1.0] * 10
    for _ in range(30):
        nested = [nested] * 10
    file.write_bytes(pickle.dumps({"sequences": [{"arrival_times": nested}]}))
    with pytest.raises(TPPError, match="found list in the list"):
        read(file)
    own: list = []
    own.append(own)
    file.write_bytes(pickle.dumps({"sequences": [{"arrival_times": own}]}))
    with pytest.raises(TPPError, match="found list in the list"):
        read(file)
    file.write_bytes(b"\x80\x02}(U\x09sequences](I1\n" + b"\x85" * 300_000 + b"eU\x0darrival_timesNu.")
    with pytest.raises(TPPError, match="sequence 0 has no 'arrival_times'"):
        read(file)
    (tmp_path / "train.json").write_text('{"time":"labels"}' + "[" * 100_000)
    with pytest.raises(TPPError, match="no json"):
        read(tmp_path / "train.json", format="authors")
    file.write_bytes(pickle.dumps({"dim_process": 10**12, "train": [[event]]}))
    with pytest.raises(TPPError, match="number of marks '1000000000000'"):
        read(file)


def test_archives_are_measured_first(tmp_path, monkeypatch):
    file = tmp_path / "train.npz"
    for shape, content, message in (
        ((10**12,), b"abc", "in 3 bytes; expected numbers that fill it"),
        ((10**12, 0), b"", "1000000000000 sequences unfold"),
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("arrival_times.npy", header.getvalue() + content)
        with pytest.raises(TPPError, match=message):
            read(file)
    np.savez_compressed(file, arrival_times=np.zeros((1, 100_000)))
    monkeypatch.setattr(archive, "LARGEST", 100_000)
    with pytest.raises(TPPError, match="the archive unfolds to 800128 bytes"):
        read(file)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back_whole(protocol, tmp_path):
    written = {
        "plain": [1, -(2**70), 2.5, "ä", b"\xff\x00", None, True, (1, [2])],
        "C": np.arange(6.0).reshape(2, 3),
        "F": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "objects": np.array([[1], [2, 3], None], dtype=object),
        "empty": np.zeros((0, 3), np.float32),
        "scalars": [np.float32(3.5), np.int64(-4), np.bool_(True)],
        "text": np.array(["a", "bc"]),
    }
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(written, protocol))
    found = load(file)
    assert found.keys() == written.keys()
    assert found["plain"] == written["plain"]
    assert [(type(x), x) for x in found["scalars"]] == [(type(x), x) for x in written["scalars"]]
    for name in ("C", "F", "big", "objects", "empty", "text"):
        np.testing.assert_array_equal(found[name], written[name])
        assert found[name].dtype.newbyteorder("=") == written[name].dtype.newbyteorder("=")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_come_back_as_arrays_within_their_storage(zipped, tmp_path):
    file = tmp_path / "train.pt"
    base = torch.arange(12.0, dtype=torch.float64)
    views = [base[3:7], base.reshape(3, 4).T, base[::5], torch.tensor(4), torch.empty(0), base[:2].half()]
    torch.save({"views": views, "whole": base}, file, _use_new_zipfile_serialization=zipped)
    found = load(file)
    for got, tensor in zip([*found["views"], found["whole"]], [*views, base], strict=True):
        np.testing.assert_array_equal(got, tensor.numpy())
    torch.save({"sequences": [{"arrival_times": base[:1].expand(10**12)}]}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(TPPError, match="1000000000000 numbers unfold"):
        read(file)
    torch.save({"sequences": [{"arrival_times": base}]}, file, _use_new_zipfile_serialization=zipped)
    shape, wrong = b"K\x0c\x85q", b"K\x0d\x85q"  # (12,) and (13,)
    if zipped:
        with zipfile.ZipFile(file) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        with zipfile.ZipFile(file, "w") as packed:
            for name, content in members.items():
                packed.writestr(name, content.replace(shape, wrong))
    else:
        file.write_bytes(file.read_bytes().replace(shape, wrong))
    with pytest.raises(TPPError, match="reaches beyond its storage"):
        read(file)
