"""Handles messages of any service: parses and counts them, and writes the timing of answers.

Counts are checked with ``len`` before a repeated field is iterated: a few MiB of empty submessages
take minutes to iterate.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lossd import v1
from lossd.errors import InvalidRequest, TooLarge
from lossd.framing import Framed

M = TypeVar("M", bound=Message)


def parse(message: type[M], data: bytes) -> M:
    """Reads a message.

    Raises:
        InvalidRequest: if the bytes are no such message.
    """
    with _refusing(message, data):
        return message.FromString(data)


def parse_framed(message: type[M], data: bytes) -> Framed[M]:
    """Reads a message, and leaves the data of its tensors where it is.

    Raises:
        InvalidRequest: if the bytes are no such message.
    """
    with _refusing(message, data):
        return Framed.parse(message, data)


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


def check_count(thing: str, count: int, limit: int) -> None:
    """Raises TooLarge if there are more entries than may be."""
    if count > limit:
        raise TooLarge(
            f"{thing} must have at most {limit} entries, got {count}",
            field=thing,
            details={"limit": limit, "count": count},
        )


def write_timing(timing: v1.ServerTiming, seconds: Mapping[str, float]) -> None:
    """Writes the phases that are over."""
    for name in timing.DESCRIPTOR.fields_by_name:
        if name in seconds:
            duration = getattr(timing, name)
            duration.seconds, duration.nanos = divmod(round(seconds[name] * 1e9), 10**9)
