"""Long rows of random numbers, for faults of kernels that short worked examples cannot show.

A row of a few numbers takes a part of a warp.  These use every part of a kernel: several warps,
whose results meet in shared memory, loads of 128 bits, and rows that begin at addresses unfit for
them.  The right results are those of NumPy.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from lossd.batch import Array, Job
from lossd.engine import Engine, Result
from lossd.kernels import gradients_of
from lossd.losses import Axes, Choices, Content, CudaText, Input, Interval, Loss, Shape, Sides
from lossd.reduction import Reduction
from lossd.selftest.floats import with_floats
from lossd.shapes import rules_of

# One warp, two, as many as a block has, and of single numbers several blocks; odd, so that rows
# begin at every alignment that a number may have.
ROWS, COLUMNS = 3, (1003, 2003, 16003, 32003)
# A sequence has its numbers in so many frames, and a label for every fourth.
FRAMES = {1003: 59, 2003: 59, 16003: 59, 32003: 200}
# A position of regions of classes has so many; then a row has fewer positions.  The longest has
# more than a block takes, of fewer classes.
CLASSES = 7
LONG_CLASSES = (3, 16403)
# Relative to a number and to its typical neighbours: sums of many terms, rounded to the type.
TOLERANCES: Mapping[np.dtype[Any], float] = {
    np.dtype(np.float32): 2e-5,
    np.dtype(np.float64): 1e-11,
    np.dtype(np.float16): 2e-3,
    np.dtype(ml_dtypes.bfloat16): 2e-2,
}
# A GPU takes float32 numbers below the smallest normal one for 0, as CuPy asks, so they are lost in
# whatever is made of them.
_LOST = float(np.finfo(np.float32).smallest_normal)
# The smallest positive number of a type, which rounding may take away.
_SMALLEST = {dtype: float(np.ones(1, f"u{dtype.itemsize}").view(dtype)[0]) for dtype in TOLERANCES}


@dataclass(frozen=True, slots=True)
class LongRows:
    """A batch for one kernel text of a loss."""

    job: Job
    dtype: np.dtype[Any]
    columns: int

    def fault(self, engine: Engine, reference: Engine) -> str:
        """Returns the fault in the results of an engine, or an empty text."""
        found, wanted = _numbers(engine.run(self.job)), _numbers(reference.run(self.job))
        for name, right in wanted.items():
            if wrong := _first_wrong(found[name], right, self.dtype):
                return f"{name} of {ROWS} rows of {self.columns} {wrong}"
        return ""


def long_rows(loss: Loss, columns: Sequence[int] = COLUMNS) -> Iterator[LongRows]:
    """Yields batches of so many columns for every kernel text of a loss, in every type.

    There is none for a loss on the host.
    """
    if rules_of(loss).on_host:
        return
    for text in (*loss.cuda, *itertools.chain.from_iterable(loss.cuda_of.values())):
        parameters = parameters_for(loss, text)
        for length in columns:
            drawn = _inputs(loss, text, parameters, length)
            for dtype in TOLERANCES:
                inputs = {name: [with_floats(array, dtype)] for name, array in drawn.items()}
                # Reduced to a sum, so that gradients are not too small for 16 bits.
                job = Job(loss=loss, parameters=parameters, inputs=inputs, reduction=Reduction.SUM)
                yield LongRows(job, dtype, length)


def parameters_for(loss: Loss, text: CudaText) -> dict[str, Any]:
    """Returns parameters for which a text is the first that applies."""
    texts = next(one for one in (loss.cuda, *loss.cuda_of.values()) if text in one)
    earlier = texts[: texts.index(text)]
    shares = {name for other in earlier for name, value in other.when.items() if value == 0}
    shares -= {name for name, value in text.when.items() if value == 0}
    axis = {"class_axis": 1} if text.has_class_axis else {}
    return {**dict.fromkeys(shares, 0.25), **text.when, **axis}


def _inputs(
    loss: Loss, text: CudaText, parameters: Mapping[str, Any], columns: int
) -> dict[str, Array]:
    rng = np.random.default_rng(columns)
    given = loss.complete(parameters)
    if any(declared.content is Content.LENGTHS for declared in loss.inputs):
        return _sequences(rng, loss.inputs[0].under(given), columns)
    # Vectors of any number of components are about as long, so that squares fit 16 bits.
    spread = 0.5 / columns**0.5 if len(gradients_of(loss)) > 1 else 2
    row = _classes(columns) if text.has_class_axis else (columns,)
    drawn = {}
    for declared in loss.inputs:
        if declared.is_optional and _are_fake_alone(loss, given):
            continue
        if declared.content in (Content.CLASSES, Content.INDICES) and text.targets_are_classes:
            drawn[declared.name] = rng.integers(0, row[0], (ROWS, *row[1:]))
        else:
            drawn[declared.name] = _floats(rng, loss.shape, declared.under(given), row, spread)
    return drawn


def _classes(columns: int) -> tuple[int, int]:
    """Returns the classes and the positions of a row."""
    return LONG_CLASSES if columns == COLUMNS[-1] else (CLASSES, columns // CLASSES)


def _are_fake_alone(loss: Loss, given: Mapping[str, Any]) -> bool:
    return loss.sides is not None and loss.sides(**given) is Sides.FAKE


def _sequences(rng: np.random.Generator, frames: Input, columns: int) -> dict[str, Array]:
    time = FRAMES[columns]
    classes = columns // time
    shares = rng.exponential(2, (ROWS, time, classes))
    shares /= shares.sum(axis=-1, keepdims=True)
    is_share = isinstance(frames.domain, Interval) and frames.domain.high == 1
    return {
        frames.name: shares if is_share else np.log(shares),
        "targets": rng.integers(1, classes, (ROWS, time // 4)),
        "prediction_lengths": time - np.arange(ROWS),
        "target_lengths": time // 4 - np.arange(ROWS),
    }


def _floats(
    rng: np.random.Generator, shape: Shape, declared: Input, row: tuple[int, ...], spread: float
) -> Array:
    size = (ROWS, *row) if declared.axes is Axes.ELEMENTS else (ROWS,)
    domain = declared.domain
    if isinstance(domain, Choices):
        return rng.choice(np.array(domain.numbers, np.float64), size)
    if domain is not None and np.isfinite(domain.high - domain.low):
        # The derivative of a logarithm at the end of a domain may be too large for 16 bits.
        end = (domain.high - domain.low) / 64
        return rng.uniform(domain.low + end, domain.high - end, size)
    positive = 0.1 + rng.exponential(2, size)
    if domain is not None and np.isinf(domain.low):  # logarithms of probabilities
        return domain.high - positive
    if shape is Shape.ROWWISE:
        # Logits may be negative; an input with a domain is a distribution.
        return -positive if domain is None else positive / positive.sum(axis=-1, keepdims=True)
    return rng.normal(0, spread, size) if domain is None else domain.low + positive


def _numbers(result: Result) -> dict[str, Array]:
    """Returns all arrays of a result, under the names that a fault gives them."""
    values = {"loss": np.asarray(result.loss_sum), "per_example": np.asarray(result.per_example)}
    return {**values, **result.gradients}


def _first_wrong(found: Array, right: Array, dtype: np.dtype[Any]) -> str:
    """Describes the first wrong number; empty if there is none."""
    found, right = (np.atleast_1d(np.asarray(array, np.float64)) for array in (found, right))
    usual = np.median(np.abs(right))
    lost = _SMALLEST[dtype] if dtype == np.float64 else max(_SMALLEST[dtype], _LOST)
    allowed = TOLERANCES[dtype] * (np.abs(right) + usual) + lost
    wrong = ~(np.abs(found - right) <= allowed)
    if not wrong.any():
        return ""
    index = tuple(int(axis[0]) for axis in np.nonzero(wrong))
    return f"must be {right[index]:g} at {index}, got {found[index]:g}"
