"""Sequences of any lengths as flat tokens, and back."""

from collections.abc import Sequence

import numpy as np

from lossd.client.arrays import Array


def offsets_of(lengths: Sequence[int]) -> Array:
    """Returns where each of some sequences begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def split(flat: Array, offsets: Array) -> list[Array]:
    """Returns the tokens of each sequence."""
    return np.split(flat, offsets[1:-1]) if len(offsets) > 1 else []
