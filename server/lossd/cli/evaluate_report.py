"""The report of ``lossd evaluate``: a table, JSON, and a file of arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossd.cli.arrays import save
from lossd.cli.files import writing
from lossd.cli.shown import array_text
from lossd.client import MetricResult


def rows(result: MetricResult) -> Iterator[tuple[str, str]]:
    """Yields the rows of the table: a name, and what it is."""
    if result.value is not None:
        yield result.metric, f"{result.value:.17g}"
    elif result.values is None:
        yield result.metric, "none"
    if result.status:
        yield "status", f"{result.status}: {result.reason}"
    if result.values is not None:
        yield from _values(result.metric, result.values)
    for name, output in result.outputs.items():
        yield name, array_text(output)
    yield "example_count", str(result.example_count)
    yield "ignored_count", str(result.ignored_count)
    if result.signature:
        yield "signature", result.signature


def _values(metric: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yields numbers of classes, labels or texts, or a matrix of pairs with what its axes are."""
    if values.ndim < 2:
        yield f"{metric} of each", array_text(values)
        return
    yield metric, array_text(values)
    yield "rows", "targets"
    yield "columns", "predictions"


def plain(result: MetricResult) -> dict[str, Any]:
    """Returns all of a result as plain data, for JSON."""
    names = ("metric", "value", "values", "status", "reason", "example_count", "ignored_count")
    found = {name: getattr(result, name) for name in names}
    return {**found, "outputs": dict(result.outputs), "signature": result.signature}


def write(path: Path, result: MetricResult) -> None:
    """Writes the arrays of a result into a file."""
    arrays: dict[str, Any] = {f"outputs.{n}": output for n, output in result.outputs.items()}
    for name in ("value", "values"):
        if (found := getattr(result, name)) is not None:
            arrays[name] = found
    with writing(path):
        save(path, arrays)
