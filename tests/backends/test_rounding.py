"""Results in the type that is sent."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends._rounding import round_into
from tests.losses.compare import assert_same_bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_is_rounded_as_numpy_rounds_it(dtype: type) -> None:
    """Each of float16, the middles between two, and the neighbours of both."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite: npt.NDArray[Any] = np.sort(halves[np.isfinite(halves)].astype(dtype))
    ties = np.concatenate([finite, (finite[:-1] + finite[1:]) / 2])
    around = [np.nextafter(ties, way, dtype=dtype) for way in (-1e5, 1e5)]
    given = np.concatenate([ties, *around, np.array([np.inf, -np.inf, np.nan], dtype)])
    out = np.empty(given.shape, np.float16)
    with np.errstate(all="ignore"):
        round_into(given, out)
        assert_same_bits(out, given.astype(np.float16))


def test_a_number_beside_a_tie_of_bfloat16_is_rounded_once() -> None:
    """Each of bfloat16, the middles between two, and neighbours too near for float32."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    is_finite = bits & 0x7F80 != 0x7F80
    finite = np.unique(bits[is_finite].view(ml_dtypes.bfloat16).astype(np.float64))
    ties = (finite[:-1] + finite[1:]) / 2
    out = np.empty(ties.shape, ml_dtypes.bfloat16)
    below, above = (np.nextafter(ties, way) for way in (-np.inf, np.inf))
    round_into(below, out)
    assert_same_bits(out.astype(np.float64) + 0, finite[:-1])
    round_into(above, out)
    assert_same_bits(out.astype(np.float64) + 0, finite[1:])
    round_into(ties, out)
    assert_same_bits(out, ties.astype(ml_dtypes.bfloat16))  # which are numbers of float32


def test_numbers_beyond_bfloat16_are_infinite_and_nan_stays_nan() -> None:
    largest = (2 - 2.0**-7) * 2.0**127
    middle = largest + (2.0**128 - largest) / 2
    given = np.array([np.nextafter(middle, 0), middle, 1e300, -1e300, np.inf, -np.inf, np.nan])
    out = np.empty(given.shape, ml_dtypes.bfloat16)
    with np.errstate(all="ignore"):
        round_into(given, out)
    expected = [largest, np.inf, np.inf, -np.inf, np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(out.astype(np.float64), expected)
