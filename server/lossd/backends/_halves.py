"""Cuts a piece of a batch into two, for a device with too little memory for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.backends import Computed, Piece


def halves(piece: Piece) -> Iterator[Piece]:
    """Yields the first and the second half of the rows of a piece."""
    middle = piece.count // 2
    for rows in (slice(0, middle), slice(middle, piece.count)):
        yield _part(piece, rows)


def _part(piece: Piece, rows: slice) -> Piece:
    return replace(
        piece,
        count=rows.stop - rows.start,
        inputs={name: (array[rows], dtype) for name, (array, dtype) in piece.inputs.items()},
        parameters={name: _of_rows(value, rows) for name, value in piece.parameters.items()},
        scale=piece.scale[rows] if np.ndim(piece.scale) else piece.scale,
        excluded=None if piece.excluded is None else piece.excluded[rows],
        gradients={name: out[rows] for name, out in piece.gradients.items()},
        outputs={name: out[rows] for name, out in piece.outputs.items()},
        nonfinite=piece.nonfinite[rows],
        values=None if piece.values is None else piece.values[rows],
        weights=None if piece.weights is None else piece.weights[rows],
    )


def _of_rows(value: Any, rows: slice) -> Any:
    """Returns a parameter for some rows: a vector of two axes has one of its own for each row."""
    return value[rows] if np.ndim(value) > 1 else value


def joined(parts: list[Computed]) -> Computed:
    """Returns the results of a piece from those of its halves."""
    first, second = parts

    def both(name: str) -> Any:
        one, other = getattr(first, name), getattr(second, name)
        return None if one is None else np.concatenate([one, other])

    return Computed(
        both("values"),
        both("statuses"),
        both("nonfinite"),
        is_outside=first.is_outside or second.is_outside,
    )
