"""Turns errors of the client and of the server's layers into one line and an exit status.

The statuses of every command: 0 for success, 2 for wrong use (a name, a value, a file or an input
that breaks a rule), 1 for a failure despite correct use.
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
def told(where: str = "") -> Iterator[None]:
    """Reports errors of lossd in one line, which ends with where it happened.

    Raises:
        click.UsageError: for mistakes that the caller can fix.
        click.ClickException: for other errors.
    """
    try:
        yield
    except _OF_THE_CALLER as error:
        raise click.UsageError(_line(error) + where) from error
    except (LossdError, errors.ServiceError) as error:
        raise click.ClickException(_line(error) + where) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
