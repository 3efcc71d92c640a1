"""The matrix of counts of each pair of target and prediction."""

import numpy as np

from lossd.evaluation._classification import MULTILABEL, Decisions
from lossd.evaluation._declare import InputError, Kept
from lossd.evaluation._state import State, Tally

MAX_CLASSES = 2048


def check(state: State) -> str:
    """Returns the fault of a state from elsewhere, or an empty text."""
    if "pairs" not in state.tallies:
        return "" if state.is_empty else "pairs must be there, got none"
    rows, columns = state.tally("pairs").shape
    if (columns == 2 and rows % 2 == 0) if state.task is MULTILABEL else rows == columns:
        return ""
    return f"pairs must be square, got {rows} by {columns}"


def count_pairs(laid: Decisions) -> Kept:
    """Counts by target and prediction; by label, target and prediction for labels."""
    if laid.width > MAX_CLASSES:
        raise InputError(
            "inputs.predictions",
            f"classes must be at most {MAX_CLASSES} for a matrix, got {laid.width}",
        )
    if laid.task is not MULTILABEL:
        pairs = laid.targets * laid.width + laid.predicted
        counts = Tally.counts(pairs, (laid.width, laid.width), laid.weights)
        return Kept(tallies={"pairs": counts})
    labels = 4 * np.arange(laid.width)
    pairs = labels + 2 * laid.targets.astype(np.int64) + laid.predicted
    weights = None if laid.weights is None else np.repeat(laid.weights, laid.width)
    counts = Tally.counts(pairs.reshape(-1), (2 * laid.width, 2), weights)
    return Kept(tallies={"pairs": counts})
