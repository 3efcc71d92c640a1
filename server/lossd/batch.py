"""From a job to a batch: everything a caller can get wrong is found here, before any computing.

The one exception is the domain of floating-point targets (probabilities below 0, say), which a
backend checks tile by tile so that targets are read once; no index is ever taken from them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor
from lossd.losses import Differentiable, Holds, Input, Loss, ParameterError, Shape
from lossd.reduction import (
    EmptyPolicy,
    Flags,
    Floats,
    NonfinitePolicy,
    Reduction,
    RowPlan,
    plan_rows,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, free of the wire.

    ``parameters`` holds those that were given; ``gradients`` is None for the loss's default.
    """

    loss: Loss
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Array]]
    weights: Array | None = None
    mask: Array | None = None
    cotangent: Array | None = None
    reduction: Reduction = Reduction.MEAN
    normalizer: float | None = None
    gradients: Sequence[str] | None = None
    per_example: bool = True
    empty: EmptyPolicy = EmptyPolicy.ZERO
    nonfinite: NonfinitePolicy = NonfinitePolicy.PROPAGATE


@dataclass(frozen=True, slots=True)
class Operand:
    """An input laid out for computing: one row an example.

    ``rows`` has two axes, or one for class indices, which are int64 and safe to index with.
    ``shape`` and ``class_axis`` tell how to bring a gradient back into the caller's layout.
    """

    input: Input
    rows: Array
    shape: tuple[int, ...]
    class_axis: int | None = None

    @property
    def is_classes(self) -> bool:
        """Whether it holds class indices."""
        return self.rows.ndim == 1

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.input.name


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked job, laid out: ``rows`` examples of ``length`` elements."""

    loss: Loss
    parameters: Mapping[str, Any]  # what the body takes; vectors as arrays of ``dtype``
    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int
    dtype: np.dtype[Any]  # in which is computed: float32 or float64
    plan: RowPlan
    gradients: tuple[str, ...]

    def operand(self, name: str) -> Operand:
        """The operand of that name."""
        return next(operand for operand in self.operands if operand.name == name)


def lay_out(job: Job) -> Batch:
    """Checks a job and lays it out.

    Raises:
        InvalidRequest: or one below it, naming the thing, the rule and the value.
    """
    parameters = _complete(job)
    arrays = _named_arrays(job)
    for declared in job.loss.inputs:
        _check_type(declared, arrays[declared.name])
    layout = _LAYOUTS[job.loss.shape](job.loss, arrays, parameters)
    plan = _plan(job, layout, parameters)
    dtype = _compute_type(job.loss, arrays)
    return Batch(
        loss=job.loss,
        parameters=_body_parameters(job.loss, parameters, layout, dtype),
        operands=tuple(_safe_classes(o, plan.silent) for o in layout.operands),
        example_shape=layout.example_shape,
        rows=layout.rows,
        length=layout.length,
        dtype=dtype,
        plan=plan,
        gradients=_wanted_gradients(job, layout),
    )


# ------------------------------------------------------------------ parameters and names


def _complete(job: Job) -> dict[str, Any]:
    try:
        return job.loss.complete(job.parameters)
    except ParameterError as error:
        raise parameter_error(job.loss, error) from error


def parameter_error(loss: Loss, error: ParameterError) -> InvalidParameter:
    """The error tree's word for what a declaration or a body says of a parameter."""
    return InvalidParameter(str(error), field=f"loss.{loss.name}.{error.parameter}")


def _named_arrays(job: Job) -> dict[str, Array]:
    declared = [i.name for i in job.loss.inputs]
    for name in job.inputs:
        if name not in declared:
            raise InvalidTensor(
                f"inputs must be among {', '.join(declared)}, got {name[:64]!r}", field="inputs"
            )
    found = {}
    for name in declared:
        tensors = job.inputs.get(name, ())
        if len(tensors) != 1:
            raise InvalidTensor(
                f"{name} must be given as one tensor, got {len(tensors)}", field="inputs"
            )
        found[name] = tensors[0]
    return found


def _is_float(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" to NumPy.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _is_number(array: Array) -> bool:
    return _is_float(array) or array.dtype.kind in "iub"


def _check_type(declared: Input, array: Array) -> None:
    if declared.holds is Holds.FLOATS and not _is_float(array):
        raise InvalidTensor(
            f"{declared.name} must be floating point, got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )


def _compute_type(loss: Loss, arrays: Mapping[str, Array]) -> np.dtype[Any]:
    """float64 if a floating-point input is, float32 otherwise."""
    doubles = any(arrays[i.name].dtype == np.float64 for i in loss.inputs)
    return np.dtype(np.float64 if doubles else np.float32)


def _wanted_gradients(job: Job, layout: "_Layout") -> tuple[str, ...]:
    if job.gradients is None:
        return tuple(
            i.name for i in job.loss.inputs if i.differentiable is Differentiable.BY_DEFAULT
        )
    wanted = tuple(dict.fromkeys(job.gradients))
    possible = [
        operand.name
        for operand in layout.operands
        if operand.input.differentiable is not Differentiable.NO and _is_float(operand.rows)
    ]
    for name in wanted:
        if name not in possible:
            raise InvalidRequest(
                f"gradients must be among {', '.join(possible)} for {job.loss.message} "
                f"with these inputs, got {name[:64]!r}",
                field="gradients.inputs",
            )
    return wanted


# ------------------------------------------------------------------ shapes


@dataclass(frozen=True, slots=True)
class _Layout:
    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int


def _shape_error(name: str, rule: str, shape: tuple[int, ...]) -> InvalidTensor:
    return InvalidTensor(
        f"{name} must have {rule}, got {list(shape)}", field=f"inputs.{name}.shape"
    )


def _lay_out_pointwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> _Layout:
    """All inputs have one shape; its first ``batch_dims`` axes count examples."""
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    for other in others:
        if arrays[other.name].shape != shape:
            raise _shape_error(
                other.name, f"the shape {list(shape)} of {first.name}", arrays[other.name].shape
            )
    batch_dims = parameters["batch_dims"]
    if batch_dims > len(shape):
        raise _shape_error(first.name, f"at least batch_dims = {batch_dims} axes", shape)
    example_shape = shape[:batch_dims]
    length = math.prod(shape[batch_dims:])
    if length == 0:
        raise _shape_error(first.name, "at least one element an example", shape)
    rows = math.prod(example_shape)
    operands = tuple(Operand(i, arrays[i.name].reshape(rows, length), shape) for i in loss.inputs)
    return _Layout(operands, example_shape, rows, length)


def _lay_out_rowwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> _Layout:
    """The first input has a class axis; the others have its shape, or are class indices without."""
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    axis = parameters.get("class_axis", -1)
    if not -len(shape) <= axis < len(shape):
        raise _shape_error(first.name, f"an axis {axis} of classes", shape)
    axis %= len(shape)
    length = shape[axis]
    if length == 0:
        raise _shape_error(first.name, "at least one class", shape)
    example_shape = shape[:axis] + shape[axis + 1 :]
    rows = math.prod(example_shape)
    operands = [Operand(first, _class_rows(arrays[first.name], axis), shape, axis)]
    for other in others:
        array = arrays[other.name]
        if other.holds is Holds.CLASSES and array.shape == example_shape:
            operands.append(_class_operand(other, array))
            continue
        if array.shape != shape:
            rule = f"the shape {list(example_shape)} for class indices or {list(shape)}"
            raise _shape_error(other.name, rule, array.shape)
        operands.append(Operand(other, _class_rows(array, axis), shape, axis))
    return _Layout(tuple(operands), example_shape, rows, length)


def _class_rows(array: Array, axis: int) -> Array:
    """One row of classes an example; a copy unless the classes are the last axis already."""
    moved = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    return moved.reshape(-1, array.shape[axis]) if array.size else moved.reshape(0, moved.shape[-1])


def _class_operand(declared: Input, array: Array) -> Operand:
    if array.dtype.kind not in "iub":
        raise InvalidTensor(
            f"{declared.name} must be integers where they are class indices, "
            f"got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    return Operand(declared, array.reshape(-1), array.shape)


_LAYOUTS = {Shape.POINTWISE: _lay_out_pointwise, Shape.ROWWISE: _lay_out_rowwise}


# ------------------------------------------------------------------ vectors among the parameters


def _body_parameters(
    loss: Loss, parameters: Mapping[str, Any], layout: _Layout, dtype: np.dtype[Any]
) -> dict[str, Any]:
    found = {}
    for parameter in loss.parameters:
        value = parameters[parameter.name]
        if parameter.is_vector:
            value = _vector(loss, parameter.name, value, layout, dtype)
        found[parameter.name] = value
    return found


def _vector(
    loss: Loss, name: str, values: Sequence[float], layout: _Layout, dtype: np.dtype[Any]
) -> Array:
    """One number for each element of a row, or none at all."""
    vector = np.asarray(values, dtype)
    if not len(vector):
        return vector
    columns = _columns(loss, layout)
    if loss.shape is Shape.POINTWISE and len(vector) == 1:
        return np.broadcast_to(vector, layout.length)
    if len(vector) != columns:
        raise InvalidParameter(
            f"{name} must have {columns} numbers, got {len(vector)}",
            field=f"loss.{loss.name}.{name}",
        )
    return np.tile(vector, layout.length // columns)


def _columns(loss: Loss, layout: _Layout) -> int:
    """How many numbers a vector has: one a class, or one a column of the last axis."""
    if loss.shape is Shape.ROWWISE:
        return layout.length
    shape, batch_dims = layout.operands[0].shape, len(layout.example_shape)
    return shape[-1] if batch_dims < len(shape) else 1


# ------------------------------------------------------------------ rows


def _plan(job: Job, layout: _Layout, parameters: Mapping[str, Any]) -> RowPlan:
    classes = next((o for o in layout.operands if o.is_classes), None)
    ignored = _ignored(job, layout, classes, parameters)
    weights = _weights(job.weights, layout, ignored)
    denominators = None
    if classes is not None:
        unchecked = _either(ignored, None if weights is None else weights == 0)
        _check_classes(classes, layout.length, unchecked)
        denominators = _class_denominators(classes, layout.length, unchecked, parameters)
    return plan_rows(
        layout.rows,
        ignored=ignored,
        weights=weights,
        denominators=denominators,
        cotangent=_cotangent(job.cotangent, layout),
        reduction=job.reduction,
        normalizer=job.normalizer,
    )


def _either(left: Flags | None, right: Flags | None) -> Flags | None:
    if left is None or right is None:
        return left if right is None else right
    return left | right


def _ignored(
    job: Job, layout: _Layout, classes: Operand | None, parameters: Mapping[str, Any]
) -> Flags | None:
    masked = None
    if job.mask is not None:
        if job.mask.dtype != np.bool_:
            raise InvalidTensor(
                f"mask must be boolean, got {job.mask.dtype.name}", field="mask.dtype"
            )
        masked = ~_per_example("mask", job.mask, layout)
    ignore_index = parameters.get("ignore_index")
    if ignore_index is None:
        return masked
    if classes is None:
        raise InvalidParameter(
            f"ignore_index must go with class indices as targets, got {ignore_index} "
            "with a target for each class",
            field=f"loss.{job.loss.name}.ignore_index",
        )
    return _either(masked, classes.rows == ignore_index)


def _per_example(name: str, array: Array, layout: _Layout) -> Array:
    if array.shape != layout.example_shape:
        raise InvalidTensor(
            f"{name} must have the shape {list(layout.example_shape)} of the examples, "
            f"got {list(array.shape)}",
            field=f"{name}.shape",
        )
    return array.reshape(-1)


def _numbers(name: str, array: Array) -> None:
    if not _is_number(array):
        raise InvalidTensor(
            f"{name} must be numbers, got {array.dtype.name}", field=f"{name}.dtype"
        )


def _weights(weights: Array | None, layout: _Layout, ignored: Flags | None) -> Floats | None:
    if weights is None:
        return None
    _numbers("weights", weights)
    found = _per_example("weights", weights, layout).astype(np.float64)
    if ignored is not None:
        found[ignored] = 0  # whatever they hold, it is not looked at
    wrong = ~((found >= 0) & (found < np.inf))
    if wrong.any():
        raise _value_error("weights", found, wrong, "[0, inf)")
    return found


def _cotangent(cotangent: Array | None, layout: _Layout) -> float | Floats:
    if cotangent is None:
        return 1.0
    _numbers("cotangent", cotangent)
    if cotangent.ndim == 0:
        return float(cotangent)
    return _per_example("cotangent", cotangent, layout).astype(np.float64)


def _value_error(name: str, values: Array, wrong: Flags, rule: str) -> InvalidTensor:
    index = int(np.flatnonzero(wrong)[0])
    value = values.reshape(-1)[index]
    return InvalidTensor(
        f"{name}[{index}] must be in {rule}, got {value}",
        field=f"inputs.{name}" if name not in ("weights", "mask", "cotangent") else name,
        details={"index": index, "value": value, "range": rule},
    )


def domain_error(operand: Operand, silent: Flags | None) -> InvalidTensor:
    """The error for the first element of an operand that is outside its domain."""
    domain = operand.input.domain
    assert domain is not None
    wrong = domain.outside(operand.rows)
    if silent is not None:
        wrong[silent] = False
    return _value_error(operand.name, operand.rows, wrong, str(domain))


def _check_classes(classes: Operand, count: int, unchecked: Flags | None) -> None:
    """No label is used as an index before this."""
    labels = classes.rows
    wrong = (labels < 0) | (labels >= count)
    if unchecked is not None:
        wrong &= ~unchecked
    if wrong.any():
        raise _value_error(classes.name, labels, wrong, f"[0, {count})")


def _class_denominators(
    classes: Operand, count: int, unchecked: Flags | None, parameters: Mapping[str, Any]
) -> Floats | None:
    """The class weight of each target, where there are class weights."""
    weights = parameters.get("class_weights", ())
    if len(weights) != count:
        return None  # none, or a wrong number of them, which the vectors' check refuses
    return np.asarray(weights, np.float64)[_safe_classes(classes, unchecked).rows]


def _safe_classes(operand: Operand, unchecked: Flags | None) -> Operand:
    """Class indices as int64; what was not checked becomes class 0."""
    if not operand.is_classes:
        return operand
    labels = operand.rows.astype(np.int64)
    if unchecked is not None:
        labels[unchecked] = 0
    return Operand(operand.input, labels, operand.shape)
