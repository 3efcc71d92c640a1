"""Means of numbers that add up to more than float64 holds, or to less.

What is right comes from exact fractions.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.losses._maths.gan_costs import GanObjective
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import total

Array = npt.NDArray[Any]
MOST = float(np.finfo(np.float64).max)


def run(engine: Engine, name: str, inputs: dict[str, Array], **options: Any) -> Result:
    """A loss of these inputs, without gradients unless they are asked for."""
    given = {key: [array] for key, array in inputs.items()}
    job = Job(loss=LOSSES[name], parameters={}, inputs=given, **{"gradients": (), **options})
    return engine.run(job)


def apart(values: Any) -> dict[str, Array]:
    """Inputs whose absolute errors are these values."""
    predictions = np.asarray(values, np.float64)
    return {"predictions": predictions, "targets": np.zeros_like(predictions)}


def exact(values: Any, weights: Any, divisor: Any) -> float:
    """The weighted sum over a divisor; infinite if it is too large."""
    pairs = zip(values, weights, strict=True)
    try:
        return float(sum(Fraction(v) * Fraction(w) for v, w in pairs) / divisor)
    except OverflowError:
        return math.inf


@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("count", [3, 700, 10_001])
@pytest.mark.parametrize("most", [1e308, MOST])
def test_the_mean_of_examples_fits_where_their_sum_does_not(
    engine: Engine, most: float, count: int, *, per_example: bool
) -> None:
    """Whether the values of the examples are asked for makes no difference."""
    result = run(engine, "absolute_error", apart([most] * count), per_example=per_example)
    assert total(result) == pytest.approx(most, rel=1e-14)
    assert total(result) <= most
    assert result.loss_sum == math.inf
    assert not len(result.nonfinite_examples)
    gradients = run(
        engine, "absolute_error", apart([most] * count),
        per_example=per_example, gradients=("predictions",),
    )  # fmt: skip
    assert gradients.loss == result.loss


WEIGHTS = [[1.0, 2.0, 3.0], [1e300, 2e300, 1e-300], [1e-5, 3e-5, 0.0], [np.nan, 2.0, 1.0]]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("per_example", [True, False])
def test_a_weighted_mean_fits_where_its_sum_does_not(
    engine: Engine, dtype: type, weights: list[float], *, per_example: bool
) -> None:
    values = np.array([1e308, 1.5e308, 1.7e308] if dtype is np.float64 else [1e38, 2e38, 3e38])
    inputs: dict[str, Array] = {key: array.astype(dtype) for key, array in apart(values).items()}
    kept = ~np.isnan(weights)
    result = run(
        engine, "absolute_error", inputs,
        weights=np.array(weights), mask=kept, per_example=per_example,
    )  # fmt: skip
    left = values.astype(dtype).astype(np.float64)[kept], np.array(weights)[kept]
    expected = exact(*left, sum(map(Fraction, left[1])))
    assert result.loss == pytest.approx(expected, rel=1e-6 if dtype is np.float32 else 1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_a_weighted_mean_of_largest_numbers_is_finite(engine: Engine, seed: int) -> None:
    """One in four would be rounded up to infinity."""
    weights = np.random.default_rng(seed).random(20)
    result = run(engine, "absolute_error", apart([MOST] * 20), weights=weights)
    assert total(result) == pytest.approx(MOST, rel=1e-14)


@pytest.mark.parametrize(
    ("options", "divisor"),
    [
        ({"reduction": Reduction.BATCH_MEAN}, 3),
        ({"normalizer": 4.0}, 4),
        ({"normalizer": 0.5}, Fraction(1, 2)),
        ({"reduction": Reduction.SUM}, 1),
    ],
)
def test_other_divisors_of_large_losses(
    engine: Engine, options: dict[str, Any], divisor: Any
) -> None:
    values = [1e308, 1.5e308, 1.7e308]
    result = run(engine, "absolute_error", apart(values), **options)
    assert result.loss == pytest.approx(exact(values, [1] * 3, Fraction(divisor)), rel=1e-14)


@pytest.mark.parametrize("normalizer", [1e5, 1.0, 1e-300])
def test_a_divisor_may_be_nothing_beside_the_weights(engine: Engine, normalizer: float) -> None:
    """The mean is infinite then, without a warning."""
    values, weights = [1e10, 2e10], [1e300, 3e300]
    result = run(
        engine, "absolute_error", apart(values), weights=np.array(weights), normalizer=normalizer
    )
    assert result.loss == pytest.approx(exact(values, weights, Fraction(normalizer)), rel=1e-14)


@pytest.mark.parametrize("size", [1e-170, 1e-300, 3e-308])
@pytest.mark.parametrize("most", [1e-140, 1e-18, 1e-3, 1e9])
@pytest.mark.parametrize(
    ("options", "divisor"),
    [({}, 6), ({"reduction": Reduction.BATCH_MEAN}, None), ({"normalizer": 1e-300}, None)],
)
@pytest.mark.parametrize("per_example", [True, False])
def test_small_weights_leave_a_mean_its_digits(
    engine: Engine,
    most: float,
    size: float,
    options: dict[str, Any],
    divisor: int | None,
    *,
    per_example: bool,
) -> None:
    """Also where a product of a weight and a loss is below the smallest normal number."""
    values, weights = [most, most / 2, 0.0], np.array([1.0, 2.0, 3.0]) * size
    given = {"weights": weights, "per_example": per_example, **options}
    result = run(engine, "absolute_error", apart(values), **given)
    by = options.get("normalizer", 3) if divisor is None else sum(map(Fraction, weights))
    expected = exact(values, weights, Fraction(by))
    assert result.loss == pytest.approx(expected, rel=1e-14, abs=1e-307)


@pytest.mark.parametrize("per_example", [True, False])
def test_a_sum_that_fits_is_right_though_parts_of_it_do_not(
    engine: Engine, *, per_example: bool
) -> None:
    scores = [1.5e308, 1.5e308, -1.5e308, -1e308]
    job = Job(
        loss=LOSSES["generator_loss"],
        parameters={"objective": GanObjective.WASSERSTEIN},
        inputs={"fake": [np.array(scores)]},
        reduction=Reduction.SUM,
        gradients=(),
        per_example=per_example,
    )
    result = engine.run(job)
    expected = -exact(scores, [1] * 4, Fraction(1))
    assert result.loss == result.loss_sum == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("per_example", [True, False])
def test_an_infinite_example_still_makes_the_mean_infinite(
    engine: Engine, *, per_example: bool
) -> None:
    values = [1e308, np.inf, 1e308, 1e308]
    given: dict[str, Any] = {"per_example": per_example}
    assert run(engine, "absolute_error", apart(values), **given).loss == math.inf
    given["nonfinite"] = NonfinitePolicy.ZERO
    zeroed = run(engine, "absolute_error", apart(values), **given)
    assert zeroed.loss == pytest.approx(0.75e308, rel=1e-14)
    values[1] = np.nan
    result = run(engine, "absolute_error", apart(values), per_example=per_example)
    assert math.isnan(total(result))


@pytest.mark.parametrize("per_example", [True, False])
def test_the_two_means_of_a_discriminator_fit_where_their_sums_do_not(
    engine: Engine, *, per_example: bool
) -> None:
    job = Job(
        loss=LOSSES["discriminator_loss"],
        parameters={"objective": GanObjective.WASSERSTEIN},
        inputs={"real": [np.full(4, -8e307)], "fake": [np.full(2, 5e307)]},
        gradients=(),
        per_example=per_example,
    )
    assert engine.run(job).loss == pytest.approx(1.3e308, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [3, 700, (1 << 18) + 1, 825_450, 915_180])
def test_the_mean_of_a_row_of_largest_numbers_is_the_largest(
    engine: Engine, length: int, dtype: type
) -> None:
    most = np.finfo(dtype).max
    for sign in (1, -1):
        predictions = np.full((2, length), sign * most)
        inputs = {"predictions": predictions, "targets": np.zeros_like(predictions)}
        result = run(engine, "absolute_error", inputs)
        assert result.per_example is not None
        np.testing.assert_allclose(result.per_example, most, rtol=1e-6)
        assert not len(result.nonfinite_examples)
