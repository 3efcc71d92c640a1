"""Sequences of any lengths as flat tokens, and back."""

from collections.abc import Sequence

import numpy as np

from lossd.client.arrays import Array


def offsets_of(lengths: Sequence[int]) -> Array:
    """Returns where each of some sequences begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def split(flat: Array, offsets: Array) -> list[Array]:
    """Returns the tokens of each sequence.

    Raises:
        ValueError: for an array that is not of as many tokens as the offsets tell.
    """
    given, places = np.asarray(flat), np.asarray(offsets)
    if len(places) == 0 or places[0] != 0 or (np.diff(places) < 0).any():
        raise ValueError(f"offsets must ascend from 0, got {places.tolist()}")
    if given.shape != (places[-1],):
        raise ValueError(
            f"gradients must have the shape [{places[-1]}] of the tokens, got {list(given.shape)}"
        )
    return np.split(given, places[1:-1]) if len(places) > 1 else []
