"""From examples to one number: named reductions, results that merge, and nothing kept."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest
from lossd.losses import Loss
from lossd.reduction import EmptyPolicy, Reduction
from tests.losses.case import Case, Form, by_row, total, unreduced, values
from tests.losses.compare import Array, assert_same_bits, assert_zero
from tests.sampling import cases, plain

KEPT = np.array([True, True, False, True, True, False, True])
WEIGHTS = np.array([1.0, 0.5, 7.0, 0.0, 2.0, 0.0, 0.25])


def _options(case: Case) -> list[dict[str, Any]]:
    """With and without weights and mask."""
    weights, kept = WEIGHTS[: case.count], KEPT[: case.count]
    return [{}, {"weights": weights}, {"mask": kept}, {"weights": weights, "mask": kept}]


def _expected(case: Case, values: Array, options: dict[str, Any]) -> dict[str, float]:
    """The sums of the contract, written out."""
    kept = options.get("mask", np.ones(case.count, bool))
    weights = options.get("weights", np.ones(case.count))
    shares = case.class_weights
    return {
        "loss_sum": sum(weights[i] * values[i] for i in np.flatnonzero(kept)),
        "weight_sum": sum(weights[i] * shares[i] for i in np.flatnonzero(kept)),
        "example_count": int(kept.sum()),
        "ignored_count": int((~kept).sum()),
    }


def test_reductions_are_the_named_sums_and_means(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        values = unreduced(engine, case)
        for options in _options(case):
            expected = _expected(case, values, options)
            aggregates = {
                Reduction.MEAN: expected["loss_sum"] / expected["weight_sum"],
                Reduction.BATCH_MEAN: expected["loss_sum"] / expected["example_count"],
                Reduction.SUM: expected["loss_sum"],
            }
            for reduction, aggregate in aggregates.items():
                result = engine.run(case.job(reduction=reduction, **options))
                assert result.loss == pytest.approx(aggregate, rel=1e-13), (case, reduction)
                for name, number in expected.items():
                    assert getattr(result, name) == pytest.approx(number, rel=1e-13), (case, name)


@pytest.mark.parametrize("power", [-1000, -150, -126, 120, 1000])
def test_a_mean_does_not_depend_on_the_size_of_class_weights(
    engine: Engine, loss: Loss, power: int
) -> None:
    for drawn in cases(loss):
        weights = drawn.parameters.get("class_weights", ())
        if drawn.form is not Form.CLASSES or not len(weights) or drawn.parameters.get("z_loss"):
            continue  # a penalty beside the loss has no class weight
        sized = {**drawn.parameters, "class_weights": tuple(np.ldexp(weights, power))}
        expected = engine.run(drawn.astype(np.float32).job())
        result = engine.run(replace(drawn, parameters=sized).astype(np.float32).job())
        assert result.loss == pytest.approx(expected.loss, rel=1e-6), (drawn, power)
        for name, gradient in result.gradients.items():
            assert gradient.dtype == np.float32
            np.testing.assert_allclose(gradient, expected.gradients[name], 3e-6, 1e-9)


def test_gradients_are_of_the_reduced_loss(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        plain_result = engine.run(case.job(reduction=Reduction.NONE, gradients=case.differentiable))
        for options in _options(case):
            expected = _expected(case, unreduced(engine, case), options)
            kept = options.get("mask", np.ones(case.count, bool))
            scale = np.where(kept, options.get("weights", 1.0), 0.0)
            divisors = {
                Reduction.MEAN: expected["weight_sum"],
                Reduction.BATCH_MEAN: expected["example_count"],
                Reduction.SUM: 1.0,
                Reduction.NONE: 1.0,
            }
            for reduction, divisor in divisors.items():
                wanted = case.job(reduction=reduction, gradients=case.differentiable, **options)
                for name, gradient in engine.run(wanted).gradients.items():
                    derivative = plain_result.gradients[name] * by_row(scale, gradient) / divisor
                    np.testing.assert_allclose(
                        gradient, derivative, rtol=1e-12, atol=1e-300, err_msg=f"{case} {reduction}"
                    )


def test_a_whole_weight_is_as_many_examples(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        counts = np.arange(case.count) % 3
        repeated = engine.run(case.rows(np.repeat(np.arange(case.count), counts)).job())
        for dtype in (np.int64, np.float32, np.uint8):
            weighted = engine.run(case.job(weights=counts.astype(dtype)))
            assert weighted.loss == pytest.approx(repeated.loss, rel=1e-13), case
            assert weighted.weight_sum == pytest.approx(repeated.weight_sum, rel=1e-13)


SPLITS = st.lists(st.integers(0, 16), max_size=5).map(sorted)


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=SPLITS, reduction=st.sampled_from([Reduction.MEAN, Reduction.BATCH_MEAN]))
def test_splits_with_one_normalizer_merge_exactly(
    engine: Engine, loss: Loss, cuts: list[int], reduction: Reduction
) -> None:
    rng = np.random.default_rng(5)
    for case in cases(loss, rows=16):
        options = {"weights": rng.uniform(0, 2, 16), "mask": rng.uniform(size=16) < 0.8}
        wanted = {"reduction": reduction, "gradients": case.differentiable}
        whole = engine.run(case.job(**options, **wanted))
        normalizer = whole.weight_sum if reduction is Reduction.MEAN else float(whole.example_count)
        parts: list[Result] = []
        for start, stop in zip([0, *cuts], [*cuts, 16], strict=True):
            piece = {name: option[start:stop] for name, option in options.items()}
            rows = case.rows(slice(start, stop))
            parts.append(engine.run(rows.job(normalizer=normalizer, **piece, **wanted)))
        assert sum(p.loss or 0 for p in parts) == pytest.approx(whole.loss, rel=1e-13), case
        for name in ("loss_sum", "weight_sum", "example_count", "ignored_count"):
            merged = sum(getattr(part, name) for part in parts)
            assert merged == pytest.approx(getattr(whole, name), rel=1e-13), (case, name)
        for name, gradient in whole.gradients.items():
            joined = np.concatenate([part.gradients[name] for part in parts])
            np.testing.assert_allclose(joined, gradient, rtol=1e-13, err_msg=str(case))


def test_a_normalizer_replaces_the_denominator_alone(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        for reduction in (Reduction.MEAN, Reduction.BATCH_MEAN):
            without = engine.run(case.job(reduction=reduction))
            result = engine.run(case.job(reduction=reduction, normalizer=8.0))
            assert result.loss == pytest.approx(without.loss_sum / 8, rel=1e-14)
            assert result.loss_sum == without.loss_sum
            assert result.weight_sum == without.weight_sum
            assert_same_bits(values(result), values(without), case)


def _nothing_kept(loss: Loss) -> list[tuple[Case, dict[str, Any]]]:
    found: list[tuple[Case, dict[str, Any]]] = []
    for case in cases(loss):
        found += [(case.rows(slice(0)), {}), (case, {"mask": np.zeros(case.count, bool)})]
    return found


@pytest.mark.parametrize("reduction", list(Reduction))
def test_nothing_kept_is_zero_with_zero_gradients(
    engine: Engine, loss: Loss, reduction: Reduction
) -> None:
    for case, options in _nothing_kept(loss):
        wanted = {"reduction": reduction, "gradients": case.differentiable, **options}
        result = engine.run(case.job(**wanted))
        assert result.loss == (None if reduction is Reduction.NONE else 0.0)
        assert (result.loss_sum, result.weight_sum, result.example_count) == (0.0, 0.0, 0)
        assert result.ignored_count == case.count
        assert_zero(values(result), case)
        for gradient in result.gradients.values():
            assert_zero(gradient, case)
        if reduction is not Reduction.NONE:
            as_nan = engine.run(case.job(empty=EmptyPolicy.NAN, **wanted))
            assert np.isnan(total(as_nan))
            for gradient in as_nan.gradients.values():
                assert_zero(gradient, case)
        with pytest.raises(InvalidRequest) as caught:
            engine.run(case.job(empty=EmptyPolicy.ERROR, **wanted))
        assert (caught.value.reason, caught.value.field) == ("EMPTY_BATCH", "empty")


@pytest.mark.parametrize("normalizer", [None, 8.0], ids=["own", "given"])
@pytest.mark.parametrize("reduction", list(Reduction))
def test_weights_that_are_all_zero_leave_nothing_to_average(
    engine: Engine, loss: Loss, reduction: Reduction, normalizer: float | None
) -> None:
    case = plain(loss)
    if normalizer and not reduction.is_mean:
        pytest.skip("only a mean has a normalizer")
    options: dict[str, Any] = {
        "weights": np.zeros(case.count),
        "reduction": reduction,
        "normalizer": normalizer,
    }
    result = engine.run(case.job(**options))
    assert result.loss == (None if reduction is Reduction.NONE else 0.0)
    assert (result.loss_sum, result.weight_sum, result.example_count) == (0.0, 0.0, case.count)
    assert_zero(result.gradients[loss.inputs[0].name])
    if reduction is not Reduction.NONE:
        assert np.isnan(total(engine.run(case.job(empty=EmptyPolicy.NAN, **options))))
    with pytest.raises(InvalidRequest) as caught:
        engine.run(case.job(empty=EmptyPolicy.ERROR, **options))
    assert caught.value.reason == "EMPTY_BATCH"


def test_without_a_reduction_there_is_no_loss(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        result = engine.run(case.job(reduction=Reduction.NONE, weights=WEIGHTS))
        assert result.loss is None
        summed = engine.run(case.job(reduction=Reduction.SUM, weights=WEIGHTS))
        assert result.loss_sum == summed.loss == summed.loss_sum
        assert_same_bits(values(result), values(summed), case)
        for name, gradient in result.gradients.items():
            assert_same_bits(gradient, summed.gradients[name], case)
