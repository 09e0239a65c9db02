"""unpickle: pickled lists, dicts and numpy arrays, and nothing that could run code."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.readers import archive
from accord.tpp.readers.program import put, refusal, run

_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # first pickle of the older torch.save format
_STORAGES = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2"}
_STORAGES |= {"Char": "i1", "Byte": "u1", "Bool": "?"}


def load(path: Path) -> Any:
    """The content of a pickle or torch-saved file, without running anything that is named in it.

    Known are numbers, text, lists, tuples, dicts, numpy arrays and scalars and, in torch-saved files, tensors, which
    become arrays. numpy's own constructors are replaced by checked ones, so that no declared size is believed before
    its bytes were seen. Text of Python 2 is read as latin1.

    Args:
        path: of the file.

    Raises:
        TPPError: naming a refused global, or that the file is cut off, damaged or built to exhaust memory.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.pkl"
        ...     _ = file.write_bytes(pickle.dumps({"times": np.arange(3.0)}))
        ...     load(file)["times"].tolist()
        [0.0, 1.0, 2.0]
    """
    data, where = path.read_bytes(), str(path)
    if data.startswith(archive.MAGIC):
        files = archive.members(data, where)
        return _guarded(where, lambda: _torch_archive(files))
    if data.startswith(_TORCH_MAGIC):
        return _guarded(where, lambda: _torch_legacy(data))
    return loads(data, where)


def loads(data: bytes, where: str) -> Any:
    """`load` for the bytes of one pickle; ``where`` names them in errors."""
    return _guarded(where, lambda: run(data, _STAND_INS)[0])


def _guarded(where: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except TPPError as error:
        raise TPPError(f"{where}: {error}") from None
    except Exception as error:  # a damaged pickle is an arbitrary program: it can end in any exception at all
        detail = (str(error).strip().splitlines() or [""])[0][:120]
        raise TPPError(
            f"{where}: cut off, damaged or not a pickle of plain data ({type(error).__name__}: {detail}); "
            "expected lists, dicts, numbers and numpy arrays. Get the file anew, or convert it to json."
        ) from None


def _torch_archive(files: dict[str, bytes]) -> Any:
    """torch.save since 1.6: ``name/data.pkl`` and the content of each storage in ``name/data/key``."""
    main = next(name for name in files if name.endswith("/data.pkl"))
    storages = main.removesuffix(".pkl")
    return run(files[main], _torch_calls(lambda key: files[f"{storages}/{key}"]))[0]


def _torch_legacy(data: bytes) -> Any:
    """torch.save before 1.6: pickles of a magic number, a version, the machine and the object, then all storages."""
    at, sizes = 0, dict[str, int]()
    for _ in range(3):
        _, at = run(data, _STAND_INS, at)
    # The storages lie behind the program that refers to them: run it once to learn where it ends and what they hold.
    _, end = run(data, _torch_calls(None, sizes), at)
    keys, end = run(data, _STAND_INS, end)
    contents = {}
    for key in keys:
        count = int.from_bytes(data[end : end + 8], "little")
        contents[key] = data[end + 8 : end + 8 + count * sizes[key]]
        end += 8 + count * sizes[key]
    return run(data, _torch_calls(contents.__getitem__), at)[0]


def _torch_calls(
    content: Callable[[str], bytes] | None, sizes: dict[str, int] | None = None
) -> dict[str, Callable[..., Any]]:
    def storage(reference: tuple[Any, ...]) -> Any:
        _, kind, key, _, count, *_ = reference
        if content is None:
            assert sizes is not None
            sizes[key] = kind.itemsize
            return None
        raw = content(key)
        if len(raw) != operator.index(count) * kind.itemsize:
            raise EOFError(f"storage {key} has {len(raw)} bytes")
        return np.frombuffer(raw, kind)

    def tensor(values: np.ndarray | None, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> Any:
        if values is None:
            return None
        steps = list(zip(shape, strides, strict=True))
        last = offset + sum((size - 1) * step for size, step in steps)
        if min([offset, *shape, *strides]) < 0 or (min(shape, default=1) > 0 and last >= values.size):
            raise TPPError("damaged: the file holds a tensor that reaches beyond its storage.")
        step = [stride * values.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], tuple(shape), step, writeable=False)

    kinds: dict[str, Any] = {f"torch.{name}Storage": np.dtype(code) for name, code in _STORAGES.items()}
    rebuild = dict.fromkeys(("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"), tensor)
    return {**_STAND_INS, **kinds, **rebuild, "persistent": storage}


class _DType:
    """Stands in for `numpy.dtype` while unpickling: plain numbers, text and objects only."""

    fills: ClassVar[bool] = True

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[?biufSUO]\d{0,5}", code):
            raise TPPError(f"refused: the pickle holds an array of type {code[:20]!r}; expected plain numbers.")
        self.kind = np.dtype("O" if code[0] == "O" else code)
        if self.kind.itemsize == 0:
            raise TPPError("refused: the pickle holds an array of empty texts; expected plain numbers.")

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] in ("<", ">"):
            self.kind = self.kind.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for `numpy.ndarray` while unpickling: its memory follows from the bytes that are really there."""

    fills: ClassVar[bool] = True

    def __new__(cls, *_: object) -> _Array:
        return super().__new__(cls, (0,))

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, raw = state[-4:]
        raw = list(raw) if dtype.kind.hasobject else _bytes(raw)
        _fits(shape, dtype, raw)
        whole: Any = (1, tuple(shape), dtype.kind, bool(fortran), raw)
        super().__setstate__(whole)


def _fits(shape: Sequence[int], dtype: _DType, raw: Sequence[Any]) -> None:
    sizes = [operator.index(size) for size in shape]
    each = 1 if dtype.kind.hasobject else dtype.kind.itemsize
    if min(sizes, default=0) < 0 or math.prod(sizes) * each != len(raw):
        raise TPPError("damaged: the pickle holds an array whose content does not fill its shape.")


def _bytes(text: str | bytes = b"", coding: str = "latin1") -> bytes:
    """What Python 2 and old protocols write for bytes; other codings (zip, bz2) could inflate."""
    if coding not in ("latin1", "latin-1"):
        raise refusal(f"_codecs.encode to {coding}")
    return text.encode("latin1") if isinstance(text, str) else bytes(memoryview(text))


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, raw: str | bytes) -> Any:
    content = _bytes(raw)
    _fits((1,), dtype, content)
    return np.frombuffer(content, dtype.kind)[0]


def _from_buffer(raw: bytes, dtype: _DType, shape: Sequence[int], order: str) -> np.ndarray:
    _fits(shape, dtype, raw)
    return np.frombuffer(raw, dtype.kind).reshape(shape, order="F" if order == "F" else "C")


def _mapping(items: object = (), *_: object) -> dict[Any, Any]:
    """What dict, OrderedDict and defaultdict become; a factory is left aside, items follow by instruction."""
    found: dict[Any, Any] = {}
    if isinstance(items, (list, tuple)):
        put(found, [key for key, _ in items], [value for _, value in items])
    return found


_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
}
for _old in ("core", "_core"):  # numpy 2 moved them; files of either version are read by either version
    _STAND_INS[f"numpy.{_old}.multiarray._reconstruct"] = _reconstruct
    _STAND_INS[f"numpy.{_old}.multiarray.scalar"] = _scalar
    _STAND_INS[f"numpy.{_old}.numeric._frombuffer"] = _from_buffer
for _old in ("builtins", "__builtin__"):
    _STAND_INS[f"{_old}.list"] = list
    _STAND_INS[f"{_old}.dict"] = _mapping
    _STAND_INS[f"{_old}.bytes"] = _bytes
