"""Outputs: right, of the promised type and shape, and only where they are asked for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.engine import Engine, Result
from lossd.losses import Loss, Output
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import Case, Form, values
from tests.losses.compare import (
    DTYPES,
    Array,
    assert_close,
    assert_each_close,
    assert_same_bits,
    assert_zero,
    compute_type,
)
from tests.oracles import oracle_outputs
from tests.sampling import cases, draw, extreme, forms, variants

BAD = 2


def declared(loss: Loss) -> list[Output]:
    """Returns the outputs that it can give beyond its value."""
    parameter = next((p for p in loss.parameters if p.name == "outputs"), None)
    choices = None if parameter is None else parameter.choices
    if choices is None:
        pytest.skip("it has no outputs")
    return [member.value for member in choices]


def asking(found: Iterator[Case]) -> Iterator[Case]:
    """The cases that ask for outputs."""
    return (case for case in found if "outputs" in case.parameters)


def _without(case: Case) -> Case:
    left = {name: value for name, value in case.parameters.items() if name != "outputs"}
    return Case(case.loss, left, case.form, case.inputs)


def _everything(loss: Loss, form: Form, rows: int, length: int) -> Case:
    asked = next(item for item in variants(loss) if list(item) == ["outputs"])
    return draw(loss, asked, form, rows, length)


def _assert_same_outputs(actual: Result, expected: Result, rows: Any, about: Any) -> None:
    for name, output in actual.outputs.items():
        assert_same_bits(output, expected.outputs[name][rows], (about, name))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_equal_the_independent_formula(
    engine: Engine, loss: Loss, dtype: npt.DTypeLike
) -> None:
    kinds = {output.name: output.is_index for output in declared(loss)}
    for drawn in asking(cases(loss)):
        case = drawn.astype(dtype)
        result = engine.run(case.job())
        computed = compute_type(np.dtype(dtype))
        for name, expected in oracle_outputs(case).items():
            output = result.outputs[name]
            assert output.dtype == (np.int64 if kinds[name] else computed)
            if kinds[name]:
                assert (output == expected).all(), (case, name)
            else:
                assert_close(output, expected, computed, (case, name))


def test_outputs_of_numbers_of_every_size_are_right(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for case in asking(extreme(loss)):
        result = engine.run(case.job())
        for name, expected in oracle_outputs(case).items():
            assert_each_close(result.outputs[name], expected, (case, name))


def test_confident_outputs_keep_their_digits(engine: Engine, loss: Loss) -> None:
    declared(loss)
    case = _everything(loss, Form.CLASSES, 4, 3)
    predictions = np.array([[m, 0, -1] for m in (17.0, 20.0, 50.0, 80.0)])
    case = case.with_inputs(predictions=predictions, targets=np.zeros(4, int)).astype(np.float32)
    result = engine.run(case.job())
    for name, expected in oracle_outputs(case).items():
        np.testing.assert_allclose(result.outputs[name], expected, rtol=1e-5, err_msg=name)


def test_those_asked_for_are_given_once_each_and_no_others(engine: Engine, loss: Loss) -> None:
    names = [output.name for output in declared(loss)]
    everything = _everything(loss, forms(loss)[0], 7, 5)
    assert list(engine.run(everything.job()).outputs) == names
    assert not engine.run(_without(everything).job()).outputs
    for member in everything.parameters["outputs"]:
        one = Case(loss, {"outputs": (member, member)}, everything.form, everything.inputs)
        result = engine.run(one.job())
        assert list(result.outputs) == [member.value.name]
        _assert_same_outputs(result, engine.run(everything.job()), ..., one)


def test_asking_for_outputs_changes_no_bit_of_the_rest(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for case in asking(cases(loss)):
        options: dict[str, Any] = {"reduction": Reduction.SUM, "gradients": case.differentiable}
        asked, plain = (engine.run(c.job(**options)) for c in (case, _without(case)))
        assert asked.loss == plain.loss
        assert_same_bits(values(asked), values(plain), case)
        for name, gradient in asked.gradients.items():
            assert_same_bits(gradient, plain.gradients[name], (case, name))


def test_outputs_need_neither_gradients_nor_values(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for case in asking(cases(loss)):
        bare = engine.run(case.job(gradients=(), per_example=False, reduction=Reduction.NONE))
        _assert_same_outputs(bare, engine.run(case.job()), ..., case)


def test_outputs_are_shaped_like_the_examples(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for form in forms(loss):
        flat = _everything(loss, form, 6, 5)
        grid = {n: a.reshape(2, 3, *a.shape[1:]) for n, a in flat.inputs.items()}
        moved = {n: np.moveaxis(a, -1, 0) if a.ndim == 3 else a for n, a in grid.items()}
        case = Case(loss, {**flat.parameters, "class_axis": 0}, form, moved)
        by_hand = engine.run(flat.job())
        for name, output in engine.run(case.job()).outputs.items():
            assert_same_bits(output, by_hand.outputs[name].reshape(2, 3), (case, name))


def test_no_rows_have_no_outputs(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for form in forms(loss):
        for output in engine.run(_everything(loss, form, 0, 5).job()).outputs.values():
            assert output.shape == (0,)


def test_an_excluded_row_shows_zeros_whatever_it_holds(engine: Engine, loss: Loss) -> None:
    declared(loss)
    keep = np.arange(7) != BAD
    for case in asking(cases(loss)):
        clean = engine.run(case.job())
        spoilt = {n: a.copy() for n, a in case.inputs.items()}
        for array in spoilt.values():
            array[BAD] = np.nan if array.dtype.kind == "f" else -1
        for silence in ({"mask": keep}, {"weights": keep.astype(float)}):
            result = engine.run(case.with_inputs(**spoilt).job(**silence))
            for name, output in result.outputs.items():
                assert_zero(output[BAD], (case, name))
            _assert_same_outputs_but(result, clean, case)


def _assert_same_outputs_but(actual: Result, expected: Result, about: Any) -> None:
    others = np.arange(7) != BAD
    for name, output in actual.outputs.items():
        assert_same_bits(output[others], expected.outputs[name][others], (about, name))


def test_a_row_that_is_not_finite_shows_it_or_zeros(engine: Engine, loss: Loss) -> None:
    kinds = {output.name: output.is_index for output in declared(loss)}
    for case in asking(cases(loss)):
        clean = engine.run(case.job())
        predictions = case.inputs["predictions"].copy()
        predictions[BAD, 1] = np.nan
        spoilt = case.with_inputs(predictions=predictions)
        shown = engine.run(spoilt.job())
        zeroed = engine.run(spoilt.job(nonfinite=NonfinitePolicy.ZERO))
        for name, is_index in kinds.items():
            assert is_index or np.isnan(shown.outputs[name][BAD]), (case, name)
            assert_zero(zeroed.outputs[name][BAD], (case, name))
        for result in (shown, zeroed):
            _assert_same_outputs_but(result, clean, case)


@pytest.mark.parametrize("length", [1, 3, 128])
def test_the_outputs_of_a_row_have_the_same_bits_alone_and_in_any_batch(
    engine: Engine, loss: Loss, length: int
) -> None:
    declared(loss)
    count = 4097 if engine.backend.name == "numpy" else 300
    for form in forms(loss):
        for dtype in (np.float32, np.float64):
            case = _everything(loss, form, count, length).astype(dtype)
            whole = engine.run(case.job())
            for piece in (slice(0, 1), slice(16, 17), slice(3, count - 90), slice(1, None, 2)):
                part = engine.run(case.rows(piece).job())
                _assert_same_outputs(part, whole, piece, (case, piece))


def test_outputs_are_put_where_the_caller_says(engine: Engine, loss: Loss) -> None:
    declared(loss)
    case = _everything(loss, forms(loss)[0], 7, 5)
    made: list[Array] = []

    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        made.append(np.full(shape, 77, dtype))
        return made[-1]

    result = engine.run(case.job(gradients=(), per_example=False), allocate=allocate)
    assert sorted(map(id, made)) == sorted(map(id, result.outputs.values()))
    _assert_same_outputs(result, engine.run(case.job()), ..., case)


def test_an_impossible_class_leaves_the_outputs_of_the_others(engine: Engine, loss: Loss) -> None:
    declared(loss)
    for form in forms(loss):
        case = _everything(loss, form, 3, 4)
        predictions = np.array(
            [[0.5, -np.inf, 2, -1], [1, -np.inf, -np.inf, -np.inf], [3, 2, 1, 0]]
        )
        targets = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        given = {Form.CLASSES: targets.argmax(axis=1), Form.FLOATS: targets.astype(float)}
        case = case.with_inputs(predictions=predictions, targets=given.get(form, targets))
        result = engine.run(case.job())
        for name, expected in oracle_outputs(case).items():
            assert_each_close(result.outputs[name], expected, (case, name))
