"""The matrix of counts of each pair of target and prediction."""

from dataclasses import replace

import numpy as np

from lossd.evaluation._classification import (
    CLASS_COUNTS,
    CLASSES,
    DECISIONS,
    MULTILABEL,
    Decisions,
)
from lossd.evaluation._declare import BatchState, InputError
from lossd.evaluation._examples import for_each_column
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally

MAX_CLASSES = 2048

_FEW_CLASSES = replace(CLASSES, bounds=replace(CLASS_COUNTS, high=MAX_CLASSES))
PAIRS = replace(
    DECISIONS,
    parameters=tuple(_FEW_CLASSES if p is CLASSES else p for p in DECISIONS.parameters),
)


def check(state: State) -> str:
    """Returns the fault of a state from elsewhere, or an empty text."""
    if "pairs" not in state.tallies:
        return "" if state.is_empty else "pairs must be there, got none"
    rows, columns = state.tally("pairs").shape
    if (columns == 2 and rows % 2 == 0) if state.task is MULTILABEL else rows == columns:
        return ""
    return f"pairs must be square, got {rows} by {columns}"


def count_pairs(prepared: Decisions) -> BatchState:
    """Counts by target and prediction; by label, target and prediction for labels."""
    if prepared.width > MAX_CLASSES:
        raise InputError(
            "inputs.predictions",
            f"classes or labels must be at most {MAX_CLASSES} for a matrix, got {prepared.width}",
        )
    if prepared.task is not MULTILABEL:
        pairs = prepared.targets * prepared.width + prepared.predicted
        shape = (prepared.width, prepared.width)
        counts = Tally.counts(pairs, shape, prepared.weights, prepared.checkpoint)
        return BatchState(tallies={"pairs": counts})
    labels = 4 * np.arange(prepared.width)
    pairs = labels + 2 * prepared.targets.astype(np.int64) + prepared.predicted
    weights = for_each_column(prepared.weights, prepared.width)
    counts = Tally.counts(pairs.reshape(-1), (2 * prepared.width, 2), weights, prepared.checkpoint)
    return BatchState(tallies={"pairs": counts})
