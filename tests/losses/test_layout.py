"""Layout: axes, long rows, memory that is not ours."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine, Result
from lossd.losses import Loss, Shape
from lossd.losses._inputs import BATCH_DIMS, CLASS_AXIS
from lossd.reduction import Reduction
from lossd.shapes import BLOCK_ELEMENTS
from tests.losses.case import Case, Form, values
from tests.losses.compare import Array, assert_close, assert_same_bits
from tests.sampling import cases, draw, forms, has_classes, plain


def _assert_same(actual: Result, expected: Result, about: Any) -> None:
    assert actual.loss == expected.loss, about
    assert_same_bits(values(actual).reshape(-1), values(expected).reshape(-1), about)
    for name, gradient in expected.gradients.items():
        assert_same_bits(actual.gradients[name], gradient, (about, name))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_a_class_axis_elsewhere_equals_moving_it_by_hand(
    engine: Engine, loss: Loss, axis: int
) -> None:
    if loss.shape is not Shape.ROWWISE or CLASS_AXIS not in loss.layout_parameters:
        pytest.skip("it has no class axis, or elements beside it")
    for flat in cases(loss, rows=6):
        grid = {n: a.reshape(2, 3, *a.shape[1:]) for n, a in flat.inputs.items()}
        by_hand = engine.run(flat.with_inputs(**grid).job(gradients=flat.differentiable))
        moved = {n: np.moveaxis(a, -1, axis) if a.ndim == 3 else a for n, a in grid.items()}
        case = Case(loss, {**flat.parameters, "class_axis": axis}, flat.form, moved)
        result = engine.run(case.job(gradients=flat.differentiable))
        assert values(result).shape == (2, 3)
        expected = {n: np.moveaxis(g, -1, axis) for n, g in by_hand.gradients.items()}
        for name, gradient in result.gradients.items():
            assert gradient.shape == moved[name].shape
            assert_same_bits(gradient, np.ascontiguousarray(expected[name]), case)
        assert_same_bits(values(result), values(by_hand), case)
        assert result.loss == by_hand.loss
        per_row = np.arange(6.0).reshape(2, 3)
        weighted = engine.run(case.job(weights=per_row, mask=per_row < 4, cotangent=per_row))
        assert weighted.example_count == 4
        assert weighted.weight_sum == pytest.approx(
            (per_row * flat.class_weights.reshape(2, 3))[per_row < 4].sum()
        )


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_a_class_axis_among_the_axes_of_a_region_equals_moving_it_by_hand(
    engine: Engine, loss: Loss, axis: int
) -> None:
    if loss.shape is not Shape.REGIONWISE:
        pytest.skip("its examples are no regions")
    for flat in cases(loss, length=6):
        if not has_classes(loss, flat.parameters):
            continue
        grid = {n: a.reshape(7, 2, 3, *a.shape[2:]) for n, a in flat.inputs.items()}
        moved = {n: np.moveaxis(a, -1, axis) if a.ndim == 4 else a for n, a in grid.items()}
        case = Case(loss, {**flat.parameters, "class_axis": axis}, flat.form, moved)
        by_hand = engine.run(flat.job(gradients=flat.differentiable))
        result = engine.run(case.job(gradients=flat.differentiable))
        assert_same_bits(values(result), values(by_hand), case)
        for name, gradient in result.gradients.items():
            expected = np.moveaxis(by_hand.gradients[name].reshape(grid[name].shape), -1, axis)
            assert_same_bits(gradient, np.ascontiguousarray(expected), case)


def test_the_axes_of_a_region_are_elements_in_any_order(engine: Engine, loss: Loss) -> None:
    if loss.shape is not Shape.REGIONWISE:
        pytest.skip("its examples are no regions")
    for flat in cases(loss, length=6):
        case = flat.with_inputs(
            **{n: a.reshape(7, 2, 3, *a.shape[2:]) for n, a in flat.inputs.items()}
        )
        swapped = case.with_inputs(**{n: a.swapaxes(1, 2) for n, a in case.inputs.items()})
        expected = engine.run(flat.job(gradients=flat.differentiable))
        one, two = (engine.run(c.job(gradients=flat.differentiable)) for c in (case, swapped))
        assert_same_bits(values(one), values(expected), case)
        np.testing.assert_allclose(values(two), values(expected), rtol=1e-13)
        for name, gradient in one.gradients.items():
            assert_same_bits(gradient.reshape(flat.inputs[name].shape), expected.gradients[name])
            np.testing.assert_allclose(
                two.gradients[name].swapaxes(1, 2), gradient, rtol=1e-11, atol=1e-15
            )


@pytest.mark.parametrize("batch_dims", [0, 1, 2, 3])
def test_batch_dims_tell_examples_from_their_elements(
    engine: Engine, loss: Loss, batch_dims: int
) -> None:
    if BATCH_DIMS not in loss.layout_parameters:
        pytest.skip("its examples are rows")
    shape = (2, 3, 5)
    examples = shape[:batch_dims]
    for flat in cases(loss, rows=6):
        if any(p.is_vector and len(flat.parameters.get(p.name, ())) > 1 for p in loss.parameters):
            continue
        inputs = {name: array.reshape(shape) for name, array in flat.inputs.items()}
        case = Case(loss, {**flat.parameters, "batch_dims": batch_dims}, flat.form, inputs)
        rows = {n: a.reshape(int(np.prod(examples)), -1) for n, a in inputs.items()}
        by_hand = engine.run(flat.with_inputs(**rows).job(gradients=flat.differentiable))
        ones = np.ones(examples)
        for options in ({}, {"weights": ones, "mask": ones > 0, "cotangent": ones}):
            result = engine.run(case.job(gradients=flat.differentiable, **options))
            assert values(result).shape == examples
            assert_same_bits(values(result).reshape(-1), values(by_hand), case)
            assert result.loss == by_hand.loss
            for name, gradient in result.gradients.items():
                assert gradient.shape == shape
                flat_gradient = gradient.reshape(by_hand.gradients[name].shape)
                assert_same_bits(flat_gradient, by_hand.gradients[name], case)


def test_vectors_have_one_number_a_column_wherever_the_axes_are(engine: Engine, loss: Loss) -> None:
    """In (2, 3, 5) with two trailing axes in an example, the vector repeats for each of the 3."""
    if BATCH_DIMS not in loss.layout_parameters:
        pytest.skip("its examples are rows")
    for flat in cases(loss, rows=6):
        inputs = {name: array.reshape(2, 3, 5) for name, array in flat.inputs.items()}
        by_hand = engine.run(flat.job(reduction=Reduction.NONE))
        result = engine.run(flat.with_inputs(**inputs).job(reduction=Reduction.NONE))
        np.testing.assert_allclose(
            values(result), values(by_hand).reshape(2, 3).mean(axis=1), rtol=1e-14
        )
        np.testing.assert_allclose(
            result.gradients["predictions"],
            by_hand.gradients["predictions"].reshape(2, 3, 5) / 3,
            rtol=1e-14,
        )


LONG = 2 * BLOCK_ELEMENTS + 3
# Beyond all threads of a block; a device never cuts rows, and an emulated one takes its time.
LONG_ON_A_DEVICE = 5003
ENDS = np.r_[0:5, LONG - 5 : LONG]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_longer_than_a_block_are_right_and_repeatable(
    engine: Engine, loss: Loss, dtype: type
) -> None:
    case = _long(engine, loss).astype(dtype)
    options: dict[str, Any] = {"reduction": Reduction.SUM, "gradients": case.differentiable}
    result = engine.run(case.job(**options))
    _assert_same(engine.run(case.job(**options)), result, case)
    for row in range(case.count):
        alone = engine.run(case.rows(slice(row, row + 1)).job(**options))
        assert_same_bits(values(alone), values(result)[row : row + 1], case)
        for name, gradient in alone.gradients.items():
            assert_same_bits(gradient, result.gradients[name][row : row + 1], case)
    expected, gradients = _by_short_rows(engine, case)
    assert_close(values(result), expected, dtype, case)
    for name, gradient in gradients.items():
        assert_close(result.gradients[name], gradient, dtype, (case, name))


def _long(engine: Engine, loss: Loss) -> Case:
    """Three long rows; of classes, all but five at either end are impossible and no targets."""
    on_host = engine.backend.name == "numpy"
    if loss.shape is Shape.REGIONWISE:  # never cut
        return plain(loss, rows=3, length=BLOCK_ELEMENTS + 3 if on_host else LONG_ON_A_DEVICE)
    is_short = loss.shape is Shape.POINTWISE and not on_host
    case = draw(loss, {}, forms(loss)[0], 3, LONG_ON_A_DEVICE if is_short else LONG)
    if loss.shape in (Shape.POINTWISE, Shape.VECTORS):
        return case
    inputs = {}
    for name, array in case.inputs.items():
        middle = -np.inf if name == case.first else 0
        if array.ndim == 1:
            inputs[name] = np.array([0, LONG - 1, LONG - 5])
            continue
        inputs[name] = np.full_like(array, middle)
        inputs[name][:, ENDS] = array[:, ENDS]
    return case.with_inputs(**inputs)


def _by_short_rows(engine: Engine, case: Case) -> tuple[Array, dict[str, Array]]:
    """The same numbers from rows of one element, without the impossible classes, or backwards."""
    if case.loss.shape in (Shape.REGIONWISE, Shape.VECTORS):
        # The order of the elements means nothing, but to the rounding and to equals.
        turned = {n: a[:, ::-1] if a.ndim > 1 else a for n, a in case.inputs.items()}
        result = engine.run(
            case.with_inputs(**turned).astype(np.float64).job(reduction=Reduction.NONE)
        )
        return values(result), {
            n: g[:, ::-1] for n, g in result.gradients.items() if not case.loss.is_ordered
        }
    if case.loss.shape is Shape.POINTWISE:
        elements = {n: a.reshape(-1).astype(np.float64) for n, a in case.inputs.items()}
        short = engine.run(
            case.with_inputs(**elements).job(
                reduction=Reduction.NONE, gradients=case.differentiable
            )
        )
        length = case.inputs[case.first].shape[1]
        gradients = {n: g.reshape(3, length) / length for n, g in short.gradients.items()}
        return values(short).reshape(3, length).mean(axis=1), gradients
    inputs = {
        name: array[:, ENDS].astype(np.float64) if array.ndim == 2 else np.searchsorted(ENDS, array)
        for name, array in case.inputs.items()
    }
    short = engine.run(
        case.with_inputs(**inputs).job(reduction=Reduction.NONE, gradients=case.differentiable)
    )
    gradients = {name: np.zeros((3, LONG)) for name in short.gradients}
    for name, gradient in short.gradients.items():
        gradients[name][:, ENDS] = gradient
    return values(short), gradients


def test_inputs_are_not_written_to_and_results_are_new(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss):
        for dtype in (np.float32, np.float64):
            case = drawn.astype(dtype)
            extras = {
                "weights": np.linspace(0, 1, 7),
                "mask": np.arange(7) != 3,
                "cotangent": np.linspace(-1, 1, 7),
            }
            given = [*case.inputs.values(), *extras.values()]
            before = [array.copy() for array in given]
            options: dict[str, Any] = {"gradients": case.differentiable, **extras}
            result = engine.run(case.job(**options))
            for array, copy in zip(given, before, strict=True):
                assert_same_bits(array, copy, case)
            for made in (values(result), *result.gradients.values()):
                assert not any(np.shares_memory(made, array) for array in given), case
                assert made.flags.writeable
            for array in given:
                array.flags.writeable = False
            _assert_same(engine.run(case.job(**options)), result, case)


def test_strides_and_byte_order_of_the_memory_do_not_matter(engine: Engine, loss: Loss) -> None:
    def every_second(array: Array) -> Array:
        wide = np.zeros((2 * len(array), *array.shape[1:]), array.dtype)
        wide[::2] = array
        return wide[::2]

    for case in cases(loss):
        expected = engine.run(case.job(gradients=case.differentiable))
        for change in (every_second, np.asfortranarray, lambda a: a[::-1].copy()[::-1]):
            inputs = {name: change(array) for name, array in case.inputs.items()}
            job = case.with_inputs(**inputs).job(gradients=case.differentiable)
            _assert_same(engine.run(job), expected, case)


def test_values_are_left_out_where_nobody_wants_them(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        expected = engine.run(case.job())
        result = engine.run(case.job(per_example=False))
        assert result.per_example is None
        assert result.loss == expected.loss
        assert result.loss_sum == expected.loss_sum
        for name, gradient in result.gradients.items():
            assert_same_bits(gradient, expected.gradients[name], case)


def test_one_example_without_an_example_axis_is_a_batch_of_one(engine: Engine, loss: Loss) -> None:
    if loss.shape is Shape.REGIONWISE:
        pytest.skip("its first axis counts examples, whatever there is")
    case = plain(loss, rows=1)
    expected = engine.run(case.job())
    parameters = {"batch_dims": 0} if BATCH_DIMS in loss.layout_parameters else {}
    bare = Case(loss, parameters, Form.FLOATS, {n: a[0] for n, a in case.inputs.items()})
    bare = bare.with_inputs(**{n: np.asarray(a) for n, a in bare.inputs.items()})
    result = engine.run(bare.job(weights=np.array(1.0), mask=np.array(1, bool)))
    assert values(result).shape == ()
    assert result.example_count == 1
    assert result.loss == expected.loss
