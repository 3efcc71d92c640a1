"""How the log is written: lines for people, or JSON for machines."""

import logging
from typing import Any

import structlog

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


def configure(form: LogFormat, level: LogLevel) -> None:
    """Sends every record of the process to the standard error stream, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=_last(form))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


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
    return [without_meta, structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
