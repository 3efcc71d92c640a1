"""From a job to a batch: everything a caller can get wrong is found here, before any computing.

The one exception is the domain of floating-point targets (probabilities below 0, say), which a
backend checks tile by tile so that targets are read once; no index is ever taken from them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.batch._features import list_item
from lossd.batch._images import view
from lossd.batch._job import Array, Job
from lossd.batch._layouts import LAYOUTS
from lossd.batch._parameters import body_parameters, complete, parameter_error
from lossd.batch._rows import domain_error, plan, safe_classes
from lossd.batch._sequences import check_sequences
from lossd.batch._shapes import Layout, Operand, is_float
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import (
    Anchors,
    Differentiable,
    Holds,
    Input,
    Loss,
    Opposed,
    Output,
    ParameterError,
    Shape,
    Whole,
)
from lossd.networks import Networks, View
from lossd.reduction import Flags, RowPlan

__all__ = [
    "NO_NETWORKS",
    "Array",
    "Batch",
    "Job",
    "Operand",
    "check_rules",
    "domain_error",
    "lay_out",
    "parameter_error",
]


# A label may be yes or no; a length may not.
_INTEGER_KINDS = {Holds.LENGTHS: "iu", Holds.LABELS: "iub"}
NO_NETWORKS = Networks()


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked job, laid out: ``rows`` examples of ``length`` elements, in all classes."""

    loss: Loss
    parameters: Mapping[str, Any]  # what the body takes; vectors as arrays of ``dtype``
    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int
    dtype: np.dtype[Any]  # in which is computed: float32 or float64
    plan: RowPlan
    gradients: tuple[str, ...]
    outputs: tuple[Output, ...]
    parts: tuple[slice, ...] = ()  # the place of each operand's rows, where it is not everywhere
    view: View | None = None  # the network that images are looked at through

    def operand(self, name: str) -> Operand:
        """The operand of that name."""
        return next(operand for operand in self.operands if operand.name == name)

    def find(self, name: str) -> Operand | None:
        """The operand of that name; None for an optional one that is absent, or a parameter."""
        return next((operand for operand in self.operands if operand.name == name), None)


def lay_out(job: Job, networks: Networks = NO_NETWORKS) -> Batch:
    """Checks a job and lays it out.

    Raises:
        InvalidRequest: or one below it, naming the thing, the rule and the value.
        TooLarge: for images that would take too much memory inside a network.
    """
    parameters = complete(job)
    arrays = _named_arrays(job)
    layout = LAYOUTS[job.loss.shape](job.loss, arrays, parameters)
    seen = None
    if job.loss.shape is Shape.IMAGES:
        seen = view(job.loss, layout, parameters, networks)
        layout = replace(layout, layers=len(seen.taps))
    row_plan = plan(job, layout, parameters)
    dtype = _compute_type(arrays)
    batch = Batch(
        loss=job.loss,
        parameters=body_parameters(job.loss, parameters, layout, dtype),
        operands=_safe_operands(job.loss, layout, row_plan.silent, parameters),
        example_shape=layout.example_shape,
        rows=layout.rows,
        length=layout.length,
        dtype=dtype,
        plan=row_plan,
        gradients=_wanted_gradients(job, layout),
        outputs=tuple(member.value for member in parameters.get("outputs", ())),
        parts=layout.parts,
        view=seen,
    )
    if not batch.rows:
        check_rules(batch)
    return batch


def _safe_operands(
    loss: Loss, layout: Layout, silent: Flags | None, parameters: Mapping[str, Any]
) -> tuple[Operand, ...]:
    operands = tuple(operand.under(parameters) for operand in layout.operands)
    if loss.shape is Shape.SEQUENCE:
        return check_sequences(loss, operands, silent, parameters)
    return tuple(safe_classes(operand, silent) for operand in operands)


def check_rules(batch: Batch) -> None:
    """Has the body check its rules between parameters, where nothing else would call it.

    Without rows no backend does, nor where a kernel takes its place.

    Raises:
        InvalidParameter: if a parameter breaks one.
    """
    if batch.view is not None:
        return  # a network makes what its body is given, of images that are there
    none = {o.name: replace(o, rows=o.rows[:0]).as_type(batch.dtype) for o in batch.operands}
    if batch.loss.inputs[0].is_list:
        rows: list[Array | None] = list(none.values())
    else:
        rows = [none.get(declared.name) for declared in batch.loss.inputs]
    try:
        with np.errstate(all="ignore"):
            batch.loss.body(np, *rows, *_beside(batch.loss.shape, none), **_of_no_rows(batch))
    except ParameterError as error:
        raise parameter_error(batch.loss, error) from error


def _of_no_rows(batch: Batch) -> dict[str, Any]:
    """The parameters, of which vectors may have a number a row."""
    by_row = (name for name in batch.loss.vectors if np.ndim(batch.parameters[name]) > 1)
    return {**batch.parameters, **{name: batch.parameters[name][:0] for name in by_row}}


def _beside(shape: Shape, inputs: Iterable[str]) -> tuple[Any, ...]:
    """What a body is given after its inputs, where there are no examples."""
    if shape is Shape.SETWISE:
        return (Whole(np.zeros(0)),)
    if shape is Shape.OPPOSED:
        numbers = dict.fromkeys(inputs, np.zeros(0))
        return (Opposed(numbers, numbers),)
    if shape is Shape.COUPLED:
        return (Anchors(np.zeros(0), frozenset()),)
    return ()


def _named_arrays(job: Job) -> dict[str, Array]:
    names = [i.name for i in job.loss.inputs]
    for name in job.inputs:
        if name not in names:
            raise InvalidTensor(
                f"inputs must be among {', '.join(names)}, got {name[:64]!r}", field="inputs"
            )
    found = {}
    for declared in job.loss.inputs:
        name = declared.name
        tensors = job.inputs.get(name, ())
        if declared.is_optional and not tensors:
            continue
        if not tensors or (len(tensors) > 1 and not declared.is_list):
            number = "one tensor or more" if declared.is_list else "one tensor"
            hint = ": stack them" if tensors else ""
            raise InvalidTensor(
                f"{name} must be given as {number}, got {len(tensors)}{hint}", field="inputs"
            )
        for position, tensor in enumerate(tensors):
            item = list_item(declared, position) if declared.is_list else declared
            _check_type(item, tensor)
            found[item.name] = tensor
    return found


def _check_type(declared: Input, array: Array) -> None:
    if declared.holds is Holds.FLOATS and not is_float(array):
        raise InvalidTensor(
            f"{declared.name} must be floating point, got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    kinds = _INTEGER_KINDS.get(declared.holds)
    if kinds and array.size and array.dtype.kind not in kinds:  # an empty list has no type
        raise InvalidTensor(
            f"{declared.name} must be integers, got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )


def _compute_type(arrays: Mapping[str, Array]) -> np.dtype[Any]:
    """float64 if a floating-point input is, float32 otherwise."""
    doubles = any(array.dtype == np.float64 for array in arrays.values())
    return np.dtype(np.float64 if doubles else np.float32)


def _wanted_gradients(job: Job, layout: Layout) -> tuple[str, ...]:
    if job.gradients is None:
        return tuple(
            operand.name
            for operand in layout.operands
            if operand.input.differentiable is Differentiable.BY_DEFAULT
        )
    possible: dict[str, list[str]] = defaultdict(list)
    for operand in layout.operands:
        if operand.input.differentiable is not Differentiable.NO and is_float(operand.rows):
            possible[operand.input.base_name].append(operand.name)
    for parameter in job.loss.parameters:
        if parameter.differentiable is not Differentiable.NO:
            possible[parameter.name].append(parameter.name)
    wanted: list[str] = []
    for name in dict.fromkeys(job.gradients):
        if name not in possible:
            raise InvalidRequest(
                f"gradients must be among {', '.join(possible)} for {job.loss.message} "
                f"with these inputs, got {name[:64]!r}",
                field="gradients.inputs",
            )
        wanted += possible[name]
    return tuple(wanted)
