"""A device is tried out before the server computes on it."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.backends import Backend, Body, Compute, Computed, Piece
from lossd.backends.choose import BackendChoice, Chosen
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Batch, Job
from lossd.errors import BackendUnavailable
from lossd.losses import LOSSES
from lossd.networks import Networks
from lossd.serving.config import Config
from lossd.serving.process.device_check import CheckedDevice, check_device
from lossd.sums import SumJob, Term, run

# The name of a loss and a piece of a batch, or nothing in a turn that is for a whole batch.
Faulty = Callable[[str, Piece | None], None]


class Device(NumpyBackend):
    """NumPy under another name, with a fault: called after each piece, and where bodies run."""

    name = "cupy"

    def __init__(self, fault: Faulty) -> None:
        super().__init__(threads=1)
        self._fault = fault

    @property
    def device(self) -> str:
        return "a device with a fault"

    def session(self) -> contextlib.AbstractContextManager[None]:
        self._fault("", None)
        return super().session()

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        compute = super().over_rows(batch, body)

        def spoilt(piece: Piece) -> Computed:
            found = compute.piece(piece)
            self._fault(batch.loss.name, piece)
            return found

        return replace(compute, piece=spoilt)


def checked(fault: Faulty, **settings: object) -> CheckedDevice:
    given: dict[str, Any] = {"backend": BackendChoice.AUTO, "threads": 1, **settings}
    device: Backend = Device(fault)
    return check_device(Chosen(device, "it is there"), Config(**given), Networks())


def sound(_: str, __: Piece | None) -> None:
    pass


def wrong_slope(piece: Piece) -> None:
    piece.gradients["predictions"][...] *= 2


def wrong_last_row(piece: Piece) -> None:
    """As a kernel does that forgets what does not fill a block."""
    if piece.count > 1:
        piece.gradients["predictions"][-1] = 0


def wrong_end_of_a_long_row(piece: Piece) -> None:
    """As a kernel does that forgets a warp."""
    if piece.gradients["predictions"].shape[1] > 1000:
        piece.gradients["predictions"][:, -32:] = 0


def wrong_in_16_bits(piece: Piece) -> None:
    if piece.inputs["predictions"][0].dtype == ml_dtypes.bfloat16:
        piece.gradients["predictions"][...] *= 2


# The losses that a device gets wrong, how, and what is said first of each.
WRONG: dict[str, tuple[Callable[[Piece], None], str]] = {
    "huber": (wrong_slope, "in float32: predictions must be"),
    "log_cosh": (wrong_last_row, "in float32: predictions must be"),
    "absolute_error": (wrong_end_of_a_long_row, "in float32: predictions of 3 rows of 1003 must"),
    "quantile": (wrong_in_16_bits, "in bfloat16: predictions of 3 rows of 1003 must be "),
}


def wrong(loss: str, piece: Piece | None) -> None:
    if loss in WRONG and piece:
        WRONG[loss][0](piece)


def no_compiler(_: str, __: Piece | None) -> None:
    raise RuntimeError("headers are missing")


class Fragile:
    """A device that nothing works on any more once a loss has gone wrong."""

    def __init__(self, loss: str) -> None:
        self._loss = loss
        self._is_lost = False

    def __call__(self, loss: str, _: Piece | None) -> None:
        self._is_lost |= loss == self._loss
        if self._is_lost:
            raise RuntimeError("an illegal address was encountered")


def job(loss: str) -> Job:
    inputs = {"predictions": [np.array([3.0])], "targets": [np.array([0.0])]}
    return Job(loss=LOSSES[loss], parameters={}, inputs=inputs)


def test_a_sound_device_computes_everything() -> None:
    found = checked(sound)

    assert not found.faults
    assert found.engine.run(job("huber")).backend == "cupy"


@pytest.fixture(scope="module")
def partly_wrong() -> CheckedDevice:
    """A device that gets some losses wrong, once it was checked."""
    return checked(wrong)


@pytest.mark.parametrize("loss", WRONG)
def test_the_cpu_computes_what_the_device_gets_wrong(
    partly_wrong: CheckedDevice, loss: str
) -> None:
    """A fault in long rows alone, or in one type alone, is found as well."""
    assert WRONG[loss][1] in partly_wrong.faults[loss]
    assert partly_wrong.engine.run(job(loss)).backend == "numpy"


def test_the_device_computes_what_it_gets_right(partly_wrong: CheckedDevice) -> None:
    huber, squared = (partly_wrong.engine.run(job(name)) for name in ("huber", "squared_error"))

    assert partly_wrong.faults.keys() == WRONG.keys()
    assert huber.gradients["predictions"].tolist() == [1.0]
    assert squared.backend == partly_wrong.chosen.backend.name == "cupy"
    assert not partly_wrong.chosen.is_fallback


def test_a_sum_over_both_names_the_device(partly_wrong: CheckedDevice) -> None:
    def backend(*losses: str) -> str:
        names = {"predictions": "predictions", "targets": "targets"}
        terms = tuple(Term(weight=1.0, job=job(loss), names=names) for loss in losses)
        return run(partly_wrong.engine, SumJob(terms=terms, inputs=job("huber").inputs)).backend

    assert backend("huber", "squared_error") == "cupy"
    assert backend("huber", "huber") == "numpy"


def test_a_device_that_gets_nothing_right_is_not_used() -> None:
    found = checked(no_compiler)

    assert found.chosen.is_fallback
    assert found.chosen.backend.name == "numpy"
    assert "a device with a fault gets every loss wrong" in found.chosen.reason
    assert "headers are missing" in found.chosen.reason
    assert found.engine.run(job("huber")).backend == "numpy"


def test_an_operator_who_wants_such_a_device_is_told() -> None:
    with pytest.raises(BackendUnavailable, match=r"must compute right, got cupy on a device.*head"):
        checked(no_compiler, backend=BackendChoice.CUPY)


def test_a_device_that_a_fault_takes_down_is_not_used() -> None:
    assert list(LOSSES).index("huber") > 0  # others were right before

    assert checked(Fragile("huber")).chosen.backend.name == "numpy"


def test_an_operator_may_trust_a_device() -> None:
    found = checked(wrong, check_device=False)

    assert found.engine.run(job("huber")).gradients["predictions"].tolist() == [2.0]
