"""Handles messages of any service: parses and counts them, and writes the timing of answers.

Fields are counted where they lie before a message is parsed, which makes some 50 bytes of a
submessage of 2, and with ``len`` before a repeated field is iterated: a few MiB of empty
submessages take minutes to walk.  A text is decoded whenever it is read, which keeps the
interpreter for as long as that takes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from lossd import v1
from lossd.checkpoints import Checkpoint, never_stop
from lossd.engine import Hold, hold_nothing
from lossd.errors import InvalidRequest, TooLarge
from lossd.framing import Framed
from lossd.serving.rpc.unknown_fields import refuse_unknown_fields
from lossd.weighing import TextTooLongError, TooManyFieldsError, weigh

M = TypeVar("M", bound=Message)


_A_SECOND = 10**9  # in nanoseconds
_TIMED = tuple(v1.ServerTiming.DESCRIPTOR.fields_by_name)  # the phases that a caller is told of

# Fields of one message, at all depths: as many as the texts of a batch may be, hypotheses and
# references, and some more.  To count them takes a few seconds.
MAX_FIELDS = (1 << 21) + (1 << 16)
# Bytes of one text: as many characters as metrics look at, of four bytes each.
MAX_TEXT_BYTES = 1 << 24
# Below this a message may be of nothing but fields, and still takes less than a thread's stack.
_UNWEIGHED_BYTES = 1 << 15


def parse(
    message: type[M], data: bytes, hold: Hold = hold_nothing, checkpoint: Checkpoint = never_stop
) -> M:
    """Reads a message; ``hold`` counts what it takes beyond its own bytes.

    Raises:
        InvalidRequest: if the bytes are no such message.
        UnknownField: if it has a field that this server does not know.
        TooLarge: if it has more fields than any batch, or a longer text.
        Overloaded: if there is no room for them.
    """
    _weigh(message, data, hold, checkpoint)
    with _refusing(message, data):
        found = message.FromString(data)
    refuse_unknown_fields(found, len(data))
    return found


def parse_framed(message: type[M], data: bytes, hold: Hold, checkpoint: Checkpoint) -> Framed[M]:
    """Reads a message, and leaves the data of its tensors where it is; raises as ``parse``."""
    _weigh(message, data, hold, checkpoint)
    with _refusing(message, data):
        found = Framed.parse(message, data)
    refuse_unknown_fields(found.message, len(data) - found.bulk_bytes)
    return found


def _weigh(message: type[Message], data: bytes, hold: Hold, checkpoint: Checkpoint) -> None:
    if len(data) < _UNWEIGHED_BYTES:
        return
    try:
        kind = cast("Any", message.DESCRIPTOR)
        found = weigh(kind, data, MAX_FIELDS, MAX_TEXT_BYTES, checkpoint)
    except TooManyFieldsError as error:
        raise TooLarge(
            f"request must have at most {MAX_FIELDS} fields, got more in {len(data)} bytes",
            details={"limit": MAX_FIELDS},
        ) from error
    except TextTooLongError as error:
        raise TooLarge(
            f"texts must have at most {MAX_TEXT_BYTES} bytes each, got one of {error.size}",
            details={"limit": MAX_TEXT_BYTES, "size": error.size},
        ) from error
    beyond = found.nbytes - len(data)
    if beyond > _UNWEIGHED_BYTES:
        hold(beyond)


@contextmanager
def _refusing(message: type[Message], data: bytes) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise InvalidRequest(
            f"request must be an encoded {name}, got {len(data)} bytes that are not",
            reason="MALFORMED_REQUEST",
        ) from error


def check_count(thing: str, count: int, limit: int, field: str = "") -> None:
    """Raises TooLarge if there are more entries than may be; ``field`` is its path, if longer."""
    if count > limit:
        raise TooLarge(
            f"{thing} must have at most {limit} entries, got {count}",
            field=field or thing,
            details={"limit": limit, "count": count},
        )


def write_timing(timing: v1.ServerTiming, seconds: Mapping[str, float]) -> None:
    """Writes the phases that are over."""
    for name in _TIMED:
        if name in seconds:
            duration, nanos = getattr(timing, name), round(seconds[name] * 1e9)
            if nanos >= _A_SECOND:
                duration.seconds, nanos = divmod(nanos, _A_SECOND)
            duration.nanos = nanos
