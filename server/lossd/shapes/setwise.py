"""SETWISE: one value of all examples together.

All inputs have one shape: axis 0 counts examples, and axis 1, if there is one, labels.  The body is
given both axes, of the examples that are kept and have weight, and a ``BatchContext``, with which
it returns one number and its gradients, times the one scale.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.batch import (
    Batch,
    Given,
    Job,
    Layout,
    Operand,
    Slot,
    cotangent_of,
    ignored_examples,
    shape_error,
    weights_of,
)
from lossd.checkpoints import Checkpoint
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Input, Loss
from lossd.reduction import Flags, Floats, Reduction, RowPlan, plan_set
from lossd.schema import exactly
from lossd.shapes._layouts import common_shape
from lossd.shapes._memory import elements_at_once
from lossd.shapes._whole_batch import Present, WholeBatch

# Of an element of a piece, and of a label, in float32.
PIECE_BYTES, LABEL_BYTES = 48, 256
LEAST_EXPONENT, MOST_EXPONENT = -900, 1000  # of two, in the largest weight


class SetwiseShape(WholeBatch):
    """See the module."""

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: besides, the elements of a piece, and sums of each label."""
        piece = elements_at_once(layout.rows, layout.length, workers, may_be_cut=False)
        beside = piece * PIECE_BYTES + layout.length * LABEL_BYTES + layout.rows * loss.row_bytes
        return super().working(loss, layout, parameters, workers) + beside

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss, declared
        return ("(N,)", "(N, labels)")

    def lay_out(self, given: Given) -> Layout:
        """See ``ShapeRules.lay_out``."""
        shape, name = common_shape(given), given.first.name
        if len(shape) not in (1, 2):
            raise shape_error(name, "an axis of examples and at most one of labels", shape)
        rows, length = shape[0], math.prod(shape[1:])
        if length == 0:
            raise shape_error(name, "at least one label", shape)
        slots = tuple(Slot(i, shape, (rows, length)) for i in given.loss.inputs)
        return Layout(slots, shape[:1], rows, length)

    def plan(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        parameters: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> RowPlan:
        """See ``ShapeRules.plan``."""
        del operands, checkpoint
        ignored = ignored_examples(job, layout, None, parameters)
        weights = weights_of(job, layout, ignored)
        _check_whole(job)
        found = plan_set(layout.rows, ignored, weights, cotangent_of(job, layout))
        return found if weights is None else replace(found, weights=_moderate(weights))

    def hidden(self, plan: RowPlan) -> Flags | None:
        """Returns the excluded examples: those of weight 0 too, which have no part in anything."""
        return plan.excluded

    def scales(self, batch: Batch, present: Present) -> Floats:
        """Returns one scale, for the one value; 0 where it is 0 in the type that is computed in."""
        del present
        scale = batch.plan.gradient_scale
        with np.errstate(over="ignore"):  # a large one may be infinite in that type
            is_zero = batch.dtype.type(scale) == 0
        return np.array([0.0 if is_zero else scale])


def _moderate(weights: Floats) -> Floats:
    """Returns weights whose sums, and what is divided by them, are far from where float64 ends.

    A set has the same value and gradients for all weights times a power of two.
    """
    _, exponent = np.frexp(weights.max(initial=0))
    shift = np.clip(exponent, LEAST_EXPONENT, MOST_EXPONENT) - exponent
    return np.ldexp(weights, shift) if shift else weights


def _check_whole(job: Job) -> None:
    """Refuses what needs values of examples: a set has one, with nothing to reduce or divide."""
    thing = f"{job.loss.message}, a loss of the whole set"
    if job.reduction is not Reduction.MEAN:
        raise InvalidRequest(
            f"reduction must be mean for {thing}, got {job.reduction.value}", field="reduction"
        )
    if job.normalizer is not None:
        raise InvalidRequest(
            f"normalizer must be unset for {thing}, got {exactly(job.normalizer)}",
            field="normalizer",
        )
    if job.cotangent is not None and job.cotangent.ndim:
        raise InvalidTensor(
            f"cotangent must be a single number for {thing}, got {list(job.cotangent.shape)}",
            field="cotangent.shape",
        )
