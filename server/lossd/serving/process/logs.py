"""Writes the log: lines for people, or JSON for machines.

No thread waits for its reader.  Lines for a full pipe, or a full disk, are dropped and counted: a
thread that waited might hold a lock that others need, and calls would stop.
"""

import io
import logging
import os
import select
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

from lossd.serving.config import LogFormat, LogLevel

_SHARED: tuple[Any, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(),
)
# Without local variables: they are a caller's data, and may be large.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


_AT_ONCE = 4096  # bytes that a pipe with room takes


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines to a stream while it has room.

    To a file it writes by itself: the stream would keep what found no room, and glue it to what
    comes later.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._is_cut = False  # whether the last line is incomplete
        self._descriptor = _descriptor(stream)
        self._poll = select.poll()
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)
        self.lost = 0  # in all

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, or counts it."""
        try:
            if self._lost and self._write(self.format(_lines_lost(self._lost))):
                self._lost = 0
            if self._lost or not self._write(self.format(record)):
                self._lost += 1
                self.lost += 1
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def _write(self, line: str) -> bool:
        """Writes a line; returns whether there was room for all of it."""
        text = "\n" * self._is_cut + line + self.terminator
        if self._descriptor is None:
            self.stream.write(text)
            self.stream.flush()
            return True
        data = memoryview(text.encode(self.stream.encoding, self.stream.errors or "strict"))
        written = 0
        while written < len(data) and (count := self._put(data[written : written + _AT_ONCE])):
            written += count
        has_room = written == len(data)
        self._is_cut = not has_room and (self._is_cut or written > 0)
        return has_room

    def _put(self, data: memoryview) -> int:
        """Writes some bytes to the file; returns how many there was room for."""
        if self._descriptor is None or not self._poll.poll(0):
            return 0
        try:
            return os.write(self._descriptor, data)
        except OSError:  # a full disk, or a pipe without a reader
            return 0


def _descriptor(stream: TextIO) -> int | None:
    """Returns the file of a stream; None if it is none."""
    try:
        return stream.fileno()
    except (OSError, io.UnsupportedOperation):
        return None


def _lines_lost(count: int) -> logging.LogRecord:
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "lines were lost: no room for them", (), None
    )
    record.count = count
    return record


def configure(form: LogFormat, level: LogLevel) -> Lines:
    """Sends every record of the process to the standard error stream, one line each.

    Returns what writes them.
    """
    handler = Lines(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=_last(form))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    return handler


def _last(form: LogFormat) -> list[Any]:
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if form is LogFormat.JSON:
        return [
            without_meta,
            _TRACEBACKS,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)
    return [without_meta, _quote, renderer, _escape]


class _Quoted:
    """A text that is written as in Python's source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _quote(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Quotes what a terminal would obey or hide: a caller chooses its name."""
    for key, value in line.items():
        if isinstance(value, str) and key != "stack" and not value.isprintable():
            line[key] = _Quoted(value)
    return line


def _escape(_logger: object, _method: str, text: str) -> str:
    """Does the same within tracebacks, whose lines stay as they are."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )
