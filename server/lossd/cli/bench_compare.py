"""Compares two files of ``lossd bench --json``."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

# The loss, its parameters, the type, the transport, the shape and the callers.
Kind = tuple[str, str, str, str, str, int]
# The numbers that are compared, and where they are in a row.
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "calls_per_second": ("calls_per_second",),
    "p50": ("milliseconds", "p50"),
    "p99": ("milliseconds", "p99"),
}
_HEADS = {"calls_per_second": "calls/s", "p50": "p50 ms", "p99": "p99 ms"}


@dataclass(frozen=True, slots=True)
class Change:
    """One number of one kind of call, before and after."""

    loss: str
    parameters: str
    dtype: str
    transport: str
    shape: str
    callers: int
    number: str
    before: float
    after: float
    change: float | None


def compared(before: Path, after: Path) -> list[Change]:
    """Returns the changes of the kinds of calls that both files have, in the order of the first.

    Raises:
        click.UsageError: if one is no such file, or they have nothing in common.
    """
    first, second = _read(before), _read(after)
    both = [kind for kind in first if kind in second]
    if not both:
        raise click.UsageError(
            f"--compare must be of files that have a loss, transport, shape and callers in common, "
            f"got {before} and {after}"
        )
    return [
        Change(*kind, name, old := first[kind][name], new := second[kind][name], _change(old, new))
        for kind in both
        for name in _NUMBERS
    ]


def _change(before: float, after: float) -> float | None:
    return after / before - 1 if before else None


def _read(path: Path) -> dict[Kind, dict[str, float]]:
    try:
        rows = json.loads(path.read_text())
        return {
            _kind(row): {name: _number(row, at) for name, at in _NUMBERS.items()} for row in rows
        }
    except OSError as error:
        said = f"--compare must be of readable files, got {path}: {error.strerror}"
        raise click.UsageError(said) from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(
            f"--compare must be of files of lossd bench --json, got {path}"
        ) from error


def _kind(row: Mapping[str, Any]) -> Kind:
    return (
        str(row["loss"]),
        " ".join(row["parameters"]),
        str(row["dtype"]),
        str(row["transport"]),
        "x".join(map(str, row["shape"])),
        int(row["callers"]),
    )


def _number(row: Any, at: Sequence[str]) -> float:
    for name in at:
        row = row[name]
    return float(row)


def change_tables(changes: Sequence[Change]) -> Iterator[Table]:
    """Yields the changes as tables that fit 80 columns: after, and by how much it differs.

    There is one for each loss with its parameters and type.
    """
    for what, of_it in itertools.groupby(
        changes, lambda one: (one.loss, one.dtype, one.parameters)
    ):
        yield _table(", ".join(filter(None, what)), list(of_it))


def _table(title: str, changes: Sequence[Change]) -> Table:
    found = Table(
        title=f"{title}: after, and its difference from before", title_justify="left",
        padding=0, pad_edge=False,
    )  # fmt: skip
    for head in ("transport", "shape", "callers"):
        found.add_column(head, justify="right" if head == "callers" else "left")
    for head in _HEADS.values():
        found.add_column(head, justify="right")
        found.add_column("", justify="right")
    by_kind: dict[tuple[str, str, int], list[str]] = {}
    for one in changes:
        cells = by_kind.setdefault((one.transport, one.shape, one.callers), [])
        cells += [f"{one.after:.4g}", "" if one.change is None else f"{one.change:+.1%}"]
    for (transport, shape, callers), cells in by_kind.items():
        found.add_row(transport, shape, str(callers), *cells)
    return found
