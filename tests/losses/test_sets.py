"""Losses of a set: one value of all examples, of which the masked ones are absent."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import Loss, Status
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from tests.losses.case import Case, total
from tests.losses.compare import DTYPES, Array, assert_close, assert_same_bits, assert_zero
from tests.losses.test_values import test_hand_worked_examples_hold  # noqa: F401 - of sets here
from tests.oracles import oracle_gradients, oracle_values
from tests.sampling import cases, draw, extreme, forms, plain

STEP = 1e-5
KEPT = np.array([True, True, False, True, True, False, True])
POISONS = (np.nan, np.inf, -7.0)


@pytest.fixture
def loss(set_loss: Loss) -> Loss:
    """Here it is of a set."""
    return set_loss


def _run(engine: Engine, case: Case, **options: Any) -> Result:
    return engine.run(case.job(gradients=case.differentiable, **options))


def _assert_same(actual: Result, expected: Result, about: Any) -> None:
    assert (actual.loss, actual.status) == (expected.loss, expected.status), about
    for name, gradient in expected.gradients.items():
        assert_same_bits(actual.gradients[name], gradient, (about, name))


def _assert_right(engine: Engine, case: Case, computed: Any, weights: Array | None = None) -> None:
    result = _run(engine, case, weights=weights)
    assert_close(np.array([total(result)]), oracle_values(case, weights), computed, case)
    for name, gradient in result.gradients.items():
        expected = oracle_gradients(case, name, weights)
        assert gradient.dtype == case.inputs[name].dtype
        assert_close(gradient, expected, computed, (case, name))


def test_values_and_gradients_equal_the_pairs_and_counts_one_by_one(
    engine: Engine, loss: Loss
) -> None:
    for dtype in DTYPES:
        computed = np.float64 if dtype == np.float64 else np.float32
        for drawn in cases(loss, length=2, interior=True):
            _assert_right(engine, drawn.astype(dtype), computed)
            _assert_right(engine, drawn.astype(dtype), computed, np.linspace(0.25, 2, 7))


def test_equals_are_right(engine: Engine, loss: Loss) -> None:
    """Scores that are equal, or apart by exactly the margin."""
    for case in cases(loss, rows=11, length=2, interior=True):
        name = loss.inputs[0].name
        if case.parameters.get("prediction_kind") is None:
            coarse = case.with_inputs(**{name: np.round(case.inputs[name])})
            _assert_right(engine, coarse, np.float64)


def test_sizes_of_every_kind_are_right(engine: Engine, loss: Loss) -> None:
    for case in extreme(loss):
        _assert_right(engine, case, np.float64)


def test_the_gradient_is_the_derivative_of_the_loss(engine: Engine, loss: Loss) -> None:
    for case in cases(loss, length=2, interior=True):
        result = _run(engine, case, weights=np.linspace(0.25, 2, 7))
        for name, gradient in result.gradients.items():
            expected = np.empty_like(gradient)
            for place in np.ndindex(gradient.shape):
                ends = []
                for way in (STEP, -STEP):
                    moved = case.inputs[name].copy()
                    moved[place] += way
                    job = case.with_inputs(**{name: moved}).job(weights=np.linspace(0.25, 2, 7))
                    ends.append(total(engine.run(job)))
                expected[place] = (ends[0] - ends[1]) / (2 * STEP)
            np.testing.assert_allclose(gradient, expected, rtol=2e-7, atol=2e-9, err_msg=str(case))


def test_masked_examples_are_absent_whatever_they_hold(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss):
        for dtype in (np.float32, np.float64):
            case = drawn.astype(dtype)
            there = _run(engine, case.rows(KEPT))
            for poison in POISONS:
                dirty = case.with_inputs(**{n: a.copy() for n, a in case.inputs.items()})
                for array in dirty.inputs.values():
                    array[~KEPT] = poison if array.dtype.kind == "f" else 99
                result = _run(engine, dirty, mask=KEPT)
                assert (result.loss, result.weight_sum) == (there.loss, there.weight_sum), case
                assert (result.example_count, result.ignored_count) == (5, 2)
                silenced = _run(engine, dirty, weights=KEPT.astype(np.float64))
                assert (silenced.loss, silenced.example_count) == (there.loss, 7)
                for seen in (result, silenced):
                    for name, gradient in seen.gradients.items():
                        assert_same_bits(gradient[KEPT], there.gradients[name], case)
                        assert gradient[~KEPT].tobytes() == bytes(gradient[~KEPT].nbytes)


def test_an_example_of_whole_weight_is_as_many(engine: Engine, loss: Loss) -> None:
    for case in cases(loss, rows=9):
        counts = np.arange(9) % 3
        repeated = case.rows(np.repeat(np.arange(9), counts))
        expected, result = _run(engine, repeated), _run(engine, case, weights=counts)
        assert result.loss == pytest.approx(expected.loss, rel=1e-13), case
        assert result.weight_sum == expected.weight_sum
        for name, gradient in result.gradients.items():
            once = expected.gradients[name][np.cumsum(counts)[counts > 0] - 1]
            np.testing.assert_allclose(
                gradient[counts > 0] / counts[counts > 0, None], once, rtol=1e-12, atol=1e-16
            )


def test_the_size_of_all_weights_means_nothing(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        expected, result = _run(engine, case), _run(engine, case, weights=np.full(7, 4.0))
        assert result.loss == pytest.approx(expected.loss, rel=1e-14)
        assert result.weight_sum == 28


@pytest.mark.parametrize("factor", [5e-324, 1e-300, 1e-40, 1e20, 3e38, 1e39, 1e300])
def test_a_common_factor_of_all_weights_means_nothing(
    engine: Engine, loss: Loss, factor: float
) -> None:
    """Also where they are beyond the type of the inputs."""
    weights = np.array([1.0, 3, 2, 1, 5, 2, 4])
    for dtype, rtol in ((np.float16, 2e-3), (np.float32, 1e-5), (np.float64, 1e-12)):
        for drawn in cases(loss):
            case = drawn.astype(dtype)
            expected = _run(engine, case, weights=weights)
            result = _run(engine, case, weights=factor * weights)
            assert result.loss == pytest.approx(expected.loss, rel=min(rtol, 1e-6)), case
            assert result.status == expected.status
            for name, gradient in expected.gradients.items():
                atol = rtol * float(abs(gradient).max())
                np.testing.assert_allclose(result.gradients[name], gradient, rtol, atol)


def test_the_order_of_the_examples_means_nothing(engine: Engine, loss: Loss) -> None:
    order = np.random.default_rng(0).permutation(7)
    for case in cases(loss):
        expected, result = _run(engine, case), _run(engine, case.rows(order))
        assert result.loss == pytest.approx(expected.loss, rel=1e-14)
        for name, gradient in result.gradients.items():
            np.testing.assert_allclose(
                gradient, expected.gradients[name][order], rtol=1e-12, atol=1e-16
            )


def test_labels_are_averaged(engine: Engine, loss: Loss) -> None:
    for case in cases(loss, rows=9, length=3):
        apart = [
            case.with_inputs(**{n: a[:, label] for n, a in case.inputs.items()})
            for label in range(3)
        ]
        result, parts = _run(engine, case), [_run(engine, c) for c in apart]
        assert result.loss == pytest.approx(np.mean([total(p) for p in parts]), rel=1e-14)
        for label, (part, alone) in enumerate(zip(parts, apart, strict=True)):
            column = alone.with_inputs(**{n: a[:, None] for n, a in alone.inputs.items()})
            assert _run(engine, column).loss == part.loss
            for name, gradient in part.gradients.items():
                assert gradient.shape == (9,)
                np.testing.assert_allclose(
                    result.gradients[name][:, label], gradient / 3, rtol=1e-13, atol=1e-17
                )


def test_a_cotangent_scales_the_gradients_alone(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        without = _run(engine, case)
        for cotangent in (-2.5, 0.0):
            result = _run(engine, case, cotangent=np.array(cotangent))
            assert result.loss == without.loss
            for name, gradient in result.gradients.items():
                np.testing.assert_allclose(
                    gradient, without.gradients[name] * cotangent, rtol=1e-14
                )


def test_a_cotangent_beyond_the_type_is_seen(engine: Engine, loss: Loss) -> None:
    """It warns nobody but the caller, who is told."""
    case = plain(loss).astype(np.float32)
    result = _run(engine, case, cotangent=np.array(1e300))
    assert np.isfinite(total(result))
    (gradient,) = (result.gradients[name] for name in case.differentiable[:1])
    assert np.isinf(gradient).any()
    assert len(result.nonfinite_examples)


def test_there_is_nothing_of_a_single_example(engine: Engine, loss: Loss) -> None:
    result = _run(engine, plain(loss), per_example=True)
    assert result.per_example is None
    assert not len(result.statuses.indices)
    assert result.loss_sum == result.loss


@pytest.mark.parametrize("reduction", [r for r in Reduction if r is not Reduction.MEAN])
def test_only_the_mean_exists(engine: Engine, loss: Loss, reduction: Reduction) -> None:
    with pytest.raises(InvalidRequest, match=f"must be mean for {loss.message}, .*got") as caught:
        _run(engine, plain(loss), reduction=reduction)
    assert caught.value.field == "reduction"


def test_there_is_nothing_to_divide_or_to_pick_from(engine: Engine, loss: Loss) -> None:
    with pytest.raises(InvalidRequest, match=r"normalizer must be unset for .*, got 2"):
        _run(engine, plain(loss), normalizer=2.0)
    with pytest.raises(InvalidTensor, match=r"cotangent must be a single number .*, got \[7\]"):
        _run(engine, plain(loss), cotangent=np.ones(7))


@pytest.mark.parametrize("rows", [0, 7])
def test_nothing_kept_is_zero(engine: Engine, loss: Loss, rows: int) -> None:
    for case in cases(loss, rows=rows):
        nothing = {"mask": np.zeros(rows, bool)}
        result = _run(engine, case, **nothing)
        assert (result.loss, result.loss_sum, result.weight_sum) == (0.0, 0.0, 0.0)
        assert (result.example_count, result.ignored_count) == (0, rows)
        for gradient in result.gradients.values():
            assert_zero(gradient, case)
        assert np.isnan(total(_run(engine, case, empty=EmptyPolicy.NAN, **nothing)))
        with pytest.raises(InvalidRequest) as caught:
            _run(engine, case, empty=EmptyPolicy.ERROR, **nothing)
        assert caught.value.reason == "EMPTY_BATCH"


def test_what_is_not_finite_is_said_of_the_whole(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        name = loss.inputs[0].name
        predictions = case.inputs[name].copy()
        predictions[2, 1] = np.nan
        bad = case.with_inputs(**{name: predictions})
        result = _run(engine, bad)
        assert np.isnan(total(result)), case
        assert result.status is Status.NONFINITE
        assert 2 in result.nonfinite_examples
        zeroed = _run(engine, bad, nonfinite=NonfinitePolicy.ZERO)
        assert (zeroed.loss, zeroed.status) == (0.0, Status.NONFINITE)
        for gradient in zeroed.gradients.values():
            assert_zero(gradient, case)
        for options in ({}, {"gradients": ()}):
            with pytest.raises(InvalidRequest) as caught:
                engine.run(bad.job(nonfinite=NonfinitePolicy.ERROR, **options))
            assert caught.value.reason == "NONFINITE_RESULT"


def test_targets_outside_their_domain_are_named(engine: Engine, loss: Loss) -> None:
    for declared in (i for i in loss.inputs if i.domain is not None):
        for form, wrong in ((forms(loss)[0], np.nan), (forms(loss)[0], 1.5), (forms(loss)[-1], -1)):
            case = draw(loss, {}, form, 7, 5)
            given = case.inputs[declared.name].copy()
            given[2, 3] = given[6, 1] = wrong
            bad = case.with_inputs(**{declared.name: given})
            with pytest.raises(InvalidTensor, match=rf"{declared.name}\[2, 3\] must be in .*"):
                _run(engine, bad)
            _run(engine, bad, mask=np.array([True, True, False, True, True, True, False]))


def test_shapes_are_those_of_examples_and_labels(engine: Engine, loss: Loss) -> None:
    first, *others = (i.name for i in loss.inputs)
    case = plain(loss)
    for shape in ((), (7, 5, 1), (7, 0)):
        inputs = dict.fromkeys(case.inputs, np.zeros(shape))
        with pytest.raises(InvalidTensor, match=f"{first} must have .*, got "):
            _run(engine, case.with_inputs(**inputs))
    for other in others:
        for wrong in (case.inputs[other][:, 0], case.inputs[other].T, case.inputs[other][:6]):
            with pytest.raises(InvalidTensor, match=rf"{other} must have the shape \[7, 5\]"):
                _run(engine, case.with_inputs(**{other: wrong}))


def test_the_same_request_has_the_same_bits_and_inputs_stay(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss, rows=500, length=2):
        for dtype in (np.float16, np.float64):
            case = drawn.astype(dtype)
            before = {name: array.copy() for name, array in case.inputs.items()}
            for array in case.inputs.values():
                array.flags.writeable = False
            first = _run(engine, case, weights=np.linspace(0, 1, 500))
            _assert_same(_run(engine, case, weights=np.linspace(0, 1, 500)), first, case)
            for name, array in before.items():
                assert_same_bits(case.inputs[name], array)
            for made in first.gradients.values():
                assert not any(np.shares_memory(made, array) for array in case.inputs.values())


def test_a_gradient_is_the_same_whatever_else_is_asked(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        everything = _run(engine, case)
        assert engine.run(case.job(gradients=())).loss == everything.loss
        for name in case.differentiable:
            alone = engine.run(case.job(gradients=(name,)))
            assert list(alone.gradients) == [name]
            assert_same_bits(alone.gradients[name], everything.gradients[name], case)
