"""Distances of points, maps and gradients of every size, near and far, against 120 digits.

A number is right if it is so beside the terms of which it is a difference: the distances and the
margin of a value, the slopes of all distances of a gradient.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, Distance
from lossd.losses.gradient_penalty import GradientPenaltyVariant
from lossd.reduction import Reduction
from tests.losses.case import Array, Case, Form, values
from tests.oracles import ORACLES, coupled_slope, coupled_values, oracle_gradients, oracle_values
from tests.sampling import cases, coupled_cases, variants

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TOLERANCE: Mapping[np.dtype[Any], float] = {FLOAT32: 3e-6, FLOAT64: 1e-11}
SIZES = (1e-30, 1e-12, 1e-3, 1.0, 17.0, 1000.0, 1e15)
# How far points are apart, beside how far they are from 0.  Below, in COSINE the last digit of a
# component is a larger share of the angle than the tolerance.
APART = (1e-4, 1e-2, 1.0)
LARGEST = {FLOAT32: 1e38, FLOAT64: 1e300}


def _is_angle(case: Case) -> bool:
    return case.parameters.get("distance") is Distance.COSINE


def _assert_within(found: Any, expected: Any, allowed: Any, about: Any) -> None:
    """Checks that what is beyond the type is infinite, with the right sign."""
    found = np.asarray(found)
    with np.errstate(over="ignore"):
        wanted = np.asarray(expected).astype(found.dtype)
    smallest = float(np.finfo(found.dtype).tiny)
    with np.errstate(invalid="ignore"):
        wrong = abs(found.astype(np.float64) - wanted.astype(np.float64))
    is_right = np.where(np.isinf(wanted), found == wanted, wrong <= allowed + smallest)
    assert is_right.all(), (about, found, wanted, wrong, allowed)


def _points(name: str, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Two or three points in the same direction but for a share, of lengths that differ too."""
    loss, rng = LOSSES[name], np.random.default_rng(7)
    for parameters in variants(loss, 3):
        for size, apart in itertools.product(SIZES, APART):
            if parameters.get("swap") and size < 1e-3:
                continue  # a tie: eps is all there is of either distance
            base = rng.normal(size=(3, 3))
            inputs: dict[str, Array] = {
                i.name: (size * (base + apart * rng.normal(size=(3, 3)))).astype(dtype)
                for i in loss.inputs
                if i.name != "targets"
            }
            if name != "triplet":
                low = -1 if name == "cosine_embedding" else 0
                inputs["targets"] = np.array([1, low, 1])
            yield Case(loss, parameters, Form.FLOATS, inputs)


def _sizes(case: Case) -> tuple[float, float]:
    """Returns the size of what values and gradients are differences of, at most."""
    given = {**case.loss.complete({}), **case.parameters}
    vectors = [a.astype(np.float64) for a in case.inputs.values() if a.ndim == 2]
    lengths = [np.sqrt((v * v).sum(axis=-1)).min() for v in vectors]
    margin, eps = abs(float(given["margin"])), float(given.get("eps", 0))
    reach = max(
        float(np.sqrt(((x - y) ** 2).sum(axis=-1)).max()) + 2 * eps
        for x, y in itertools.combinations(vectors, 2)
    )  # fmt: skip
    squared = given.get("distance") is Distance.SQUARED_EUCLIDEAN
    distance, derivative = (reach**2, 2 * reach) if squared else (2 * reach, 1.0)
    if case.loss.name == "cosine_embedding" or _is_angle(case):
        distance, derivative = 2.0, 1 / float(min(lengths))
    if case.loss.name == "contrastive":
        return (distance + margin) ** 2, 2 * (distance + margin) * derivative
    return distance + margin, 2 * derivative


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", ["triplet", "contrastive", "cosine_embedding"])
def test_points_of_every_size_are_right(engine: Engine, name: str, dtype: np.dtype[Any]) -> None:
    step = 4 if engine.backend.name == "numpy" else 20  # no divisor of sizes times distances
    for case in itertools.islice(_points(name, dtype), 0, None, step):
        result = engine.run(case.job(reduction=Reduction.SUM))
        value, derivative = _sizes(case)
        expected = oracle_values(case)
        # A distance of points of float64 is right to the last digit, and squares of it are.
        allowed = TOLERANCE[dtype] * np.maximum(abs(expected), 1e-3 * value)
        _assert_within(values(result), expected, allowed, (case, case.inputs))
        for key, gradient in result.gradients.items():
            derivatives = oracle_gradients(case, key)
            bound = TOLERANCE[dtype] * np.maximum(abs(derivatives), 1e-2 * derivative)
            _assert_within(gradient, derivatives, bound, (case, case.inputs, key))


@pytest.mark.parametrize("p", [1.0, 1.001, 1.5, 2.0, 3.0, 50.0, 1e4, 1e8, np.inf])
def test_pairs_that_are_one_point_have_the_slope_of_their_eps(engine: Engine, p: float) -> None:
    """1 / 3^(1 - 1/p) a component, of a distance of 3^(1/p) eps."""
    for dtype, eps, swap in itertools.product(TOLERANCE, (1e-30, 1e-6, 1.0), (False, True)):
        zero, far = np.zeros((1, 3), dtype), np.full((1, 3), 2, dtype)
        own = 3.0 ** (1 / p - 1) if p < np.inf else np.array([1.0, 0.0, 0.0])
        parameters = {"p": p, "margin": 30.0, "eps": eps, "swap": swap}
        inputs = {"anchor": zero, "positive": far, "negative": zero}
        case = Case(LOSSES["triplet"], parameters, Form.FLOATS, inputs)
        found = engine.run(case.job()).gradients
        for name, wanted in (("positive", own), ("negative", own), ("anchor", -2 * own)):
            np.testing.assert_allclose(
                found[name][0], wanted * np.ones(3), rtol=TOLERANCE[dtype], err_msg=f"{p} {eps}"
            )


def test_three_that_are_one_point_have_the_margin_and_no_gradient(engine: Engine) -> None:
    for distance, swap, eps in itertools.product(Distance, (False, True), (1e-6, 0.0)):
        if distance is Distance.COSINE and eps == 0:
            continue
        parameters = {"distance": distance, "swap": swap, "eps": eps}
        point = np.array([[1.0, -2.0, 0.5]])
        inputs = dict.fromkeys(("anchor", "positive", "negative"), point)
        result = engine.run(Case(LOSSES["triplet"], parameters, Form.FLOATS, inputs).job())
        assert result.loss == 1
        for gradient in result.gradients.values():
            assert not gradient.any()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
def test_triplets_of_a_batch_of_every_size_are_right(engine: Engine, dtype: np.dtype[Any]) -> None:
    loss, rng = LOSSES["batch_triplet"], np.random.default_rng(3)
    drawn = list(coupled_cases(loss, rows=6, length=3))
    sizes = SIZES if engine.backend.name == "numpy" else SIZES[::3]
    for place, size in enumerate(sizes):
        case = drawn[place % len(drawn)]
        points = (size * case.inputs["embeddings"]).astype(dtype)
        case = case.with_inputs(embeddings=points)
        result = engine.run(case.job(reduction=Reduction.SUM, gradients=("embeddings",)))
        expected = np.nan_to_num(coupled_values(case))  # of what is no anchor
        margin, scale = case.parameters.get("margin", 1.0), 4 * size**2 + 4 * size
        allowed = TOLERANCE[dtype] * np.maximum(abs(expected), 1e-2 * (scale + margin))
        _assert_within(values(result), expected, allowed, case)
        way = rng.uniform(0.5, 1, points.shape)
        gradient = result.gradients["embeddings"].astype(np.float64)
        derivative = coupled_slope(case, "embeddings", np.ones(6), way)
        bound = TOLERANCE[dtype] * abs(gradient * way).sum()
        assert abs((gradient * way).sum() - derivative) <= bound + 1e-30, case


@pytest.mark.parametrize("power", [530, 1000])
def test_triplets_grow_with_their_points_where_squares_overflow(engine: Engine, power: int) -> None:
    """Scaling by a power of 2 rounds nothing, so that every bit but the exponent is the same."""
    for drawn in coupled_cases(LOSSES["batch_triplet"], rows=6, length=3):
        distance = drawn.parameters.get("distance", Distance.EUCLIDEAN)
        degree = {Distance.SQUARED_EUCLIDEAN: 2, Distance.EUCLIDEAN: 1, Distance.COSINE: 0}
        margin = {} if distance is Distance.COSINE else {"margin": 0.0}
        near = replace(drawn.astype(FLOAT64), parameters={**drawn.parameters, **margin})
        far = near.with_inputs(embeddings=np.ldexp(near.inputs["embeddings"], power))
        found, expected = (
            engine.run(case.job(reduction=Reduction.SUM, gradients=("embeddings",)))
            for case in (far, near)
        )
        grown = degree[distance] * power
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(values(found), np.ldexp(values(expected), grown))
            np.testing.assert_array_equal(
                found.gradients["embeddings"],
                np.ldexp(expected.gradients["embeddings"], grown - power),
            )


# ------------------------------------------------------------------ feature maps, and gradients


def _derivatives(oracle: Any, arrays: Mapping[str, Array], name: str) -> Array:
    """Central differences of a function of maps (channels, places), with a step of their size."""
    exact = {key: _exact(array) for key, array in arrays.items()}
    step = mpmath.mpf(float(abs(arrays[name]).max() or 1)) * mpmath.mpf("1e-40")
    found = np.zeros(arrays[name].shape)
    for place in np.ndindex(found.shape):
        ends = []
        for way in (step, -step):
            moved = exact[name].copy()
            moved[place] += way
            ends.append(oracle(**{**exact, name: moved}))
        found[place] = float((ends[0] - ends[1]) / (2 * step))
    return found


def _exact(array: Array) -> Array:
    found: Array = np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])(array)
    return found


def _apart(predictions: Array, targets: Array, **parameters: Any) -> Any:
    """The loss of one layer."""
    rows = [tuple(map(tuple, array)) for array in (predictions, targets)]
    return ORACLES["feature_matching"](rows[:1], rows[1:], **parameters)


def _maps(dtype: np.dtype[Any]) -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(5)
    largest = LARGEST[dtype]
    sizes = (largest**-0.2, 1e-6, 1.0, 1000.0, largest**0.26, largest**0.53, largest)
    for size, apart in itertools.product(sizes, (0.0, 1e-4, 1e-2, 1.0)):
        base = rng.uniform(0.1, 1, (2, 3)) * rng.choice([-1, 1], (2, 3))
        other = base + apart * rng.uniform(-0.4, 0.4, (2, 3))
        yield (size * base).astype(dtype), (size * other).astype(dtype)
        if apart == 1:
            yield (size * base).astype(dtype), (-size * base).astype(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("style_weight", [0.0, 0.5])
@pytest.mark.parametrize("distance", Distance)
def test_maps_of_every_size_are_right(
    engine: Engine, distance: Distance, style_weight: float, dtype: np.dtype[Any]
) -> None:
    parameters = {"distance": distance, "style_weight": style_weight}
    step = 1 if engine.backend.name == "numpy" else 5
    for one, other in itertools.islice(_maps(dtype), 0, None, step):
        maps = {"predictions": one, "targets": other}
        case = Case(
            LOSSES["feature_matching"],
            parameters,
            Form.FLOATS,
            {n: a[None] for n, a in maps.items()},
        )
        job = case.job(gradients=("predictions", "targets"), reduction=Reduction.SUM)
        result = engine.run(job)

        # Opposite maps have the same style, of which central differences would leave their error.
        style = 0.0 if (abs(one) == abs(other)).all() else style_weight
        oracle = functools.partial(_apart, distance=distance, style_weight=style)
        value = float(oracle(**{name: _exact(array) for name, array in maps.items()}))
        # An angle, and a difference of maps that are near, has the digits that the maps have of it.
        share = float(abs(one.astype(np.float64) - other).max()) / float(abs(one).max())
        digits = 8 * float(np.finfo(dtype).eps) / share if share else 0
        tolerance = max(TOLERANCE[dtype], digits)
        allowed = tolerance * abs(value) + 1e-100  # what 120 digits leave of 1 - 1
        _assert_within(values(result)[0], value, allowed, (parameters, maps))
        for name, gradient in result.gradients.items():
            if not share:
                assert not gradient.any()
                continue
            derivatives = _derivatives(oracle, maps, name)
            largest = abs(derivatives).max()
            bound = tolerance * min(largest, 1e300)
            if distance is Distance.COSINE:
                bound += tolerance * share / float(abs(one).max())
            _assert_within(gradient[0], derivatives, bound, (parameters, maps, name))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.name)
def test_gradients_of_every_size_have_the_right_penalty(
    engine: Engine, dtype: np.dtype[Any]
) -> None:
    rng, largest = np.random.default_rng(2), LARGEST[dtype]
    sizes = (100 / largest, largest**-0.6, 1e-3, 1.0, 17.0, 1000.0, largest**0.49, largest)
    for size, variant in itertools.product(sizes, GradientPenaltyVariant):
        case = Case(
            LOSSES["gradient_penalty"],
            {"variant": variant},
            Form.FLOATS,
            {"input_gradients": (size * rng.uniform(0.1, 0.5, (3, 4))).astype(dtype)},
        )
        result = engine.run(case.job(reduction=Reduction.SUM))
        found = values(result), result.gradients["input_gradients"]
        for row, value, derivatives in zip(case.inputs["input_gradients"], *found, strict=True):
            exact = _exact(row)
            norm = mpmath.sqrt(sum(exact**2))
            excess, near = norm - 1, abs(norm / (norm - 1))
            if variant is GradientPenaltyVariant.R1:
                expected, wanted, near = norm**2 / 2, exact, 0
            else:
                expected, wanted = excess**2, 2 * excess * exact / norm
            # What |g| - 1 has of the digits of |g|.
            tolerance = TOLERANCE[dtype] + 4 * float(np.finfo(dtype).eps) * near
            _assert_within(value, float(expected), float(tolerance * expected), (case, row))
            allowed = (tolerance * abs(wanted)).astype(np.float64)
            _assert_within(derivatives, wanted.astype(np.float64), allowed, (case, row))


# ------------------------------------------------------------------ images, and sums


@pytest.mark.parametrize("name", ["perceptual", "lpips"])
def test_pixels_of_every_size_are_right(engine: Engine, name: str) -> None:
    """A network rounds what it multiplies: maps that are near each other have fewer digits."""
    step = 1 if engine.backend.name == "numpy" else 3
    for drawn in itertools.islice(cases(LOSSES[name], rows=1, length=3), 0, None, step):
        for size, dtype in itertools.product((0.1, 1.0, 1000.0), TOLERANCE):
            case = drawn.with_inputs(**{n: size * a for n, a in drawn.inputs.items()}).astype(dtype)
            result = engine.run(case.job())
            expected, derivatives = oracle_values(case), oracle_gradients(case, "predictions")
            tolerance = TOLERANCE[dtype] * max(1, 1 / size) * 4
            _assert_within(values(result), expected, tolerance * abs(expected), (case, size))
            bound = tolerance * abs(derivatives).max()
            _assert_within(result.gradients["predictions"], derivatives, bound, (case, size))
