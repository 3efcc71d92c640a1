"""Class weights: the definitions, their ends, and what is no count."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from lossd.client import InvalidRequestError, balanced_weights, effective_number_weights
from lossd.v1 import CrossEntropy

BOTH = [balanced_weights, effective_number_weights]


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat(np.arange(4), [1, 7, 300, 20_000])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)

    np.testing.assert_allclose(balanced_weights(np.bincount(labels)), expected, rtol=1e-15)


def test_balanced_by_hand() -> None:
    assert balanced_weights([99, 1]).tolist() == pytest.approx([100 / 198, 50], rel=1e-15)


def test_every_class_weighs_the_same_and_a_mean_example_1() -> None:
    counts = np.array([3, 500, 41, 0, 9])
    weights = balanced_weights(counts)

    assert (weights * counts)[counts > 0] == pytest.approx(counts.sum() / 4)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("beta", ["0.9", "0.9999", "0.999999999999"])
def test_effective_numbers_are_those_of_the_paper(beta: str) -> None:
    counts = [1, 2, 30, 5000, 10**9]
    with mpmath.workdps(60):
        exact = mpmath.mpf(float(beta))
        raw = [(1 - exact) / (1 - exact**count) for count in counts]
        expected = [float(weight / sum(raw) * len(raw)) for weight in raw]

    weights = effective_number_weights(counts, float(beta))
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(len(counts))


def test_effective_numbers_lie_between_equal_and_balanced() -> None:
    counts = np.array([10, 1000, 100_000])
    balanced = balanced_weights(counts)

    assert effective_number_weights(counts, 0).tolist() == [1, 1, 1]
    nearly = effective_number_weights(counts, 1 - 1e-13)
    np.testing.assert_allclose(nearly / nearly[0], balanced / balanced[0], rtol=1e-6)


@pytest.mark.parametrize("weights_of", BOTH)
def test_a_class_that_does_not_occur_has_weight_0_and_changes_no_other(
    weights_of: Callable[[Any], Any],
) -> None:
    weights = weights_of([0, 5, 0, 50])

    assert weights[[0, 2]].tolist() == [0, 0]
    assert weights[[1, 3]].tolist() == weights_of([5, 50]).tolist()


@pytest.mark.parametrize("weights_of", BOTH)
def test_huge_and_fractional_counts_are_counts(weights_of: Callable[[Any], Any]) -> None:
    assert np.isfinite(weights_of([1e300, 1, 1e308])).all()
    assert weights_of([0.25, 0.25]).tolist() == [1, 1]
    assert weights_of([7]).tolist() == [1]


@pytest.mark.parametrize("weights_of", BOTH)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, -1], r"counts\[1\] must be in \[0, inf\), got -1"),
        ([np.nan], r"counts\[0\] must be in \[0, inf\), got nan"),
        ([1, np.inf], r"counts\[1\] must be in \[0, inf\), got inf"),
        ([0, 0], "counts must have a class that occurs, got none among 2"),
        ([], "counts must have a class that occurs, got none among 0"),
        ([[1, 2]], "counts must have one axis, got 2"),
        (3, "counts must have one axis, got 0"),
        (["a"], "counts must hold one of"),
        (Counter([0, 2, 2]), "counts must have the keys 0 to n - 1 .*got 0, 2"),
        ({"cat": 3, "dog": 1}, "counts must have the keys .*got 'cat', 'dog'"),
        ({3, 1}, "counts must hold one of .*got set"),
    ],
)
def test_what_is_no_count_is_refused(
    weights_of: Callable[[Any], Any], counts: Any, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        weights_of(counts)
    assert caught.value.field == "counts"


@pytest.mark.parametrize("weights_of", BOTH)
def test_counts_by_class_are_taken_by_class(weights_of: Callable[[Any], Any]) -> None:
    expected = weights_of([3, 1, 2]).tolist()

    assert weights_of({2: 2, 0: 3, 1: 1}).tolist() == expected
    assert weights_of(Counter([2, 2, 1, 0, 0, 0])).tolist() == expected


@pytest.mark.parametrize("weights_of", BOTH)
def test_what_pandas_counts_is_taken_by_class(weights_of: Callable[[Any], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series([2, 2, 1, 0, 0, 0])  # its counts come with the largest first

    assert weights_of(labels.value_counts()).tolist() == weights_of([3, 1, 2]).tolist()


@pytest.mark.parametrize("beta", [1.0, -0.1, np.nan, np.inf, None, "0.9", [0.9], np.ones(2)])
def test_beta_is_a_share_below_1(beta: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"beta must be (in \[0, 1\)|a number), got "):
        effective_number_weights([1, 2], beta)


@pytest.mark.parametrize("beta", [np.float32(0.5), np.array(0.5)])
def test_beta_may_be_a_number_of_numpy(beta: Any) -> None:
    expected = effective_number_weights([1, 2], 0.5)
    assert effective_number_weights([1, 2], beta).tolist() == expected.tolist()


@pytest.mark.parametrize("weights_of", BOTH)
def test_a_message_takes_them(weights_of: Callable[[Any], Any]) -> None:
    weights = weights_of([99, 1])

    assert list(CrossEntropy(class_weights=weights).class_weights) == weights.tolist()
