"""A fault that leaves the device useless, against one of a single call."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGUSR1
from typing import Any

import numpy as np
import pytest

from lossd.backends import Exported, Exports, Resident
from lossd.backends import cupy as backend
from lossd.client import LossClient, LossResult, UnavailableError
from lossd.engine import Engine
from lossd.errors import DeviceFull, DeviceLost, InvalidRequest
from lossd.losses import LOSSES
from lossd.v1 import SquaredError
from tests import fragile_server
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.on_device import CUPY, MEBIBYTE, filled
from tests.sampling import plain
from tests.waiting import until

pytestmark = pytest.mark.gpu


@pytest.fixture
def engine(fake: Any) -> Iterator[Engine]:
    made = Engine(backend.CupyBackend())
    yield made
    fake.reset()
    made.close()


def test_a_fault_of_one_call_is_that_calls_alone(fake: Any, engine: Engine) -> None:
    job = plain(LOSSES["huber"]).job()
    engine.run(job)
    fake.fault("cuLaunchKernel", error=fake.LAUNCH_OUT_OF_RESOURCES)
    with pytest.raises(Exception, match="LAUNCH_OUT_OF_RESOURCES"):
        engine.run(job)

    assert engine.run(job).example_count == plain(LOSSES["huber"]).count


def test_a_lost_device_is_called_lost(engine: Engine) -> None:
    fragile_server.break_device()
    with pytest.raises(DeviceLost, match="device must answer, got: cuda"):
        engine.run(plain(LOSSES["huber"]).job())


HANDLE = b"x" * 64  # of an event
# Everything that is done with memory of a device beside computing.
USES: dict[str, Callable[[Exports, Resident], Any]] = {
    "allocate": lambda exports, _: exports.allocate(1, next(iter(exports.uuids))),
    "fetch": lambda exports, array: exports.fetch(array),
    "put": lambda exports, array: exports.put(np.zeros(array.shape, array.dtype), array),
    "norm": lambda exports, array: exports.norm(array),
    "signal": lambda exports, array: exports.signal(memory_of(exports, array)),
    "wait": lambda exports, array: exports.wait(HANDLE, memory_of(exports, array), lambda: None),
}


def memory_of(exports: Exports, array: Resident) -> Exported:
    found = exports.of(array)
    assert found is not None
    return found


@pytest.fixture
def exports(engine: Engine) -> Exports:
    found = engine.backend.exports
    assert found is not None
    return found


@pytest.fixture
def array(exports: Exports) -> Resident:
    """An array on the device, of bytes."""
    return exports.allocate(1, next(iter(exports.uuids))).array()


# A stream of CuPy's that was never made complains when it goes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("use", USES)
def test_a_lost_device_is_called_lost_whatever_its_memory_is_for(
    exports: Exports, array: Resident, use: str
) -> None:
    fragile_server.break_device()
    with pytest.raises(DeviceLost, match="device must answer, got: cuda"):
        USES[use](exports, array)


@pytest.mark.parametrize(
    ("use", "call"),
    [
        ("allocate", "cudaIpcGetMemHandle"),
        ("fetch", "cudaMemcpyAsync"),
        ("put", "cudaMemcpyAsync"),
        ("norm", "cudaMemcpyAsync"),
        ("signal", "cudaEventRecord"),
        ("wait", "cudaIpcOpenEventHandle"),
    ],
)
def test_a_device_is_full_whatever_its_memory_is_for(
    fake: Any, exports: Exports, array: Resident, use: str, call: str
) -> None:
    fake.fault(call, error=fake.MEMORY_ALLOCATION)
    with pytest.raises(DeviceFull, match="must fit into the device's memory that is free"):
        USES[use](exports, array)


def test_an_event_that_a_device_refuses_is_its_clients_fault(
    fake: Any, exports: Exports, array: Resident
) -> None:
    fake.fault("cudaIpcOpenEventHandle", error=400)
    with pytest.raises(InvalidRequest, match="ready_event must be an event of the client's"):
        USES["wait"](exports, array)


def test_an_event_of_a_device_that_is_lost_meanwhile_is_not_waited_for(
    fake: Any, exports: Exports, array: Resident
) -> None:
    cuda = exports._cupy.cuda
    event, stream = cuda.Event(disable_timing=True), cuda.Stream(non_blocking=True)
    event.record(stream)
    exports._events[HANDLE] = event.ptr  # as if it had been opened
    fake.query_lag(1)
    breaks = iter([fragile_server.break_device])

    def break_once() -> None:
        next(breaks)()

    with pytest.raises(DeviceLost):
        exports.wait(HANDLE, memory_of(exports, array), break_once)


def test_a_lost_device_can_be_closed(engine: Engine) -> None:
    fragile_server.break_device()

    engine.close()


@pytest.fixture
def server(fake: Any, tmp_path: Path) -> Iterator[Process]:
    """A server that shares memory of a device that SIGUSR1 breaks."""
    del fake  # skips without it
    inside = (sys.executable, str(Path(fragile_server.__file__)))
    arguments = (*CUPY, "--drain-seconds", "1", "--shm-dir", str(tmp_path))
    with serve(*arguments, "--max-device-bytes", str(64 * MEBIBYTE), inside=inside) as found:
        yield found


def test_a_server_whose_device_is_lost_says_so_and_ends(server: Process) -> None:
    with LossClient(server.address) as client:
        given = np.ones((2, 3))
        assert compute(client, given).backend == "cupy"
        says_so_and_ends(server, client, given)


def test_a_server_whose_device_is_lost_says_so_to_who_shares_its_memory(server: Process) -> None:
    with LossClient(server.address) as client:
        says_so_and_ends(server, client, filled(client, np.ones((200, 300))))


def compute(client: LossClient, predictions: Any) -> LossResult:
    targets = np.zeros(predictions.shape, predictions.dtype)
    return client.compute(SquaredError(), predictions=predictions, targets=targets, timeout=5)


def says_so_and_ends(server: Process, client: LossClient, predictions: Any) -> None:
    server.process.send_signal(SIGUSR1)
    until(lambda: server.has_logged(fragile_server.BROKEN))
    with pytest.raises(UnavailableError):
        compute(client, predictions)

    assert server.process.wait(timeout=20) == 1
    assert "device must answer, got nothing from it" in "".join(server.log())
