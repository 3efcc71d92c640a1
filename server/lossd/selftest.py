"""Whether this machine computes right: every loss on its own hand-worked examples.

The examples are one example each, worked on paper, so they check the arithmetic of a processor, a
driver and a compiler that the tests never saw.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Example, Loss

# Relative to the value; the examples are small numbers and few steps.
_TOLERANCES: Mapping[type, float] = {np.float32: 1e-5, np.float64: 1e-12}


@dataclass(frozen=True, slots=True)
class Check:
    """One example of a loss in one precision; ``fault`` is what was wrong, or empty."""

    loss: str
    precision: str
    fault: str


def run(engine: Engine) -> Iterator[Check]:
    """Checks every example of every loss in every precision."""
    for loss in LOSSES.values():
        for precision in _TOLERANCES:
            for example in loss.examples:
                fault = _fault(engine, loss, example, precision)
                yield Check(loss.name, precision.__name__, fault)


def _fault(engine: Engine, loss: Loss, example: Example, precision: type) -> str:
    job = Job(
        loss=loss,
        parameters=example.parameters,
        inputs={name: [_as(value, precision)] for name, value in example.inputs.items()},
        gradients=tuple(example.gradients),
    )
    try:
        result = engine.run(job)
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        return f"{type(error).__name__}: {error}"
    wanted = {"loss": example.value, **example.gradients}
    for name, value in wanted.items():
        found = result.loss if name == "loss" else result.gradients[name]
        if not _close(found, value, _TOLERANCES[precision]):
            return f"{name} must be {value}, got {found}"
    return ""


def _as(value: Any, precision: type) -> npt.NDArray[Any]:
    """Numbers with a point in the precision, whole ones as they are: they are classes."""
    array = np.asarray(value)
    return array.astype(precision) if array.dtype.kind == "f" else array


def _close(found: Any, wanted: Any, tolerance: float) -> bool:
    return np.allclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
