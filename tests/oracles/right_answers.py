"""The right answers of the cases of a sweep, in as many digits as they take."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from tests.losses.case import Case
from tests.oracles import ORACLES, exact, moved, size
from tests.oracles.margins import TOGETHER, Sweep

Array = npt.NDArray[Any]

STEP = 160  # digits by which a step is smaller than anything else


@dataclass(frozen=True)
class Right:
    """The value of each example, or of the set, and its derivatives; infinite beyond float64."""

    values: Array
    gradients: Mapping[str, Array]


@functools.cache
def right(sweep: Sweep, *, whole: bool = False) -> list[tuple[Case, Right]]:
    """The cases of a sweep and what is right of them."""
    return [(case, _right(case, sweep.derivatives)) for case in sweep.cases(whole=whole)]


def _right(case: Case, names: Sequence[str]) -> Right:
    """From differences of the formula, in as many digits as it takes."""
    sizes = [math.log10(n) for n in case.parameters.values() if isinstance(n, float) and n]
    beyond = int(max(map(abs, sizes), default=0))
    digits = 560 + 2 * beyond + int(max(sizes, default=0))
    if case.loss.name == "poisson_nll":
        digits += 450  # of exp(1000)
    rows: Sequence[Any] = range(case.count)
    if case.loss.shape in TOGETHER:
        rows = [slice(None)]
    with mpmath.workdps(digits):
        step = mpmath.mpf(10) ** -(STEP + beyond)
        parameters = {name: _exact_number(value) for name, value in case.parameters.items()}
        oracle = functools.partial(ORACLES[case.loss.name], **parameters)
        examples = [{name: exact(a[row]) for name, a in case.inputs.items()} for row in rows]
        values = np.array([float(oracle(**example)) for example in examples])
        gradients = {
            name: np.array([_derivatives(oracle, example, name, step) for example in examples])
            for name in names
        }
    return Right(values, {n: g.reshape(case.inputs[n].shape) for n, g in gradients.items()})


def _derivatives(oracle: Any, example: Mapping[str, Any], name: str, step: Any) -> list[float]:
    """Central differences by each number of an input."""
    found = []
    for position in range(size(example[name])):
        above, below = (
            oracle(**{**example, name: moved(example[name], position, way)})
            for way in (step, -step)
        )
        found.append(float((above - below) / (2 * step)))
    return found


def _exact_number(value: Any) -> Any:
    if isinstance(value, float):
        return mpmath.mpf(value)
    return tuple(map(mpmath.mpf, value)) if isinstance(value, tuple) else value
