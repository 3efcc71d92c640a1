"""The output of commands: tables for people, JSON for programs."""

import json
import math
import os
import sys
from collections.abc import Iterable
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

_MOST_NUMBERS = 10_000  # numbers of an array that is shown whole
_NO_BOUND = 1 << 24  # columns, more than any line has


def is_bounded() -> bool:
    """Returns whether lines have a width to keep to; what goes into a pipe or a file is whole."""
    columns = os.environ.get("COLUMNS", "")
    return sys.stdout.isatty() or (columns.isdecimal() and int(columns) > 0)


def console(*, markup: bool = True, highlight: bool = True) -> Console:
    """Returns what prints to stdout, folding lines only where their width is bounded."""
    width = None if is_bounded() else _NO_BOUND
    return Console(width=width, markup=markup, highlight=highlight)


def print_pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Prints a table of names and values."""
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console(markup=False, highlight=False).print(table)


def can_show(text: str) -> bool:
    """Returns whether stdout has every character of a text, which depends on its encoding."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def print_json(value: Any) -> None:
    """Prints a value as JSON; numbers that JSON lacks become texts, as in protobuf's JSON."""
    click.echo(json.dumps(plain(value), indent=2))


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: lists for arrays, texts for numbers that are not finite."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(np.asarray(value, np.float64).tolist() if _is_float(value) else value.tolist())
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _is_float(value: Any) -> bool:
    return value.dtype.kind not in "iub"


def array_text(array: Any) -> str:
    """Returns all numbers of an array, one row on each line; for a large one, only its shape."""
    found = np.asarray(array)
    if found.size > _MOST_NUMBERS:
        shape = " x ".join(map(str, found.shape))
        return f"{shape} numbers: --output writes them, --json shows them"
    if found.ndim > 2:
        return "\n\n".join(array_text(part) for part in found)
    texts = np.array([_number(number) for number in found.reshape(-1)], dtype=object)
    if found.ndim < 2:
        return " ".join(texts)
    width = max(map(len, texts), default=0)
    rows = texts.reshape(found.shape)
    return "\n".join(" ".join(text.rjust(width) for text in row) for row in rows)


def _number(number: Any) -> str:
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.6g}"
