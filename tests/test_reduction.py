"""The plan of what is done to each row, which is made before a loss is computed."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossd.errors import InvalidRequest
from lossd.reduction import Reduction, RowPlan, block_sums, plan_rows


def _plan(rows: int = 4, **given: Any) -> RowPlan:
    defaults: dict[str, Any] = {
        "ignored": None,
        "weights": None,
        "denominators": None,
        "cotangent": 1.0,
        "reduction": Reduction.MEAN,
        "normalizer": None,
    }
    return plan_rows(rows, **{**defaults, **given})


def test_without_anything_every_row_counts_once() -> None:
    plan = _plan()
    assert plan.excluded is None
    assert (plan.example_count, plan.ignored_count, plan.weight_sum) == (4, 0, 4.0)
    assert (plan.divisor, plan.gradient_scale) == (4.0, 0.25)
    assert not plan.is_empty


def test_a_row_is_excluded_if_ignored_or_without_weight_or_class_weight() -> None:
    plan = _plan(
        ignored=np.array([True, False, False, False]),
        weights=np.array([0.0, 0.0, 2.0, 3.0]),
        denominators=np.array([5.0, 5.0, 0.0, 5.0]),
    )
    assert plan.excluded is not None
    assert plan.excluded.tolist() == [True, True, True, False]
    assert (plan.example_count, plan.ignored_count, plan.weight_sum) == (3, 1, 15.0)


def test_silence_is_not_spent_on_rows_that_all_speak() -> None:
    assert _plan(weights=np.ones(4), denominators=np.ones(4)).excluded is None


@pytest.mark.parametrize(
    ("reduction", "normalizer", "divisor"),
    [
        (Reduction.MEAN, None, 10.0),
        (Reduction.BATCH_MEAN, None, 4.0),
        (Reduction.SUM, None, 1.0),
        (Reduction.NONE, None, 1.0),
        (Reduction.MEAN, 7.0, 7.0),
        (Reduction.BATCH_MEAN, 7.0, 7.0),
    ],
)
def test_the_divisor_is_that_of_the_reduction(
    reduction: Reduction, normalizer: float | None, divisor: float
) -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    plan = _plan(weights=weights, reduction=reduction, normalizer=normalizer)
    assert (plan.divisor, plan.weight_sum) == (divisor, 10.0)
    np.testing.assert_array_equal(plan.gradient_scale, weights / divisor)


def test_a_cotangent_multiplies_the_weights() -> None:
    plan = _plan(
        weights=np.array([1.0, 2.0, 3.0, 4.0]),
        cotangent=np.array([1.0, -1.0, 0.0, 0.5]),
        reduction=Reduction.SUM,
    )
    np.testing.assert_array_equal(plan.gradient_scale, [1.0, -2.0, 0.0, 2.0])


@pytest.mark.parametrize("normalizer", [1e-300, 1e-8, 3.0, 1e100, 1e300])
def test_what_is_made_of_cotangents_and_weights_may_leave_float64_on_the_way(
    normalizer: float,
) -> None:
    """Compared with fractions, which have no end; rows of weight 0 lie among the others."""
    rng = np.random.default_rng(8)
    sizes = rng.uniform(-160, 200, (2, 400))
    cotangent, weights = rng.uniform(1, 10, (2, 400)) * 10.0**sizes
    cotangent, weights = np.append(cotangent, [1e200, -1e200]), np.append(weights, [1e149, 0])
    plan = _plan(402, cotangent=cotangent, weights=weights, normalizer=normalizer)
    exact = [
        Fraction(c) * Fraction(w) / Fraction(normalizer)
        for c, w in zip(cotangent.tolist(), weights.tolist(), strict=True)
    ]
    is_normal = np.array([1e-307 < abs(number) < 1.7e308 for number in exact])
    assert is_normal.sum() > 50
    found = np.asarray(plan.gradient_scale)
    expected = [float(number) for number, normal in zip(exact, is_normal, strict=True) if normal]
    np.testing.assert_allclose(found[is_normal], expected, rtol=1e-15)
    assert found[-1] == 0


def test_the_cotangent_of_an_excluded_row_raises_no_warning() -> None:
    plan = _plan(
        weights=np.array([0.0, 1.0, 1.0, 1.0]), cotangent=np.array([np.inf, 1.0, 1.0, 1.0])
    )
    assert plan.weight_sum == 3.0


@pytest.mark.parametrize("reduction", list(Reduction))
def test_nothing_is_empty(reduction: Reduction) -> None:
    for plan in (
        _plan(0, reduction=reduction),
        _plan(2, ignored=np.array([True, True]), reduction=reduction),
    ):
        assert plan.is_empty
        assert plan.weight_sum == 0
        assert np.all(np.isfinite(plan.gradient_scale))


@pytest.mark.parametrize("normalizer", [0.0, -1.0, np.nan, np.inf])
def test_a_normalizer_is_a_positive_number(normalizer: float) -> None:
    with pytest.raises(InvalidRequest, match=r"normalizer must be in \(0, inf\), got") as caught:
        _plan(normalizer=normalizer)
    assert caught.value.field == "normalizer"


def test_a_normalizer_needs_a_mean() -> None:
    with pytest.raises(InvalidRequest, match="normalizer must go with the reductions mean and"):
        _plan(normalizer=1.0, reduction=Reduction.SUM)


def test_blocks_are_summed_in_double_precision_whatever_the_values_are() -> None:
    values = np.full(10, 60_000, np.float16)
    assert block_sums(values, None, 4).tolist() == [240_000.0, 240_000.0, 120_000.0]
    weights = np.arange(10.0)
    assert block_sums(values, weights, 100).tolist() == [60_000.0 * 45]
    assert block_sums(values[:0], None, 4).tolist() == []


@pytest.mark.parametrize("block", [1, 7, 8, 129, 1000, 1001])
@pytest.mark.parametrize("is_weighed", [False, True])
def test_a_block_is_summed_as_it_is_alone(block: int, *, is_weighed: bool) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=1000) * 10 ** rng.uniform(-3, 3, 1000)).astype(np.float32)
    weights = rng.random(1000) if is_weighed else None
    weighed = values.astype(np.float64) if weights is None else values * weights
    alone = [weighed[start : start + block].sum() for start in range(0, 1000, block)]
    assert block_sums(values, weights, block).tobytes() == np.array(alone).tobytes()


def test_a_block_is_the_same_sum_wherever_the_tiles_are_cut() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    whole = block_sums(values, None, 64)
    pieces = [block_sums(values[i : i + 128], None, 64) for i in range(0, 1000, 128)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
