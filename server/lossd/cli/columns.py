"""Columns of Parquet and Arrow files as arrays; the extra "arrow" brings what reads them."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PARQUET = ".parquet"
ARROW = (".arrow", ".feather")
SUFFIXES = (PARQUET, *ARROW)


class ColumnError(ValueError):
    """A column that is no array of numbers."""


def column(path: str, chosen: Callable[[Sequence[str]], str]) -> Array:
    """Returns a column as an array; rows of equal lists become axes.

    ``chosen`` picks one of the names of columns.

    Raises:
        click.ClickException: if the library is not installed.
        ColumnError: if the column is no array of numbers.
        ValueError, OSError: if the file cannot be read.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - the extra "arrow" brings it
        from pyarrow import ipc, parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{path} needs {error.name}: install it with pip install 'lossd[arrow]'"
        ) from error
    if path.endswith(PARQUET):
        with parquet.ParquetFile(path) as file:
            name = chosen(file.schema_arrow.names)
            return _array(name, file.read([name]).column(name))
    with pa.memory_map(path) as source:
        table = ipc.open_file(source).read_all()
        name = chosen(table.column_names)
        return np.array(_array(name, table.column(name)))  # the file is closed below it


def _array(name: str, chunked: Any) -> Array:
    values, shape = chunked.combine_chunks(), [len(chunked)]
    if hasattr(values, "to_numpy_ndarray"):  # tensors of a fixed shape
        return np.asarray(values.to_numpy_ndarray())
    while hasattr(values, "value_lengths"):
        lengths = set(values.value_lengths().to_pylist())
        if values.null_count or len(lengths) > 1:
            raise ColumnError(f"column {name} must have lists of one length in every row")
        shape.append(lengths.pop() if lengths else 0)
        values = values.flatten()
    if values.null_count:
        raise ColumnError(f"column {name} must have no nulls, got {values.null_count}")
    found = np.asarray(values.to_numpy(zero_copy_only=False))
    if found.dtype.kind not in "biuf":
        raise ColumnError(f"column {name} must hold numbers, got {values.type}")
    return found.reshape(shape)
