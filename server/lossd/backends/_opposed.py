"""Losses of two sides: what they share on every backend.

Examples that are silent are absent: their scores are 0, and so are their weights and cotangents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossd.backends import Array, Buffers, Evaluated, block_rows, nonfinite_rows
from lossd.backends._rounding import put
from lossd.batch import Batch
from lossd.losses import Opposed
from lossd.reduction import block_sums


@dataclass(frozen=True, slots=True)
class OpposedEvaluation:
    """What a body says of two sides, on the host."""

    values: Array
    gradients: Mapping[str, Array]
    statuses: npt.NDArray[np.uint8] | None


# Evaluates the rows of the operands, None for one that is not given.
Compute = Callable[[list[Array | None], Opposed], OpposedEvaluation]


def evaluate_opposed(
    batch: Batch, buffers: Buffers, compute: Compute, *, zero_nonfinite: bool
) -> Evaluated:
    """Computes a batch of two sides; see ``Backend.evaluate``."""
    plan, silent = batch.plan, batch.plan.silent
    parts = {o.name: part for o, part in zip(batch.operands, batch.parts, strict=True)}
    weights = np.ones(batch.rows) if plan.weights is None else plan.weights.copy()
    with np.errstate(all="ignore"):  # what the type that is computed in has not of one is 0 or inf
        cotangents = np.full(batch.rows, plan.gradient_scale, batch.dtype).astype(np.float64)
    if silent is not None:
        weights[silent] = cotangents[silent] = 0
    opposed = Opposed(
        {name: weights[part] for name, part in parts.items()},
        {name: cotangents[part] for name, part in parts.items()},
    )
    given = {o.name: _seen(batch, o.rows, parts[o.name]) for o in batch.operands}
    with np.errstate(all="ignore"):
        found = compute([given.get(i.name) for i in batch.loss.inputs], opposed)
        return _written(batch, buffers, found, parts, zero_nonfinite=zero_nonfinite)


def _seen(batch: Batch, rows: Array, part: slice) -> Array:
    """The scores of one side, those of silent examples 0."""
    scores = np.ascontiguousarray(rows, batch.dtype)
    if batch.plan.silent is None:
        return scores
    return np.where(batch.plan.silent[part, None], batch.dtype.type(0), scores)


def _written(
    batch: Batch,
    buffers: Buffers,
    found: OpposedEvaluation,
    parts: Mapping[str, slice],
    *,
    zero_nonfinite: bool,
) -> Evaluated:
    """Fills the buffers and sums the values."""
    silent = batch.plan.silent
    values = found.values
    if silent is not None:
        values = np.where(silent, batch.dtype.type(0), values)
    nonfinite = ~np.isfinite(values)
    for name, out in buffers.gradients.items():
        put(found.gradients[name], out)
        if silent is not None:
            out[silent[parts[name]]] = 0
        nonfinite[parts[name]] |= nonfinite_rows(out)
    if zero_nonfinite:
        values = np.where(nonfinite, batch.dtype.type(0), values)
        for name, out in buffers.gradients.items():
            out[nonfinite[parts[name]]] = 0
    if buffers.values is not None:
        buffers.values[:] = values
    sums = block_sums(values, batch.plan.weights, block_rows(batch.length))
    return Evaluated(sums, nonfinite, found.statuses)
