"""Scores of a classification as probabilities, and as numbers in the order of these."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lossd.evaluation._classification import MULTICLASS, Scores
from lossd.evaluation._declare import Floats
from lossd.losses import DistributionKind

_TILE = 1 << 18  # elements
_LARGEST = float(np.finfo(np.float64).max)


def tiles(prepared: Scores) -> Iterator[Scores]:
    """Yields the examples a few at a time, so that float64 temporaries stay small."""
    step = max(1, _TILE * len(prepared.scores) // max(1, prepared.scores.size))
    for start in range(0, len(prepared.scores), step):
        prepared.checkpoint()
        part = slice(start, start + step)
        yield replace(prepared, scores=prepared.scores[part], targets=prepared.targets[part])


def probabilities(prepared: Scores) -> Floats:
    """Returns the probability of each class, or of the answer yes, in float64."""
    scores = prepared.scores.astype(np.float64)
    if prepared.kind is DistributionKind.PROBABILITIES:
        return scores
    with np.errstate(over="ignore", invalid="ignore"):
        if prepared.kind is DistributionKind.LOG_PROBABILITIES:
            return np.exp(scores)
        if prepared.task is MULTICLASS:
            shares: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
            total: Floats = shares.sum(axis=1, keepdims=True)
            return shares / total
        chances: Floats = 1 / (1 + np.exp(-scores))
        return chances


def comparable(prepared: Scores) -> Floats:
    """Returns numbers in the order of the probabilities of classes, which saturate nowhere.

    They are log(p / (1 - p)) for logits, NaN where infinite ones have no difference.
    """
    if prepared.kind is not DistributionKind.LOGITS:
        return prepared.scores.astype(np.float64)
    found = np.empty(prepared.scores.shape, np.float64)
    start = 0
    for tile in tiles(prepared):
        found[start : start + len(tile.scores)] = _log_odds(tile.scores.astype(np.float64))
        start += len(tile.scores)
    return found


def _log_odds(logits: Floats) -> Floats:
    """Returns log(p / (1 - p)), equal where one row has the logits of another in another order."""
    rows = np.arange(len(logits))
    best = logits.argmax(axis=1)
    with np.errstate(all="ignore"):
        below = logits - logits[rows, best][:, None]
        lost = np.isnan(below).any(axis=1)
        # A difference beyond the largest number is of a class that is possible nevertheless.
        below = np.where(np.isinf(logits), below, np.maximum(below, -_LARGEST))
        ordered = np.sort(below, axis=1)[:, :-1]  # so that sums do not depend on the order
        second = ordered[:, -1]
        is_only = second == -np.inf  # the best is the only one that is possible
        others = np.exp(ordered - np.where(is_only, 0, second)[:, None]).sum(axis=1)
        total = 1 + np.exp(second) * others
        found: Floats = below - np.log(total[:, None] - np.exp(below))
        # The best may be next to 1, and is compared with the second best instead.
        margins = np.where(is_only, np.inf, -second - np.log(others))
        found[rows, best] = np.where(second < 0, margins, found[rows, best])
        found[lost] = np.nan
    return found
