"""Arrays that are read some rows at a time, for files that do not fit the memory."""

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Opened = Callable[[], AbstractContextManager[IO[bytes]]]

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """An array in a file.

    Attributes:
        shape: Its shape, with an axis or more.
        itemsize: The bytes of an element.
        read: Yields its rows in order, so many at a time, and at last those that are left.
    """

    shape: tuple[int, ...]
    itemsize: int
    read: Callable[[int], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        """The bytes of the whole array."""
        return math.prod(self.shape) * self.itemsize


def rows_of_numpy(opened: Opened) -> Rows | None:
    """Returns the rows of a .npy file; None if its elements do not lie row by row.

    Raises:
        ValueError, OSError: if it is no such file.
    """
    with opened() as file:
        shape, by_column, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("objects are never read")
    if by_column or not shape:
        return None

    def read(count: int) -> Iterator[Array]:
        with opened() as file:
            _header(file)
            for start in range(0, shape[0], count):
                rows = np.empty((min(count, shape[0] - start), *shape[1:]), dtype)
                _fill(file, rows)
                yield rows

    return Rows(shape, dtype.itemsize, read)


def opener_of_member(path: str, key: str) -> Opened:
    """Returns what opens an array of an .npz file, from its beginning each time."""

    @contextlib.contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            yield member

    return opened


def rows_of_slices(shape: tuple[int, ...], itemsize: int, taken: Callable[[slice], Array]) -> Rows:
    """Returns the rows of what can be sliced."""

    def read(count: int) -> Iterator[Array]:
        for start in range(0, shape[0], count):
            yield taken(slice(start, min(start + count, shape[0])))

    return Rows(shape, itemsize, read)


def regrouped(parts: Iterable[Array], count: int) -> Iterator[Array]:
    """Yields the rows of all parts, so many at a time.

    Raises:
        ValueError: if the rows of a part have another shape.
    """
    held: list[Array] = []
    missing = count
    for part in parts:
        left = part
        while len(left):
            held.append(left[:missing])
            left = left[missing:]
            missing -= len(held[-1])
            if not missing:
                yield np.concatenate(held)
                held, missing = [], count
    if held:
        yield np.concatenate(held)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version}")
    return _HEADERS[version](file)


def _fill(file: IO[bytes], array: Array) -> None:
    """Reads an array's bytes; a pipe or an archive may give fewer at a time."""
    wanted = array.reshape(-1).view(np.uint8).data
    while wanted:
        got = file.readinto(wanted)  # type: ignore[attr-defined]  # binary files have it
        if not got:
            raise EOFError
        wanted = wanted[got:]
