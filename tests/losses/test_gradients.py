"""Gradients: derivatives of the values, scaled by the cotangent, and 0 at kinks."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import Differentiable, Loss
from lossd.reduction import Reduction
from tests.losses.case import Case, by_row, unreduced, values
from tests.losses.compare import Array, assert_same_bits, assert_zero
from tests.sampling import cases

STEP = 1e-5


def test_gradient_is_the_derivative_of_the_value(engine: Engine, loss: Loss) -> None:
    for case in cases(loss, interior=True):
        result = engine.run(case.job(reduction=Reduction.NONE, gradients=case.differentiable))
        for name in case.differentiable:
            smooth = distance_to_kinks(case, name) > 10 * STEP
            assert smooth.mean() > 0.9, case
            expected = _central_differences(engine, case, name)
            actual = result.gradients[name]
            np.testing.assert_allclose(
                actual[smooth], expected[smooth], rtol=2e-7, atol=2e-8, err_msg=f"{case} {name}"
            )


def _central_differences(engine: Engine, case: Case, name: str) -> Array:
    """Rows are independent, so an element is moved in all of them at once."""
    derivatives = np.empty_like(case.inputs[name])
    for element in np.ndindex(derivatives.shape[1:]):
        column = (slice(None), *element)
        step = np.zeros_like(derivatives)
        step[column] = STEP
        ends = [
            unreduced(engine, case.with_inputs(**{name: case.inputs[name] + way * step}))
            for way in (1, -1)
        ]
        derivatives[column] = (ends[0] - ends[1]) / (2 * STEP)
    return derivatives


def distance_to_kinks(case: Case, name: str) -> Array:
    """How far each element of an input is from where the derivative does not exist."""
    if name not in case.loss.kinks:
        return np.full(case.inputs[name].shape, np.inf)
    return np.asarray(case.loss.kinks[name](*case.inputs.values(), **case.parameters))


def test_the_gradient_at_a_kink_is_zero(engine: Engine, loss: Loss) -> None:
    reached = 0
    for case, name in _at_kinks(loss):
        for dtype in (np.float32, np.float64):
            exact = case.astype(np.float32).astype(dtype)
            kinks = distance_to_kinks(exact, name) == 0
            result = engine.run(exact.job(gradients=(name,)))
            assert_zero(result.gradients[name][kinks], (case, name))
            reached += int(kinks.sum())
    if not reached:
        pytest.skip("it has no kink of one element alone")


def _at_kinks(loss: Loss) -> Iterator[tuple[Case, str]]:
    """Cases with an input that was moved to its kinks, and its name.

    A kink between elements of a row, such as a tie, is not reached so.
    """
    for name, drawn in product(loss.kinks, cases(loss)):
        if name not in drawn.differentiable:
            continue
        case = drawn.astype(np.float32).astype(np.float64)
        distance = distance_to_kinks(case, name)
        if np.isinf(distance).any():
            continue
        ways = [case.with_inputs(**{name: case.inputs[name] + way * distance}) for way in (1, -1)]
        nearer = distance_to_kinks(ways[0], name) < distance_to_kinks(ways[1], name)
        place = np.where(nearer, ways[0].inputs[name], ways[1].inputs[name])
        yield case.with_inputs(**{name: place}), name


def test_slopes_differ_on_both_sides_of_a_kink(engine: Engine, loss: Loss) -> None:
    """Else ``kinks`` would name a place that is none."""
    compared = 0
    for case, name in _at_kinks(loss):
        kinks = distance_to_kinks(case, name) == 0
        domain = loss.input(name).under(loss.complete(case.parameters)).domain
        if not kinks.any() or (domain and domain.outside(case.inputs[name] - STEP).any()):
            continue
        sides = [
            engine.run(
                case.with_inputs(**{name: case.inputs[name] + way * STEP}).job(
                    reduction=Reduction.NONE, gradients=(name,)
                )
            ).gradients[name]
            for way in (1, -1)
        ]
        assert (np.abs(sides[0] - sides[1])[kinks] > 1e-3).mean() > 0.9, case
        compared += 1
    if not compared:
        pytest.skip("it has no kink of one element alone, or it is the end of the domain")


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
            mixed = case.with_inputs(**{case.first: case.inputs[case.first].astype(dtype)})
            result = engine.run(mixed.job(gradients=case.differentiable))
            for name, gradient in result.gradients.items():
                assert gradient.dtype == mixed.inputs[name].dtype
                assert gradient.shape == mixed.inputs[name].shape
