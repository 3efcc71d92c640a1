"""The arrays of a result, which the backend fills."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossd.backends import Array
from lossd.engine._result import Arrays
from lossd.plan import Answered, Plan
from lossd.shapes import Buffers

Allocate = Callable[[tuple[int, ...], npt.DTypeLike], Array]
# The same for the gradient with respect to an input, by its name; None to leave it to ``Allocate``.
Place = Callable[[str, tuple[int, ...], npt.DTypeLike], Array | None]


@dataclass(slots=True)
class _GradientBuffer:
    """A gradient that is being computed: the backend fills ``rows``, and ``array`` is returned."""

    answered: Answered
    array: Array
    rows: Array

    @classmethod
    def allocated(cls, answered: Answered, allocate: Allocate, place: Place) -> "_GradientBuffer":
        array, slot = place(answered.input, answered.shape, answered.dtype), answered.slot
        if array is None:
            array = allocate(answered.shape, answered.dtype)
        if slot is None:  # with respect to a parameter, which is one number
            return cls(answered, array, array)
        if slot.is_moved:
            rows = slot.turned(array)
            return cls(
                answered, array, np.empty(slot.rows_shape, answered.dtype) if rows is None else rows
            )
        return cls(answered, array, array.reshape(slot.rows_shape))

    def finished(self) -> Array:
        """Returns the gradient in the caller's layout, where the rows are laid out differently."""
        slot = self.answered.slot
        if slot is not None and slot.is_moved and not np.may_share_memory(self.array, self.rows):
            self.array[...] = slot.as_given(self.rows)
        return self.array


@dataclass(slots=True)
class Reply:
    """The arrays of a result, wherever they are to be."""

    values: Array | None
    gradients: Mapping[str, _GradientBuffer]
    outputs: Mapping[str, Array]

    @classmethod
    def allocated(cls, plan: Plan, allocate: Allocate, place: Place) -> "Reply":
        values = None if plan.values is None else allocate(plan.values.shape, plan.values.dtype)
        gradients = {a.name: _GradientBuffer.allocated(a, allocate, place) for a in plan.gradients}
        outputs = {a.name: allocate(a.shape, a.dtype) for a in plan.outputs}
        return cls(values, gradients, outputs)

    @property
    def buffers(self) -> Buffers:
        """The same arrays as rows, for the backend to fill."""
        return Buffers(
            None if self.values is None else self.values.reshape(-1),
            {name: gradient.rows for name, gradient in self.gradients.items()},
            {name: output.reshape(-1) for name, output in self.outputs.items()},
        )


def by_input(gradients: Mapping[str, _GradientBuffer]) -> dict[str, Arrays]:
    """Returns the finished gradients; those of an input of several tensors are a list."""
    found: dict[str, list[Array]] = {}
    for gradient in gradients.values():
        found.setdefault(gradient.answered.input, []).append(gradient.finished())
    return {name: arrays if len(arrays) > 1 else arrays[0] for name, arrays in found.items()}
