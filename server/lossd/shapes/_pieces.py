"""Pieces of a whole batch, side by side where a backend can."""

from collections.abc import Callable

import numpy as np

from lossd.backends import Backend
from lossd.checkpoints import Checkpoint


def side_by_side(backend: Backend, checkpoint: Checkpoint) -> Callable[..., None]:
    """Returns a function that runs pieces of a body's work, side by side where the backend can."""

    def for_each(count: int, work: Callable[[int], None]) -> None:
        def piece(index: int) -> None:
            checkpoint()
            with np.errstate(all="ignore"):  # each thread has its own NumPy settings
                work(index)

        backend.side_by_side(count, piece)

    return for_each
