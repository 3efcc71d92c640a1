"""Gradients: derivatives of the values, scaled by the cotangent, and 0 at kinks."""

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import Differentiable, Loss
from lossd.reduction import Reduction
from tests.losses.case import Case, by_row, values
from tests.losses.compare import Array, assert_same_bits, assert_zero
from tests.sampling import cases, plain

STEP = 1e-5


def test_gradient_is_the_derivative_of_the_value(engine: Engine, loss: Loss) -> None:
    for case in cases(loss, interior=True):
        result = engine.run(case.job(reduction=Reduction.NONE, gradients=case.differentiable))
        smooth = _distance_to_kinks(case) > 10 * STEP
        assert smooth.mean() > 0.9, case
        for name in case.differentiable:
            expected = _central_differences(engine, case, name)
            actual = result.gradients[name]
            np.testing.assert_allclose(
                actual[smooth], expected[smooth], rtol=2e-7, atol=2e-8, err_msg=f"{case} {name}"
            )


def _central_differences(engine: Engine, case: Case, name: str) -> Array:
    """Rows are independent, so an element is moved in all of them at once."""
    slopes = np.empty_like(case.inputs[name])
    for element in np.ndindex(slopes.shape[1:]):
        column = (slice(None), *element)
        step = np.zeros_like(slopes)
        step[column] = STEP
        ends = [
            _values(engine, case.with_inputs(**{name: case.inputs[name] + way * step}))
            for way in (1, -1)
        ]
        slopes[column] = (ends[0] - ends[1]) / (2 * STEP)
    return slopes


def _values(engine: Engine, case: Case) -> Array:
    found = engine.run(case.job(reduction=Reduction.NONE, gradients=())).per_example
    assert found is not None
    return found


def _distance_to_kinks(case: Case) -> Array:
    first = case.inputs[case.loss.inputs[0].name]
    if case.loss.kink_distance is None:
        return np.full(first.shape, np.inf)
    return np.asarray(case.loss.kink_distance(*case.inputs.values(), **case.parameters))


def test_the_gradient_at_a_kink_is_zero(engine: Engine, loss: Loss) -> None:
    if loss.kink_distance is None:
        pytest.skip("it has no kink")
    for case in cases(loss):
        at_kink = _moved_to_kinks(case)
        for dtype in (np.float32, np.float64):
            exact = at_kink.astype(np.float32).astype(dtype)
            kinks = _distance_to_kinks(exact) == 0
            assert kinks.mean() > 0.5, case
            result = engine.run(exact.job(gradients=case.differentiable))
            for name, gradient in result.gradients.items():
                assert_zero(gradient[kinks], (case, name))


def _moved_to_kinks(case: Case) -> Case:
    """Predictions moved by their distance from a kink, in the direction that leads there."""
    case = case.astype(np.float32).astype(np.float64)
    name = case.loss.inputs[0].name
    distance = _distance_to_kinks(case)
    ways = [case.with_inputs(**{name: case.inputs[name] + way * distance}) for way in (1, -1)]
    nearer = _distance_to_kinks(ways[0]) < _distance_to_kinks(ways[1])
    return case.with_inputs(**{name: np.where(nearer, ways[0].inputs[name], ways[1].inputs[name])})


def test_a_kink_has_its_value_and_the_slopes_differ_beside_it(engine: Engine, loss: Loss) -> None:
    """Else ``kink_distance`` would name a place that is no kink."""
    if loss.kink_distance is None:
        pytest.skip("it has no kink")
    case = _moved_to_kinks(plain(loss))
    name = loss.inputs[0].name
    sides = [
        engine.run(
            case.with_inputs(**{name: case.inputs[name] + way * STEP}).job(reduction=Reduction.NONE)
        ).gradients[name]
        for way in (1, -1)
    ]
    assert (np.abs(sides[0] - sides[1]) > 1e-3).all()


@pytest.mark.parametrize("reduction", list(Reduction))
def test_a_cotangent_scales_gradients_and_not_the_loss(
    engine: Engine, loss: Loss, reduction: Reduction
) -> None:
    for case in cases(loss):
        wanted = {"reduction": reduction, "gradients": case.differentiable}
        without = engine.run(case.job(**wanted))
        per_example = np.linspace(-2, 3, case.count)
        for cotangent in (np.array(-2.5), np.array(0.0), per_example, per_example.astype("f4")):
            result = engine.run(case.job(cotangent=cotangent, **wanted))
            assert result.loss == without.loss
            assert_same_bits(values(result), values(without), case)
            for name, gradient in result.gradients.items():
                scale = by_row(cotangent, gradient) if cotangent.ndim else cotangent
                np.testing.assert_allclose(
                    gradient, without.gradients[name] * scale, rtol=1e-13, err_msg=str(case)
                )


def test_gradients_are_those_that_were_asked_for(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        by_default = {i.name for i in loss.inputs if i.differentiable is Differentiable.BY_DEFAULT}
        assert set(engine.run(case.job()).gradients) == by_default
        everything = engine.run(case.job(gradients=case.differentiable))
        assert tuple(everything.gradients) == case.differentiable
        assert not engine.run(case.job(gradients=())).gradients
        for name in case.differentiable:
            alone = engine.run(case.job(gradients=(name, name)))
            assert list(alone.gradients) == [name]
            assert_same_bits(alone.gradients[name], everything.gradients[name], case)
            assert alone.loss == everything.loss


def test_a_gradient_has_the_type_and_shape_of_its_input(engine: Engine, loss: Loss) -> None:
    """Also where another input has another type: then the wider one is computed in."""
    for case in cases(loss):
        for dtype in (np.float16, np.float32, np.float64):
            narrow = case.inputs[loss.inputs[0].name].astype(dtype)
            mixed = case.with_inputs(**{loss.inputs[0].name: narrow})
            result = engine.run(mixed.job(gradients=case.differentiable))
            for name, gradient in result.gradients.items():
                assert gradient.dtype == mixed.inputs[name].dtype
                assert gradient.shape == mixed.inputs[name].shape
