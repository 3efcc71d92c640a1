"""Messages whose tensors follow them in chunks, for both sides of ``StreamLoss``.

A batch of 64 MiB in one message is held several times over while gRPC receives or sends it.  In
chunks it is held once: the receiver copies each chunk to its place and drops it, and the sender
cuts the chunks from the tensor's own memory.

    split      message with data  ->  the same message with lengths, and the data
    Assembly   message with lengths, chunks  ->  message with data
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
from google.protobuf.message import Message

from lossd import v1
from lossd.framing import Bytes, Framed, Payloads, encoded_varint, route, varint

# Larger chunks outgrow the cache and the allocator's reuse; each smaller one costs a call.
CHUNK_BYTES = 1 << 20

M = TypeVar("M", bound=Message)

Room = np.ndarray[tuple[int], np.dtype[np.uint8]]

# Field 15, delimited, of a request and of a response alike: a chunk.
_CHUNK_TAG = encoded_varint(15 << 3 | 2)
_LONGEST_HEAD = len(_CHUNK_TAG) + 5  # protobuf accepts no longer size


class ChunkError(ValueError):
    """A message or a chunk that breaks a rule of the stream."""


def split(framed: Framed[M]) -> tuple[M, list[Bytes]]:
    """Returns the message with lengths in place of its bulk data, and that data in order."""
    following: list[Bytes] = []
    if framed.payloads is None:
        return framed.message, following
    for tensor in tensors_of(framed.message):
        if tensor.WhichOneof("source") != "data":
            continue
        data = framed.payloads[tensor.data]
        tensor.chunks.position = len(following)
        tensor.chunks.size_bytes = len(data)
        following.append(data)
    return framed.message, following


def tensors_of(message: Message) -> Iterator[v1.Tensor]:
    """Yields all tensors inside a message; what holds none is not walked, however many it is."""
    leading = route(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.number not in leading:
            continue
        for inner in (value,) if isinstance(value, Message) else value:
            if isinstance(inner, v1.Tensor):
                yield inner
            else:
                yield from tensors_of(inner)


def fresh(size: int) -> Room:
    """Returns so many bytes of new memory."""
    return np.empty(size, np.uint8)


class Assembly(Generic[M]):
    """A message that was received, and the tensors of it that are still to come.

    ``allocate`` returns the bytes for a tensor, when its first chunk is due.

    Raises:
        ChunkError: if an announced tensor breaks a rule.
    """

    def __init__(self, message: M, allocate: Callable[[int], Room] = fresh) -> None:
        self._message = message
        self._allocate = allocate
        found = list(tensors_of(message))
        self._inline = [t for t in found if t.WhichOneof("source") == "data"]
        self._awaited = [t for t in found if t.WhichOneof("source") == "chunks"]
        for place, tensor in enumerate(self._awaited):
            _check(place, tensor.chunks)
        self.size_bytes = sum(tensor.chunks.size_bytes for tensor in self._awaited)
        self._left = self.size_bytes
        self._places: list[Room] = []
        self._filled = 0  # bytes of the last tensor

    @property
    def is_complete(self) -> bool:
        """Whether everything has come."""
        return not self._left

    def take(self, chunk: Bytes) -> None:
        """Copies the next chunk to its place; a chunk belongs to a single tensor.

        Raises:
            ChunkError: if it is empty, or longer than the rest of the tensor.
        """
        self._skip_full()
        wanted = 0 if self.is_complete else len(self._places[-1]) - self._filled
        if not 0 < len(chunk) <= wanted:
            rule = f"of at least 1 byte and at most the {wanted} that are left of a tensor"
            raise ChunkError(f"chunk must be {rule}, got {len(chunk)}")
        end = self._filled + len(chunk)
        self._places[-1][self._filled : end] = np.frombuffer(chunk, np.uint8)
        self._filled = end
        self._left -= len(chunk)

    def _skip_full(self) -> None:
        """Allocates the next tensor that has bytes, when its first chunk is due."""
        while not self._places or self._filled == len(self._places[-1]):
            if len(self._places) == len(self._awaited):
                return
            size = self._awaited[len(self._places)].chunks.size_bytes
            self._places.append(self._allocate(size))
            self._filled = 0

    def framed(self) -> Framed[M]:
        """Returns the message with the data that came."""
        if not self._awaited:
            return Framed(self._message)
        if self.is_complete:
            self._skip_full()
        payloads = Payloads()
        for tensor in self._inline:
            tensor.data = payloads.add(tensor.data)
        for tensor, place in zip(self._awaited, self._places, strict=True):
            tensor.data = payloads.add(place.data.toreadonly())
        return Framed(self._message, payloads)


def _check(place: int, announced: v1.Chunks) -> None:
    if announced.position != place:
        raise ChunkError(f"chunks.position must be {place}, got {announced.position}")
    if announced.size_bytes < 0:
        raise ChunkError(f"chunks.size_bytes must be at least 0, got {announced.size_bytes}")


def encoded_chunks(following: Iterable[Bytes]) -> Iterator[bytes]:
    """Yields requests or responses that hold the chunks; the data is copied once."""
    for data in following:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            part = view[start : start + CHUNK_BYTES]
            yield b"".join((_CHUNK_TAG, encoded_varint(len(part)), part))


def chunk_of(encoded: bytes) -> Bytes | None:
    """Returns the chunk in an encoded request or response; None if it holds something else.

    It is read without the generated code, which would copy it.
    """
    if not encoded.startswith(_CHUNK_TAG):
        return None
    view = memoryview(encoded)
    try:
        size, start = varint(view[:_LONGEST_HEAD], len(_CHUNK_TAG))
    except IndexError:
        return None
    return view[start:] if len(view) - start == size else None
