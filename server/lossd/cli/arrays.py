"""Arrays in files: ``.npy``, ``.npz``, ``.safetensors``, and columns of Parquet and Arrow files.

NumPy's formats have no name for bfloat16: NumPy saves it as "two bytes each".  Such an array is
read as bfloat16 here, and written as NumPy writes it, so that it can be read again.
"""

import contextlib
import errno
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import click
import ml_dtypes
import numpy as np
from safetensors import safe_open

from lossd.cli import columns
from lossd.cli.rows import Array, Rows, opener_of_member, rows_of_numpy, rows_of_slices

_SAFETENSORS = ".safetensors"
# The ends of the names of files that ``save`` writes.
SAVED = (".npz", _SAFETENSORS)
_ARCHIVES = (*SAVED, *columns.SUFFIXES)
_SAFETENSORS_TYPES = {
    "bool": "BOOL", "bfloat16": "BF16",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}  # fmt: skip
_STARTS = (b"\x93NUMPY", b"PK")  # of a .npy file and of an .npz file
_LONGEST_START = max(map(len, _STARTS))
_SAVED_BFLOAT16 = np.dtype("V2")


def load(name: str, source: str) -> Array:
    """Returns the array of a file, or one of several; nothing in the file is ever executed.

    ``source`` is a path, FILE.npz:KEY, FILE.safetensors:KEY, FILE.parquet:COLUMN,
    FILE.arrow:COLUMN, or - for a .npy file on stdin.

    Raises:
        click.UsageError: if there is no such array.
        click.ClickException: if what reads such a file is not installed.
    """
    path, key = _parted(source)
    read = _from_safetensors if path.endswith(_SAFETENSORS) else _from_numpy
    if path.endswith(columns.SUFFIXES):
        read = _from_columns
    with _readable(name, path):
        return read(name, path, key)


def load_rows(name: str, source: str) -> Rows | None:
    """Returns an array whose rows can be read a few at a time; None where they cannot.

    Raises:
        click.UsageError: if there is no such array, here or where a row is read.
        click.ClickException: if what reads such a file is not installed.
    """
    path, key = _parted(source)
    with _readable(name, path):
        found = None if path == "-" or _is_read_once(path) else _rows(name, path, key)
    return None if found is None else Rows(found.shape, found.itemsize, _told(found, name, path))


def _told(rows: Rows, name: str, path: str) -> Any:
    def read(count: int) -> Iterator[Array]:
        with _readable(name, path):
            yield from map(_typed, rows.read(count))

    return read


def _rows(name: str, path: str, key: str) -> Rows | None:
    if path.endswith(_SAFETENSORS):
        return _rows_of_safetensors(name, path, key)
    if path.endswith(columns.SUFFIXES):
        return columns.rows(path, lambda names: _key(name, path, key, list(names)))
    if not zipfile.is_zipfile(path):
        return rows_of_numpy(lambda: Path(path).open("rb"))
    with zipfile.ZipFile(path) as archive:
        keys = [one.removesuffix(".npy") for one in archive.namelist()]
    return rows_of_numpy(opener_of_member(path, _key(name, path, key, keys)))


def _rows_of_safetensors(name: str, path: str, key: str) -> Rows | None:
    with safe_open(path, framework="np") as archive:
        chosen = _key(name, path, key, list(archive.keys()))
        shape = tuple(archive.get_slice(chosen).get_shape())
        _check_type(chosen, archive.get_slice(chosen).get_dtype())
        if not shape:
            return None
        itemsize = np.asarray(archive.get_slice(chosen)[:0]).dtype.itemsize

    def taken(rows: slice) -> Array:
        with safe_open(path, framework="np") as again:  # what was read before need not be kept
            return np.asarray(again.get_slice(chosen)[rows])

    return rows_of_slices(shape, itemsize, taken)


def path_of(source: str) -> str:
    """Returns the path of a source as ``load`` takes it."""
    return _parted(source)[0]


def _parted(source: str) -> tuple[str, str]:
    """Returns path and key of FILE:KEY, which may have colons in it; no key is an empty one."""
    for colon in re.finditer(":", source):
        path, key = source[: colon.start()], source[colon.end() :]
        if path.endswith(_ARCHIVES):
            return path, key
    return source, ""


@contextlib.contextmanager
def _readable(name: str, path: str) -> Iterator[None]:
    """Says in one line what is wrong with a file.

    Of one that is cut, damaged, encrypted or too large, each library raises errors of its own and
    of what it builds on: of ``zlib``, ``lzma``, ``struct`` and even Python's tokenizer.
    """
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or _why(path, error)
        raise click.UsageError(f"{name} must be a readable array, got {path}: {reason}") from error


def _from_safetensors(name: str, path: str, key: str) -> Array:
    with safe_open(path, framework="np") as archive:
        chosen = _key(name, path, key, list(archive.keys()))
        _check_type(chosen, archive.get_slice(chosen).get_dtype())
        return np.asarray(archive.get_tensor(chosen))


def _check_type(key: str, dtype: str) -> None:
    """Refuses types of safetensors that NumPy has not, such as 8 bits with a fraction."""
    known = _SAFETENSORS_TYPES.values()
    if dtype not in known:
        raise columns.ContentError(f"{key} must hold one of {', '.join(known)}, got {dtype}")


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
    if isinstance(error, columns.ContentError):
        return str(error)
    if path.endswith(columns.SUFFIXES):
        return "no column that Arrow can read"
    return "no array that NumPy can read"


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by name into an .npz or a .safetensors file.

    Arrays that lie in files are read a part at a time.
    """
    with path.open("wb") as file:
        if path.suffix == _SAFETENSORS:
            _save_safetensors(file, {n: np.asanyarray(array) for n, array in arrays.items()})
        else:
            _save_npz(file, arrays)


def _save_npz(file: IO[bytes], arrays: Mapping[str, Any]) -> None:
    """Writes what ``np.savez`` does, which may leave an archive open that could not be written."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _save_safetensors(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Writes what the library's ``save_file`` does, which would make a copy of all of it first."""
    described, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        kind = _SAFETENSORS_TYPES[array.dtype.name]
        described[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (begin, end)}
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)  # so that the data is aligned
    file.write(len(header).to_bytes(8, "little") + header)
    for array in arrays.values():
        for part in _parts(array):
            file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)


def _parts(array: Array) -> Iterator[Array]:
    """Yields an array in parts of rows, of a MiB or one row each."""
    if array.ndim == 0 or not array.size:
        yield array
        return
    rows = max(1, (1 << 20) * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _opened(path: str) -> IO[bytes]:
    if path == "-":
        return _held(stdin())
    if not _is_read_once(path):
        return Path(path).open("rb")
    with Path(path).open("rb") as stream:
        return _held(stream)


def stdin() -> IO[bytes]:
    """Returns standard input.

    Raises:
        OSError: if there is none.
    """
    if sys.stdin is None:  # as Python has it where the shell closed it
        raise OSError(errno.EBADF, "stdin is closed")
    return sys.stdin.buffer


def _held(stream: IO[bytes]) -> IO[bytes]:
    """Returns all of a stream; of one that holds no array the start, since it may have no end."""
    head = stream.read(_LONGEST_START)
    return BytesIO(head + stream.read() if head.startswith(_STARTS) else head)


def _is_read_once(path: str) -> bool:
    """Returns whether it is a pipe or the like, such as a shell makes of <(command)."""
    return Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()


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
