"""Independent answers: one plain formula a loss, for one example, in 120 digits.

An oracle takes the rows of mpmath numbers and never calls lossd.  Derivatives are central
differences of the formula: with a step of 1e-40 they are right to 40 digits, away from kinks.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from tests.losses.case import Case
from tests.oracles import classification, regression

mpmath.mp.dps = 120
STEP = mpmath.mpf("1e-40")

Array = npt.NDArray[Any]
Named = tuple[tuple[str, Any], ...]
Oracle = Callable[..., Any]

ORACLES: Mapping[str, Oracle] = {
    "absolute_error": regression.absolute_error,
    "binary_cross_entropy": classification.binary_cross_entropy,
    "cross_entropy": classification.cross_entropy,
    "huber": regression.huber,
    "squared_error": regression.squared_error,
}

OUTPUT_ORACLES: Mapping[str, Mapping[str, Oracle]] = {
    "cross_entropy": classification.CROSS_ENTROPY_OUTPUTS,
}


def oracle_outputs(case: Case) -> dict[str, Array]:
    """What a case gives beyond, of each example."""
    return {
        output: np.array(
            [float(oracle(**dict(row), **dict(given))) for _, row, given in _examples(case)]
        )
        for output, oracle in OUTPUT_ORACLES[case.loss.name].items()
    }


def oracle_values(case: Case) -> Array:
    """The value of each example of a case."""
    return np.array([_value(*arguments) for arguments in _examples(case)])


def oracle_gradients(case: Case, name: str) -> Array:
    """The derivative of each example's value by each element of an input."""
    rows = [_gradient(*arguments, name) for arguments in _examples(case)]
    return np.array(rows).reshape(case.inputs[name].shape)


def _examples(case: Case) -> list[tuple[str, Named, Named]]:
    parameters = tuple(case.parameters.items())
    return [
        (case.loss.name, tuple((n, _exact(a[row])) for n, a in case.inputs.items()), parameters)
        for row in range(case.count)
    ]


def _exact(row: Array) -> Any:
    """The numbers of a row exactly as they are; integers, and a class index, stay integers."""
    if row.ndim == 0:
        return int(row)
    whole = row.dtype.kind in "iub"
    return tuple(int(number) if whole else mpmath.mpf(float(number)) for number in row)


@functools.cache
def _value(name: str, inputs: Named, parameters: Named) -> float:
    return float(ORACLES[name](**dict(inputs), **dict(parameters)))


@functools.cache
def _gradient(name: str, inputs: Named, parameters: Named, wanted: str) -> tuple[float, ...]:
    row = dict(inputs)[wanted]
    slopes = []
    for column in range(len(row)):
        ends = []
        for step in (STEP, -STEP):
            moved = (*row[:column], row[column] + step, *row[column + 1 :])
            ends.append(ORACLES[name](**{**dict(inputs), wanted: moved}, **dict(parameters)))
        slopes.append(float((ends[0] - ends[1]) / (2 * STEP)))
    return tuple(slopes)
