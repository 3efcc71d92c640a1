"""Coupled losses: what they share on every backend.

Masked examples are absent: nobody is compared with them.  An example of weight 0, or one that the
loss leaves out, has no value of its own, and the others are still compared with it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import (
    BLOCK_ELEMENTS,
    Array,
    Buffers,
    Checkpoint,
    Evaluated,
    block_rows,
    check_domains,
)
from lossd.backends._rounding import put
from lossd.batch import Batch, Operand
from lossd.losses import Extent, Output, Status
from lossd.reduction import Flags, Floats, block_sums

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class CoupledEvaluation:
    """What a body says of the examples that are there, on the host."""

    values: Array
    gradients: Mapping[str, Any]
    outputs: Mapping[str, Array]
    statuses: Array | None


# Evaluates the inputs, None for absent ones, with one scale an example.
Compute = Callable[[Sequence[Array | None], Floats], CoupledEvaluation]


def evaluate_coupled(
    batch: Batch,
    buffers: Buffers,
    compute: Compute,
    *,
    zero_nonfinite: bool,
    checkpoint: Checkpoint,
) -> Evaluated:
    """Computes a batch whose examples are compared with each other; see ``Backend.evaluate``."""
    check_domains(batch)
    plan = batch.plan
    places = np.arange(batch.rows) if plan.absent is None else np.flatnonzero(~plan.absent)
    scales = np.full(batch.rows, plan.gradient_scale)
    if plan.silent is not None:
        scales[plan.silent] = 0
    operands = (batch.find(declared.name) for declared in batch.loss.inputs)
    inputs = []
    for operand in operands:
        checkpoint()  # what is widened is as much work as a piece
        inputs.append(None if operand is None else _present(operand, batch, places))
    found = compute(inputs, scales[places])
    with np.errstate(all="ignore"):
        return _written(batch, buffers, found, places, checkpoint, zero_nonfinite=zero_nonfinite)


def _present(operand: Operand, batch: Batch, places: Places) -> Array:
    rows = operand.as_type(batch.dtype)
    if len(places) == batch.rows or not _is_of_examples(operand):
        return rows
    return rows[places]


def _is_of_examples(operand: Operand | None) -> bool:
    """Whether axis 0 counts examples, which it does not of rows that all are compared with."""
    return operand is not None and (
        operand.input.extent is not Extent.ROWS or operand.rows.ndim == 3
    )


def _written(
    batch: Batch,
    buffers: Buffers,
    found: CoupledEvaluation,
    places: Places,
    checkpoint: Checkpoint,
    *,
    zero_nonfinite: bool,
) -> Evaluated:
    """Fills the buffers and sums the values."""
    plan = batch.plan
    values = np.zeros(batch.rows, batch.dtype)
    values[places] = found.values
    if plan.silent is not None:
        values[plan.silent] = 0
    nonfinite, status = ~np.isfinite(values), None
    for name, out in buffers.gradients.items():
        gradient = found.gradients[name]
        if _is_of_examples(batch.find(name)):
            nonfinite |= ~_spread(gradient, places, out, checkpoint)
        elif not _spread(gradient, _all_places(out), out, checkpoint).all():
            status = Status.NONFINITE  # of no example, so it is said of the whole
    if zero_nonfinite:
        values[nonfinite] = 0
        for name, out in buffers.gradients.items():
            out[nonfinite if _is_of_examples(batch.find(name)) else ~np.isfinite(out)] = 0
    for output in batch.outputs:
        out = buffers.outputs[output.name]
        _write_output(out, output, found.outputs[output.name], places)
        for lost in (plan.silent, nonfinite if zero_nonfinite else None):
            if lost is not None:
                out[lost] = _nothing(output)
    if buffers.values is not None:
        buffers.values[:] = values
    statuses = None
    if found.statuses is not None:
        statuses = np.zeros(batch.rows, np.uint8)
        statuses[places] = found.statuses
    sums = block_sums(values, plan.weights, block_rows(batch.length))
    return Evaluated(sums, nonfinite, statuses, status)


def _all_places(out: Array) -> Places:
    """Those of rows of no example; a number is one."""
    return np.arange(len(out) if out.ndim else 1)


def _spread(found: Array, places: Places, out: Array, checkpoint: Checkpoint) -> Flags:
    """Puts what was found of the examples that are there to their places, and 0 elsewhere.

    Returns which rows are finite.
    """
    count, length = len(out) if out.ndim else 1, math.prod(out.shape[1:])
    is_whole = len(places) == count
    if not is_whole:
        out[...] = 0
    is_finite = np.ones(count, np.bool_)
    rows, given = out.reshape(count, length), np.asarray(found).reshape(len(places), length)
    height = block_rows(max(1, length))
    for start in range(0, len(given), height):
        for first in range(0, length, BLOCK_ELEMENTS):
            checkpoint()
            part = np.s_[start : start + height, first : first + BLOCK_ELEMENTS]
            own = places[part[0]]
            sent = rows[part] if is_whole else np.empty(given[part].shape, out.dtype)
            put(given[part], sent)
            if not is_whole:
                rows[own, part[1]] = sent
            is_finite[own] &= np.isfinite(sent).all(axis=1)
    return is_finite


def _write_output(out: Array, output: Output, found: Array, places: Places) -> None:
    """Puts an output to its places; one that points at examples does so by the caller's count."""
    out[...] = _nothing(output)
    out[places] = np.append(places, -1)[found] if output.is_index else found


def _nothing(output: Output) -> int:
    """What an output is of an example that has none: an index points at no example."""
    return -1 if output.is_index else 0
