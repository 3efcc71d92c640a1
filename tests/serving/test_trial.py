"""A device is tried out before the server computes on it."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.backends import Backend, Buffers, Checkpoint, Evaluated
from lossd.backends.choose import BackendChoice, Chosen
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Batch, Job
from lossd.errors import BackendUnavailable
from lossd.losses import LOSSES
from lossd.networks import Networks
from lossd.serving.config import Config
from lossd.serving.trial import Tried, try_out
from lossd.sums import SumJob, Term, run

Faulty = Callable[[Batch, Evaluated, Buffers], Evaluated]


class Device:
    """NumPy under another name, with a fault."""

    name = "cupy"
    device = "a device with a fault"

    def __init__(self, fault: Faulty) -> None:
        self._numpy = NumpyBackend(threads=1)
        self._fault = fault

    def evaluate(
        self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool, checkpoint: Checkpoint
    ) -> Evaluated:
        evaluated = self._numpy.evaluate(
            batch, buffers, zero_nonfinite=zero_nonfinite, checkpoint=checkpoint
        )
        return self._fault(batch, evaluated, buffers)

    def close(self) -> None:
        self._numpy.close()


def tried(fault: Faulty, **settings: object) -> Tried:
    given: dict[str, Any] = {"backend": BackendChoice.AUTO, "threads": 1, **settings}
    device: Backend = Device(fault)
    return try_out(Chosen(device, "it is there"), Config(**given), Networks())


def sound(_: Batch, evaluated: Evaluated, __: Buffers) -> Evaluated:
    return evaluated


def wrong_slope_of_huber(batch: Batch, evaluated: Evaluated, buffers: Buffers) -> Evaluated:
    if batch.loss.name == "huber":
        buffers.gradients["predictions"][...] *= 2
    return evaluated


def wrong_last_row(batch: Batch, evaluated: Evaluated, buffers: Buffers) -> Evaluated:
    """As a kernel does that forgets what does not fill a block."""
    if batch.loss.name == "huber" and batch.rows > 1:
        buffers.gradients["predictions"][-1] = 0
    return evaluated


def wrong_end_of_a_long_row(batch: Batch, evaluated: Evaluated, buffers: Buffers) -> Evaluated:
    """As a kernel does that forgets a warp."""
    if batch.loss.name == "huber" and batch.length > 1000:
        buffers.gradients["predictions"][:, -32:] = 0
    return evaluated


def wrong_in_16_bits(batch: Batch, evaluated: Evaluated, buffers: Buffers) -> Evaluated:
    if batch.loss.name == "huber" and batch.operands[0].rows.dtype == ml_dtypes.bfloat16:
        buffers.gradients["predictions"][...] *= 2
    return evaluated


def no_compiler(_: Batch, __: Evaluated, ___: Buffers) -> Evaluated:
    raise RuntimeError("headers are missing")


class Fragile:
    """A device that nothing works on any more once a loss has gone wrong."""

    def __init__(self, loss: str) -> None:
        self._loss = loss
        self._is_lost = False

    def __call__(self, batch: Batch, evaluated: Evaluated, _: Buffers) -> Evaluated:
        self._is_lost |= batch.loss.name == self._loss
        if self._is_lost:
            raise RuntimeError("an illegal address was encountered")
        return evaluated


def job(loss: str) -> Job:
    inputs = {"predictions": [np.array([3.0])], "targets": [np.array([0.0])]}
    return Job(loss=LOSSES[loss], parameters={}, inputs=inputs)


def test_a_sound_device_computes_everything() -> None:
    found = tried(sound)

    assert not found.faults
    assert found.engine.run(job("huber")).backend == "cupy"


@pytest.mark.parametrize("fault", [wrong_slope_of_huber, wrong_last_row])
def test_the_cpu_computes_what_the_device_gets_wrong(fault: Faulty) -> None:
    found = tried(fault)
    huber, squared = (found.engine.run(job(name)) for name in ("huber", "squared_error"))

    assert list(found.faults) == ["huber"]
    assert "in float32: predictions must be" in found.faults["huber"]
    assert (huber.backend, huber.gradients["predictions"].tolist()) == ("numpy", [1.0])
    assert squared.backend == found.chosen.backend.name == "cupy"
    assert not found.chosen.is_fallback


@pytest.mark.parametrize(
    ("fault", "type_name", "columns"),
    [(wrong_end_of_a_long_row, "float32", 1003), (wrong_in_16_bits, "bfloat16", 1003)],
)
def test_long_rows_and_every_type_are_tried(fault: Faulty, type_name: str, columns: int) -> None:
    found = tried(fault)

    assert list(found.faults) == ["huber"]
    told = f"in {type_name}: predictions of 3 rows of {columns} must be "
    assert found.faults["huber"].startswith(told)


def test_a_sum_over_both_names_the_device() -> None:
    engine = tried(wrong_slope_of_huber).engine

    def backend(*losses: str) -> str:
        names = {"predictions": "predictions", "targets": "targets"}
        terms = tuple(Term(weight=1.0, job=job(loss), names=names) for loss in losses)
        return run(engine, SumJob(terms=terms, inputs=job("huber").inputs)).backend

    assert backend("huber", "squared_error") == "cupy"
    assert backend("huber", "huber") == "numpy"


def test_a_device_that_gets_nothing_right_is_not_used() -> None:
    found = tried(no_compiler)

    assert found.chosen.is_fallback
    assert found.chosen.backend.name == "numpy"
    assert "a device with a fault gets every loss wrong" in found.chosen.reason
    assert "headers are missing" in found.chosen.reason
    assert found.engine.run(job("huber")).backend == "numpy"


def test_an_operator_who_wants_such_a_device_is_told() -> None:
    with pytest.raises(BackendUnavailable, match=r"must compute right, got cupy on a device.*head"):
        tried(no_compiler, backend=BackendChoice.CUPY)


def test_a_device_that_a_fault_takes_down_is_not_used() -> None:
    assert list(LOSSES).index("huber") > 0  # others were right before

    assert tried(Fragile("huber")).chosen.backend.name == "numpy"


def test_an_operator_may_trust_a_device() -> None:
    found = tried(wrong_slope_of_huber, check_device=False)

    assert found.engine.run(job("huber")).gradients["predictions"].tolist() == [2.0]
