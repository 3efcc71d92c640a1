"""Arrays in files: ``.npy``, ``.npz``, ``.safetensors``, and columns of Parquet and Arrow files.

NumPy's formats have no name for bfloat16: NumPy saves it as "two bytes each".  Such an array is
read as bfloat16 here, and written as NumPy writes it, so that it can be read again.
"""

import errno
import os
import sys
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import click
import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as packed

from lossd.cli import columns

Array = npt.NDArray[Any]

_SAFETENSORS = ".safetensors"
_ARCHIVES = (".npz", _SAFETENSORS, *columns.SUFFIXES)
_SAVED_BFLOAT16 = np.dtype("V2")
# Errors that NumPy, zipfile and zlib raise for files that are cut, damaged, encrypted or too large.
_UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, RuntimeError, SafetensorError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load(name: str, source: str) -> Array:
    """Returns the array of a file, or one of several; nothing in the file is ever executed.

    ``source`` is a path, FILE.npz:KEY, FILE.safetensors:KEY, FILE.parquet:COLUMN,
    FILE.arrow:COLUMN, or - for a .npy file on stdin.

    Raises:
        click.UsageError: if there is no such array.
        click.ClickException: if what reads such a file is not installed.
    """
    path, colon, key = source.rpartition(":")
    if not colon or not path.endswith(_ARCHIVES):
        path, key = source, ""
    read = _from_safetensors if path.endswith(_SAFETENSORS) else _from_numpy
    if path.endswith(columns.SUFFIXES):
        read = _from_columns
    try:
        return read(name, path, key)
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or _why(path, error)
        raise click.UsageError(f"{name} must be a readable array, got {path}: {reason}") from error


def _from_safetensors(name: str, path: str, key: str) -> Array:
    with safe_open(path, framework="np") as archive:
        return np.asarray(archive.get_tensor(_key(name, path, key, list(archive.keys()))))


def _from_numpy(name: str, path: str, key: str) -> Array:
    with _opened(path) as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _typed(loaded)
        return _typed(np.asarray(loaded[_key(name, path, key, list(loaded))]))


def _from_columns(name: str, path: str, key: str) -> Array:
    return columns.column(path, lambda names: _key(name, path, key, list(names)))


def _why(path: str, error: Exception) -> str:
    """Returns what is wrong with a file, where the reader's message is not for people."""
    if not Path(path).exists() and path != "-":
        return os.strerror(errno.ENOENT)
    if isinstance(error, columns.ColumnError):
        return str(error)
    if path.endswith(columns.SUFFIXES):
        return "no column that Arrow can read"
    return "no array that NumPy can read"


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by name into a .safetensors file, or into an .npz file of any other name."""
    if path.suffix == _SAFETENSORS:
        whole = {name: np.array(array, order="C") for name, array in arrays.items()}
        path.write_bytes(packed(whole))
        return
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _opened(path: str) -> IO[bytes]:
    return BytesIO(sys.stdin.buffer.read()) if path == "-" else Path(path).open("rb")


def _key(name: str, path: str, key: str, keys: list[str]) -> str:
    if not key and len(keys) == 1:
        return keys[0]
    if key not in keys:
        raise click.UsageError(
            f"{name} must name an array of {path} ({', '.join(keys)}), got {key or 'none'}"
        )
    return key


def _typed(array: Array) -> Array:
    return array.view(ml_dtypes.bfloat16) if array.dtype == _SAVED_BFLOAT16 else array
