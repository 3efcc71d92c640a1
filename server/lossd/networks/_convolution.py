"""Convolution as matrix products, one image at a time, forward and backward.

The windows of some rows of the output are copied side by side into a matrix; its product with the
weights is these rows.  How many rows go together depends on the sizes alone, so that a result has
the same bits whatever else is computed, and the copy never takes more than a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.schema import Array


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows that a square kernel has on an image (channels, height, width)."""

    channels: int
    height: int
    width: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return (self.height + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def columns(self) -> int:
        """Columns of the output."""
        return (self.width + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def length(self) -> int:
        """Elements of one window."""
        return self.channels * self.kernel**2

    def tiles(self, elements: int) -> Iterator[slice]:
        """Yields rows of the output whose windows have about so many elements, at least one row."""
        step = max(1, elements // (self.length * self.columns))
        for start in range(0, self.rows, step):
            yield slice(start, min(start + step, self.rows))

    def padded(self, xp: Any, image: Array) -> Array:
        """Returns the image with zeros around it."""
        if not self.padding:
            return xp.ascontiguousarray(image)
        found = self.blank(xp, image.dtype)
        found[self.inside] = image
        return found

    def blank(self, xp: Any, dtype: np.dtype[Any]) -> Array:
        """Returns zeros in the size of the padded image."""
        around = 2 * self.padding
        return xp.zeros((self.channels, self.height + around, self.width + around), dtype)

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where the image lies in the padded one."""
        edge = self.padding
        return slice(None), slice(edge, edge + self.height), slice(edge, edge + self.width)

    def seen(self, xp: Any, padded: Array, rows: slice) -> Array:
        """Returns the windows of some rows as a view (channels, kernel, kernel, rows, columns)."""
        plane, line, item = padded.strides
        step = self.stride
        return xp.lib.stride_tricks.as_strided(
            padded[:, rows.start * step :],
            (self.channels, self.kernel, self.kernel, rows.stop - rows.start, self.columns),
            (plane, line, item, step * line, step * item),
        )


@dataclass(frozen=True, slots=True)
class Device:
    """The array library that computes, NumPy or CuPy, in matrices of about ``tile`` elements."""

    xp: Any
    tile: int


def convolve(on: Device, image: Array, weight: Array, bias: Array, at: Windows) -> Array:
    """Returns (outputs, rows, columns), for weights (outputs, channels, kernel, kernel)."""
    xp, outputs = on.xp, len(weight)
    matrix, padded = weight.reshape(outputs, at.length), at.padded(xp, image)
    found = xp.empty((outputs, at.rows * at.columns), image.dtype)
    for rows in at.tiles(on.tile):
        windows = xp.ascontiguousarray(at.seen(xp, padded, rows)).reshape(at.length, -1)
        part = found[:, rows.start * at.columns : rows.stop * at.columns]
        xp.add(xp.matmul(matrix, windows), bias[:, None], out=part)
    return found.reshape(outputs, at.rows, at.columns)


def spread(on: Device, derivatives: Array, weight: Array, at: Windows) -> Array:
    """Returns the gradient with respect to the image from that with respect to the convolution."""
    xp, outputs = on.xp, len(weight)
    matrix = weight.reshape(outputs, at.length).T
    found = at.blank(xp, derivatives.dtype)
    given = derivatives.reshape(outputs, at.rows * at.columns)
    for rows in at.tiles(on.tile):
        count = rows.stop - rows.start
        part = given[:, rows.start * at.columns : rows.stop * at.columns]
        windows = xp.matmul(matrix, part).reshape(
            at.channels, at.kernel, at.kernel, count, at.columns
        )
        for down in range(at.kernel):
            for right in range(at.kernel):
                part = _strided(found, at, rows.start * at.stride + down, count, right)
                part += windows[:, down, right]
    return found[at.inside]


def _strided(padded: Array, at: Windows, top: int, count: int, left: int) -> Array:
    """Returns the elements that one position of the kernel meets in some rows of windows."""
    bottom = top + (count - 1) * at.stride + 1
    end = left + (at.columns - 1) * at.stride + 1
    return padded[:, top : bottom : at.stride, left : end : at.stride]
