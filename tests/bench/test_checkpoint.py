"""A checkpoint gives back exactly what was saved, or one clear line."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import torch

from accord.bench import checkpoint, files
from accord.errors import AccordError

STATE = {
    "nothing": None,
    "flags": [True, False],
    "numbers": (1, -2.5, 1e-300, 0.1 + 0.2, 2**62),
    "odd": [math.inf, -math.inf],
    "text": "Δ\n\0",
    "empty": {"list": [], "tuple": (), "dict": {}, "tensor": torch.zeros(0, 3)},
    "nested": {0: {"step": torch.tensor(3.0)}, "0": [({"a": torch.arange(3)},)]},
    "dtypes": [torch.ones(2, dtype=d) for d in (torch.float64, torch.bfloat16, torch.uint8, torch.bool, torch.int64)],
    "array": np.arange(6.0).reshape(2, 3),
    "scalar": np.float32(0.5),
}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and (isinstance(a, np.generic) or type(a) is type(b))


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "state"
    checkpoint.save(path, STATE)
    assert same(STATE, checkpoint.load(path))
    assert [file.name for file in path.parent.iterdir()] == ["state"], "a temporary file was left"


def test_not_a_number_survives(tmp_path):
    checkpoint.save(tmp_path / "state", {"a": math.nan, "b": torch.tensor([math.nan])})
    loaded = checkpoint.load(tmp_path / "state")
    assert math.isnan(loaded["a"])
    assert loaded["b"].isnan().all()


def test_views_of_one_memory_are_kept_apart(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    checkpoint.save(tmp_path / "state", {"row": base[0], "column": base[:, 0], "transposed": base.T})
    loaded = checkpoint.load(tmp_path / "state")
    assert loaded["column"].tolist() == [0, 3]
    loaded["row"].zero_()
    assert loaded["transposed"].tolist() == base.T.tolist()


@pytest.mark.parametrize(
    ("state", "where"), [({"a": [0, {1}]}, r"state\['a'\]\[1\] is a set"), ({"a": {0.5: 1}}, r"the key 0\.5")]
)
def test_what_cannot_be_stored_is_named(tmp_path, state, where):
    with pytest.raises(TypeError, match=where):
        checkpoint.save(tmp_path / "state", state)
    assert not list(tmp_path.iterdir())


def test_every_damaged_byte_is_found(tmp_path):
    path = tmp_path / "state"
    checkpoint.save(path, {"weights": torch.arange(8.0), "epoch": 3, "betas": (0.9, 0.999)})
    whole, unnoticed = path.read_bytes(), 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with suppress(AccordError):  # no error: spaces that fill up the header mean nothing
            loaded = checkpoint.load(path)
            assert loaded["weights"].tolist() == list(range(8))
            assert (loaded["epoch"], loaded["betas"]) == (3, (0.9, 0.999))
            unnoticed += 1
    assert unnoticed < 8, "the header is filled up to a multiple of 8 only"


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_file_cut_short(tmp_path, kept):
    path = tmp_path / "state"
    checkpoint.save(path, {"weights": torch.arange(100.0)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(AccordError, match="is damaged: .*Remove it") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AccordError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AccordError, match=r"cannot be written .*choose another folder with --out"):
        files.write(tmp_path / "file" / "below", b"")
