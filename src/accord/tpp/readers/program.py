"""program: runs the part of the pickle language that spells plain data, and no other.

A pickle is a program for a small stack machine. This machine knows the instructions for numbers, text, lists, tuples
and dicts, looks up every named function in a list of allowed ones, and refuses sets, objects and outer references.
Python's own unpickler can be told what names to allow, but believes sizes that a file declares: five bytes make it
allocate 64 GB for its memo, and a nested tuple as key of a dict ends the process. Here sizes follow from bytes that
are there, and keys are text or numbers.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from accord.tpp.errors import TPPError

Calls = Mapping[str, Callable[..., Any]]
_STOP = ord(".")
_KEYS = frozenset((str, bytes, int, float))  # a nested tuple as key would recurse without bound in its hash


def run(data: bytes, calls: Calls, at: int = 0) -> tuple[Any, int]:
    """The value of the program that starts at byte ``at``, and where it ends.

    Args:
        data: of the file.
        calls: what stands in for each global ``module.name``; ``__setstate__`` of their results may be called too if
            these have ``fills = True``. ``persistent`` is called with references to the outside.
        at: first byte.

    Raises:
        TPPError: for what is refused.
        Exception: of any kind for what is damaged.

    Example:
        >>> import pickle
        >>> run(pickle.dumps({"times": [1.0, 2.5]}), {})[0]
        {'times': [1.0, 2.5]}
    """
    machine = _Machine(data, calls, at)
    codes = _CODES
    while (code := data[machine.at]) != _STOP:
        machine.at += 1
        codes[code](machine)
    return machine.stack.pop(), machine.at + 1


def refusal(name: str) -> TPPError:
    """The error for a global that is not allowed."""
    return TPPError(
        f"refused: the pickle calls {name[:100]!r}, which event data do not need and which may run code. "
        "Expected lists, dicts, numbers and numpy arrays; do not open it elsewhere unless you trust its source."
    )


def put(into: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
    """Set items of a dict, if all keys are text or numbers."""
    if not isinstance(into, dict) or not _KEYS.issuperset(map(type, keys)):
        raise TPPError("refused: the pickle holds a dict with other keys than text and numbers.")
    into.update(zip(keys, values, strict=True))


class _Machine:
    __slots__ = ("at", "calls", "data", "marks", "memo", "stack")

    def __init__(self, data: bytes, calls: Calls, at: int) -> None:
        self.data, self.calls, self.at = data, calls, at
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # stacks below each open mark
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if count < 0 or len(found) < count:
            raise EOFError(f"{count} bytes are missing")
        self.at += count
        return found

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.marks.pop()
        return found

    def find(self, module: str, name: str) -> Any:
        found = self.calls.get(f"{module}.{name}")
        if found is None:
            raise refusal(f"{module}.{name}")
        return found


def _refuse(_: _Machine) -> None:
    raise TPPError("refused: the pickle holds sets, references or objects; expected lists, dicts and arrays.")


def _unknown(m: _Machine) -> None:
    raise ValueError(f"no instruction {m.data[m.at - 1]} at byte {m.at - 1}")


def _fixed(form: str) -> Callable[[_Machine], None]:
    """A number of fixed size."""
    parse, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def push(m: _Machine) -> None:
        m.stack.append(parse(m.data, m.at)[0])
        m.at += size

    return push


def _sized(width: int, decode: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    """Bytes behind their count, which itself has ``width`` bytes."""

    def push(m: _Machine) -> None:
        m.stack.append(decode(m.take(int.from_bytes(m.take(width), "little"))))

    return push


def _written(decode: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    """A value written out up to the end of the line."""

    def push(m: _Machine) -> None:
        m.stack.append(decode(m.line()))

    return push


def _constant(make: Callable[[], Any]) -> Callable[[_Machine], None]:
    def push(m: _Machine) -> None:
        m.stack.append(make())

    return push


def _collected(make: Callable[[list[Any]], Any]) -> Callable[[_Machine], None]:
    def push(m: _Machine) -> None:
        items = m.since_mark()
        m.stack.append(make(items))

    return push


def _last(count: int) -> Callable[[_Machine], None]:
    """A tuple of the last values."""

    def push(m: _Machine) -> None:
        m.stack[-count:] = [tuple(m.stack[-count:])]

    return push


def _skip(count: int) -> Callable[[_Machine], None]:
    def skip(m: _Machine) -> None:
        m.at += count

    return skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _latin1(raw: bytes) -> str:
    return raw.decode("latin1")


def _quoted(raw: bytes) -> str:
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
        raise ValueError("text without quotes")
    return _latin1(codecs.escape_decode(raw[1:-1])[0])


def _whole(raw: bytes) -> int:
    return raw == b"01" if raw in (b"00", b"01") else int(raw.rstrip(b"L"), 0)


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _mark(m: _Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: _Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _recall(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.memo[index(m)])


def _keep(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    def keep(m: _Machine) -> None:
        m.memo[index(m)] = m.stack[-1]

    return keep


def _byte(m: _Machine) -> None:
    m.stack.append(m.data[m.at])
    m.at += 1


def _recall_byte(m: _Machine) -> None:
    m.stack.append(m.memo[m.data[m.at]])
    m.at += 1


def _keep_byte(m: _Machine) -> None:
    m.memo[m.data[m.at]] = m.stack[-1]
    m.at += 1


def _four(m: _Machine) -> int:
    return int.from_bytes(m.take(4), "little")


def _append(m: _Machine) -> None:
    value = m.stack.pop()
    list.append(m.stack[-1], value)


def _appends(m: _Machine) -> None:
    items = m.since_mark()
    list.extend(m.stack[-1], items)


def _setitem(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    put(m.stack[-1], [key], [value])


def _setitems(m: _Machine) -> None:
    items = m.since_mark()
    put(m.stack[-1], items[::2], items[1::2])


def _dict(m: _Machine) -> None:
    items = m.since_mark()
    m.stack.append({})
    put(m.stack[-1], items[::2], items[1::2])


def _global(m: _Machine) -> None:
    m.stack.append(m.find(_text(m.line()), _text(m.line())))


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.find(str(module), str(name)))


def _call(m: _Machine) -> None:
    arguments, function = m.stack.pop(), m.stack.pop()
    m.stack.append(function(*arguments))


def _instance(m: _Machine) -> None:
    function = m.find(_text(m.line()), _text(m.line()))
    arguments = m.since_mark()
    m.stack.append(function(*arguments))


def _object(m: _Machine) -> None:
    function, *arguments = m.since_mark()
    m.stack.append(function(*arguments))


def _build(m: _Machine) -> None:
    state = m.stack.pop()
    if getattr(type(m.stack[-1]), "fills", False) is not True:
        _refuse(m)
    m.stack[-1].__setstate__(state)


def _reference(m: _Machine) -> None:
    if "persistent" not in m.calls:
        _refuse(m)
    m.stack.append(m.calls["persistent"](m.stack.pop()))


_SIZED: tuple[tuple[Callable[[bytes], Any], Iterable[tuple[int, int]]], ...] = (
    (_signed, zip(b"\x8a\x8b", (1, 4), strict=True)),
    (_latin1, zip(b"UT", (1, 4), strict=True)),
    (_text, zip(b"\x8cX\x8d", (1, 4, 8), strict=True)),
    (bytes, zip(b"CB\x8e\x96", (1, 4, 8, 8), strict=True)),
)
_NAMED: dict[bytes, Callable[[_Machine], object]] = {
    b"N": _constant(lambda: None),
    b"\x88": _constant(lambda: True),
    b"\x89": _constant(lambda: False),
    b"]": _constant(list),
    b"}": _constant(dict),
    b")": _constant(tuple),
    b"J": _fixed("<i"),
    b"K": _byte,
    b"M": _fixed("<H"),
    b"G": _fixed(">d"),
    b"I": _written(_whole),
    b"L": _written(_whole),
    b"F": _written(float),
    b"S": _written(_quoted),
    b"V": _written(lambda raw: raw.decode("raw-unicode-escape")),
    **{bytes([code]): _sized(width, decode) for decode, widths in _SIZED for code, width in widths},
    b"(": _mark,
    b"0": _pop,
    b"1": _Machine.since_mark,
    b"2": lambda m: m.stack.append(m.stack[-1]),
    b"h": _recall_byte,
    b"j": _recall(_four),
    b"g": _recall(lambda m: int(m.line())),
    b"q": _keep_byte,
    b"r": _keep(_four),
    b"p": _keep(lambda m: int(m.line())),
    b"\x94": _keep(lambda m: len(m.memo)),
    b"t": _collected(tuple),
    **{bytes([0x84 + count]): _last(count) for count in (1, 2, 3)},
    b"l": _collected(list),
    b"a": _append,
    b"e": _appends,
    b"d": _dict,
    b"s": _setitem,
    b"u": _setitems,
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _call,
    b"i": _instance,
    b"o": _object,
    b"b": _build,
    b"\x80": _skip(1),
    b"\x95": _skip(8),
    b"Q": _reference,
    **{bytes([code]): _refuse for code in b"P\x81\x82\x83\x84\x8f\x90\x91\x92\x97\x98"},
}
_CODES = [_NAMED.get(bytes([code]), _unknown) for code in range(256)]
