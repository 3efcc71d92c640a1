"""Tells a line to the standard output, for a program that must not wait for its reader."""

import io
import logging
import os
import select
import sys
from collections.abc import Callable

import click

log = logging.getLogger(__name__)

_LOOKING_MS = 100


def tell(line: str, is_wanted: Callable[[], bool]) -> None:
    """Writes a line as soon as there is room for it, and while it is wanted.

    One that cannot be written is logged: a reader that is gone, or a disk that is full, is no
    reason to end.  A pipe with room takes 4 KiB at once, and a line is shorter.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, io.UnsupportedOperation):  # no file
        click.echo(line)
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while is_wanted():
        if poll.poll(_LOOKING_MS):
            _write(descriptor, line)
            return


def _write(descriptor: int, line: str) -> None:
    try:
        os.write(descriptor, os.fsencode(line + "\n"))
    except OSError as error:
        log.warning("line could not be told", extra={"line": line, "because": error.strerror})
