"""The inputs of a job: their names and types, and which gradients are wanted."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.batch._job import Array, Job
from lossd.batch._layout import Operand, is_empty, is_float
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Content, Differentiable, Input
from lossd.naming import guess
from lossd.schema import FLOAT32_HIGH, FLOAT32_LOW

# What a request has beside its inputs, one of which a wrong name may mean.
_BESIDE = ("weights", "mask", "cotangent", "normalizer", "reduction")

# A label or a flag may be a boolean; a length or an offset may not.
_INTEGER_KINDS = {
    Content.LENGTHS: "iu", Content.OFFSETS: "iu", Content.LABELS: "iub", Content.FLAGS: "iub",
}  # fmt: skip


def named_arrays(job: Job) -> dict[str, Array]:
    """Returns the tensors of a job, each under a name of its own: "maps[0]" is one of several.

    Raises:
        InvalidTensor: for one that is missing, unknown, or of a type that is not accepted.
    """
    names = [i.name for i in job.loss.inputs]
    for position, name in enumerate(job.inputs):
        if name not in names:
            hint = guess(name[:64], names, _BESIDE)
            raise InvalidTensor(
                f"inputs must be among {', '.join(names)}, got {name[:64]!r}{hint}",
                field=f"inputs[{position}].name",
            )
    found = {}
    for declared in job.loss.inputs:
        name = declared.name
        tensors = job.inputs.get(name, ())
        if declared.is_optional and not tensors:
            continue
        if not tensors:
            raise InvalidTensor(
                f"{name} must be given for {job.loss.message}, got nothing", field="inputs"
            )
        if len(tensors) > 1 and not declared.is_list:
            raise InvalidTensor(
                f"{name} must be given as one tensor, got {len(tensors)}: stack them",
                field="inputs",
            )
        for position, tensor in enumerate(tensors):
            item = list_item(declared, position) if declared.is_list else declared
            _check_type(item, tensor)
            found[item.name] = tensor
    return found


def list_item(declared: Input, position: int) -> Input:
    """Returns one tensor of an input of several: ``predictions[0]``."""
    return replace(declared, name=f"{declared.name}[{position}]")


def _check_type(declared: Input, array: Array) -> None:
    if declared.content is Content.FLOATS and not is_float(array):
        raise InvalidTensor(
            f"{declared.name} must be floating point, got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    kinds = _INTEGER_KINDS.get(declared.content)
    if kinds and not is_empty(array) and array.dtype.kind not in kinds:
        raise InvalidTensor(
            f"{declared.name} must be integers, got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )


# Class weights, over the temperature too, whose products and reciprocals float32 can hold.
_MODERATE = 1e-12, 1e12
_LISTS = "class_priors", "positive_weights"  # no part of a divisor
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})


def compute_type(
    arrays: Mapping[str, Array], parameters: Mapping[str, Any] = _NO_PARAMETERS
) -> np.dtype[Any]:
    """Returns float64 if an input has that type or a number of a class needs it, float32 otherwise.

    A mean divides by the sum of class weights, and a prior by that of all, so that any size of them
    is as good as another.
    """
    if any(array.dtype == np.float64 for array in arrays.values()):
        return np.dtype(np.float64)
    weights = [w for w in parameters.get("class_weights", ()) if w]
    is_moderate = not weights or _are_moderate(weights, parameters.get("temperature", 1.0))
    others = (n for name in _LISTS for n in parameters.get(name, ()) if n)
    is_moderate &= all(FLOAT32_LOW <= n <= FLOAT32_HIGH for n in others)
    return np.dtype(np.float32 if is_moderate else np.float64)


def _are_moderate(weights: Sequence[float], temperature: float) -> bool:
    lowest, highest = _MODERATE
    return lowest <= min(weights) <= max(weights) <= highest * min(temperature, 1)


def wanted_gradients(job: Job, operands: Sequence[Operand]) -> tuple[str, ...]:
    """Returns the gradients that a job asks for, or else those that the loss gives by default.

    Raises:
        InvalidRequest: for one that does not exist.
    """
    if job.gradients is None:
        return tuple(
            operand.name
            for operand in operands
            if operand.input.differentiable is Differentiable.BY_DEFAULT
        )
    possible: dict[str, list[str]] = defaultdict(list)
    for operand in operands:
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
                f"with these inputs, got {name[:64]!r}{guess(name[:64], possible)}",
                field=f"gradients.inputs[{job.gradients.index(name)}]",
            )
        wanted += possible[name]
    return tuple(wanted)
