"""Regions whose probabilities, factors or powers are so far from 1 that a product ends.

What is right comes from the definitions in 900 digits.
"""

from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, DistributionKind
from lossd.losses._maths.overlap import EmptyTarget
from lossd.reduction import Reduction
from tests.device import keeping_small_doubles
from tests.oracles import ORACLES

FLOATS = [np.float32, np.float64]
DIGITS, STEP = 900, "1e-400"
OF_SHARES = {"prediction_kind": DistributionKind.PROBABILITIES}
OF_LOGS = {"prediction_kind": DistributionKind.LOG_PROBABILITIES}


def assert_right(
    engine: Engine,
    dtype: type,
    name: str,
    predictions: list[Any],
    targets: list[Any],
    **parameters: Any,
) -> None:
    """Compares value and gradient with the definition; with classes, they are the last axis."""
    given: Any = np.array([predictions], dtype)
    aims: Any = np.array([targets])
    aims = aims.astype(dtype) if aims.dtype.kind == "f" else aims
    job = Job(
        loss=LOSSES[name],
        parameters=parameters,
        inputs={"predictions": [given], "targets": [aims]},
        reduction=Reduction.NONE,
        gradients=("predictions",),
    )
    with keeping_small_doubles():
        found = engine.run(job)
    value, slopes = _definition(name, given[0], aims[0], parameters)
    tolerance = 3e-6 if dtype is np.float32 else 1e-11
    # A GPU takes a number of float32 below the smallest normal one for 0, as CuPy asks it to.
    close: Any = {"rtol": tolerance, "atol": float(np.finfo(dtype).tiny)}
    assert found.per_example is not None
    np.testing.assert_allclose(found.per_example, [value], **close)
    np.testing.assert_allclose(found.gradients["predictions"][0], slopes, **close)


def _definition(name: str, given: Any, aims: Any, parameters: dict[str, Any]) -> tuple[float, Any]:
    """The value, and its derivatives with respect to each prediction."""
    truth = _rows(aims.tolist())

    def value(moved: Any) -> Any:
        return ORACLES[name](_rows(moved), truth, **parameters)

    def slope(place: tuple[int, ...]) -> float:
        step = np.zeros(given.shape, object)
        step[place] = mpmath.mpf(STEP)
        return float((value(exact + step) - value(exact - step)) / (2 * step[place]))

    with mpmath.workdps(DIGITS):
        exact = given.astype(object) + mpmath.mpf(0)
        slopes = [slope(place) for place in np.ndindex(given.shape)]
        return float(value(exact)), np.reshape(slopes, given.shape)


def _rows(array: Any) -> tuple[Any, ...]:
    return tuple(_rows(x) if np.ndim(x) else x for x in array)


# ------------------------------------------------------------------ a probability of exactly 0


@pytest.mark.parametrize("smooth", [1e-30, 1e-28, 1e-5, 1.0])
@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_probability_of_0_has_the_slope_that_smoothing_gives_it(
    engine: Engine, dtype: type, name: str, smooth: float
) -> None:
    given = {"smooth": smooth, **OF_SHARES}
    assert_right(engine, dtype, name, [0.0, 0.0], [0.0, 0.0], **given)
    assert_right(engine, dtype, name, [0.0, 1e-35], [0.0, 0.0], **given)


@pytest.mark.parametrize("smooth", [1e-250, 1e-235])
def test_so_it_has_in_double(engine: Engine, smooth: float) -> None:
    given = {"smooth": smooth, **OF_SHARES}
    assert_right(engine, np.float64, "dice", [0.0, 0.0], [0.0, 0.0], **given)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_probability_of_0_that_is_missed_for_nothing_has_its_slope(
    engine: Engine, dtype: type
) -> None:
    """Without a price of what is missed it is a hit that the index lacks."""
    given = {"alpha": 1.0, "beta": 0.0, "smooth": 0.0, **OF_SHARES}
    assert_right(engine, dtype, "tversky", [0.0, 1e-30], [1.0, 0.0], **given)
    classes = [(0.0, 0.75), (1e-30, 0.25)]
    assert_right(engine, dtype, "tversky", classes, [0, 1], class_axis=-1, **given)


@pytest.mark.parametrize("dtype", FLOATS)
def test_so_it_has_among_soft_counts(engine: Engine, dtype: type) -> None:
    """The F1 score of a label is the Dice coefficient of its examples."""
    given: Any = np.array([0.0, 1e-35, 2e-36], dtype)
    aims: Any = np.array([1e-35, 0.0, 1e-36], dtype)
    job = Job(
        loss=LOSSES["soft_f1"],
        parameters=OF_SHARES,
        inputs={"predictions": [given], "targets": [aims]},
        gradients=("predictions",),
    )
    found = engine.run(job).gradients["predictions"]
    _, slopes = _definition("dice", given, aims, {"smooth": 0.0, **OF_SHARES})
    np.testing.assert_allclose(found, slopes, rtol=3e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_regions_of_hardly_any_probability_have_slopes(engine: Engine, dtype: type) -> None:
    """So small a one is nothing to a derivative with respect to its logarithm, or its logit."""
    logs, truth = [-75.0, -80.0, -78.0], [1.0, 0.0, 0.25]
    given = {"alpha": 0.5, "beta": 0.0, "smooth": 1e-34}
    for kind in ({}, OF_LOGS):
        assert_right(engine, dtype, "tversky", logs, truth, **given, **kind)
    shares = [float(x) for x in np.exp(logs)]
    assert_right(engine, dtype, "tversky", shares, truth, **given, **OF_SHARES)
    classes = [(0.0, -75.0), (0.0, -80.0), (0.5, -78.0)]
    assert_right(engine, dtype, "tversky", classes, [1, 0, 0], class_axis=-1, **given)


# ------------------------------------------------------------------ factors near the largest number

FAR = [{"beta": 1.0}, {"alpha": 1.0}, {"smooth": 1.0}, {"beta": 1.0, "smooth": 1.0}]
FAR += [{"alpha": 1.0, "beta": 1.0, "smooth": 1.0}]


@pytest.mark.parametrize("size", [1e20, 1e30, 1e38, 3.4e38])
@pytest.mark.parametrize("far", FAR, ids="-".join)
@pytest.mark.parametrize("empty_target", list(EmptyTarget))
@pytest.mark.parametrize("dtype", FLOATS)
def test_factors_of_an_index_may_have_any_size(
    engine: Engine, dtype: type, empty_target: EmptyTarget, far: dict[str, float], size: float
) -> None:
    """Only how they are to each other counts."""
    given: dict[str, Any] = {name: size * factor for name, factor in far.items()}
    given["empty_target"] = empty_target
    truth = [1.0, 0.0, 1.0, 1.0]
    assert_right(engine, dtype, "tversky", [0.5, 0.25, -1.0, 2.0], truth, **given)
    assert_right(engine, dtype, "tversky", [0.5, 0.25, 0.75, 1.0], truth, **given, **OF_SHARES)
    assert_right(engine, dtype, "tversky", [-100.0] * 4, [1.0] * 4, **given)
    assert_right(engine, dtype, "tversky", [0.0] * 8, [1.0] * 8, **given)
    classes = [(3.0, 0.25), (-2.75, -3.75)]
    assert_right(engine, dtype, "tversky", classes, [0, 0], class_axis=-1, **given)
    assert_right(engine, dtype, "tversky", classes, [0, 1], class_axis=-1, **given)


@pytest.mark.parametrize("alpha", [1e30, 1e38])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_hardly_predicted_counts_where_it_is_dear(
    engine: Engine, dtype: type, alpha: float
) -> None:
    """Products of such a probability and of its price are ordinary numbers."""
    predictions = [-90.0, -95.0, 0.5] if alpha > 1e35 else [-70.0, -75.0, 0.5]
    given = {"alpha": alpha, "smooth": 1e-5}
    assert_right(engine, dtype, "tversky", predictions, [0.0, 0.0, 1.0], **given)
    assert_right(engine, dtype, "tversky", predictions, [0.0, 0.0, 1.0], gamma=0.5, **given)


@pytest.mark.parametrize("name", ["alpha", "beta", "smooth"])
def test_a_factor_may_be_near_the_largest_double(engine: Engine, name: str) -> None:
    given = {"beta": 0.5, "smooth": 1.0, name: 1.5e308}
    assert_right(engine, np.float64, "tversky", [0.5, -1.0] * 4, [1.0, 0.0] * 4, **given)


# ------------------------------------------------------------------ powers


@pytest.mark.parametrize("gamma", [0.75, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("wrong", [1e-37, 1e-23, 2e-21, 1e-10])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_power_may_vanish_before_its_derivative(
    engine: Engine, dtype: type, wrong: float, gamma: float
) -> None:
    given = {"gamma": gamma, "smooth": 0.0, **OF_SHARES}
    assert_right(engine, dtype, "tversky", [1.0, wrong], [1.0, 0.0], **given)
    classes = [(1.0, 0.5), (wrong, 0.5)]
    assert_right(engine, dtype, "tversky", classes, [0, 1], class_axis=-1, **given)


def test_a_slope_beyond_the_type_is_one_with_its_probability(engine: Engine) -> None:
    """The derivative with respect to a probability is infinite, that by a logit is not."""
    given = {"gamma": 0.01, "smooth": 0.0}
    assert_right(engine, np.float32, "tversky", [3.0, -100.0], [1.0, 0.0], beta=0.0, **given)
    classes = [(0.0, -100.0), (-50.0, 50.0)]
    assert_right(engine, np.float32, "tversky", classes, [0, 1], class_axis=-1, **given)
