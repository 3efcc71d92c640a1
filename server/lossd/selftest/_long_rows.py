"""Long rows of drawn numbers, for what the worked examples are too short to show of a kernel.

A row of a few numbers takes one warp.  These take all that a kernel has: several warps, whose
results meet in shared memory, loads of 128 bits, and rows that begin at addresses unfit for them.
What is right is what NumPy computes of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import Choices, Holds, Input, Loss, Shape
from lossd.losses._declare import CudaText
from lossd.reduction import Reduction

# Odd, so that rows begin at every address that a number may have.
ROWS, COLUMNS = 3, (1003, 32003)
# Relative to a number and to what is usual beside it: sums of many terms, rounded to the type.
TOLERANCES: Mapping[np.dtype[Any], float] = {
    np.dtype(np.float32): 2e-5,
    np.dtype(np.float64): 1e-11,
    np.dtype(np.float16): 2e-3,
    np.dtype(ml_dtypes.bfloat16): 2e-2,
}
# Below it a type has nothing.
_SMALLEST = {dtype: float(np.ones(1, f"u{dtype.itemsize}").view(dtype)[0]) for dtype in TOLERANCES}

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LongRows:
    """A batch for one kernel text of a loss."""

    job: Job
    dtype: np.dtype[Any]
    columns: int

    def fault(self, engine: Engine, reference: Engine) -> str:
        """What is wrong of the results of an engine, or empty."""
        found, wanted = _numbers(engine.run(self.job)), _numbers(reference.run(self.job))
        for name, right in wanted.items():
            if wrong := _first_wrong(found[name], right, self.dtype):
                return f"{name} of {ROWS} rows of {self.columns} {wrong}"
        return ""


def long_rows(loss: Loss) -> Iterator[LongRows]:
    """Batches for every kernel text of a loss, in every type."""
    for text in loss.cuda:
        parameters = parameters_for(loss, text)
        for columns in COLUMNS:
            drawn = _inputs(loss, text, parameters, columns)
            for dtype in TOLERANCES:
                inputs = {name: [_as(array, dtype)] for name, array in drawn.items()}
                # Of a sum, so that gradients are not too small for 16 bits.
                job = Job(loss=loss, parameters=parameters, inputs=inputs, reduction=Reduction.SUM)
                yield LongRows(job, dtype, columns)


def parameters_for(loss: Loss, text: CudaText) -> dict[str, Any]:
    """Parameters of which a text is the first that applies: no share that an earlier one is for."""
    earlier = loss.cuda[: loss.cuda.index(text)]
    shares = {name for other in earlier for name, value in other.when.items() if value == 0}
    return {**dict.fromkeys(shares, 0.25), **text.when}


def _inputs(
    loss: Loss, text: CudaText, parameters: Mapping[str, Any], columns: int
) -> dict[str, Array]:
    rng = np.random.default_rng(columns)
    given = loss.complete(parameters)
    drawn = {}
    for declared in loss.inputs:
        if declared.holds in (Holds.CLASSES, Holds.INDICES) and text.targets_are_classes:
            drawn[declared.name] = rng.integers(0, columns, ROWS)
        else:
            drawn[declared.name] = _floats(rng, loss.shape, declared.under(given), columns)
    return drawn


def _floats(rng: np.random.Generator, shape: Shape, declared: Input, columns: int) -> Array:
    size = (ROWS, columns)
    domain = declared.domain
    if isinstance(domain, Choices):
        return rng.choice(np.array(domain.numbers, np.float64), size)
    if domain is not None and np.isfinite(domain.high - domain.low):
        return rng.uniform(domain.low, domain.high, size)
    positive = 0.1 + rng.exponential(2, size)
    if shape is Shape.ROWWISE:
        # Logits and logs of probabilities may be negative, what has a domain is a distribution.
        unsigned = domain is None or domain.low < 0
        return -positive if unsigned else positive / positive.sum(axis=-1, keepdims=True)
    return rng.normal(0, 2, size) if domain is None else domain.low + positive


def _as(array: Array, dtype: np.dtype[Any]) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _numbers(result: Result) -> dict[str, Array]:
    """All that a result holds, under the name that a fault has."""
    values = {"loss": np.asarray(result.loss_sum), "per_example": np.asarray(result.per_example)}
    return {**values, **result.gradients}


def _first_wrong(found: Array, right: Array, dtype: np.dtype[Any]) -> str:
    """Says what is wrong with the first wrong number, or nothing."""
    found, right = (np.atleast_1d(np.asarray(array, np.float64)) for array in (found, right))
    usual = np.median(np.abs(right))
    allowed = TOLERANCES[dtype] * (np.abs(right) + usual) + _SMALLEST[dtype]
    wrong = ~(np.abs(found - right) <= allowed)
    if not wrong.any():
        return ""
    place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
    return f"must be {right[place]:g} at {place}, got {found[place]:g}"
