"""Values: hand-worked examples, independent formulas, precision, confidence, infinities."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, DistributionKind, Interval, Loss, Shape
from lossd.reduction import Reduction
from tests.conftest import OF_ROWS
from tests.losses.case import Case, Form, by_row, total, values
from tests.losses.compare import (
    BFLOAT16,
    DTYPES,
    Array,
    assert_close,
    assert_each_close,
    assert_zero,
    compute_type,
)
from tests.losses.test_gradients import distance_to_kinks
from tests.oracles import oracle_gradients, oracle_values
from tests.sampling import cases, draw, extreme, forms, has_classes, plain, variants


def test_hand_worked_examples_hold(engine: Engine, loss: Loss) -> None:
    for example in loss.examples:
        inputs = {name: [np.asarray(value)] for name, value in example.inputs.items()}
        job = Job(
            loss=loss,
            parameters=example.parameters,
            inputs=inputs,
            gradients=tuple(example.gradients),
        )
        result = engine.run(job)
        np.testing.assert_allclose(total(result), example.value, rtol=1e-12, atol=1e-13)
        for name, gradient in example.gradients.items():
            np.testing.assert_allclose(
                result.gradients[name], gradient, rtol=1e-12, atol=1e-13, err_msg=str(example)
            )


@pytest.mark.every_engine
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_equal_the_independent_formula(
    engine: Engine, loss: Loss, dtype: np.dtype
) -> None:
    for drawn in cases(loss, rows=3, interior=True):
        case = drawn.astype(dtype)
        result = engine.run(case.job(reduction=Reduction.NONE, gradients=case.differentiable))
        computed = compute_type(dtype)
        assert_close(values(result), oracle_values(case), computed, case)
        for name, gradient in result.gradients.items():
            assert gradient.dtype == dtype
            assert_close(gradient, oracle_gradients(case, name), computed, (case, name))


def test_common_shapes_of_a_row_are_right(engine: Engine, loss: Loss) -> None:
    """One element, one more than a SIMD register, and an odd number."""
    for length in (1, 2, 17, 33):
        for form in forms(loss):
            case = draw(loss, {}, form, 2, length, interior=True)
            result = engine.run(case.job(reduction=Reduction.NONE))
            assert_close(values(result), oracle_values(case), np.float64, case)
            for name, gradient in result.gradients.items():
                assert_close(gradient, oracle_gradients(case, name), np.float64, case)


@pytest.mark.every_engine
def test_numbers_of_every_size_are_right(engine: Engine, loss: Loss) -> None:
    """Each element by itself: a large one beside it excuses nothing."""
    for case in extreme(loss):
        result = engine.run(case.job(reduction=Reduction.SUM, gradients=case.differentiable))
        assert_each_close(values(result), oracle_values(case), case)
        if loss.is_ordered:
            continue  # these have many equals, whose order decides the gradient
        expected = {name: oracle_gradients(case, name) for name in result.gradients}
        if loss.shape is Shape.VECTORS:
            _assert_right_for_their_size(result.gradients, expected, case)
            continue
        for name, gradient in result.gradients.items():
            smooth = _has_a_difference(case, name)
            assert_each_close(gradient[smooth], expected[name][smooth], (case, name))


def _has_a_difference(case: Case, name: str) -> Array:
    """Not at a kink, nor at the end of a domain, nor where a huge value hides it."""
    found: Array = distance_to_kinks(case, name) > 0
    domain = case.loss.input(name).domain
    if isinstance(domain, Interval):
        found &= (case.inputs[name] != domain.low) & (case.inputs[name] != domain.high)
    return found & by_row(np.isfinite(oracle_values(case)), found)


def _assert_right_for_their_size(
    actual: Mapping[str, Array], expected: Mapping[str, Array], about: Case
) -> None:
    """Slopes of an example cancel each other where its vectors are near."""
    sizes = [abs(derivatives).max(axis=-1) for derivatives in expected.values()]
    unit = np.maximum.reduce(sizes)[:, None]
    unit[unit == 0] = 1
    for name, derivatives in actual.items():
        np.testing.assert_allclose(
            derivatives / unit, expected[name] / unit, rtol=1e-11, atol=1e-11, err_msg=str(about)
        )


def test_seventy_thousand_half_precision_rows_have_a_finite_mean(
    engine: Engine, loss: Loss
) -> None:
    for dtype in (np.float16, BFLOAT16):
        rows = 70_000
        case = plain(loss, rows=rows, length=3).astype(dtype)
        larger = (case.inputs[case.first].astype(np.float32) * 9).astype(dtype)
        case = case.with_inputs(**{case.first: larger})
        exact = engine.run(case.astype(np.float64).job())
        result = engine.run(case.job())
        assert result.loss == pytest.approx(exact.loss, rel=1e-5)
        assert np.isfinite(result.loss_sum)


def test_a_gradient_is_rounded_once(engine: Engine, loss: Loss) -> None:
    """Rounded once, it is the nearest number but for what float32 lost before."""
    for form in forms(loss):
        for dtype in (np.float16, BFLOAT16):
            case = draw(loss, {}, form, 64, 5, interior=True).astype(dtype)
            result = engine.run(case.job(reduction=Reduction.SUM))
            double = engine.run(case.astype(np.float64).job(reduction=Reduction.SUM))
            for name, gradient in result.gradients.items():
                exact = double.gradients[name]
                off, least = (
                    np.abs(each.astype(np.float64) - exact)
                    for each in (gradient, exact.astype(dtype))
                )
                # A tie may fall either way: float64 is not quite there, or float32 quite.
                is_nearest = off <= least * (1 + 1e-6)
                assert is_nearest.mean() > 0.99, (case, name)


def has_kinds(loss: Loss) -> bool:
    """Returns whether predictions are distributions, which may be given in several kinds."""
    return any(p.type is DistributionKind for p in loss.parameters)


OF_KINDS = [x for x in LOSSES.values() if x.shape in OF_ROWS and has_kinds(x)]
of_kinds = pytest.mark.parametrize("loss", OF_KINDS, ids=lambda x: x.name)
LOGARITHMS = (DistributionKind.LOGITS, DistributionKind.LOG_PROBABILITIES)


def confident(loss: Loss, margin: float, parameters: dict[str, Any]) -> Case | None:
    """An example that is right by a margin of logits, where these are given as logits."""
    kind = parameters.get("prediction_kind")
    if kind not in (None, DistributionKind.LOGITS):
        return None
    if has_classes(loss, parameters) and Form.CLASSES in forms(loss, parameters):
        inputs = {"predictions": np.array([[0.0, margin]]), "targets": np.array([1])}
        if loss.shape is Shape.REGIONWISE:  # of one element
            inputs = {name: array[:, None] for name, array in inputs.items()}
        return Case(loss, parameters, Form.CLASSES, inputs)
    low = 0.0 if loss.shape is Shape.ROWWISE else -float(margin)
    targets = np.array([[1.0, 0.0]])
    if parameters.get("target_kind", DistributionKind.PROBABILITIES) in LOGARITHMS:
        targets = np.array([[0.0, -np.inf]])
    inputs = {"predictions": np.array([[float(margin), low]]), "targets": targets}
    return Case(loss, parameters, Form.FLOATS, inputs)


@of_kinds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_confident_predictions_keep_value_and_gradient(
    engine: Engine, loss: Loss, dtype: type
) -> None:
    for parameters in variants(loss, 2):
        for margin in (5, 10, 17, 20, 37, 50, 80):
            case = confident(loss, margin, parameters)
            if case is None:
                continue
            case = case.astype(dtype)
            result = engine.run(case.job(reduction=Reduction.NONE))
            for actual, expected in (
                (values(result), oracle_values(case)),
                (result.gradients["predictions"], oracle_gradients(case, "predictions")),
            ):
                np.testing.assert_allclose(
                    actual,
                    expected,
                    rtol=1e-5 if dtype == np.float32 else 1e-13,
                    atol=float(np.finfo(dtype).smallest_normal),
                    err_msg=f"{case} {margin}",
                )


@of_kinds
def test_small_probabilities_keep_their_accuracy_as_logarithms(engine: Engine, loss: Loss) -> None:
    """log p = -20 says 1 - p = 1 - 2e-9: the value of the other answer is 2e-9, not 0."""
    for parameters in variants(loss):
        if parameters.get("prediction_kind") is not DistributionKind.LOG_PROBABILITIES:
            continue
        case = draw(loss, parameters, forms(loss)[0], 9, 5)
        logs = -np.geomspace(1e-6, 80, 45).reshape(9, 5)
        targets = case.inputs["targets"] if case.form is Form.CLASSES else np.zeros((9, 5))
        case = case.with_inputs(predictions=logs, targets=targets).astype(np.float32)
        result = engine.run(case.job(reduction=Reduction.NONE))
        np.testing.assert_allclose(
            result.gradients["predictions"],
            oracle_gradients(case, "predictions"),
            rtol=1e-5,
            atol=float(np.finfo(np.float32).smallest_normal),  # a GPU has none below
            err_msg=str(case),
        )
        np.testing.assert_allclose(values(result), oracle_values(case), rtol=1e-5)


IMPOSSIBLE = {
    DistributionKind.LOGITS: -np.inf,
    DistributionKind.LOG_PROBABILITIES: -np.inf,
    DistributionKind.PROBABILITIES: 0.0,
}


@of_kinds
def test_an_impossible_class_that_is_no_target_costs_nothing(engine: Engine, loss: Loss) -> None:
    for kind in DistributionKind:
        parameters = {"prediction_kind": kind}
        for form in forms(loss):
            case = agreeing(draw(loss, parameters, form, 3, 4), kind)
            result = engine.run(case.job(reduction=Reduction.NONE))
            assert_zero(values(result)[1:], (case, "the certain rows"))
            assert np.isfinite(result.gradients["predictions"]).all(), (
                case,
                result.gradients["predictions"],
            )
            assert not len(result.nonfinite_examples), case


def agreeing(case: Case, kind: DistributionKind) -> Case:
    """Impossible where the target says so; from the second row on, also certain where it is."""
    certain = {DistributionKind.LOGITS: np.inf, DistributionKind.LOG_PROBABILITIES: 0.0}
    predictions, targets = np.full((3, 4), 0.0), np.zeros((3, 4))
    targets[:, 1] = 1
    probable = {DistributionKind.LOGITS: 0.5, DistributionKind.LOG_PROBABILITIES: -0.5}
    predictions[...] = IMPOSSIBLE[kind]
    predictions[0, 1] = probable.get(kind, 0.5)
    predictions[1:, 1] = certain.get(kind, 1.0)
    given = targets.argmax(axis=1) if case.form is Form.CLASSES else targets
    if case.form is Form.INTEGERS:
        given = targets.astype(np.int64)
    return case.with_inputs(predictions=predictions, targets=given)


@of_kinds
def test_a_probability_whose_inverse_overflows_costs_nothing_either(
    engine: Engine, loss: Loss
) -> None:
    """Its logarithm is -97, its slope infinite in float32."""
    kind = DistributionKind.PROBABILITIES
    for form in forms(loss):
        case = agreeing(draw(loss, {"prediction_kind": kind}, form, 3, 4), kind)
        predictions = np.where(case.inputs["predictions"] == 0, 1e-42, 1).astype(np.float32)
        result = engine.run(case.with_inputs(predictions=predictions).job())
        assert np.isfinite(result.gradients["predictions"]).all(), case
        assert not len(result.nonfinite_examples), case


# The value of a region has a bound of its own; that of elements by themselves, given as
# probabilities, has PyTorch's of 100, here the mean of four.
CLAMPED = (100 + math.log(2)) / 4
WITHOUT_A_BOUND = [x for x in OF_KINDS if x.shape is not Shape.REGIONWISE]


def impossible(loss: Loss, kind: DistributionKind) -> Case:
    """A row whose target is impossible, where another class is not; and two that are certain."""
    case = agreeing(draw(loss, {"prediction_kind": kind}, forms(loss)[0], 3, 4), kind)
    predictions = case.inputs["predictions"].copy()
    predictions[0, 1] = IMPOSSIBLE[kind]
    predictions[0, 2] = 0.5 if kind is DistributionKind.PROBABILITIES else -0.5
    return case.with_inputs(predictions=predictions)


@pytest.mark.parametrize("loss", WITHOUT_A_BOUND, ids=lambda x: x.name)
def test_an_impossible_target_is_infinite_and_flagged_or_clamped(
    engine: Engine, loss: Loss
) -> None:
    for kind in DistributionKind:
        result = engine.run(impossible(loss, kind).job(reduction=Reduction.NONE))
        is_clamped = (loss.shape, kind) == (Shape.POINTWISE, DistributionKind.PROBABILITIES)
        bound = CLAMPED if is_clamped else math.inf
        np.testing.assert_allclose(values(result), [bound, 0, 0], 1e-14, err_msg=kind.name)
        assert result.nonfinite_examples.tolist() == ([] if math.isfinite(bound) else [0]), kind


POINTWISE = [x for x in LOSSES.values() if x.shape is Shape.POINTWISE]


@pytest.mark.parametrize("loss", POINTWISE, ids=lambda x: x.name)
def test_an_infinite_prediction_has_the_limit_of_large_ones(engine: Engine, loss: Loss) -> None:
    """No term of another sign makes NaN of a value or a derivative that has a limit."""
    far = np.repeat([-1e30, 1e30], 12)[:, None]
    for case in cases(loss, rows=24, length=1):
        if not _takes_infinities(case):
            continue
        large = _numbers(engine, case.with_inputs(predictions=far))
        infinite = _numbers(engine, case.with_inputs(predictions=far * np.inf))
        defined = ~np.isnan(large["the value"])
        for name, numbers in large.items():
            is_bounded = abs(numbers) < 50  # a logarithm has come to 69
            limits = np.where(is_bounded, numbers, np.copysign(np.inf, numbers))
            np.testing.assert_allclose(
                infinite[name][defined],
                limits[defined],
                rtol=1e-12,
                atol=1e-12,
                err_msg=f"{name} of {case}",
            )


def _takes_infinities(case: Case) -> bool:
    kinds = [value for value in case.parameters.values() if isinstance(value, DistributionKind)]
    return not kinds or kinds == [DistributionKind.LOGITS]


def _numbers(engine: Engine, case: Case) -> dict[str, Array]:
    """The values and the derivatives with respect to the targets and predictions."""
    names = [name for name in case.differentiable if name in ("predictions", "targets")]
    result = engine.run(case.job(reduction=Reduction.NONE, gradients=tuple(names)))
    return {"the value": values(result), **result.gradients}
