"""Parameters: completed, checked, and vectors spread over a row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossd.batch._job import Array, Job
from lossd.batch._layout import Layout
from lossd.errors import InvalidParameter
from lossd.losses import Loss, ParameterError


def complete(job: Job) -> dict[str, Any]:
    try:
        return job.loss.complete(job.parameters)
    except ParameterError as error:
        raise parameter_error(job.loss, error) from error


def parameter_error(loss: Loss, error: ParameterError) -> InvalidParameter:
    """Returns the error of the tree for a parameter that a declaration or a body refuses."""
    return InvalidParameter(str(error), field=f"loss.{loss.name}.{error.parameter}")


def body_parameters(
    loss: Loss, parameters: Mapping[str, Any], layout: Layout, dtype: np.dtype[Any]
) -> dict[str, Any]:
    found = {parameter.name: parameters[parameter.name] for parameter in loss.parameters}
    for name in loss.vectors:
        found[name] = _vector(loss, name, found[name], layout, dtype)
    return found


def _vector(
    loss: Loss, name: str, values: Sequence[float], layout: Layout, dtype: np.dtype[Any]
) -> Array:
    """Returns one number for each element of a row, or an empty array.

    Where the examples are single elements, it is one number for each of them.
    """
    if not values:
        return np.empty(0, dtype)
    with np.errstate(over="ignore"):  # beyond float32 it is infinite: the caller's data
        vector = np.asarray(values, dtype)
    if layout.is_spread and len(vector) == 1:
        return np.broadcast_to(vector, layout.length)
    if len(vector) != layout.columns:
        numbers = "1 number" if layout.columns < 2 else f"{layout.columns} numbers"
        raise InvalidParameter(
            f"{name} must have {numbers}, got {len(vector)}",
            field=f"loss.{loss.name}.{name}",
        )
    tiled = np.tile(vector, layout.repeats)
    return tiled[:, None] if layout.is_by_row else tiled
