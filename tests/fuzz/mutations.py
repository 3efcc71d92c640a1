"""Changes encoded messages: some as bytes, most as fields, so that the change lies deep inside."""

import random
import struct
from collections.abc import Callable, Sequence

from lossd.framing import IrregularError, encoded_varint, varint

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 256  # of a message that is taken apart
_MOST_BYTES = 1 << 16  # of one that is made
_DEPTH = 8

_INTEGERS = (
    0, 1, 2, 3, 7, 8, 9, 16, 64, 127, 128, 255, 256, 999, 2047, 2048, 1 << 15, 1 << 20, 1 << 24,
    (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2,
)  # fmt: skip
_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e30, 3.5e38, 1e308, 5e-324, float("inf"), float("-inf"),
    float("nan"),
)  # fmt: skip
_NUMBERS = (
    *(struct.pack("<d", x) for x in _FLOATS),
    *(struct.pack("<f", x) for x in _FLOATS[:7] + _FLOATS[10:]),
    *(struct.pack("<q", x) for x in (0, 1, -1, -100, 1 << 40, -(1 << 63), (1 << 63) - 1)),
    b"\x00", b"\x01", b"\xff", b"\x80", b"\x7f", b"\x00\x7e", b"\x00\x7c", b"\xff\xff",
)  # fmt: skip

Field = tuple[int, int, bytes]  # the number, the kind, and the value as it is written


def mutated(drawn: random.Random, message: bytes, others: Sequence[bytes]) -> bytes:
    """Returns a message with one change or several; parts of ``others`` may come into it."""
    for _ in range(drawn.choice((1, 1, 1, 2, 3, 6))):
        change = _bytes if drawn.random() < 0.25 else _fields
        message = change(drawn, message, others)[:_MOST_BYTES]
    return message


def _fields(drawn: random.Random, message: bytes, others: Sequence[bytes], depth: int = 0) -> bytes:
    fields = _taken_apart(message)
    if not fields:
        return _bytes(drawn, message, others)
    at = drawn.randrange(len(fields))
    number, kind, value = fields[at]
    if kind == _DELIMITED and depth < _DEPTH and drawn.random() < 0.7:
        fields[at] = (number, kind, _fields(drawn, value, others, depth + 1))
        return _put_together(fields)
    drawn.choice(_CHANGES)(drawn, fields, at, others)
    return _put_together(fields)


def _drop(drawn: random.Random, fields: list[Field], at: int, _: Sequence[bytes]) -> None:
    del drawn
    del fields[at]


def _repeat(drawn: random.Random, fields: list[Field], at: int, _: Sequence[bytes]) -> None:
    fields[at:at] = [fields[at]] * drawn.choice((1, 1, 2, 17, 70))


def _swap(drawn: random.Random, fields: list[Field], at: int, _: Sequence[bytes]) -> None:
    beside = drawn.randrange(len(fields))
    fields[at], fields[beside] = fields[beside], fields[at]


def _renumber(drawn: random.Random, fields: list[Field], at: int, _: Sequence[bytes]) -> None:
    kind, value = fields[at][1:]
    fields[at] = (drawn.choice((1, 2, 3, 4, 5, 15, 16, 17, 18, 20, 99, 1000)), kind, value)


def _revalue(drawn: random.Random, fields: list[Field], at: int, others: Sequence[bytes]) -> None:
    number, kind, value = fields[at]
    made: dict[int, Callable[[], bytes]] = {
        _VARINT: lambda: encoded_varint(drawn.choice(_INTEGERS)),
        _FIXED64: lambda: struct.pack("<d", drawn.choice(_FLOATS)),
        _FIXED32: lambda: struct.pack("<f", drawn.choice(_FLOATS[:7])),
        _DELIMITED: lambda: _bytes(drawn, value, others),
    }
    fields[at] = (number, kind, made[kind]())


def _graft(drawn: random.Random, fields: list[Field], at: int, others: Sequence[bytes]) -> None:
    donor = _taken_apart(drawn.choice(others))
    if donor:
        fields.insert(at, drawn.choice(donor))


_CHANGES = (_drop, _repeat, _swap, _renumber, _revalue, _revalue, _revalue, _graft)


def _bytes(drawn: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Changes some of the bytes, whatever they mean."""
    start, end = sorted(drawn.randrange(len(data) + 1) for _ in range(2))
    way = drawn.randrange(6)
    if way == 0:  # ends early, or begins late
        return data[:end] if drawn.random() < 0.5 else data[start:]
    if way == 1:  # a part is missing
        return data[:start] + data[end:]
    if way == 2:  # a part is there again
        return data[:end] + data[start:]
    if way == 3:  # a part of another one lies in between
        other = drawn.choice(others)
        first, last = sorted(drawn.randrange(len(other) + 1) for _ in range(2))
        return data[:start] + other[first:last] + data[end:]
    if way == 4 and data:  # numbers that are something special, over those there are
        number = drawn.choice(_NUMBERS)
        at = drawn.randrange(len(data)) // len(number) * len(number)
        return data[:at] + number + data[at + len(number) :]
    made = bytearray(data)
    for _ in range(drawn.choice((1, 1, 2, 4))):
        if made:
            made[drawn.randrange(len(made))] = drawn.randrange(256)
    return bytes(made)


def _taken_apart(message: bytes) -> list[Field]:
    """The fields of a message; of one that is none, nothing."""
    view, at = memoryview(message), 0
    found: list[Field] = []
    try:
        while at < len(view) and len(found) < _MOST_FIELDS:
            tag, start = varint(view, at)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                _, at = varint(view, start)
            elif kind in (_FIXED64, _FIXED32):
                at = start + (8 if kind == _FIXED64 else 4)
            elif kind == _DELIMITED:
                size, start = varint(view, start)
                at = start + size
            else:
                return []
            if not number or at > len(view):
                return []
            found.append((number, kind, bytes(view[start:at])))
    except (IrregularError, IndexError):
        return []
    return found if at == len(view) else []


def _put_together(fields: Sequence[Field]) -> bytes:
    return b"".join(
        encoded_varint(number << 3 | kind)
        + (encoded_varint(len(value)) if kind == _DELIMITED else b"")
        + value
        for number, kind, value in fields
    )
