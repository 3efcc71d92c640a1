"""Statistics of a loss as the numbers that a trainer logs."""

from typing import Any

import numpy as np

from lossd.client.result import LossResult


def sums_of(result: LossResult[Any] | None) -> dict[str, tuple[float, float]]:
    """Returns the sum over sequences of each number that a loss was asked for, and of the weights.

    Where it was asked for the tokens of each sequence too, these are the weights.
    """
    outputs = {} if result is None else dict(result.outputs)
    counts = np.asarray(outputs.pop("token_count", 1.0), np.float64)
    return {
        name: (float((each * counts).sum()), float(np.broadcast_to(counts, len(each)).sum()))
        for name, each in outputs.items()
    }


def means_of(result: LossResult[Any] | None) -> dict[str, float]:
    """Returns the means of the numbers that a loss was asked for, but of those without weights."""
    return {name: total / weight for name, (total, weight) in sums_of(result).items() if weight}
