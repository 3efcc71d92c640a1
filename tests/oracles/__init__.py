"""Independent answers: one plain formula a loss, for one example, in 60-digit arithmetic.

An oracle takes lists of mpmath numbers and never calls lossd.  Derivatives are central differences
of the formula: with a step of 1e-20 they are right to 30 digits, away from kinks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from oracles import classification, regression

mpmath.mp.dps = 60
STEP = mpmath.mpf("1e-20")

Row = Sequence[Any]
Oracle = Callable[..., Any]

ORACLES: Mapping[str, Oracle] = {
    "absolute_error": regression.absolute_error,
    "binary_cross_entropy": classification.binary_cross_entropy,
    "cross_entropy": classification.cross_entropy,
    "huber": regression.huber,
    "squared_error": regression.squared_error,
}


def exact(array: npt.NDArray[Any]) -> Any:
    """The numbers of a row exactly as they are; integers stay integers."""
    if array.dtype.kind in "iub":
        return array.astype(object).tolist()
    return [mpmath.mpf(float(number)) for number in array.reshape(-1)]


def value(name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
    """The loss of one example."""
    return ORACLES[name](**inputs, **parameters)


def gradient(
    name: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any], wanted: str
) -> npt.NDArray[np.float64]:
    """The derivative of one example's loss by each element of an input."""
    row = inputs[wanted]
    slopes = []
    for column in range(len(row)):
        ends = []
        for step in (STEP, -STEP):
            moved = [*row[:column], row[column] + step, *row[column + 1 :]]
            ends.append(value(name, {**inputs, wanted: moved}, parameters))
        slopes.append(float((ends[0] - ends[1]) / (2 * STEP)))
    return np.array(slopes)
