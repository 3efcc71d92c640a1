"""Losses of embeddings over margins of 0 to 1,000 and all temperatures, against 60 digits.

Similarities are drawn so that they are numbers of the type, each the product of one pair of
components: then nothing is lost before the loss itself.  A gradient is right if it is so beside the
sum of the sizes of its terms, of which it may be a small difference.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.engine import Engine, Result
from lossd.losses import LOSSES, Loss
from lossd.reduction import Reduction
from tests.losses.case import Array, Case, Form, values

DIGITS = 60
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TOLERANCE: Mapping[np.dtype[Any], float] = {FLOAT32: 3e-6, FLOAT64: 1e-11}
MARGINS = (0.0, 1e-3, 0.5, 1.0, 5.0, 17.0, 40.0, 77.0, 104.0, 300.0, 700.0, 1000.0)
TEMPERATURES: Mapping[np.dtype[Any], tuple[float, ...]] = {
    FLOAT32: (1e-60, 1e-40, 1e-20, 1e-10, 1e-4, 0.01, 0.07, 0.3, 1.0, 7.0, 1e3, 1e10, 1e40, 1e60),
    FLOAT64: (1e-300, 1e-100, 1e-40, 1e-10, 1e-4, 0.01, 0.07, 0.3, 1.0, 7.0, 1e10, 1e100, 1e300),
}  # fmt: skip
COUNT = 4
LABELS = (0, 0, 1, 1)
Number = Any  # of mpmath
Matrix = list[list[Number]]


# ------------------------------------------------------------------ 60 digits


@dataclass(frozen=True)
class Row:
    """The value of an anchor, its slopes with respect to quotients, and what they are made of."""

    value: Number
    derivatives: list[Number]
    sizes: list[Number]


def _info_nce(row: Sequence[Number], own: int, _: float) -> Row:
    others = [0 if j == own else mpmath.exp(x - row[own]) for j, x in enumerate(row)]
    rest = mpmath.fsum(others)
    derivatives = [x / (1 + rest) for x in others]
    derivatives[own] = -rest / (1 + rest)
    return Row(mpmath.log1p(rest), derivatives, [abs(x) for x in derivatives])


def _nt_xent(row: Sequence[Number], own: int, _: float) -> Row:
    positives = [j for j in range(COUNT) if j != own and LABELS[j] == LABELS[own]]
    negatives = [j for j in range(COUNT) if LABELS[j] != LABELS[own]]
    value, derivatives = mpmath.mpf(0), [mpmath.mpf(0)] * COUNT
    for p in positives:
        others = {n: mpmath.exp(row[n] - row[p]) for n in negatives}
        rest = mpmath.fsum(others.values())
        value += mpmath.log1p(rest) / len(positives)
        derivatives[p] -= rest / (1 + rest) / len(positives)
        for n in negatives:
            derivatives[n] += others[n] / (1 + rest) / len(positives)
    return Row(value, derivatives, [abs(x) for x in derivatives])


def _supervised(row: Sequence[Number], own: int, _: float) -> Row:
    """Of one positive, as here, it is the cross-entropy of finding it among all others."""
    (positive,) = (j for j in range(COUNT) if j != own and LABELS[j] == LABELS[own])
    others = [
        0 if j in (own, positive) else mpmath.exp(row[j] - row[positive]) for j in range(COUNT)
    ]
    rest = mpmath.fsum(others)
    derivatives = [x / (1 + rest) for x in others]
    derivatives[positive] = -rest / (1 + rest)
    return Row(mpmath.log1p(rest), derivatives, [abs(x) for x in derivatives])


def _sigmoid(row: Sequence[Number], own: int, bias: float) -> Row:
    value, derivatives = mpmath.mpf(0), []
    for j, x in enumerate(row):
        sign = -1 if j == own else 1
        power = mpmath.exp(sign * (x + mpmath.mpf(bias)))
        value += mpmath.log1p(power)
        derivatives.append(sign * power / (1 + power))
    return Row(value, derivatives, [abs(x) for x in derivatives])


ROWS: Mapping[str, Callable[[Sequence[Number], int, float], Row]] = {
    "info_nce": _info_nce,
    "nt_xent": _nt_xent,
    "supervised_contrastive": _supervised,
    "sigmoid_contrastive": _sigmoid,
}


@dataclass(frozen=True)
class Expected:
    """Numbers, and of each gradient the sum of the sizes of its terms."""

    values: list[Number]
    gradients: Mapping[str, Array]
    sizes: Mapping[str, Array]


def _exact(array: Array) -> Array:
    found: Array = np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])(array)
    return found


def _expected(name: str, left: Array, right: Array, temperature: float, bias: float) -> Expected:
    """``left`` and ``right`` are the same for a loss of one input."""
    one, other, heat = _exact(left), _exact(right), mpmath.mpf(temperature)
    is_one = left is right
    scores = one @ other.T
    rows = [ROWS[name]([x / heat for x in row], i, bias) for i, row in enumerate(scores)]
    derivatives, sizes = (
        np.array([r.derivatives for r in rows]),
        np.array([r.sizes for r in rows]),
    )
    centred = scores if name == "sigmoid_contrastive" else _from_the_best(scores, is_one=is_one)
    by_temperature = np.sum(derivatives * centred) / heat**2
    size = np.sum(sizes * abs(centred)) / heat**2
    given = {"temperature": (-by_temperature, size), "bias": (np.sum(derivatives), np.sum(sizes))}
    if is_one:
        both = derivatives + derivatives.T, sizes + sizes.T
        given["embeddings"] = both[0] @ other / heat, both[1] @ abs(other) / heat
    else:
        given["queries"] = derivatives @ other / heat, sizes @ abs(other) / heat
        given["keys"] = derivatives.T @ one / heat, sizes.T @ abs(one) / heat
    return Expected(
        [row.value for row in rows],
        {key: np.asarray(pair[0]) for key, pair in given.items()},
        {key: np.asarray(pair[1]) for key, pair in given.items()},
    )


def _from_the_best(scores: Array, *, is_one: bool) -> Array:
    """Slopes of a row sum to 0, so that similarities may be counted from anywhere."""
    found = scores.copy()
    for position, row in enumerate(scores):
        found[position] -= max(x for j, x in enumerate(row) if not is_one or j != position)
        if is_one:
            found[position, position] = mpmath.mpf(0)
    return found


# ------------------------------------------------------------------ what is drawn


def _vectors(scores: Array, dtype: np.dtype[Any], *, is_one: bool) -> tuple[Array, Array]:
    """Vectors whose products are these numbers, one component a pair, of sizes that share alike."""
    pairs = [(i, j) for i in range(COUNT) for j in range(COUNT) if not is_one or i < j]
    left, right = np.zeros((2, COUNT, len(pairs)))
    largest = abs(scores).max()
    power = 2.0 ** np.floor(np.log2(largest) / 2) if largest else 1.0
    for position, (i, j) in enumerate(pairs):
        left[i, position], right[j, position] = power, scores[i, j] / power
    if is_one:
        left += right
        right = left
    found = left.astype(dtype)
    return (found, found) if is_one else (found, right.astype(dtype))


def _scores(margin: float, temperature: float, dtype: np.dtype[Any], seed: int) -> Array:
    """Quotients of up to about the margin, above or below those that belong together."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        scores = rng.integers(-4, 5, (COUNT, COUNT)) / 4 * margin * temperature
        ahead = np.equal.outer(LABELS, LABELS) if seed % 2 else np.eye(COUNT)
        scores += (seed % 3 - 1) * margin * temperature * ahead
        scores = np.minimum(np.maximum(scores, -1e300), 1e300)
    smallest = float(np.finfo(dtype).tiny) ** 2 * 1e20 if dtype == FLOAT32 else 0
    return np.where(abs(scores) < smallest, 0, scores)


def _run(engine: Engine, case: Case) -> Result:
    return engine.run(case.job(gradients=case.derivatives, reduction=Reduction.SUM))


def _case(loss: Loss, left: Array, right: Array, parameters: Mapping[str, Any]) -> Case:
    inputs = {"queries": left, "keys": right}
    if left is right:
        inputs = {"embeddings": left, "labels": np.array(LABELS)}
    return Case(loss, parameters, Form.FLOATS, inputs)


def _rounded(numbers: Any, dtype: Any) -> Array:
    with np.errstate(all="ignore"):
        found: Array = np.vectorize(float, otypes=[np.float64])(numbers).astype(dtype)
    return found.astype(np.float64)


def _assert_within(found: Any, numbers: Any, allowed: Any, dtype: Any, about: Any) -> None:
    """Checks that what is beyond the type is infinite, with the right sign."""
    found, expected = np.asarray(found, np.float64), _rounded(numbers, dtype)
    bounds, largest = _rounded(allowed, np.float64), float(np.finfo(dtype).max)
    is_large = abs(expected) > largest / 2
    with np.errstate(invalid="ignore"):
        is_right = np.where(
            is_large,
            (np.sign(found) == np.sign(expected)) & (abs(found) > largest / 4),
            abs(found - expected) <= bounds,
        )
    assert is_right.all(), (about, found, expected, bounds)


def _assert_right(
    engine: Engine, name: str, left: Array, right: Array, parameters: Mapping[str, Any]
) -> None:
    dtype, temperature = left.dtype, parameters["temperature"]
    case = _case(LOSSES[name], left, right, parameters)
    result = _run(engine, case)
    tolerance, smallest = TOLERANCE[dtype], mpmath.mpf(float(np.finfo(dtype).tiny))
    with mpmath.workdps(DIGITS):
        expected = _expected(name, left, right, temperature, parameters.get("bias", 0))
        about = name, dtype, parameters, left.tolist(), right.tolist()
        bounds = [tolerance * abs(x) + smallest for x in expected.values]
        _assert_within(values(result), expected.values, bounds, dtype, about)
        for key, gradient in result.gradients.items():
            # Shares below the smallest number of the type are lost, whatever they go by.
            lost = smallest * (
                _reach(left, right) / mpmath.mpf(temperature) if gradient.ndim else 1
            )
            if key == "temperature":
                lost = smallest * _reach(left, right) ** 2 / mpmath.mpf(temperature) ** 2
            bound = tolerance * expected.sizes[key] + COUNT * lost + smallest
            _assert_within(gradient, expected.gradients[key], bound, gradient.dtype, (*about, key))


def _reach(left: Array, right: Array) -> Number:
    return mpmath.mpf(float(max(abs(left).max(), abs(right).max()))) * left.shape[1]


def _swept(engine: Engine, dtype: np.dtype[Any]) -> Iterator[tuple[int, float, float]]:
    step = 1 if engine.backend.name == "numpy" else 11
    pairs = itertools.product(MARGINS, TEMPERATURES[dtype])
    yield from ((seed, *pair) for seed, pair in itertools.islice(enumerate(pairs), 0, None, step))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", ROWS)
def test_every_margin_at_every_temperature_is_right(
    engine: Engine, name: str, dtype: np.dtype[Any]
) -> None:
    is_one = "queries" not in [i.name for i in LOSSES[name].inputs]
    biases = (0.0, -10.0, 40.0, -1000.0)
    for seed, margin, temperature in _swept(engine, dtype):
        scores = _scores(margin, temperature, dtype, seed)
        left, right = _vectors(scores, dtype, is_one=is_one)
        parameters: dict[str, Any] = {"temperature": temperature, "normalize": False}
        if name == "sigmoid_contrastive":
            parameters["bias"] = biases[seed % 4]
        _assert_right(engine, name, left, right, parameters)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", ROWS)
def test_plain_vectors_at_a_temperature_beyond_the_type_are_right(
    engine: Engine, name: str, dtype: np.dtype[Any]
) -> None:
    """Where a rival is as near as the own key half is lost, else nothing or all there is."""
    ties = np.array([[1.0, 2.0, 2.0, 0.0]] * COUNT).T
    is_one = "queries" not in [i.name for i in LOSSES[name].inputs]
    for temperature in (5e-324, 1e-310, 1e-300, 1e-45, 1e-40, 1e-39, 1e39, 1e300, 1.7e308):
        for scores in (np.ones((COUNT, COUNT)), ties, ties.T, -ties.T):
            left, right = _vectors(scores, dtype, is_one=is_one)
            parameters: dict[str, Any] = {"temperature": temperature, "normalize": False}
            if name == "sigmoid_contrastive":
                parameters["bias"] = -10.0
            _assert_right(engine, name, left, right, parameters)
