"""Statistics of a loss as the numbers that a trainer logs."""

from typing import Any

import numpy as np

from lossd.client.result import LossResult


def means_of(result: LossResult[Any] | None) -> dict[str, float]:
    """Returns the mean over sequences of each number that a loss was asked for.

    Where it was asked for the tokens of each sequence too, these are the weights.
    """
    outputs = {} if result is None else dict(result.outputs)
    counts = np.asarray(outputs.pop("token_count", 1.0), np.float64)
    return {
        name: float(np.average(each, weights=np.broadcast_to(counts, len(each))))
        for name, each in outputs.items()
        if np.broadcast_to(counts, len(each)).sum()
    }
