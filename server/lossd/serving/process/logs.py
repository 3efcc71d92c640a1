"""Writes the log: lines for people, or JSON for machines.

No thread waits for its reader.  Lines for a full pipe are dropped and counted: a thread that waited
might hold a lock that others need, and calls would stop.
"""

import io
import logging
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


# A pipe with room takes 4 KiB at once: this many characters of at most 4 bytes.
_CHARACTERS = 1024


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines to a stream while it has room."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._is_cut = False  # whether the last line is incomplete
        self._poll = _poll(stream)
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
        for start in range(0, len(text), _CHARACTERS):
            if self._poll is not None and not self._poll.poll(0):
                self._is_cut = self._is_cut or start > 0
                return False
            self.stream.write(text[start : start + _CHARACTERS])
            self.stream.flush()
        self._is_cut = False
        return True


def _poll(stream: TextIO) -> "select.poll | None":
    """Returns an object that tells whether a stream has room; None if it always has."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, io.UnsupportedOperation):  # no file
        return None
    return poll


def _lines_lost(count: int) -> logging.LogRecord:
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "lines were lost: nobody read them", (), None
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
