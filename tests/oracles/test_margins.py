"""Values and gradients at margins of 0 to 1,000, with numbers over their whole range.

``pytest --whole tests/oracles/test_margins.py`` tries many more of both, for some minutes.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, Shape
from lossd.reduction import Reduction
from tests.device import keeping_small_doubles
from tests.losses.case import Case, total, values
from tests.oracles.margins import SWEEPS, TOGETHER, Sweep
from tests.oracles.right_answers import right

Array = npt.NDArray[Any]

TOLERANCES = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-11}

# A GPU takes float32 numbers below the smallest normal one for 0, as CuPy asks, and a result may be
# a sum of a few of them.
LOST_TO_FLUSHING = 4

# Where a result may be less exact, and why.  docs/precision.md says it to users.
EXCEPTIONS = {
    "a result below the smallest normal number, or made of a probability below it": (
        "the type has no digits left; what is divided by a temperature or smoothing has fewer"
    ),
    "a kink, and a class whose target is 0 in a divergence": "the slope is chosen, not computed",
    "soft targets of softmax_focal that the prediction meets to 1e-3": (
        "the steepness of each class is rounded, and only its differences are left"
    ),
    "focal by targets at 0 and 1 with a gamma below 1": "there the derivative is infinite",
    "regions and labels by targets": "all of an index that is nearly 0 or 1 cancels",
    "a divergence times the square of a temperature beyond 1e250": (
        "what differs by the temperature is below the smallest normal number"
    ),
}


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_every_margin_is_right(
    engine: Engine,
    sweep: Sweep,
    dtype: np.dtype[Any],
    whole: bool,  # noqa: FBT001
) -> None:
    if sweep.is_long and not whole:
        pytest.skip("it takes long")
    no_context = contextlib.nullcontext()
    for case, expected in right(sweep, whole=whole):
        reduction = Reduction.MEAN if case.loss.shape in TOGETHER else Reduction.NONE
        job = case.astype(dtype).job(gradients=sweep.derivatives, reduction=reduction)
        with keeping_small_doubles() if _has_small_doubles(case, dtype) else no_context:
            result = engine.run(job)
        found = np.array([total(result)]) if reduction is Reduction.MEAN else values(result)
        lost = LOST_TO_FLUSHING if engine.backend.name == "cupy" else 1
        assert_right(found, expected.values, dtype, case, ("smooth",), lost=lost)
        for name, derivatives in expected.gradients.items():
            assert_right(result.gradients[name], derivatives, dtype, case, lost=lost)


def _has_small_doubles(case: Case, dtype: np.dtype[Any]) -> bool:
    """Returns whether doubles below the smallest normal number count: parameters are doubles."""
    numbers = (x for x in case.parameters.values() if isinstance(x, float))
    smallest = np.finfo(np.float64).smallest_normal
    return dtype == np.float64 or any(0 < abs(number) < smallest for number in numbers)


def assert_right(
    found: Array,
    expected: Array,
    dtype: np.dtype[Any],
    case: Case,
    divided_by: Sequence[str] = ("temperature", "smooth"),
    *,
    lost: float = 1,
) -> None:
    """Right to the type's tolerance, infinite where the type ends, and exact where it begins.

    ``lost`` is how many of the smallest normal numbers may be missing.
    """
    divisors = (case.parameters.get(name, 1.0) for name in divided_by)
    divisor = min(divisor for divisor in (1.0, *divisors) if divisor)
    smallest = float(np.finfo(dtype).smallest_normal)
    with np.errstate(over="ignore"):
        ends = expected.astype(dtype)
        absolute = min(lost * smallest / divisor, 1e-9)
    expected = np.where(np.isinf(ends), ends, expected)
    np.testing.assert_allclose(
        found.astype(np.float64), expected, TOLERANCES[dtype], absolute, err_msg=str(case)
    )


def test_every_loss_of_elements_classes_and_scores_is_swept() -> None:
    """Those of vectors, sequences, features and images have contracts of their own."""
    swept = {sweep.name for sweep in SWEEPS}
    kinds = (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE, *TOGETHER)
    assert swept == {name for name, loss in LOSSES.items() if loss.shape in kinds} - OF_NORMS


# Its input is a vector, whose norm is all that counts.
OF_NORMS = {"gradient_penalty"}
