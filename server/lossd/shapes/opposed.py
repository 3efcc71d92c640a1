"""OPPOSED: scores of real and of generated examples, of any number each.

The body is given axis 0 of examples and axis 1 of elements, None for an input that is not given,
and a ``BatchContext`` whose parts are the examples of either side.  Its values are those of all
examples that are present.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lossd.batch import Array, Batch, Given, Job, Layout, Operand, Slot, shape_error
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Input, Loss, Sides
from lossd.reduction import Flags, Floats, Reduction, RowPlan
from lossd.shapes._whole_batch import Present, WholeBatch


class OpposedShape(WholeBatch):
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
            InvalidRequest: for a normalizer, which cannot stand for two divisors.
        """
        del operands
        if len(set(map(str, layout.parts))) < 2 or not job.reduction.is_mean:
            return None
        if job.normalizer is not None:
            raise InvalidRequest(
                f"normalizer must be unset for {job.loss.message}, a sum of two means, "
                f"got {job.normalizer:g}",
                field="normalizer",
            )
        counted = np.ones(layout.rows)
        if weights is not None and job.reduction is Reduction.MEAN:
            counted = weights.copy()
        if ignored is not None:
            counted[ignored] = 0
        factors = np.zeros(layout.rows)
        for part in layout.parts:
            mass = counted[part].sum()
            factors[part] = counted.sum() / mass if mass else 0
        return factors

    def scales(self, batch: Batch, present: Present) -> Floats:
        """Rounded to the compute type, since bodies compute in double what float would lose."""
        with np.errstate(all="ignore"):  # what the type has not becomes 0 or infinite
            return super().scales(batch, present).astype(batch.dtype).astype(np.float64)

    def hidden(self, plan: RowPlan) -> Flags | None:
        """Returns the excluded examples: those of weight 0 too, which have no part in a mean."""
        return plan.excluded


def _slot(declared: Input, shape: tuple[int, ...], length: int) -> Slot:
    return Slot(declared, shape, (shape[0], length))


def _check_presence(loss: Loss, arrays: Mapping[str, Array], sides: Sides) -> None:
    wanted = ("fake",) if sides is Sides.FAKE else ("real", "fake")
    for declared in loss.inputs:
        count = int(declared.name in arrays)
        if count != int(declared.name in wanted):
            rule = "given as one tensor" if not count else "left out"
            raise InvalidTensor(
                f"{declared.name} must be {rule} where the examples of {loss.message} are "
                f"{sides.value}, got {count}",
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
