"""Finds how much memory an encoded message takes once it is parsed, without parsing it.

The generated code makes some 50 bytes of a submessage that takes 2 on the wire, so a small message
of very many of them fills a machine.  Here fields are counted where they lie, and nothing is made
of them.  Texts of any length are refused too, which are decoded and hashed whenever they are read.

Source: Protocol Buffers documentation, "Encoding".
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lossd.framing import IrregularError, varint

# Messages are not nested deeper; protobuf's own limit.
MAX_DEPTH = 100

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_POINTER = 8
_VIEW = 16  # where a string lies and how long it is
_GROWN = 2  # a list has room for twice as many when one more does not fit
_TEXT = 64  # an object of Python's own around a string
_NUMBER = 32  # and one for a number of a list, with its place
_HEADER = 24  # of a message
# Fields between two checks whether to stop: at most some tenths of a second.
_FIELDS_A_CHECK = 1 << 16


@dataclass(frozen=True, slots=True)
class Weight:
    """How many fields an encoded message has, at all depths, and the bytes that they will take."""

    fields: int
    nbytes: int


class TooManyFieldsError(Exception):
    """A message has more fields than may be."""


class TextTooLongError(Exception):
    """A message has a text, of ``size`` bytes, that is longer than any may be."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def weigh(
    kind: Descriptor,
    encoded: bytes,
    most: int,
    longest: int,
    checkpoint: Callable[[], None],
) -> Weight:
    """Weighs a message; of one that is cut off or broken, what comes before.

    ``checkpoint`` is called between many fields, and may raise to stop.

    Raises:
        TooManyFieldsError: if it has more than ``most`` fields.
        TextTooLongError: if one of its texts has more than ``longest`` bytes.
    """
    walk = _SizeWalk(most, longest, checkpoint)
    with contextlib.suppress(IrregularError, IndexError):  # protobuf will say so
        walk.message(memoryview(encoded), _kind(kind), 0)
    return Weight(walk.fields, walk.nbytes)


@dataclass(frozen=True, slots=True)
class _MessageKind:
    """A kind of message: what one takes without its fields, and what its fields are."""

    nbytes: int
    inner: Mapping[int, Descriptor]
    packed: frozenset[int]
    fixed: Mapping[int, int]  # and the bytes of one
    texts: frozenset[int]


_FIXED_TYPES: Mapping[int, int] = MappingProxyType({
    FieldDescriptor.TYPE_DOUBLE: 8, FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8, FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4, FieldDescriptor.TYPE_SFIXED32: 4,
})  # fmt: skip
_TEXT_TYPES = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


@functools.cache
def _kind(kind: Descriptor) -> _MessageKind:
    alone = [field for field in kind.fields if field.containing_oneof is None]
    scalars = (f for f in kind.fields if f.message_type is None)
    numbers = [f.number for f in scalars if f.type not in _TEXT_TYPES]
    fixed = {f.number: _FIXED_TYPES[f.type] for f in kind.fields if f.type in _FIXED_TYPES}
    return _MessageKind(
        nbytes=_HEADER + _VIEW * (len(alone) + len(kind.oneofs)) + _GROWN * _POINTER,
        inner={f.number: f.message_type for f in kind.fields if f.message_type is not None},
        packed=frozenset(numbers) - frozenset(fixed),
        fixed=fixed,
        texts=frozenset(f.number for f in kind.fields if f.type == FieldDescriptor.TYPE_STRING),
    )


class _SizeWalk:
    """One walk over a message."""

    def __init__(self, most: int, longest: int, checkpoint: Callable[[], None]) -> None:
        self.fields = 0
        self.nbytes = 0
        self._most = most
        self._longest = longest
        self._checkpoint = checkpoint

    def message(self, view: memoryview, kind: _MessageKind, depth: int) -> None:
        """Weighs a message and all inside it."""
        self.nbytes += kind.nbytes
        at, end = 0, len(view)
        while at < end:
            self.fields += 1
            if self.fields > self._most:
                raise TooManyFieldsError
            if self.fields % _FIELDS_A_CHECK == 0:
                self._checkpoint()
            tag, at = varint(view, at)
            number, wire = tag >> 3, tag & 7
            if wire == _DELIMITED:
                size, at = varint(view, at)
                if at + size > end:
                    raise IrregularError
                self._delimited(view[at : at + size], number, kind, depth)
                at += size
                continue
            self.nbytes += _VIEW
            if wire == _VARINT:
                at = varint(view, at)[1]
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
                self.nbytes += _NUMBER

    def _delimited(self, body: memoryview, number: int, kind: _MessageKind, depth: int) -> None:
        if number in kind.inner:
            if depth == MAX_DEPTH:
                raise IrregularError
            self.message(body, _kind(kind.inner[number]), depth + 1)
        elif number in kind.packed:  # a byte may be a number of 8
            self.nbytes += _GROWN * _POINTER * len(body)
        elif number in kind.fixed:
            size = kind.fixed[number]
            self.nbytes += _GROWN * len(body) + _NUMBER * (len(body) // size)
        else:
            if number in kind.texts and len(body) > self._longest:
                raise TextTooLongError(len(body))
            self.nbytes += _GROWN * _VIEW + _TEXT + len(body)
