"""Gradients that overflow: nothing is taken of them where nothing is asked of them."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, Distance
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import Array, Case, Form, values
from tests.losses.compare import assert_same_bits


def _assert_nothing(gradient: Array, about: Any) -> None:
    """0.0, and not -0.0."""
    assert_same_bits(gradient, np.zeros_like(gradient), about)


OVERFLOWING: list[tuple[str, dict[str, Any], dict[str, Array]]] = [
    ("poisson_nll", {}, {"predictions": np.array([800.0]), "targets": np.array([1.0])}),
    (
        "poisson_nll",
        {"log_input": False},
        {"predictions": np.array([0.0]), "targets": np.array([1.0])},
    ),
    (
        "gaussian_nll",
        {"eps": 1e-200},
        {
            "predictions": np.array([1e3]),
            "targets": np.array([0.0]),
            "variances": np.array([1e-180]),
        },
    ),
    (
        "gaussian_nll",
        {"eps": 1e-200},
        {"predictions": np.array([1e3]), "targets": np.array([0.0]), "variances": np.array([0.0])},
    ),
    (
        "cross_entropy",
        {},
        {"predictions": np.array([[0.0, -np.inf]]), "targets": np.array([1])},
    ),
    (
        "huber",
        {"delta": 1e300},
        {"predictions": np.array([1e200]), "targets": np.array([-1e300])},
    ),
    (
        "gradient_penalty",
        {"target_norm": 1e300},
        {"input_gradients": np.array([[1e-300, 1e-310]])},
    ),
]


@pytest.mark.parametrize(("name", "parameters", "inputs"), OVERFLOWING)
def test_a_row_whose_gradient_overflows_has_none_where_its_cotangent_is_zero(
    engine: Engine, name: str, parameters: dict[str, Any], inputs: dict[str, Array]
) -> None:
    case = Case(LOSSES[name], parameters, Form.FLOATS, inputs)
    expected = engine.run(case.job(gradients=()))
    for cotangent in (np.array(0.0), np.array([0.0])):
        for policy in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
            result = engine.run(
                case.job(gradients=case.differentiable, cotangent=cotangent, nonfinite=policy)
            )
            for gradient in result.gradients.values():
                _assert_nothing(gradient, case)
            if policy is NonfinitePolicy.PROPAGATE:
                assert_same_bits(values(result), values(expected), case)
        if np.isfinite(values(expected)).all():
            engine.run(case.job(cotangent=cotangent, nonfinite=NonfinitePolicy.ERROR))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_floor_of_a_variance_is_flat_however_far_the_residual(
    engine: Engine, dtype: type[np.floating[Any]]
) -> None:
    predictions = np.array([np.finfo(dtype).max, 3], dtype)
    variances = np.array([0, 1e-7], dtype)
    inputs = {
        "predictions": predictions, "targets": -predictions, "variances": variances,
    }  # fmt: skip
    job = Case(LOSSES["gaussian_nll"], {"eps": 1e-6}, Form.FLOATS, inputs).job
    found = engine.run(job(gradients=("variances",), reduction=Reduction.SUM)).gradients
    _assert_nothing(found["variances"], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_norm_that_overflows_leaves_its_gradient(
    engine: Engine, dtype: type[np.floating[Any]], target: float
) -> None:
    largest = np.finfo(dtype).max
    rows = [[0.6, 0.6, -1e-30], [0.45] * 3, [0.7, -0.49, 0.49]]
    gradients = (np.array(rows) * largest).astype(dtype)
    inputs = {"input_gradients": gradients}
    job = Case(LOSSES["gradient_penalty"], {"target_norm": target}, Form.FLOATS, inputs).job
    found = engine.run(job(reduction=Reduction.SUM)).gradients["input_gradients"]
    # The target is nothing beside the norm.
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, 2 * gradients, float(8 * np.finfo(dtype).eps))


@pytest.mark.parametrize("swap", [False, True])
def test_squares_that_overflow_are_compared_all_the_same(engine: Engine, swap: Any) -> None:
    anchor, one, other = (size * np.array([[3e160, 4e160]]) for size in (0.0, 1.0, 2.0))
    for positive, negative, expected in ((one, other, 0.0), (other, one, np.inf), (one, -one, 1.0)):
        inputs = {"anchor": anchor, "positive": positive, "negative": negative}
        parameters = {"distance": Distance.SQUARED_EUCLIDEAN, "swap": swap, "eps": 0.0}
        if swap and expected == 0:
            expected = 1.0  # noqa: PLW2901 - the negative is as near to the positive
        result = engine.run(Case(LOSSES["triplet"], parameters, Form.FLOATS, inputs).job())
        assert result.loss == expected
        for gradient in result.gradients.values():
            assert np.isfinite(gradient).all()


def test_a_component_that_does_not_differ_has_no_slope_where_others_overflow(
    engine: Engine,
) -> None:
    inputs = {
        "left": np.array([[1e200, 3.0]]), "right": np.array([[0.0, 3.0]]), "targets": np.array([1]),
    }  # fmt: skip
    parameters = {"distance": Distance.SQUARED_EUCLIDEAN}
    found = engine.run(Case(LOSSES["contrastive"], parameters, Form.FLOATS, inputs).job()).gradients
    np.testing.assert_array_equal(found["left"], [[np.inf, 0]])
    np.testing.assert_array_equal(found["right"], [[-np.inf, 0]])
