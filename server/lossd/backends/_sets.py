"""Losses of a set: what they share on every backend.

Examples that are silent are absent from what is computed, and have a gradient of exactly 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossd.backends import Array, Buffers, Evaluated, check_domains, nonfinite_rows
from lossd.backends._rounding import rounded
from lossd.batch import Batch
from lossd.losses import Status
from lossd.reduction import Floats


@dataclass(frozen=True, slots=True)
class SetEvaluation:
    """What a body says of a set, on the host."""

    value: float
    gradients: Mapping[str, Array]
    status: Status | None


# Evaluates the rows of the operands with one weight a row.
Compute = Callable[[Sequence[Array], Floats], SetEvaluation]


def evaluate_set(
    batch: Batch, buffers: Buffers, compute: Compute, *, zero_nonfinite: bool
) -> Evaluated:
    """Computes a batch whose loss is of the whole set; see ``Backend.evaluate``."""
    check_domains(batch)
    plan = batch.plan
    live = slice(None) if plan.silent is None else ~plan.silent
    rows = [
        np.ascontiguousarray(o.rows[live], o.rows.dtype if o.is_classes else batch.dtype)
        for o in batch.operands
    ]
    weights = np.ones(len(rows[0])) if plan.weights is None else plan.weights[live]
    found = compute(rows, weights)
    value, status = found.value, found.status
    if not np.isfinite(value):
        value, status = 0.0 if zero_nonfinite else value, Status.NONFINITE
    nonfinite = np.zeros(batch.rows, np.bool_)
    scale = plan.gradient_scale
    is_still = batch.dtype.type(scale) == 0  # takes nothing, also of infinity and NaN
    for name, out in buffers.gradients.items():
        out[...] = 0
        with np.errstate(all="ignore"):
            out[live] = 0 if is_still else rounded(found.gradients[name] * scale, out.dtype)
        wrong = nonfinite_rows(out)
        nonfinite |= wrong
        if zero_nonfinite:
            out[... if status is Status.NONFINITE else wrong] = 0
    return Evaluated(np.array([value]), nonfinite, status=status)
