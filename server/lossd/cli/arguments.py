"""Arguments that several subcommands take."""

import math
from typing import Any, cast

import click

NAME_AND_FILE, NAME_AND_VALUE = "NAME=FILE", "NAME=VALUE"

# What --input takes, in the help of all that have it.
SOURCES = (
    "an array of a .npy file, FILE.npz:KEY, FILE.safetensors:KEY, FILE.parquet:COLUMN or "
    "FILE.arrow:COLUMN; - is a .npy file on stdin, and a pipe may be one too"
)


def pair(flag: str, text: str, form: str = NAME_AND_VALUE) -> tuple[str, str]:
    """Returns the two parts of an argument of a form such as NAME=VALUE.

    Raises:
        click.UsageError: if it has another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"{flag} must be {form}, got {text}")
    return name, value


def is_in_plain_digits(text: str) -> bool:
    """Returns whether a number has the digits of a program, not those that Python takes besides.

    To Python 1_0 is 10, and so are the digits of other scripts.
    """
    return text.isascii() and "_" not in text


class _InPlainDigits:
    """Refuses other digits, before the type beside it reads the number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        if isinstance(value, str) and not is_in_plain_digits(value):
            raise click.BadParameter(
                f"{value!r} is not a number of plain digits.", ctx=ctx, param=param
            )
        return cast("Any", super()).convert(value, param, ctx)


class WholeNumber(_InPlainDigits, click.types.IntParamType):
    """A whole number."""


class WholeWithin(_InPlainDigits, click.IntRange):
    """A whole number within bounds."""


class Number(_InPlainDigits, click.types.FloatParamType):
    """A number."""


class Real(_InPlainDigits, click.FloatRange):
    """A number within bounds; NaN is out of all bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return found
