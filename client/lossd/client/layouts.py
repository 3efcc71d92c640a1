"""Replies that differ in their numbers alone: cut up where those before them had their arrays.

Arrays are the last fields of a reply.  If all bytes there are those of an earlier reply but for the
data, so are the names, types and shapes; what comes before is a message without arrays.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from lossd import tensors, v1
from lossd.client.arrays import Array
from lossd.client.result import Arrays
from lossd.framing import Framed, Payloads

Named = dict[str, Arrays]  # each an array, or a list of several


@dataclass(slots=True)  # not frozen: that would take four times as long, for every call
class CutReply:
    """A reply that was cut up: a message without arrays, and the arrays, which are read-only."""

    head: v1.ComputeLossResponse
    per_example: Array | None
    gradients: Named
    outputs: Named


class Replies:
    """The replies to requests of one kind, as the last unusual one was laid out.

    It may be shared by threads.
    """

    __slots__ = ("_layout",)

    def __init__(self) -> None:
        self._layout: _ReplyLayout | None = None

    def cut(self, encoded: bytes) -> CutReply | None:
        """Returns a reply that is laid out as the one that was learnt; None for any other."""
        return None if self._layout is None else self._layout.cut(encoded)

    def learn(self, encoded: bytes) -> None:
        """Takes a reply that can be read for the pattern of those that follow."""
        self._layout = _ReplyLayout.of(encoded)


@dataclass(frozen=True, slots=True)
class _Span:
    """Where the data of a tensor lies in the end of a reply."""

    where: slice
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def array(self, tail: bytes) -> Array:
        """Returns the tensor over a copy of its bytes, which is aligned."""
        return np.ndarray(self.shape, self.dtype, tail[self.where])


@dataclass(frozen=True, slots=True)
class _ReplyLayout:
    """The end of a reply: its bytes but for the data, and where that lies."""

    size: int
    between: tuple[slice, ...]
    fixed: bytes
    per_example: _Span | None
    gradients: tuple[tuple[str, tuple[_Span, ...]], ...]
    outputs: tuple[tuple[str, tuple[_Span, ...]], ...]

    @classmethod
    def of(cls, encoded: bytes) -> "_ReplyLayout | None":
        """Returns the layout of a reply; None if its arrays are not its end, or are booleans."""
        whole = v1.ComputeLossResponse.FromString(encoded)
        end = v1.ComputeLossResponse(gradients=whole.gradients, outputs=whole.outputs)
        if whole.HasField("per_example"):
            end.per_example.CopyFrom(whole.per_example)
        tail = end.SerializeToString()
        if not tail or not encoded.endswith(tail):
            return None
        framed = Framed.parse(v1.ComputeLossResponse, tail, least=0)
        if framed.payloads is None:
            return None
        try:
            return _laid_out(framed.message, framed.payloads, tail)
        except (tensors.TensorError, _UnusualError):
            return None

    def cut(self, encoded: bytes) -> CutReply | None:
        """Returns a reply cut up; None if it is laid out in another way."""
        tail = encoded[-self.size :]
        if len(tail) != self.size or b"".join([tail[part] for part in self.between]) != self.fixed:
            return None
        try:
            head = v1.ComputeLossResponse.FromString(encoded[: -self.size])
        except DecodeError:  # what looks like the end of a reply is a part of something else
            return None
        if head.gradients or head.outputs or head.HasField("per_example"):
            return None
        return CutReply(
            head,
            None if self.per_example is None else self.per_example.array(tail),
            _read(self.gradients, tail),
            _read(self.outputs, tail),
        )


class _UnusualError(Exception):
    """A tensor whose numbers have to be looked at."""


def _laid_out(end: v1.ComputeLossResponse, payloads: Payloads, tail: bytes) -> _ReplyLayout:
    edges = [0, *(edge for span in payloads.places for edge in span), len(tail)]
    between = tuple(map(slice, edges[::2], edges[1::2]))

    def span(tensor: v1.Tensor) -> _Span:
        array = tensors.read(tensor, payloads)
        if array.dtype == np.bool_:
            raise _UnusualError
        start, stop = payloads.places[payloads.index(tensor.data)]
        return _Span(slice(start, stop), array.dtype, array.shape)

    def named(fields: Collection[v1.NamedTensors]) -> tuple[tuple[str, tuple[_Span, ...]], ...]:
        return tuple((each.name, tuple(map(span, each.tensors))) for each in fields)

    return _ReplyLayout(
        len(tail),
        between,
        b"".join([tail[part] for part in between]),
        span(end.per_example) if end.HasField("per_example") else None,
        named(end.gradients),
        named(end.outputs),
    )


def _read(named: Sequence[tuple[str, Sequence[_Span]]], tail: bytes) -> Named:
    found: Named = {}
    for name, spans in named:
        found[name] = spans[0].array(tail) if len(spans) == 1 else [s.array(tail) for s in spans]
    return found
