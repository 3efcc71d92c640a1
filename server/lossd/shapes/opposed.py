"""OPPOSED: scores of real and of generated examples, of any number each.

The body is given axis 0 of examples and axis 1 of elements of one side, and the mean of the other
side in its place; or both sides, where their scores go in pairs.  It returns the value of each
element and the derivative with respect to it, of pairs with respect to the first input.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossd.backends import Backend
from lossd.batch import Array, Batch, Given, Job, Layout, Operand, Slot, shape_error
from lossd.checkpoints import Checkpoint
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Input, Loss, Sides
from lossd.reduction import Flags, Floats, Reduction, RowPlan
from lossd.schema import exactly
from lossd.shapes._other_means import with_means
from lossd.shapes._pairs import pairs
from lossd.shapes._scores import POINTWISE, SideScores, SidesPlan, each_side, scores_of
from lossd.shapes._shape import Evaluator, ShapeRules

# Of an element in float32: where its gradient is made, and itself for a device.
WIDENED_BYTES = 8


class OpposedShape(ShapeRules):
    """See the module."""

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss, declared
        return ("(N, ...)",)

    def lay_out(self, given: Given) -> Layout:
        """Lays out scores (N, ...) of real and of generated examples; only N may differ."""
        loss, arrays = given.loss, given.arrays
        if loss.sides is None:
            raise TypeError(f"{loss.name} must declare its sides")
        sides = loss.sides(**given.parameters)
        _check_presence(loss, arrays, sides)
        present = [i for i in loss.inputs if i.name in arrays]
        first = present[0]
        shape = arrays[first.name].shape
        if not shape or 0 in shape[1:]:
            raise shape_error(first.name, "an axis of examples and at least one score each", shape)
        for other in present[1:]:
            _check_shape(other.name, arrays[other.name].shape, shape, first.name, sides)
        length = math.prod(shape[1:])
        slots = tuple(_slot(i, arrays[i.name].shape, length) for i in present)
        parts = _parts(slots, sides)
        rows = max(part.stop for part in parts)
        return Layout(slots, (rows,), rows, length, parts=parts)

    def plan(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        parameters: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> RowPlan:
        """See ``ShapeRules.plan``; where rows weigh the same there is no number for each."""
        found = super().plan(job, layout, operands, parameters, checkpoint)
        if found.weights is not None or not _has_two_means(job, layout):
            return found
        counts = {s.name: p.stop - p.start for s, p in zip(layout.slots, layout.parts, strict=True)}
        return SidesPlan.of(found, counts)

    def factors(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        ignored: Flags | None,
        weights: Floats | None,
    ) -> Floats | None:
        """Returns factors that turn one mean over all examples into the sum of the parts' means.

        Raises:
            InvalidRequest: for a normalizer, which cannot stand for two divisors, and for weights
                of which those of one part are nothing beside those of the other.
        """
        del operands
        if not _has_two_means(job, layout):
            return None
        if job.normalizer is not None:
            raise InvalidRequest(
                f"normalizer must be unset for {job.loss.message}, a sum of two means, "
                f"got {exactly(job.normalizer)}",
                field="normalizer",
            )
        if ignored is None and weights is None:
            return None  # but for one of each part: see ``plan``
        counted = np.ones(layout.rows)
        if weights is not None and job.reduction is Reduction.MEAN:
            counted = weights.copy()
        if ignored is not None:
            counted[ignored] = 0
        factors = np.zeros(layout.rows)
        for part in layout.parts:
            factors[part] = _factor(counted, part)
        return factors

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: a piece, and scores that are widened before they are sent."""
        given = {parameter.name: parameters[parameter.name] for parameter in loss.parameters}
        sides = loss.sides(**given) if loss.sides else Sides.BOTH
        elements = sum(math.prod(slot.rows_shape) for slot in layout.slots)
        is_whole = sides is Sides.PAIRS or _is_averaged(loss, given)
        widened = elements * WIDENED_BYTES if is_whole else 0
        return widened + POINTWISE.working(loss, layout, parameters, workers)

    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
        """See ``ShapeRules.evaluator``."""
        self.check_rules(template)
        is_averaged = _is_averaged(template.loss, template.parameters)
        given = []
        for names, part in _scores(template):
            # A gradient of one side may be made of what both have.
            is_shared = is_averaged or len(names) > 1
            wanted = names if is_shared and template.gradients else template.gradients
            scores = scores_of(template, names, part, wanted)
            evaluate = POINTWISE.evaluator(
                scores, backend, zero_nonfinite=zero_nonfinite and not is_averaged
            )
            given.append(SideScores(names, part, evaluate))
        if is_averaged:
            return with_means(given, backend, zero_nonfinite=zero_nonfinite)
        if len(given[0].names) > 1:
            return pairs(given[0], backend, zero_nonfinite=zero_nonfinite)
        return each_side(given)


def _has_two_means(job: Job, layout: Layout) -> bool:
    return len(set(map(str, layout.parts))) > 1 and job.reduction.is_mean


def _factor(counted: Floats, part: slice) -> float:
    with np.errstate(all="ignore"):
        total, mass = counted.sum(), counted[part].sum()
        factor = total / mass if mass else 0.0
    if np.isinf(factor) and total < np.inf:  # an infinite sum is refused later
        raise InvalidRequest(
            "weights of the real and of the generated examples must add up to numbers whose ratio "
            f"is finite, got {mass:g} of {total:g}",
            field="weights",
        )
    return float(factor)


def _is_averaged(loss: Loss, parameters: Mapping[str, Any]) -> bool:
    return loss.is_averaged is not None and loss.is_averaged(**parameters)


def _scores(batch: Batch) -> list[tuple[tuple[str, ...], slice]]:
    """Returns which inputs are computed together, and their examples, in the order of these."""
    if batch.loss.sides is not None and batch.loss.sides(**batch.parameters) is Sides.PAIRS:
        return [(tuple(operand.name for operand in batch.operands), slice(0, batch.rows))]
    each = zip(batch.operands, batch.parts, strict=True)
    return sorted((((o.name,), part) for o, part in each), key=lambda one: one[1].start)


def _slot(declared: Input, shape: tuple[int, ...], length: int) -> Slot:
    return Slot(declared, shape, (shape[0], length))


def _check_presence(loss: Loss, arrays: Mapping[str, Array], sides: Sides) -> None:
    wanted = ("fake",) if sides is Sides.FAKE else ("real", "fake")
    for declared in loss.inputs:
        is_given = declared.name in arrays
        if is_given != (declared.name in wanted):
            rule, got = ("left out", "it") if is_given else ("given", "nothing")
            raise InvalidTensor(
                f"{declared.name} must be {rule} where the examples of {loss.message} are "
                f"{sides.value}, got {got}",
                field="inputs",
            )


def _check_shape(
    name: str, shape: tuple[int, ...], first: tuple[int, ...], first_name: str, sides: Sides
) -> None:
    if sides is Sides.PAIRS:
        if shape != first:
            raise shape_error(name, f"the shape {list(first)} of {first_name}", shape)
    elif shape[1:] != first[1:] or not shape:
        raise shape_error(
            name, f"the axes {list(first[1:])} of {first_name} after the first", shape
        )


def _parts(slots: tuple[Slot, ...], sides: Sides) -> tuple[slice, ...]:
    """Returns where the rows of each slot are among the examples: the real ones come first."""
    counts = {slot.name: slot.shape[0] for slot in slots}
    start = counts["real"] if sides is Sides.BOTH else 0
    begins = {"real": 0, "fake": start}
    return tuple(slice(begins[o.name], begins[o.name] + counts[o.name]) for o in slots)
