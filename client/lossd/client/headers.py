"""Requests that differ in their numbers alone: encoded once but for their data.

A training loop asks for the same at every step.  What a message has around the data of its tensors
follows from the loss, the options, and the names, shapes and types of the arrays; a small message
of a kind that was sent before is put together from it, before anything of it is checked again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lossd import v1
from lossd.client.arrays import Array
from lossd.client.layouts import Replies
from lossd.framing import Framed

MOST = 64  # kinds of requests that are kept: the losses of some training loops
MOST_BYTES = 1 << 14  # of one, beside its data

Kind: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded request, and what its reply will look like."""

    encoded: bytes
    replies: Replies

    def serialise(self) -> bytes:
        """Returns the encoded message."""
        return self.encoded


@dataclass(frozen=True, slots=True)
class _Header:
    """The bytes around the data of a request of some kind, and the replies to such requests."""

    frames: tuple[bytes, ...]
    replies: Replies

    def filled(self, arrays: Sequence[Array]) -> Encoded:
        """Returns the request with these arrays."""
        pieces = [self.frames[0]]
        for array, frame in zip(arrays, self.frames[1:], strict=True):
            pieces += (array.tobytes(), frame)
        return Encoded(b"".join(pieces), self.replies)


class Headers:
    """The headers of the requests that a client sent, by all that they follow from.

    It may be shared by threads, and takes no lock, which a fork could copy while it is taken.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[Kind, _Header] = {}

    def __len__(self) -> int:
        """Returns the number of headers."""
        return len(self._kept)

    def __reduce__(self) -> tuple[type["Headers"], tuple[int]]:
        """Returns what makes a copy, which learns its own."""
        return type(self), (self._most,)

    def find(self, kind: Kind, arrays: Sequence[Array]) -> Encoded | None:
        """Returns the request of a kind with these arrays; None if none of the kind was kept."""
        header = self._kept.get(kind)
        return None if header is None else header.filled(arrays)

    def made(
        self, kind: Kind, arrays: Sequence[Array], make: Callable[[], Framed[v1.ComputeLossRequest]]
    ) -> Encoded | Framed[v1.ComputeLossRequest]:
        """Returns the request of a kind with these arrays; the first is made, and kept."""
        known = self.find(kind, arrays)
        if known is not None:
            return known
        framed = make()
        self.keep(kind, framed.serialise(), arrays)
        return framed

    def keep(self, kind: Kind, encoded: bytes, arrays: Sequence[Array]) -> None:
        """Keeps the header of a request; ``arrays`` are its tensors in the order of the message."""
        payloads = Framed.parse(v1.ComputeLossRequest, encoded, least=0).payloads
        if payloads is None or any(array.dtype.byteorder == ">" for array in arrays):
            return
        edges = [0, *(edge for place in payloads.places for edge in place), len(encoded)]
        parts = zip(edges[::2], edges[1::2], strict=True)
        made = _Header(tuple(encoded[start:end] for start, end in parts), Replies())
        is_usual = len(made.frames) == len(arrays) + 1 and sum(map(len, made.frames)) <= MOST_BYTES
        if not is_usual or made.filled(arrays).encoded != encoded:
            return
        if len(self._kept) >= self._most:
            self._kept.clear()  # seldom, and each is soon made again
        self._kept[kind] = made
