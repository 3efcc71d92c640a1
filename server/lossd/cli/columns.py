"""Columns of Parquet and Arrow files as arrays; the extra "arrow" brings what reads them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import numpy as np

from lossd.cli.rows import Array, Rows, regrouped

PARQUET = ".parquet"
ARROW = (".arrow", ".feather")
SUFFIXES = (PARQUET, *ARROW)


class ContentError(ValueError):
    """A column, or an array of an archive, that is no array of numbers."""


def column(path: str, chosen: Callable[[Sequence[str]], str]) -> Array:
    """Returns a column as an array; rows of equal lists become axes.

    ``chosen`` picks one of the names of columns.

    Raises:
        click.ClickException: if the library is not installed.
        ContentError: if the column is no array of numbers.
        ValueError, OSError: if the file cannot be read.
    """
    _, ipc, parquet = _arrow(path)
    if path.endswith(PARQUET):
        with parquet.ParquetFile(path) as file:
            name = chosen(file.schema_arrow.names)
            return _array(name, file.read([name]).column(name))
    with _mapped(path) as source:
        table = ipc.open_file(source).read_all()
        name = chosen(table.column_names)
        return np.array(_array(name, table.column(name)))  # the file is closed below it


def rows(path: str, chosen: Callable[[Sequence[str]], str]) -> Rows | None:
    """Returns a column whose rows are read a few at a time; None if it has none.

    It raises what ``column`` does, here and where a row is read.
    """
    _, ipc, parquet = _arrow(path)
    if path.endswith(PARQUET):
        with parquet.ParquetFile(path) as file:
            name, count = chosen(file.schema_arrow.names), file.metadata.num_rows
        parts = _parts_of_parquet
    else:
        with _mapped(path) as source:
            batches = ipc.open_file(source)
            name = chosen(batches.schema.names)
            count = sum(batches.get_batch(i).num_rows for i in range(batches.num_record_batches))
        parts = _parts_of_arrow
    if not count:
        return None
    first = next(parts(path, name, 1))

    def same(part: Array) -> Array:
        if part.shape[1:] != first.shape[1:]:
            raise ContentError(f"column {name} must have lists of one length in every row")
        return part

    def read(size: int) -> Iterator[Array]:
        return regrouped(map(same, parts(path, name, size)), size)

    return Rows((count, *first.shape[1:]), first.dtype.itemsize, read)


def _parts_of_parquet(path: str, name: str, count: int) -> Iterator[Array]:
    pa, _, parquet = _arrow(path)
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(count, columns=[name]):
            yield _array(name, pa.chunked_array([batch.column(0)]))


def _parts_of_arrow(path: str, name: str, count: int) -> Iterator[Array]:
    """Yields copies, since the file is closed below them at the end."""
    pa, ipc, _ = _arrow(path)
    with _mapped(path) as source:
        batches = ipc.open_file(source)
        for index in range(batches.num_record_batches):
            values = batches.get_batch(index).column(name)
            for start in range(0, len(values), count):
                part = pa.chunked_array([values.slice(start, count)])
                yield np.array(_array(name, part))


def _mapped(path: str) -> Any:
    return _arrow(path)[0].memory_map(path)


def _arrow(path: str) -> tuple[Any, Any, Any]:
    """Returns Arrow's modules."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - the extra "arrow" brings it
        from pyarrow import ipc, parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{path} needs {error.name}: install it with pip install 'lossd[arrow]'"
        ) from error
    return pa, ipc, parquet


def _array(name: str, chunked: Any) -> Array:
    values, shape = chunked.combine_chunks(), [len(chunked)]
    if hasattr(values, "to_numpy_ndarray"):  # tensors of a fixed shape
        return np.asarray(values.to_numpy_ndarray())
    while hasattr(values, "value_lengths"):
        lengths = set(values.value_lengths().to_pylist())
        if values.null_count or len(lengths) > 1:
            raise ContentError(f"column {name} must have lists of one length in every row")
        shape.append(lengths.pop() if lengths else 0)
        values = values.flatten()
    if values.null_count:
        raise ContentError(f"column {name} must have no nulls, got {values.null_count}")
    found = np.asarray(values.to_numpy(zero_copy_only=False))
    if found.dtype.kind not in "biuf":
        raise ContentError(f"column {name} must hold numbers, got {values.type}")
    return found.reshape(shape)
