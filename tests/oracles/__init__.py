"""Independent answers: one plain formula a loss, for one example, in 120 digits.

An oracle takes the rows of mpmath numbers, or all of them for a loss of a set, and never calls
lossd.  Derivatives are central differences of the formula: with a step of 1e-40 they are right to
40 digits, away from kinks.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from lossd.losses import LOSSES, Shape
from tests.losses.case import Case
from tests.oracles import (
    adversarial,
    classification,
    distillation,
    embeddings,
    images,
    overlap,
    policies,
    preferences,
    regression,
    sequences,
    sets,
)

mpmath.mp.dps = 120
STEP = mpmath.mpf("1e-40")

Array = npt.NDArray[Any]
Named = tuple[tuple[str, Any], ...]
Oracle = Callable[..., Any]

FAMILIES = (
    adversarial, classification, distillation, embeddings, images, overlap, policies, preferences,
    regression, sequences, sets,
)  # fmt: skip
# The function of a loss's name in one of the families.
ORACLES: Mapping[str, Oracle] = {
    name: vars(family)[name] for family in FAMILIES for name in LOSSES if name in vars(family)
}

OUTPUT_ORACLES: Mapping[str, Mapping[str, Oracle]] = {
    "batch_triplet": embeddings.BATCH_TRIPLET_OUTPUTS,
    "cross_entropy": classification.CROSS_ENTROPY_OUTPUTS,
    "policy_gradient": policies.POLICY_GRADIENT_OUTPUTS,
    "preference": preferences.PREFERENCE_OUTPUTS,
    "distillation": distillation.DISTILLATION_OUTPUTS,
    "kahneman_tversky": preferences.KAHNEMAN_TVERSKY_OUTPUTS,
    "binary_classifier_optimization": preferences.BINARY_CLASSIFIER_OPTIMIZATION_OUTPUTS,
    "bradley_terry": preferences.BRADLEY_TERRY_OUTPUTS,
    "clipped_value": preferences.CLIPPED_VALUE_OUTPUTS,
}


def oracle_outputs(case: Case) -> dict[str, Array]:
    """Returns the outputs of each example of a case."""
    return {
        output: np.array(
            [float(oracle(**dict(row), **dict(given))) for _, row, given in _examples(case, None)]
        )
        for output, oracle in OUTPUT_ORACLES[case.loss.name].items()
    }


def oracle_values(case: Case, weights: Array | None = None) -> Array:
    """The value of each example of a case; one value of a set, whose examples may have weights."""
    return np.array([_value(*arguments) for arguments in _examples(case, weights)])


def oracle_gradients(case: Case, name: str, weights: Array | None = None) -> Array:
    """The derivative of each example's value, or of the set's, by each element of an input."""
    pointwise = case.loss.shape is Shape.POINTWISE
    derivatives = _gradient_of_elements if pointwise else _gradient
    rows = [derivatives(*arguments, name) for arguments in _examples(case, weights)]
    return np.array(rows).reshape(case.inputs[name].shape)


def coupled_values(case: Case) -> Array:
    """The value of each example of a loss that compares them; NaN where it is no anchor."""
    found = ORACLES[case.loss.name](**_whole(case), **case.parameters)
    return np.array([np.nan if value is None else float(value) for value in found])


def coupled_outputs(case: Case) -> dict[str, Array]:
    """Returns the outputs of each example of a loss that compares examples."""
    given = {**_whole(case), **case.parameters}
    oracles = OUTPUT_ORACLES[case.loss.name]
    return {name: np.array(oracle(**given)) for name, oracle in oracles.items()}


def coupled_slope(case: Case, name: str, scales: Array, way: Array) -> float:
    """The derivative of the sum of scales times values along a way of an input, or by a number."""
    oracle, given = ORACLES[case.loss.name], {**_whole(case), **case.parameters}
    if name not in case.inputs:
        given[name] = mpmath.mpf(given.get(name, case.loss.complete({})[name]))
    ends = []
    for step in (STEP, -STEP):
        values = oracle(**{**given, name: _along(given[name], exact(way), step)})
        pairs = zip(scales, values, strict=True)
        ends.append(sum(mpmath.mpf(float(s)) * v for s, v in pairs if v is not None))
    return float((ends[0] - ends[1]) / (2 * STEP))


def token_slopes(case: Case, name: str, scales: Array) -> Array:
    """The derivatives of the sum of scales times values with respect to the numbers of an input."""
    oracle, given = ORACLES[case.loss.name], {**_whole(case), **case.parameters}
    derivatives = []
    for position in range(case.inputs[name].size):
        ends = []
        for step in (STEP, -STEP):
            values = oracle(held=given, **{**given, name: moved(given[name], position, step)})
            ends.append(sum(mpmath.mpf(float(s)) * v for s, v in zip(scales, values, strict=True)))
        derivatives.append(float((ends[0] - ends[1]) / (2 * STEP)))
    return np.array(derivatives).reshape(case.inputs[name].shape)


def _along(given: Any, way: Any, step: Any) -> Any:
    if isinstance(given, tuple):
        return tuple(_along(x, y, step) for x, y in zip(given, way, strict=True))
    return given + step * way


def _whole(case: Case) -> dict[str, Any]:
    return {name: exact(array) for name, array in case.inputs.items()}


def _examples(case: Case, weights: Array | None) -> list[tuple[str, Named, Named]]:
    parameters = tuple(case.parameters.items())
    if case.loss.shape in (Shape.SETWISE, Shape.OPPOSED):
        given = case.inputs if weights is None else {**case.inputs, "weights": weights}
        whole = tuple((name, exact(array)) for name, array in given.items())
        return [(case.loss.name, whole, parameters)]
    return [
        (case.loss.name, tuple((n, exact(a[row])) for n, a in case.inputs.items()), parameters)
        for row in range(case.count)
    ]


def exact(row: Array) -> Any:
    """The numbers of a row exactly as they are; integers, and a class index, stay integers."""
    if row.ndim:
        return tuple(exact(part) for part in row)
    return int(row) if row.dtype.kind in "iub" else mpmath.mpf(float(row))


@functools.cache
def _value(name: str, inputs: Named, parameters: Named) -> float:
    return float(ORACLES[name](**dict(inputs), **dict(parameters)))


def _gradient_of_elements(name: str, inputs: Named, parameters: Named, wanted: str) -> list[float]:
    """Of a mean over elements: each by itself, so that a huge one does not hide the others."""
    count = len(dict(inputs)[wanted])
    derivatives = []
    for column in range(count):
        element = tuple((key, (row[column],)) for key, row in inputs)
        chosen = tuple(
            (key, value[column : column + 1] if _has_columns(value) else value)
            for key, value in parameters
        )
        derivatives += [
            derivative / count for derivative in _gradient(name, element, chosen, wanted)
        ]
    return derivatives


def _has_columns(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 1


@functools.cache
def _gradient(name: str, inputs: Named, parameters: Named, wanted: str) -> tuple[float, ...]:
    row = dict(inputs)[wanted]
    derivatives = []
    for position in range(size(row)):
        ends = [
            ORACLES[name](
                **{**dict(inputs), wanted: moved(row, position, step)}, **dict(parameters)
            )
            for step in (STEP, -STEP)
        ]
        derivatives.append(float((ends[0] - ends[1]) / (2 * STEP)))
    return tuple(derivatives)


def size(row: Any) -> int:
    return sum(map(size, row)) if isinstance(row, tuple) else 1


def moved(row: Any, place: int, step: Any) -> Any:
    """The row with one of its numbers, counted through all its parts, a step further."""
    if not isinstance(row, tuple):
        return row + step
    parts = list(row)
    for index, part in enumerate(parts):
        if place < size(part):
            parts[index] = moved(part, place, step)
            break
        place -= size(part)
    return tuple(parts)
