"""Errors of the client and of the server's own layers, as one line and an exit status.

The statuses of every command: 0 where it did what it was asked, 2 where it was used wrongly (a
name, a value, a file or an input that breaks a rule), 1 where it was used rightly and failed.
"""

import contextlib
from collections.abc import Iterator

import click

from lossd import errors
from lossd.client import InvalidRequestError, LossdError

_OF_THE_CALLER = (
    InvalidRequestError,
    errors.InvalidRequest,
    errors.TooLarge,
    errors.UnknownLoss,
    errors.UnknownMetric,
)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Says an error of lossd in one line.

    Raises:
        click.UsageError: for what the caller can mend.
        click.ClickException: for the others.
    """
    try:
        yield
    except _OF_THE_CALLER as error:
        raise click.UsageError(_line(error)) from error
    except (LossdError, errors.LossdError) as error:
        raise click.ClickException(_line(error)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
