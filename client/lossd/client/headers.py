"""Requests that differ in their numbers alone: encoded once but for their data.

A training loop asks for the same at every step.  What a message has around the data of its tensors
follows from the loss, the options, and the names, shapes and types of the arrays; a small message
of a kind that was sent before is put together from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lossd import v1
from lossd.client.arrays import Array
from lossd.framing import Framed

MOST = 64  # kinds of requests that are kept: the losses of some training loops
MOST_BYTES = 1 << 14  # of one, beside its data

Kind: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded request, but for joining its pieces."""

    pieces: Sequence[bytes]

    def serialise(self) -> bytes:
        """Returns the encoded message."""
        return b"".join(self.pieces)


class Headers:
    """The headers of the requests that a client sent, by all that they follow from.

    It may be shared by threads, and takes no lock, which a fork could copy while it is taken.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[Kind, tuple[bytes, ...]] = {}

    def __len__(self) -> int:
        """Returns the number of headers."""
        return len(self._kept)

    def __reduce__(self) -> tuple[type["Headers"], tuple[int]]:
        """Returns what makes a copy, which learns its own."""
        return type(self), (self._most,)

    def find(self, kind: Kind, arrays: Sequence[Array]) -> Encoded | None:
        """Returns the request of a kind with these arrays; None if none of the kind was kept."""
        frames = self._kept.get(kind)
        return None if frames is None else _filled(frames, arrays)

    def keep(self, kind: Kind, encoded: bytes, arrays: Sequence[Array]) -> None:
        """Keeps the header of a request; ``arrays`` are its tensors in the order of the message."""
        payloads = Framed.parse(v1.ComputeLossRequest, encoded, least=0).payloads
        if payloads is None or any(array.dtype.byteorder == ">" for array in arrays):
            return
        edges = [0, *(edge for place in payloads.places for edge in place), len(encoded)]
        parts = zip(edges[::2], edges[1::2], strict=True)
        frames = tuple(encoded[start:end] for start, end in parts)
        is_usual = len(frames) == len(arrays) + 1 and sum(map(len, frames)) <= MOST_BYTES
        if not is_usual or _filled(frames, arrays).serialise() != encoded:
            return
        if len(self._kept) >= self._most:
            self._kept.clear()  # seldom, and each is soon made again
        self._kept[kind] = frames


def _filled(frames: Sequence[bytes], arrays: Sequence[Array]) -> Encoded:
    pieces = [frames[0]]
    for array, frame in zip(arrays, frames[1:], strict=True):
        pieces += (array.tobytes(), frame)
    return Encoded(pieces)
