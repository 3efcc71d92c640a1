"""Arguments that several subcommands take."""

import math
from typing import Any

import click


def pair(flag: str, text: str) -> tuple[str, str]:
    """Returns the name and the value of an argument NAME=VALUE.

    Raises:
        click.UsageError: if it has another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"{flag} must be NAME=VALUE, got {text}")
    return name, value


class Real(click.FloatRange):
    """A number within bounds; NaN is out of all bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return found
