"""Device memory that nobody uses any more is given back, by a later call if there is no time."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lossd import v1
from lossd.client.call import RELEASE_DEVICE
from lossd.client.device import DeviceSharing
from lossd.client.device_call import DeviceCall
from lossd.client.device_segments import OpenedSegment
from lossd.client.errors import DeadlineExceededError, PermissionDeniedError
from lossd.client.waiting import NEVER


def opened(size: int) -> OpenedSegment:
    """Memory of a made-up device."""
    runtime = SimpleNamespace(
        CUDARuntimeError=OSError,
        ipcOpenMemHandle=lambda _: 1 << 32,
        ipcOpenEventHandle=lambda _: 1,
        ipcCloseMemHandle=lambda _: None,
        getDevice=lambda: 0,
        setDevice=lambda _: None,
        deviceSynchronize=lambda: None,
    )
    device = contextlib.nullcontext
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=device))
    lease: Any = SimpleNamespace(token=b"lease")
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
    cuda = SimpleNamespace(
        Device=contextlib.nullcontext, get_current_stream=lambda: SimpleNamespace(ptr=0)
    )
    made._cupy = SimpleNamespace(cuda=cuda)
    made._uuids = {0: b"device"}
    made._segments = [Segment(b"one"), Segment(b"two")]
    return made


def test_unused_memory_is_released_before_more_is_asked_for(
    sharing: Any, released: list[bytes]
) -> None:
    assert sharing.block(1 << 30, 0) is None
    assert released == [b"one", b"two"]


def test_a_timeout_of_the_callers_own_keeps_no_other_call_from_memory(sharing: Any) -> None:
    def ask(_: Any, __: Any, seconds: float) -> None:
        time.sleep(seconds)
        raise DeadlineExceededError("late")

    sharing._ask, sharing._segments = ask, []
    assert sharing.block(1 << 20, 0, until=time.monotonic() + 0.02) is None
    assert sharing._rests_until == 0.0
    assert sharing.block(1 << 20, 0, until=time.monotonic() + 0.3) is None
    assert sharing._rests_until > time.monotonic()  # the server had its time


def test_a_call_ends_while_another_asks_the_server(sharing: Any) -> None:
    """Nothing else is put where the server may still write, which takes no wait to say."""
    sharing._segments = [opened(1 << 20)]
    call = DeviceCall(sharing, NEVER)
    call._reply = sharing.block(1 << 10, 0)
    with ThreadPoolExecutor(1) as threads, sharing._lock:
        threads.submit(call.end, was_answered=False).result(10)
    assert call._reply is None
    assert sharing.block(1 << 10, 0) is None


def test_a_call_without_time_leaves_it_to_the_next(sharing: Any, released: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = iter([0.0])  # there is time to begin, and none for anything else
        patch.setattr(time, "monotonic", lambda: next(clock, 2.0))
        assert sharing.block(1 << 30, 0, until=1.0) is None
    assert released == []
    sharing._rests_until = 0.0
    assert sharing.block(1 << 30, 0) is None
    assert released == [b"one", b"two"]
