"""Counts for the body of a set that look at targets and derivatives on their way."""

import numpy as np

from lossd.batch import Array, Batch
from lossd.kernels.host import SoftCountsKernel
from lossd.schema import Choices, Interval


class WatchedCounts:
    """The ``SoftCounts`` of one run of a body; for many threads.

    A pass of its own over all targets, and one over all derivatives, would take half as long as
    counting does.
    """

    def __init__(self, kernel: SoftCountsKernel, domain: Interval | Choices | None) -> None:
        self._kernel = kernel
        self._domain = domain
        # One entry for each piece, since nothing else is added by several threads at once.
        self._sound: list[int] = []
        self._written: list[Array] = []

    def count(
        self, predictions: Array, targets: Array, weights: Array | None, products: Array | None
    ) -> Array:
        """See ``SoftCounts.count``."""
        counts, is_outside = self._kernel.count(
            predictions, targets, weights, products, self._domain
        )
        if not is_outside:
            self._sound.append(len(targets))
        return counts

    def slope(
        self,
        targets: Array,
        weights: Array | None,
        by_share: tuple[Array, Array],
        products: Array,
    ) -> None:
        """See ``SoftCounts.slope``."""
        if self._kernel.slope(targets, weights, by_share, products):
            self._written.append(products)

    def has_checked(self, batch: Batch) -> bool:
        """Returns whether all targets of a batch were found to be in their domain."""
        return sum(self._sound) == batch.rows

    def has_written(self, gradient: Array) -> bool:
        """Returns whether all of a gradient was written here, and is finite."""
        written = sum(part.size for part in self._written)
        return written == gradient.size and all(
            np.may_share_memory(gradient, part) for part in self._written
        )
