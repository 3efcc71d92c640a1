"""Rows: what is ignored is nothing, no row sees another, what is not finite is seen."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest
from lossd.losses import Loss
from lossd.losses._inputs import IGNORE_INDEX
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes import block_rows
from tests.losses.case import Case, Form, class_input, total, values
from tests.losses.compare import BFLOAT16, assert_same_bits, assert_zero
from tests.sampling import cases, draw, forms, plain

BAD = 2  # the row that holds what must not be looked at
OTHERS = np.array([0, 1, 3, 4, 5, 6])
FLOATS = (np.float16, np.float32, np.float64)
POISONS = (np.nan, np.inf, -np.inf, 1e30)


def _poisoned(case: Case, poison: float) -> Case:
    """A row of it holds nonsense everywhere: also targets out of their domain, and labels."""
    changed = {}
    for name, array in case.inputs.items():
        changed[name] = array.copy()
        if array.dtype.kind == "f":
            changed[name][BAD] = poison
        else:
            changed[name][BAD] = -1 if np.isnan(poison) else 2**62
    return case.with_inputs(**changed)


def _assert_row_is_nothing(result: Result, clean: Result, case: Case) -> None:
    assert result.loss == clean.loss, case
    assert result.loss_sum == clean.loss_sum, case
    assert BAD not in result.nonfinite_examples, case
    assert result.nonfinite_examples.tolist() == clean.nonfinite_examples.tolist(), case
    for actual, expected in (
        (values(result), values(clean)),
        *((gradient, clean.gradients[name]) for name, gradient in result.gradients.items()),
    ):
        assert_same_bits(actual[OTHERS], expected[OTHERS], case)
        assert actual[BAD].tobytes() == bytes(actual[BAD].nbytes), case  # 0.0, and not -0.0


@pytest.mark.parametrize("reduction", list(Reduction))
def test_a_masked_or_weightless_row_may_hold_anything(
    engine: Engine, loss: Loss, reduction: Reduction
) -> None:
    for drawn in cases(loss):
        for dtype in (np.float16, np.float64):
            case = drawn.astype(dtype)
            keep = np.arange(case.count) != BAD
            for silence in ({"mask": keep}, {"weights": keep.astype(np.float64)}):
                options: dict[str, Any] = {
                    "reduction": reduction,
                    "gradients": case.differentiable,
                    **silence,
                }
                clean = engine.run(case.job(**options))
                for poison in POISONS:
                    with np.errstate(over="ignore"):  # 1e30 is infinite in float16
                        poisoned = _poisoned(case, poison)
                    _assert_row_is_nothing(engine.run(poisoned.job(**options)), clean, case)


def test_a_masked_row_may_have_any_weight_and_cotangent(engine: Engine, loss: Loss) -> None:
    case = plain(loss)
    keep = np.arange(case.count) != BAD
    ones = np.ones(case.count)
    clean = engine.run(case.job(mask=keep, weights=ones, cotangent=ones))
    for poison in (*POISONS, -1.0):
        spoilt = np.where(keep, ones, poison)
        result = engine.run(case.job(mask=keep, weights=spoilt, cotangent=spoilt))
        _assert_row_is_nothing(result, clean, case)
        assert result.weight_sum == clean.weight_sum


def test_an_ignored_label_is_as_good_as_a_mask(engine: Engine, loss: Loss) -> None:
    if IGNORE_INDEX not in loss.layout_parameters:
        pytest.skip("it ignores no label")
    for case in cases(loss):
        if case.form is not Form.CLASSES:
            continue
        keep = np.arange(case.count) != BAD
        masked = engine.run(case.job(mask=keep))
        name = class_input(loss)
        predictions = case.inputs["predictions"].copy()
        predictions[BAD] = np.nan
        for index in (-100, -1, 5, 255, 2**63 - 1, -(2**63)):
            labels = np.where(keep, case.inputs[name], index)
            ignoring = Case(
                loss,
                {**case.parameters, "ignore_index": index},
                case.form,
                {**case.inputs, name: labels, "predictions": predictions},
            )
            result = engine.run(ignoring.job())
            _assert_row_is_nothing(result, masked, case)
            assert result.ignored_count == 1
            assert result.example_count == masked.example_count
            assert result.weight_sum == masked.weight_sum


def test_a_class_of_weight_zero_is_selected_out(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss):
        weights = drawn.parameters.get("class_weights", ())
        if drawn.form is not Form.CLASSES or not len(weights):
            continue
        silenced = {**drawn.parameters, "class_weights": (0.0, *weights[1:])}
        labels = np.where(np.arange(drawn.count) == BAD, 0, 1)
        case = Case(loss, silenced, drawn.form, {**drawn.inputs, class_input(loss): labels})
        clean = engine.run(case.job())
        predictions = case.inputs["predictions"].copy()
        for poison in POISONS:
            predictions[BAD] = poison
            result = engine.run(case.with_inputs(predictions=predictions).job())
            _assert_row_is_nothing(result, clean, case)
            assert result.example_count == case.count


LENGTHS = (1, 2, 3, 7, 8, 31, 128, 1000)
SOME = (0, 1, 2, 15, 16)  # the ends, and places in and beside a SIMD register


@pytest.mark.parametrize("length", LENGTHS)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    engine: Engine, loss: Loss, length: int
) -> None:
    for form in forms(loss):
        for dtype in (np.float32, np.float64) if length < 1000 else (np.float32,):
            case = draw(loss, {}, form, _count(engine, length), length, seed=length).astype(dtype)
            _assert_rows_stand_alone(engine, case)


def test_a_row_has_the_same_bits_alone_with_any_parameters(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss, rows=300):
        for dtype in (np.float16, BFLOAT16, np.float32):
            _assert_rows_stand_alone(engine, drawn.astype(dtype))


def _count(engine: Engine, length: int) -> int:
    """More rows than two tiles have, if that is not many; fewer on a GPU that may be emulated."""
    return min(4097, 2 * block_rows(length) + 1) if engine.backend.name == "numpy" else 300


def _assert_rows_stand_alone(engine: Engine, case: Case) -> None:
    options: dict[str, Any] = {"reduction": Reduction.SUM, "gradients": case.differentiable}
    whole = engine.run(case.job(**options))
    again = engine.run(case.job(**options))
    assert whole.loss == again.loss, case
    last = case.count - 1
    places = (*SOME, last - 1, last)
    for piece in (*(slice(i, i + 1) for i in places), slice(3, last - 90), slice(1, None, 2)):
        part = engine.run(case.rows(piece).job(**options))
        assert_same_bits(values(part), values(whole)[piece], (case, piece))
        for name, gradient in part.gradients.items():
            assert_same_bits(gradient, whole.gradients[name][piece], (case, piece, name))
            assert_same_bits(again.gradients[name], whole.gradients[name], (case, name))


def test_rows_do_not_see_each_other(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        other = draw(loss, case.parameters, case.form, case.count, 5, seed=1)
        mixed = {n: np.concatenate([a[:3], other.inputs[n][3:]]) for n, a in case.inputs.items()}
        options: dict[str, Any] = {"reduction": Reduction.NONE, "gradients": case.differentiable}
        alone, among = (engine.run(c.job(**options)) for c in (case, case.with_inputs(**mixed)))
        assert_same_bits(values(among)[:3], values(alone)[:3], case)
        assert (values(among)[3:] != values(alone)[3:]).any(), case
        for name, gradient in among.gradients.items():
            assert_same_bits(gradient[:3], alone.gradients[name][:3], case)


def test_nan_shows_in_its_row_alone(engine: Engine, loss: Loss) -> None:
    """Also with one element, where there is no other to show it."""
    for form, dtype, length in product(forms(loss), FLOATS, (1, 5)):
        case = draw(loss, {}, form, 7, length, interior=True).astype(dtype)
        for column in (0, length - 1):
            spoilt = case.inputs[case.first].copy()
            spoilt[BAD, column] = np.nan
            _assert_policies(engine, case, case.with_inputs(**{case.first: spoilt}))


def _assert_policies(engine: Engine, clean_case: Case, case: Case) -> None:
    clean = engine.run(clean_case.job())
    result = engine.run(case.job())
    assert np.isnan(total(result)), case
    assert np.isnan(values(result)[BAD]), case
    assert np.isnan(result.gradients[case.first][BAD]).any(), case
    zeroed = engine.run(case.job(nonfinite=NonfinitePolicy.ZERO))
    assert_zero(values(zeroed)[BAD], case)
    assert_zero(zeroed.gradients[case.first][BAD], case)
    left = values(clean)[OTHERS].astype(np.float64)
    assert zeroed.loss_sum == pytest.approx(left.sum(), rel=1e-14)
    assert zeroed.loss == pytest.approx(zeroed.loss_sum / zeroed.weight_sum)
    for seen in (result, zeroed):
        assert seen.nonfinite_examples.tolist() == [BAD]
        assert (seen.example_count, seen.weight_sum) == (clean.example_count, clean.weight_sum)
        assert_same_bits(values(seen)[OTHERS], values(clean)[OTHERS], case)
        gradient, expected = seen.gradients[case.first], clean.gradients[case.first]
        assert_same_bits(gradient[OTHERS], expected[OTHERS], case)
    with pytest.raises(InvalidRequest) as caught:
        engine.run(case.job(nonfinite=NonfinitePolicy.ERROR))
    assert caught.value.reason == "NONFINITE_RESULT"
    assert caught.value.details == {"index": str(BAD), "count": "1"}
    assert_same_bits(values(engine.run(clean_case.job())), values(clean))


def test_an_infinite_gradient_is_seen_too(engine: Engine, loss: Loss) -> None:
    """The loss is finite; the cotangent takes the gradient beyond float16."""
    case = draw(loss, {}, forms(loss)[0], 7, 5, interior=True).astype(np.float16)
    derivatives = engine.run(case.job()).gradients[case.first]
    row = int(np.flatnonzero(derivatives.reshape(case.count, -1).any(axis=1))[0])
    cotangent = np.ones(case.count)
    cotangent[row] = 1e30
    result = engine.run(case.job(reduction=Reduction.SUM, cotangent=cotangent))
    assert np.isfinite(total(result))
    assert result.nonfinite_examples.tolist() == [row]
