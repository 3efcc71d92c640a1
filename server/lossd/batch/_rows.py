"""Decides what is done to each row: which are ignored, how they are weighted, which are checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lossd.batch._job import Array, Job
from lossd.batch._layout import Layout, Operand, is_number
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import Loss, element
from lossd.reduction import Flags, Floats, RowPlan, are_zero, plan_rows, union

# The factor of each example that a loss applies before it averages, from masks and weights.
Factors = Callable[[Flags | None, Floats | None], Floats | None]


def plan_each(
    job: Job,
    layout: Layout,
    operands: Sequence[Operand],
    parameters: Mapping[str, Any],
    factors: Factors,
) -> RowPlan:
    """Decides what is done to each row, and checks everything that this depends on.

    Raises:
        InvalidRequest: or one below it, for a mask, weights, cotangent or labels that break a rule.
    """
    classes = next((o for o in operands if o.is_classes), None) if layout.classes else None
    ignored = ignored_examples(job, layout, classes, parameters)
    weights = weights_of(job, layout, ignored)
    denominators = None
    if classes is not None:
        unchecked = union(ignored, are_zero(weights))
        _check_classes(classes, layout.classes, unchecked)
        denominators = _class_denominators(classes, layout.classes, unchecked, parameters)
    return plan_rows(
        layout.rows,
        ignored=ignored,
        excluded_by_loss=_excluded(job.loss, operands, parameters, ignored),
        weights=weights,
        denominators=denominators,
        factors=factors(ignored, weights),
        cotangent=cotangent_of(job, layout),
        reduction=job.reduction,
        normalizer=job.normalizer,
    )


def _excluded(
    loss: Loss,
    operands: Sequence[Operand],
    parameters: Mapping[str, Any],
    ignored: Flags | None,
) -> Flags | None:
    """Returns the examples that the loss itself excludes, among those that the request keeps."""
    if loss.ignores is None or not loss.may_ignore(parameters):
        return None
    given = {parameter.name: parameters[parameter.name] for parameter in loss.parameters}
    rows = [operand.rows for operand in operands]
    if ignored is None:
        found: Flags = loss.ignores(*rows, **given)
    else:
        found = np.zeros(len(ignored), np.bool_)
        found[~ignored] = loss.ignores(*(array[~ignored] for array in rows), **given)
    return found if found.any() else None


def ignored_examples(
    job: Job, layout: Layout, classes: Operand | None, parameters: Mapping[str, Any]
) -> Flags | None:
    """Returns those that the mask leaves out, and those whose class is the one to ignore."""
    masked = None
    if job.mask is not None:
        if job.mask.size and job.mask.dtype != np.bool_:  # an empty list has no type
            raise InvalidTensor(
                f"mask must be boolean, got {job.mask.dtype.name}", field="mask.dtype"
            )
        masked = ~_per_example("mask", job.mask, layout).astype(np.bool_)
    ignore_index = parameters.get("ignore_index")
    if ignore_index is None:
        return masked
    if classes is None:
        raise InvalidParameter(
            f"ignore_index must go with class indices as targets, got {ignore_index} "
            "with a target for each class",
            field=f"loss.{job.loss.name}.ignore_index",
        )
    return union(masked, classes.rows == ignore_index)


def _per_example(name: str, array: Array, layout: Layout) -> Array:
    if array.shape != layout.example_shape:
        raise InvalidTensor(
            f"{name} must have the shape {list(layout.example_shape)} of the examples, "
            f"got {list(array.shape)}",
            field=f"{name}.shape",
        )
    return array.reshape(-1)


def _numbers(name: str, array: Array) -> None:
    if not is_number(array):
        raise InvalidTensor(
            f"{name} must be numbers, got {array.dtype.name}", field=f"{name}.dtype"
        )


def weights_of(job: Job, layout: Layout, ignored: Flags | None) -> Floats | None:
    """Returns the weight of each example, 0 for those that are ignored."""
    weights = job.weights
    if weights is None:
        return None
    _numbers("weights", weights)
    found = _per_example("weights", weights, layout).astype(np.float64)
    if ignored is not None:
        found[ignored] = 0  # the weights of ignored examples may be anything
    wrong = ~((found >= 0) & (found < np.inf))
    if wrong.any():
        raise value_error("weights", found.reshape(weights.shape), wrong, "[0, inf)")
    return found


def cotangent_of(job: Job, layout: Layout) -> float | Floats:
    """Returns one number, or one for each example."""
    cotangent = job.cotangent
    if cotangent is None:
        return 1.0
    _numbers("cotangent", cotangent)
    if cotangent.ndim == 0:
        return float(cotangent)
    return _per_example("cotangent", cotangent, layout).astype(np.float64)


def value_error(name: str, values: Array, wrong: Flags, rule: str, hint: str = "") -> InvalidTensor:
    """Returns the error for the first wrong one of values in the caller's shape."""
    index = int(np.flatnonzero(wrong)[0])
    value = values.reshape(-1)[index]
    return InvalidTensor(
        f"{element(name, index, values.shape)} must be in {rule}, got {value}{hint}",
        field=f"inputs.{name}" if name not in ("weights", "mask", "cotangent") else name,
        details={"index": index, "value": value, "range": rule},
    )


def domain_error(operand: Operand, wrong: Flags) -> InvalidTensor:
    """Returns the error for the first element of an operand that is outside its domain.

    It was looked for once: a client may have mended what lies in shared memory.
    """
    given = operand.slot.as_given
    return value_error(operand.name, given(operand.rows), given(wrong), str(operand.input.domain))


def _check_classes(classes: Operand, count: int, unchecked: Flags | None) -> None:
    """Checks that labels are valid classes; no label is used as an index before this."""
    labels = classes.rows
    wrong = labels.astype(np.int64).view(np.uint64) >= count  # below 0 they are very large
    if unchecked is not None:
        wrong[unchecked] = False
    if np.count_nonzero(wrong):  # a sixth of the time of any()
        raise value_error(classes.name, labels.reshape(classes.shape), wrong, f"[0, {count})")


def _class_denominators(
    classes: Operand, count: int, unchecked: Flags | None, parameters: Mapping[str, Any]
) -> Floats | None:
    """Returns the class weight of each target, where there are class weights."""
    weights = parameters.get("class_weights", ())
    if len(weights) != count:
        return None  # none, or a wrong number of them, which the check of vectors refuses
    return np.asarray(weights, np.float64)[safe_classes(classes, unchecked).rows]


def safe_classes(operand: Operand, unchecked: Flags | None) -> Operand:
    """Returns class indices as int64; unchecked ones become class 0."""
    if not operand.is_classes:
        return operand
    labels = operand.rows.astype(np.int64)
    if unchecked is not None:
        labels[unchecked] = 0
    return Operand(operand.slot, labels)
