"""Results in the type that is sent."""

from typing import Any

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
