"""Weighted means of one number for each example."""

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import BatchState, Floats, Score
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally


def keep_mean(values: Floats, weights: Floats | None, checkpoint: Checkpoint) -> BatchState:
    """Keeps the exact sums of w v and of w; values that are not finite are counted and left out."""
    finite = np.isfinite(values)
    lost = len(values) - int(np.count_nonzero(finite))
    if lost:
        values = values[finite]
        weights = None if weights is None else weights[finite]
    tallies = {
        "values": Tally.sums(values, weights=weights, checkpoint=checkpoint),
        "weights": Tally.weight(len(values), weights, checkpoint),
    }
    return BatchState(tallies=tallies, nonfinite_count=lost)


def mean(state: State) -> Score:
    """Returns the quotient of the two sums, rounded once."""
    weights = state.total("weights")
    if weights <= 0:
        return Score(reason="there is no weight")
    return Score(value=float(state.total("values") / weights))
