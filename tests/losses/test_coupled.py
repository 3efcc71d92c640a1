"""Losses that compare examples: masked ones are absent, weightless ones are no anchors."""

import functools
import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Axes, Content, Loss, Status
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from tests.losses.case import Case, total, values
from tests.losses.compare import (
    COMPUTED,
    DTYPES,
    ROUNDED,
    assert_close,
    assert_same_bits,
    assert_zero,
    compute_type,
)
from tests.losses.test_values import test_hand_worked_examples_hold  # noqa: F401 - of coupled here
from tests.oracles import coupled_outputs, coupled_slope, coupled_values
from tests.sampling import coupled_cases

STEP = 1e-5
KEPT = np.array([True, True, False, True, True, False, True])
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0, 1.5, 0.25, 1.0])
COTANGENT = np.array([1.0, -2.0, 0.5, 1.0, 0.0, 3.0, -1.0])


@pytest.fixture
def loss(coupled_loss: Loss) -> Loss:
    """Here it compares examples."""
    return coupled_loss


def _run(engine: Engine, case: Case, **options: Any) -> Result:
    return engine.run(case.job(gradients=case.derivatives, **options))


def _examples(case: Case) -> list[str]:
    """The inputs whose first axis counts examples."""
    return [
        i.name
        for i in case.loss.inputs
        if i.name in case.inputs and (i.axes is not Axes.ROWS or case.inputs[i.name].ndim == 3)
    ]


def _rows(case: Case, index: Any) -> Case:
    return case.with_inputs(**{name: case.inputs[name][index] for name in _examples(case)})


def _normalizing(case: Case) -> bool:
    """Whether lengths mean nothing."""
    given = {**case.loss.complete({}), **case.parameters}
    distance = given.get("distance")
    return bool(given.get("normalize", distance is not None and distance.name == "COSINE"))


def _normalizing_cases(loss: Loss, **options: Any) -> Iterator[Case]:
    return (case for case in coupled_cases(loss, **options) if _normalizing(case))


def test_values_and_gradients_equal_brute_force(engine: Engine, loss: Loss) -> None:
    for dtype in DTYPES:
        step = 1 if dtype == np.float64 else 4
        for drawn in itertools.islice(coupled_cases(loss, length=3), 0, None, step):
            _assert_right(engine, drawn.astype(dtype), compute_type(dtype))


def _assert_right(engine: Engine, case: Case, computed: np.dtype[Any]) -> None:
    """Gradients are compared along one way, which takes two values of the oracle."""
    result = _run(engine, case, weights=WEIGHTS, cotangent=COTANGENT, reduction=Reduction.SUM)
    expected = np.where(WEIGHTS == 0, 0, np.nan_to_num(coupled_values(case)))
    assert_close(values(result), expected, computed, case)
    for name, gradient in result.gradients.items():
        given = case.inputs.get(name, np.zeros(()))
        assert (gradient.shape, gradient.dtype) == (given.shape, given.dtype), (case, name)
        way = np.random.default_rng(1).uniform(0.5, 1, gradient.shape)
        derivative = coupled_slope(case, name, WEIGHTS * COTANGENT, way)
        products = gradient.astype(np.float64) * way
        rounding = ROUNDED[gradient.dtype][0] + 4 * COMPUTED[computed]
        wrong = abs(products.sum() - derivative)
        assert wrong <= rounding * max(abs(products).sum(), 1e-3), (case, name, derivative)


def test_the_gradient_is_the_derivative_of_the_mean(engine: Engine, loss: Loss) -> None:
    weights = WEIGHTS[:5]
    for case in coupled_cases(loss, rows=5, length=2):
        result = _run(engine, case, weights=weights)
        for name, gradient in result.gradients.items():
            expected = np.empty_like(gradient)
            for place in np.ndindex(gradient.shape):
                ends = [
                    total(engine.run(_moved(case, name, place, way).job(weights=weights)))
                    for way in (STEP, -STEP)
                ]
                expected[place] = (ends[0] - ends[1]) / (2 * STEP)
            np.testing.assert_allclose(
                gradient, expected, rtol=1e-6, atol=1e-7, err_msg=f"{case} {name}"
            )


def _moved(case: Case, name: str, place: tuple[int, ...], way: float) -> Case:
    if name not in case.inputs:
        given = {**case.loss.complete({}), **case.parameters}
        return replace(case, parameters={**case.parameters, name: given[name] + way})
    moved = case.inputs[name].copy()
    moved[place] += way
    return case.with_inputs(**{name: moved})


def test_masked_examples_are_as_good_as_absent(engine: Engine, loss: Loss) -> None:
    for drawn in coupled_cases(loss):
        for dtype in (np.float32, np.float64):
            case = drawn.astype(dtype)
            there = _run(engine, _rows(case, KEPT), weights=WEIGHTS[KEPT])
            for poison in (np.nan, np.inf, 1e30):
                dirty = {name: case.inputs[name].copy() for name in _examples(case)}
                for array in dirty.values():
                    array[~KEPT] = poison if array.dtype.kind == "f" else 0
                result = _run(engine, case.with_inputs(**dirty), mask=KEPT, weights=WEIGHTS)
                assert (result.loss, result.weight_sum) == (there.loss, there.weight_sum), case
                assert result.ignored_count == there.ignored_count + 2
                assert_same_bits(values(result)[KEPT], values(there), case)
                assert_zero(values(result)[~KEPT])
                for name, gradient in result.gradients.items():
                    if name in dirty:
                        assert_zero(gradient[~KEPT], (case, name))
                        gradient = gradient[KEPT]  # noqa: PLW2901 - the rest of it
                    assert_same_bits(gradient, there.gradients[name], (case, name))


def _cases_with_outputs(loss: Loss) -> Iterator[Case]:
    outputs = next((p for p in loss.parameters if p.name == "outputs"), None)
    if outputs is None or outputs.choices is None:
        pytest.skip("it has no outputs")
    for case in coupled_cases(loss):
        yield replace(case, parameters={**case.parameters, "outputs": tuple(outputs.choices)})


def test_outputs_equal_brute_force(engine: Engine, loss: Loss) -> None:
    for case in _cases_with_outputs(loss):
        result, expected = _run(engine, case), coupled_outputs(case)
        assert list(result.outputs) == list(expected)
        for name, output in result.outputs.items():
            assert output.dtype == np.int64
            assert output.tolist() == expected[name].tolist(), (case, name)
        for member in case.parameters["outputs"]:
            alone = _run(
                engine, replace(case, parameters={**case.parameters, "outputs": (member,)})
            )
            assert list(alone.outputs) == [member.value.name]
            assert_same_bits(alone.outputs[member.value.name], result.outputs[member.value.name])
            assert alone.loss == result.loss


def test_outputs_point_at_examples_as_the_caller_counts_them(engine: Engine, loss: Loss) -> None:
    """Masked ones count, and nothing points at them; those of weight 0 are no anchors."""
    places = np.append(np.flatnonzero(KEPT), -1)
    for case in _cases_with_outputs(loss):
        there = _run(engine, _rows(case, KEPT))
        masked = _run(engine, case, mask=KEPT)
        excluded = _run(engine, case, weights=KEPT.astype(float))
        everyone = _run(engine, case)
        for name, output in masked.outputs.items():
            assert output[KEPT].tolist() == places[there.outputs[name]].tolist(), (case, name)
            assert (output[~KEPT] == -1).all()
            assert (excluded.outputs[name][~KEPT] == -1).all()
            assert_same_bits(excluded.outputs[name][KEPT], everyone.outputs[name][KEPT], case)


def test_a_weight_of_zero_silences_the_anchor_alone(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        everyone = _run(engine, case, reduction=Reduction.NONE)
        result = _run(engine, case, reduction=Reduction.NONE, weights=KEPT.astype(float))
        assert_same_bits(values(result)[KEPT], values(everyone)[KEPT], case)
        assert_zero(values(result)[~KEPT])
        assert result.ignored_count == everyone.ignored_count


def test_what_only_a_weightless_anchor_looks_at_may_hold_anything(
    engine: Engine, loss: Loss
) -> None:
    """Where others look at it too, the loss is not finite."""
    for case in coupled_cases(loss):
        expected = _run(engine, case, weights=KEPT.astype(float))
        for name in set(case.differentiable) & set(_examples(case)):
            for poison in (np.nan, np.inf):
                dirty = case.inputs[name].copy()
                dirty[~KEPT] = poison
                bad = case.with_inputs(**{name: dirty})
                result = _run(engine, bad, weights=KEPT.astype(float))
                if not np.isfinite(total(result)):
                    continue
                assert result.loss == expected.loss, (case, name)
                for other, gradient in result.gradients.items():
                    seen = expected.gradients[other]
                    np.testing.assert_array_equal(gradient, seen, f"{case} {name} {other}")


def test_gradients_of_no_anchor_are_zero_whatever_examples_hold(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        for name in set(case.differentiable) & set(_examples(case)):
            dirty = case.inputs[name].copy()
            dirty[3], dirty[5, ..., 1] = np.nan, np.inf
            bad = case.with_inputs(**{name: dirty})
            result = _run(engine, bad, weights=np.zeros(7))
            assert (result.loss, len(result.nonfinite_examples)) == (0, 0)
            for gradient in result.gradients.values():
                assert (gradient == 0).all(), (case, name)


def test_weights_cotangents_and_reductions_act_on_anchors(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        each = values(_run(engine, case))
        kept = 7 - _run(engine, case).ignored_count
        result = _run(engine, case, weights=WEIGHTS)
        assert result.loss_sum == pytest.approx((WEIGHTS * each).sum(), rel=1e-13)
        assert total(result) * result.weight_sum == pytest.approx(result.loss_sum, rel=1e-13)
        mean = _run(engine, case, weights=WEIGHTS, reduction=Reduction.BATCH_MEAN)
        assert total(mean) * kept == pytest.approx(result.loss_sum, rel=1e-13)
        fixed = _run(engine, case, weights=WEIGHTS, normalizer=4.0)
        assert total(fixed) == pytest.approx(result.loss_sum / 4, rel=1e-13)
        for name, gradient in result.gradients.items():
            np.testing.assert_allclose(
                fixed.gradients[name] * 4, gradient * result.weight_sum, rtol=1e-11, atol=1e-14
            )


def test_the_order_of_the_examples_means_nothing(engine: Engine, loss: Loss) -> None:
    order = np.random.default_rng(0).permutation(7)
    for case in coupled_cases(loss):
        expected, result = _run(engine, case), _run(engine, _rows(case, order))
        assert result.loss == pytest.approx(expected.loss, rel=1e-13)
        for name in set(case.differentiable) & set(_examples(case)):
            np.testing.assert_allclose(
                result.gradients[name],
                expected.gradients[name][order],
                rtol=1e-10,
                atol=1e-13,
                err_msg=str(case),
            )


def _labelled(loss: Loss) -> bool:
    return any(i.content is Content.LABELS and not i.is_optional for i in loss.inputs)


def test_an_anchor_without_a_positive_is_ignored_with_a_status(engine: Engine, loss: Loss) -> None:
    if not _labelled(loss):
        pytest.skip("every example has its positive")
    for drawn in coupled_cases(loss):
        case = drawn.with_inputs(labels=np.array([4, 5, 4, 6, 4, 6, 7]))
        result = _run(engine, case)
        assert (result.example_count, result.ignored_count) == (5, 2)
        assert result.weight_sum == 5
        assert result.statuses.indices.tolist() == [1, 6]
        assert set(result.statuses.numbers.tolist()) == {Status.NO_POSITIVE}
        assert_zero(values(result)[[1, 6]])
        alone = _run(engine, case.with_inputs(labels=np.arange(7)))
        assert (alone.loss, alone.example_count, alone.ignored_count) == (0.0, 0, 7)
        for gradient in alone.gradients.values():
            assert_zero(gradient, case)
        with pytest.raises(InvalidRequest):
            _run(engine, case.with_inputs(labels=np.arange(7)), empty=EmptyPolicy.ERROR)


def test_one_class_alone_is_finite(engine: Engine, loss: Loss) -> None:
    if not _labelled(loss):
        pytest.skip("it has no classes")
    for drawn in coupled_cases(loss):
        case = drawn.with_inputs(labels=np.full(7, 3))
        result = _run(engine, case)
        np.testing.assert_allclose(
            values(result), np.nan_to_num(coupled_values(case)), rtol=1e-12, atol=1e-14
        )
        for gradient in result.gradients.values():
            assert np.isfinite(gradient).all(), case


def test_a_vector_of_zeros_has_a_status_and_no_gradient(engine: Engine, loss: Loss) -> None:
    for drawn in _normalizing_cases(loss):
        for name in set(drawn.differentiable) & set(_examples(drawn)):
            given = drawn.inputs[name].copy()
            given[2] = 0
            case = drawn.with_inputs(**{name: given})
            result = _run(engine, case)
            assert 2 in result.statuses.indices, case
            assert_zero(result.gradients[name][2], case)
            expected = np.nan_to_num(coupled_values(case))
            np.testing.assert_allclose(values(result), expected, rtol=1e-12, atol=1e-13)
            for gradient in result.gradients.values():
                assert np.isfinite(gradient).all(), case


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_lengths_of_every_size_have_a_direction(engine: Engine, loss: Loss, size: float) -> None:
    for drawn in _normalizing_cases(loss):
        for dtype in (np.float32, np.float64):
            case = drawn.astype(dtype)
            scaled = {n: (case.inputs[n] * size).astype(dtype) for n in case.differentiable}
            expected, result = _run(engine, case), _run(engine, case.with_inputs(**scaled))
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(values(result), values(expected), tolerance, tolerance)
            for name in case.differentiable:
                np.testing.assert_allclose(
                    result.gradients[name].astype(np.float64) * size,
                    expected.gradients[name],
                    rtol=50 * tolerance,
                    atol=tolerance,
                    err_msg=str(case),
                )


def test_identical_points_have_a_finite_gradient(engine: Engine, loss: Loss) -> None:
    for drawn in coupled_cases(loss):
        for dtype in (np.float16, np.float32, np.float64):
            same = {
                n: np.broadcast_to(drawn.inputs[n][:1], drawn.inputs[n].shape).copy()
                for n in drawn.differentiable
                if drawn.inputs[n].ndim == 2
            }
            case = drawn.with_inputs(**same).astype(dtype)
            result = _run(engine, case)
            expected = np.nan_to_num(coupled_values(case))
            assert_close(values(result), expected, compute_type(np.dtype(dtype)), case, slack=4)
            for gradient in result.gradients.values():
                assert np.isfinite(gradient).all(), case
            assert not len(result.nonfinite_examples)


def test_what_is_not_finite_is_seen_zeroed_or_refused(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        name = loss.inputs[0].name
        given = case.inputs[name].copy()
        given[3, 1] = np.nan
        bad = case.with_inputs(**{name: given})
        result = _run(engine, bad)
        assert 3 in result.nonfinite_examples, case
        assert np.isnan(total(result))
        assert np.isnan(result.gradients[name][3]).any(), case
        zeroed = _run(engine, bad, nonfinite=NonfinitePolicy.ZERO)
        assert np.isfinite(total(zeroed))
        for gradient in zeroed.gradients.values():
            assert np.isfinite(gradient).all(), case
        with pytest.raises(InvalidRequest):
            _run(engine, bad, nonfinite=NonfinitePolicy.ERROR)


def test_an_example_that_is_zeroed_has_no_outputs(engine: Engine, loss: Loss) -> None:
    for case in _cases_with_outputs(loss):
        name = loss.inputs[0].name
        given = case.inputs[name].copy()
        given[3, 1] = np.nan
        result = _run(engine, case.with_inputs(**{name: given}), nonfinite=NonfinitePolicy.ZERO)
        assert 3 in result.nonfinite_examples, case
        for output in result.outputs.values():
            assert (output[result.nonfinite_examples] == -1).all(), case


@pytest.mark.parametrize("rows", [0, 1])
def test_no_example_or_a_single_one(engine: Engine, loss: Loss, rows: int) -> None:
    for case in coupled_cases(loss, rows=rows):
        result = _run(engine, case)
        assert result.example_count + result.ignored_count == rows
        expected = np.nan_to_num(coupled_values(case))
        np.testing.assert_allclose(values(result), expected, rtol=1e-12, atol=1e-14)
        for name, gradient in result.gradients.items():
            assert gradient.shape == case.inputs.get(name, np.zeros(())).shape
            assert np.isfinite(gradient).all(), case


def test_labels_of_any_integer_type_are_the_same(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        for declared in loss.inputs:
            if declared.content is not Content.LABELS or declared.name not in case.inputs:
                continue
            labels = case.inputs[declared.name] % 2
            expected = _run(engine, case.with_inputs(**{declared.name: labels}))
            for kind in (np.bool_, np.uint8, np.int16, np.uint64):
                typed = case.with_inputs(**{declared.name: labels.astype(kind)})
                assert _run(engine, typed).loss == expected.loss
            far = np.where(labels == 1, np.uint64(2**64 - 1), np.uint64(2**63))
            assert _run(engine, case.with_inputs(**{declared.name: far})).loss == expected.loss
            with pytest.raises(InvalidTensor, match=f"{declared.name} must be integers, got float"):
                _run(engine, case.with_inputs(**{declared.name: labels.astype(float)}))


def test_shapes_are_checked(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        for name, array in case.inputs.items():
            for wrong in (array[..., None], array[..., :0], array.ravel()[:6], array[:0].T):
                if wrong.shape == array.shape or (array.ndim, wrong.ndim) == (2, 3):
                    continue
                with pytest.raises(InvalidTensor, match=r" must have .*, got "):
                    _run(engine, case.with_inputs(**{name: wrong}))


def test_a_gradient_is_the_same_whatever_else_is_asked(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        everything = _run(engine, case)
        nothing = engine.run(case.job(gradients=(), per_example=False))
        assert (nothing.loss, nothing.per_example) == (everything.loss, None)
        for name in case.derivatives:
            alone = engine.run(case.job(gradients=(name,)))
            assert list(alone.gradients) == [name]
            assert_same_bits(alone.gradients[name], everything.gradients[name], (case, name))


def test_gradients_by_default_are_those_of_vectors(engine: Engine, loss: Loss) -> None:
    for case in coupled_cases(loss):
        assert tuple(engine.run(case.job()).gradients) == case.differentiable
        with pytest.raises(InvalidRequest, match=r"gradients must be among .*, got 'labels'"):
            engine.run(case.job(gradients=("labels",)))


def test_the_same_request_has_the_same_bits_and_inputs_stay(engine: Engine, loss: Loss) -> None:
    for drawn in coupled_cases(loss, rows=70):
        case = drawn.astype(np.float32)
        before = {name: array.copy() for name, array in case.inputs.items()}
        for array in case.inputs.values():
            array.flags.writeable = False
        first, second = _run(engine, case), _run(engine, case)
        assert_same_bits(values(first), values(second), case)
        for name, gradient in first.gradients.items():
            assert_same_bits(gradient, second.gradients[name], case)
            assert not any(np.shares_memory(gradient, array) for array in case.inputs.values())
        for name, array in before.items():
            assert_same_bits(case.inputs[name], array)


def test_numbers_too_large_for_the_compute_type_are_no_surprise(engine: Engine, loss: Loss) -> None:
    case = next(coupled_cases(loss)).astype(np.float32)
    for parameter in case.loss.parameters:
        if parameter.type is float:
            for number in (1e300, 1e-300):
                extreme = replace(case, parameters={parameter.name: number})
                _assert_right_or_told(_run(engine, extreme), engine, extreme)


def _assert_right_or_told(result: Result, engine: Engine, case: Case) -> None:
    """Losses are those of float64, of which the result says where float32 cannot hold them."""
    with np.errstate(over="ignore"):
        expected = values(_run(engine, case.astype(np.float64))).astype(np.float32)
    assert_close(values(result), expected, np.float32, case)
    assert set(np.flatnonzero(np.isinf(expected))) <= set(result.nonfinite_examples.tolist()), case


LONG = 1 << 17
HELD = 6  # what may be held at once, in inputs of the compute type, with the gradients
PIECES = 12 << 20


@pytest.mark.parametrize(("dtype", "away"), [(np.float16, 0), (np.float64, 1000)])
def test_long_vectors_take_no_more_than_a_few_copies(loss: Loss, dtype: type, away: float) -> None:
    """Also where they are near each other, which takes differences of pairs."""
    engine = Engine(NumpyBackend(2))
    for drawn in itertools.islice(coupled_cases(loss, rows=8, length=LONG), 0, None, 2):
        moved = {name: drawn.inputs[name] + away for name in drawn.differentiable}
        case = drawn.with_inputs(**moved).astype(dtype)
        size = sum(case.inputs[name].size for name in case.differentiable)
        calls: list[None] = []
        job = case.job(gradients=case.differentiable)
        tracemalloc.start()
        try:
            engine.run(job, checkpoint=functools.partial(calls.append, None))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < HELD * size * compute_type(np.dtype(dtype)).itemsize + PIECES, case
        assert len(calls) > LONG // 4096, case
    engine.backend.close()
