"""Device memory that nobody uses any more is given back, by a later call if there is no time."""

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from lossd import v1
from lossd.client.call import ALLOCATE_DEVICE, GET_SERVER_INFO, RELEASE_DEVICE
from lossd.client.device import DeviceSharing
from lossd.client.device_arrays import OnDevice
from lossd.client.device_call import DeviceCall
from lossd.client.device_segments import OpenedSegment
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    LossdError,
    PermissionDeniedError,
)
from lossd.client.lease import ClientLease
from lossd.client.sharing import Sharing
from lossd.client.waiting import NEVER
from tests.sharing_server import SharingServer


def made_up_cupy() -> Any:
    """As much of CuPy as opens memory of a device."""
    runtime = SimpleNamespace(
        CUDARuntimeError=OSError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda _: {"uuid": b"device"},
        ipcOpenMemHandle=lambda _: 1 << 32,
        ipcOpenEventHandle=lambda _: 1,
        ipcCloseMemHandle=lambda _: None,
        getDevice=lambda: 0,
        setDevice=lambda _: None,
        deviceSynchronize=lambda: None,
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        Device=contextlib.nullcontext,
        get_current_stream=lambda: SimpleNamespace(ptr=0),
    )
    return SimpleNamespace(cuda=cuda)


def opened(size: int) -> OpenedSegment:
    """Memory of a made-up device."""
    cupy, lease = made_up_cupy(), cast("Any", SimpleNamespace(token=b"lease"))
    return OpenedSegment(cupy, 0, v1.AllocateDeviceResponse(size=size, segment=b"own"), lease)


class Segment:
    """Free, and too small for what is asked."""

    device = 0

    def __init__(self, token: bytes) -> None:
        self.token = token

    def is_free(self) -> bool:
        return True

    def take(self, *_: Any, **__: Any) -> None:
        return None


@pytest.fixture
def released() -> list[bytes]:
    return []


@pytest.fixture
def sharing(released: list[bytes]) -> Any:
    def ask(method: Any, request: Any, _: float) -> None:
        if method is not RELEASE_DEVICE:  # no more memory is had
            raise PermissionDeniedError("nothing")
        released.append(request.segment)

    lease: Any = SimpleNamespace(token=b"lease")
    made: Any = DeviceSharing(ask, lambda _: lease)
    made._cupy = made_up_cupy()
    made._uuids = {0: b"device"}
    made._segments = [Segment(b"one"), Segment(b"two")]
    return made


def test_unused_memory_is_released_before_more_is_asked_for(
    sharing: Any, released: list[bytes]
) -> None:
    assert sharing.block(1 << 30, 0) is None
    assert released == [b"one", b"two"]


def test_a_timeout_of_the_callers_own_keeps_no_other_call_from_memory(
    sharing: Any, clock: list[float]
) -> None:
    def ask(_: Any, __: Any, seconds: float) -> None:
        clock[0] += seconds
        raise DeadlineExceededError("late")

    sharing._ask, sharing._segments = ask, []
    assert sharing.block(1 << 20, 0, until=clock[0] + 0.02) is None
    assert not sharing._rest.is_on
    assert sharing.block(1 << 20, 0, until=clock[0] + 0.3) is None
    assert sharing._rest.is_on  # the server had its time


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("asked", [GET_SERVER_INFO, ALLOCATE_DEVICE], ids=lambda each: each.path)
def test_a_call_that_is_given_up_while_it_sets_memory_up_keeps_no_other_from_it(asked: Any) -> None:
    server, seen = Server(), []

    def ask(method: Any, request: Any, seconds: float) -> Any:
        seen.append(method)
        if method is asked and seen.count(method) == 1:
            raise CancelledError("call must be waited for, got a cancelled one")
        return server.ask(method, request, seconds)

    sharing = DeviceSharing(ask, server.attach)
    assert sharing.block(1 << 20, 0) is None
    assert sharing.block(1 << 20, 0) is not None


def test_what_a_call_given_up_has_not_released_a_later_one_does(
    sharing: Any, released: list[bytes]
) -> None:
    def give_up(*_: Any) -> None:
        raise CancelledError("call must be waited for, got a cancelled one")

    asks, sharing._ask = sharing._ask, give_up
    assert sharing.block(1 << 30, 0) is None
    assert released == []
    sharing._ask = asks
    assert sharing.block(1 << 30, 0) is None
    assert released == [b"one", b"two"]


def test_a_call_ends_while_another_asks_the_server(sharing: Any) -> None:
    """Nothing else is put where the server may still write, which takes no wait to say."""
    sharing._segments = [opened(1 << 20)]
    call = DeviceCall(sharing, NEVER)
    call._reply = sharing.block(1 << 10, 0)
    with ThreadPoolExecutor(1) as threads, sharing._lock:
        threads.submit(call.end, was_answered=False).result(10)
    assert call._reply is None
    assert sharing.block(1 << 10, 0) is None


@pytest.mark.parametrize("is_left", [True, False])
def test_memory_that_this_client_has_left_tells_nothing_of_the_server_it_shares_with_now(
    sharing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_left: bool
) -> None:
    monkeypatch.setattr("lossd.client.sharing.REST_SECONDS", 0.0)
    shared = Sharing(SharingServer(tmp_path).ask)
    shared.device, sharing._segments = sharing, [opened(1 << 20)]
    block = sharing.block(1 << 10, 0)
    address = block.segment.address + block.start
    array = OnDevice(value=block, dtype=np.dtype("f4"), shape=(9,), address=address, stream=0)
    with ClientLease(shared) as lease:
        assert lease.place(array)
        if is_left:
            shared.reset()  # as another call does that finds the server gone
        kept = shared.empty(np.empty(9, np.float32))
        assert lease.is_lost(LossdError("unknown", reason="SEGMENT_NOT_FOUND"))
        assert (shared.locate(kept) is not None) is is_left


def test_a_call_without_time_leaves_it_to_the_next(sharing: Any, released: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = iter([0.0])  # there is time to begin, and none for anything else
        patch.setattr(time, "monotonic", lambda: next(clock, 2.0))
        assert sharing.block(1 << 30, 0, until=1.0) is None
    assert released == []
    assert sharing.block(1 << 30, 0) is None
    assert released == [b"one", b"two"]


class Server:
    """Shares memory of a device with who has its lease, unless it ``refuses`` to."""

    def __init__(self) -> None:
        self.lease = b"first"
        self.refuses = ""
        self.questions = 0

    def attach(self, _: float) -> Any:
        return SimpleNamespace(token=self.lease)

    def ask(self, method: Any, request: Any, _: float) -> Any:
        self.questions += 1
        if method is GET_SERVER_INFO:
            info = v1.GetServerInfoResponse()
            if self.refuses != "nothing is offered":
                info.device_memory.device_uuids.append(b"device")
            return info
        if method is not ALLOCATE_DEVICE:
            return None
        if self.refuses == "not granted":
            raise PermissionDeniedError("not granted")
        if request.lease != self.lease:
            raise LossdError("no such lease", reason="SEGMENT_NOT_FOUND")
        return v1.AllocateDeviceResponse(size=request.size, segment=b"own")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only where a test says so."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = made_up_cupy()
    monkeypatch.setitem(sys.modules, "cupy", made)
    return made


@pytest.mark.parametrize("how", ["nothing is offered", "not granted", "the device is full"])
def test_a_server_without_memory_is_asked_again_much_later(
    how: str, cupy: Any, clock: list[float]
) -> None:
    def is_full(_: Any) -> int:
        raise RuntimeError("out of memory")

    server, works = Server(), cupy.cuda.runtime.ipcOpenMemHandle
    sharing = DeviceSharing(server.ask, server.attach)
    server.refuses = how
    if how == "the device is full":
        cupy.cuda.runtime.ipcOpenMemHandle = is_full
    assert sharing.block(1 << 20, 0) is None
    server.refuses, cupy.cuda.runtime.ipcOpenMemHandle = "", works
    asked = server.questions
    clock[0] += 25
    assert sharing.block(1 << 20, 0) is None
    assert server.questions == asked
    clock[0] += 10
    assert sharing.block(1 << 20, 0) is not None


def test_without_cupy_no_server_is_asked_twice(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    server = Server()
    sharing = DeviceSharing(server.ask, server.attach)
    for _ in range(3):
        assert sharing.block(1 << 20, 0) is None
        sharing.lose_server()
        clock[0] += 1000
    assert server.questions == 1


@pytest.mark.usefixtures("cupy")
def test_a_lease_that_a_server_does_not_know_is_forgotten(clock: list[float]) -> None:
    server = Server()
    sharing = DeviceSharing(server.ask, server.attach)
    kept = [sharing.block(1 << 20, 0)]
    server.lease = b"of the next server"
    assert sharing.block(1 << 30, 0) is None
    clock[0] += 2
    kept.append(sharing.block(1 << 30, 0))
    assert all(kept)
