"""The norm of gradients: of numbers of any type and any size, against sums without rounding."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.serving.loss_service.norms import euclidean_norm


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_norm_is_right_in_every_type_and_over_many_blocks(dtype: Any) -> None:
    numbers = np.random.default_rng(7).standard_normal((7, 20_000)).astype(dtype)
    expected = math.sqrt(math.fsum(float(x) ** 2 for x in numbers.ravel()))

    assert euclidean_norm([numbers[:3], numbers[3:]]) == pytest.approx(expected, rel=1e-12)


def test_a_norm_does_not_overflow_with_its_type() -> None:
    assert euclidean_norm([np.full(4, 60_000, np.float16)]) == 120_000
    assert euclidean_norm([np.full(4, 3e38, np.float32)]) == pytest.approx(6e38)
    assert euclidean_norm([np.full(4, 1e308)]) == math.inf  # larger than any number itself


@pytest.mark.parametrize("size", [3e300, 1e154, 1e-140, 1e-154, 1e-162, 1e-200, 1e-307])
def test_a_norm_of_huge_or_tiny_numbers_is_as_exact_as_of_others(size: float) -> None:
    arrays = [size * np.random.default_rng(8).random(50_000), np.full(12, -size)]
    expected = math.hypot(*np.concatenate(arrays).tolist())

    assert euclidean_norm(arrays) == pytest.approx(expected, rel=1e-12, abs=0)


def test_a_norm_of_the_tiniest_number_is_that_number() -> None:
    assert euclidean_norm([np.array([0.0, -5e-324])]) == 5e-324


def test_a_norm_of_nothing_is_zero() -> None:
    assert euclidean_norm([]) == euclidean_norm([np.zeros((3, 0))]) == 0
    assert euclidean_norm([np.zeros(7, np.float32)]) == 0


def test_a_norm_shows_what_is_not_finite() -> None:
    assert euclidean_norm([np.array([3e300, -np.inf])]) == math.inf
    assert math.isnan(euclidean_norm([np.array([1, np.nan], np.float32)]))
