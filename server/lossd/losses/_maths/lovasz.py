"""The Lovász extension of the Jaccard loss."""

from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.losses._maths.scans import running_sum
from lossd.ordering import ascending_rows
from lossd.schema import Array


def jaccard_steps(xp: Any, errors: Array, positive: Array, checkpoint: Checkpoint) -> Array:
    """Returns the factor of each element's error: the steps of the Jaccard loss.

    Elements of a row join the set of errors in descending order, among equals the lowest index
    first.  With G positives, i of which are not in the set yet, and u = G + the negatives in the
    set, the loss is 1 - i / u.  A positive that joins adds 1 / u; a negative adds i / (u - 1) - i /
    u, which is written as i / ((u - 1) u), so that nothing cancels.  Without positives the first
    element has the whole factor.
    """
    rows = xp.arange(len(errors))[:, None]
    if xp is np:
        order = ascending_rows(-errors, checkpoint=checkpoint)
    else:
        order = xp.argsort(-errors, axis=-1, kind="stable")
    joins = positive[rows, order]
    checkpoint()
    seen = running_sum(xp, joins.astype(np.int64))
    checkpoint()
    total = seen[:, -1:]
    rank = xp.arange(1, errors.shape[1] + 1)
    left = (total - seen).astype(np.float64)
    union = (total + rank - seen).astype(np.float64)
    checkpoint()
    steps = xp.where(joins, 1 / union, left / (xp.maximum(union - 1, 1) * union))
    steps[:, :1] = xp.where(total == 0, 1, steps[:, :1])
    checkpoint()
    placed = xp.empty_like(errors)
    placed[rows, order] = steps
    return placed
