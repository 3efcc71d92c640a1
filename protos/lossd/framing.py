"""Parses and serialises messages around the data of their tensors, without copying it.

Protobuf copies a ``bytes`` field when it is parsed, again at every access, when it is set and when
it is serialised.  For a batch of 64 MiB those copies take longer than the loss.  Here the generated
code sees a message whose tensors hold a number of four bytes in place of their data, and the data
stays where it is:

    parse        encoded message  ->  message with references, views of the data
    serialise    message with references, data  ->  encoded message

Both walk the wire format along the fields that lead to ``Tensor.data`` and copy everything else
unchanged. Serialised messages have the bytes that protobuf would have made.  Messages that protobuf
would have encoded differently, or that have suspiciously many fields, are left to the generated
code.

Source: Protocol Buffers documentation, "Encoding".
"""

import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from lossd import v1

# Below this size the copies take less time than the walk.
WORTHWHILE_BYTES = 1 << 15
# A request with many thousand fields is no real batch; walking it in Python would take seconds.
MAX_FIELDS = 4096

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_BITS = 32  # of a tag or a size; protobuf takes none of more bytes, whatever they say
_REFERENCE = struct.Struct("<I")

M = TypeVar("M", bound=Message)
Bytes = bytes | memoryview
Route = Mapping[int, Any]  # numbers of fields that lead to data, and the routes of their messages


class IrregularError(Exception):
    """The walk cannot handle this message."""


@dataclass(slots=True)
class Payloads:
    """The data of tensors, by the reference that stands for it in a message.

    ``places`` say where in the encoded message it lies, if it was parsed: from where to where.
    """

    views: list[Bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def worthwhile(cls, size: int) -> Self | None:
        """Returns new ones for a message of about so many bytes; None where copies are faster."""
        return cls() if size >= WORTHWHILE_BYTES else None

    def add(self, data: Bytes) -> bytes:
        """Keeps data and returns its reference."""
        self.views.append(data)
        return _REFERENCE.pack(len(self.views) - 1)

    def __getitem__(self, reference: bytes) -> Bytes:
        return self.views[self.index(reference)]

    @staticmethod
    def index(reference: bytes) -> int:
        """Returns which of the views a reference stands for."""
        (index,) = _REFERENCE.unpack(reference)
        return int(index)


@dataclass(frozen=True, slots=True)
class Framed(Generic[M]):
    """A message, and the data that references in it stand for; None where it holds the data."""

    message: M
    payloads: Payloads | None = None

    @property
    def bulk_bytes(self) -> int:
        """The bytes of the data that references stand for."""
        return 0 if self.payloads is None else sum(map(len, self.payloads.views))

    @classmethod
    def parse(cls, kind: type[M], encoded: bytes, least: int = WORTHWHILE_BYTES) -> "Framed[M]":
        """Parses a message, and leaves the data of its tensors where it is if that pays.

        It pays from ``least`` bytes on.

        Raises:
            DecodeError: if it is no such message.
        """
        if len(encoded) < least:
            return cls(kind.FromString(encoded))
        payloads = Payloads()
        walk = _Walk(payloads.add, payloads.places)
        try:
            small = walk.message(memoryview(encoded), route(kind.DESCRIPTOR))
        except (IrregularError, IndexError):  # an index beyond the end: the message is cut off
            return cls(kind.FromString(encoded))
        return cls(kind.FromString(b"".join(small)), payloads)

    def serialise(self) -> bytes:
        """Returns the encoded message."""
        encoded = self.message.SerializeToString()
        if self.payloads is None:
            return encoded
        return b"".join(self._pieces(encoded, self.payloads.views))

    def frames(self, sizes: Sequence[int]) -> list[bytes]:
        """Returns what the encoded message has before each of its data, and behind the last.

        ``sizes`` are the bytes of the data that references stand for, which need not be there yet.
        """
        frames, frame = [], bytearray()
        for piece in self._pieces(self.message.SerializeToString(), list(map(range, sizes))):
            if isinstance(piece, range):  # it stands for so many bytes
                frames.append(bytes(frame))
                frame.clear()
            else:
                frame += piece
        return [*frames, bytes(frame)]

    def _pieces(self, encoded: bytes, data: Sequence[Any]) -> list[Any]:
        """Returns the pieces of the encoded message, with data in the place of references."""
        walk = _Walk(lambda reference: data[Payloads.index(bytes(reference))])
        return walk.message(memoryview(encoded), route(self.message.DESCRIPTOR))


@functools.cache
def route(kind: Descriptor, outer: frozenset[Descriptor] = frozenset()) -> Route:
    """Returns the fields that lead to data of tensors; a message inside itself leads nowhere."""
    if kind is v1.Tensor.DESCRIPTOR:
        return {kind.fields_by_name["data"].number: None}
    outer = outer | {kind}
    inner = {f.number: f.message_type for f in kind.fields if f.message_type not in (None, *outer)}
    return {number: found for number, type_ in inner.items() if (found := route(type_, outer))}


class _Walk:
    """One walk over a message, which replaces its data and notes where it was."""

    def __init__(self, replace: Any, places: list[tuple[int, int]] | None = None) -> None:
        self._replace = replace
        self._places = [] if places is None else places
        self._fields = 0

    def message(self, view: memoryview, route: Route, base: int = 0) -> list[Bytes]:
        """Returns the pieces of the message after replacing; it begins at ``base`` of the whole."""
        pieces: list[Bytes] = []
        kept = at = 0
        while at < len(view):
            self._count()
            start = at
            tag, at = varint(view, at, _BITS)
            number, kind = tag >> 3, tag & 7
            if number not in route or kind != _DELIMITED:
                at = _skip(view, at, kind)
                continue
            size, at = varint(view, at, _BITS)
            body = view[at : at + size]
            if len(body) != size:
                raise IrregularError
            pieces.append(view[kept:start])
            pieces += self._field(tag, body, route[number], base + at)
            kept = at = at + size
        pieces.append(view[kept:at])
        return pieces

    def _field(self, tag: int, body: memoryview, route: Route | None, base: int) -> Sequence[Bytes]:
        if route is None:
            self._places.append((base, base + len(body)))
            inner = [self._replace(body)]
        else:
            inner = self.message(body, route, base)
        size = sum(map(len, inner))
        return [encoded_varint(tag), encoded_varint(size), *inner]

    def _count(self) -> None:
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise IrregularError


def varint(view: memoryview, at: int, bits: int = 64) -> tuple[int, int]:
    """Returns the number at a position, and the position after it.

    Raises:
        IrregularError: for one of more bytes than ``bits`` take.
        IndexError: for one that is cut off.
    """
    value = shift = 0
    while shift < bits:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IrregularError


def encoded_varint(value: int) -> bytes:
    """Returns a number as protobuf writes it."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _skip(view: memoryview, at: int, kind: int) -> int:
    """Returns the position after a field that is copied unchanged."""
    if kind == _VARINT:
        return varint(view, at)[1]
    if kind == _DELIMITED:
        size, at = varint(view, at)
    elif kind in (_FIXED64, _FIXED32):
        size = 8 if kind == _FIXED64 else 4
    else:  # a group, which proto3 does not have
        raise IrregularError
    if at + size > len(view):
        raise IrregularError
    return at + size
