"""Comparisons that say what they mean: to the bit, exactly zero, or within a type's rounding."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64))

# What computing in float32 or float64 may lose, relative to the largest number of the array.
COMPUTED = {np.dtype(np.float32): 4e-6, np.dtype(np.float64): 1e-13}

# Half a unit in the last place, and the smallest number below which that is absolute.
ROUNDED = {
    np.dtype(np.float16): (2.0**-11, 2.0**-25),
    BFLOAT16: (2.0**-8, 0.0),
    np.dtype(np.float32): (2.0**-24, 0.0),
    np.dtype(np.float64): (2.0**-53, 0.0),
}


def assert_same_bits(actual: Array, expected: Array, about: Any = "") -> None:
    """Same type, shape and bytes, so that -0.0 is not 0.0 and NaN is NaN."""
    assert actual.dtype == expected.dtype, about
    assert actual.shape == expected.shape, about
    if actual.tobytes() != expected.tobytes():
        raise AssertionError(f"bits differ for {about}:\n{actual}\n{expected}")


def assert_zero(array: Array, about: Any = "") -> None:
    """Exactly zero."""
    assert not np.any(array != 0), f"{about}: {array}"


def assert_close(
    actual: Array, expected: Array, computed: npt.DTypeLike, about: Any = "", slack: float = 1
) -> None:
    """Right to what the compute type and one rounding to the array's own type may lose."""
    relative, absolute = ROUNDED[actual.dtype]
    loss = COMPUTED[np.dtype(computed)] * slack
    scale = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
    np.testing.assert_allclose(
        actual.astype(np.float64),
        expected,
        rtol=relative * 1.01 + loss,
        atol=absolute * 1.01 + loss * scale + 1e-60,  # an oracle of 120 digits is never 0
        err_msg=str(about),
    )


def assert_each_close(actual: Array, expected: Array, about: Any = "") -> None:
    """Right in float64 for each number by itself, down to where cancellation leaves nothing."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15, err_msg=str(about))


def compute_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the type that an input of a type is computed in."""
    return dtype if dtype == np.float64 else np.dtype(np.float32)


def place(name: str, index: int, array: Array) -> str:
    """How an error calls the element of a flat index."""
    axes = np.unravel_index(index, array.shape)
    return f"{name}[{', '.join(str(int(axis)) for axis in axes)}]"
