"""Checks that this machine computes correctly: every loss on its own hand-worked examples.

Each is one example, worked on paper, so they check the arithmetic of a processor, a driver and a
compiler that the tests never saw.  Losses that are computed row by row are checked with many rows
too, each of which must come out as if it were alone.  Losses with kernels are also checked with
long rows in every type, against NumPy.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Example, Loss
from lossd.selftest._long_rows import COLUMNS, long_rows
from lossd.selftest.floats import with_floats
from lossd.shapes import rules_of

# Relative to the value; the examples have small numbers and few steps.
_TOLERANCES: Mapping[type, float] = {np.float32: 1e-5, np.float64: 1e-12}
# More than any kernel takes in one block, and no multiple of the size of a warp.
_MANY_ROWS = 2003


@dataclass(frozen=True, slots=True)
class Check:
    """One case of a loss in one precision; ``fault`` is what was wrong, or empty."""

    loss: str
    precision: str
    fault: str


def run(engine: Engine) -> Iterator[Check]:
    """Checks every example of every loss, and long rows too unless NumPy computes."""
    has_device = engine.backend.name != NumpyBackend.name
    if has_device:
        _compile(engine)
    for loss in LOSSES.values():
        for precision in _TOLERANCES:
            for example in _examples(loss):
                fault = _fault_of(functools.partial(_fault, engine, loss, example, precision))
                yield Check(loss.name, precision.__name__, fault)
    if has_device:
        with contextlib.closing(Engine(NumpyBackend(threads=1))) as reference:
            yield from _run_long_rows(engine, reference)


def _compile(engine: Engine) -> None:
    """Compiles every kernel that is needed below."""
    with engine.backend.compiling_ahead():
        for job in _jobs():
            with contextlib.suppress(Exception):  # it is found once more below
                engine.plan(job)


def _jobs() -> Iterator[Job]:
    """Yields a job for each of them."""
    for loss in LOSSES.values():
        for example, precision in itertools.product(_examples(loss), _TOLERANCES):
            yield _job(loss, example, precision)
        for rows in long_rows(loss, columns=COLUMNS[:1]):
            yield rows.job


def _run_long_rows(engine: Engine, reference: Engine) -> Iterator[Check]:
    for loss in LOSSES.values():
        for rows in long_rows(loss):
            fault = _fault_of(functools.partial(rows.fault, engine, reference))
            yield Check(loss.name, rows.dtype.name, fault)


def faults(engine: Engine) -> dict[str, str]:
    """Returns the faults of the losses that get an example wrong, by their name."""
    found: dict[str, str] = {}
    for check in run(engine):
        if check.fault:
            found.setdefault(check.loss, f"in {check.precision}: {check.fault}")
    return found


def _examples(loss: Loss) -> Iterator[Example]:
    for example in loss.examples:
        yield example
        is_by_row = rules_of(loss).row_axis(loss, example.parameters) is not None
        if is_by_row and "class_axis" not in example.parameters:
            yield _repeated(example)


def _repeated(example: Example) -> Example:
    """Returns the same example many times over, whose mean is the same value."""

    def many(value: Any) -> npt.NDArray[Any]:
        return np.repeat(np.asarray(value), _MANY_ROWS, axis=0)

    return replace(
        example,
        inputs={name: many(value) for name, value in example.inputs.items()},
        gradients={name: many(value) / _MANY_ROWS for name, value in example.gradients.items()},
    )


def _fault_of(check: Callable[[], str]) -> str:
    """Returns the fault that a check finds, or the error that it ends in."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        return f"{type(error).__name__}: {error}"


def _fault(engine: Engine, loss: Loss, example: Example, precision: type) -> str:
    result = engine.run(_job(loss, example, precision))
    wanted = {"loss": example.value, **example.gradients}
    for name, value in wanted.items():
        found = result.loss if name == "loss" else result.gradients[name]
        if not _close(found, value, _TOLERANCES[precision]):
            return f"{name} must be {value}, got {found}".replace("\n", "")
    return ""


def _job(loss: Loss, example: Example, precision: type) -> Job:
    return Job(
        loss=loss,
        parameters=example.parameters,
        inputs={name: [with_floats(value, precision)] for name, value in example.inputs.items()},
        gradients=tuple(example.gradients),
    )


def _close(found: Any, wanted: Any, tolerance: float) -> bool:
    return np.allclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
