"""Device memory that is not shared: where it cannot be, and requests that ask for too much."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import InvalidRequestError, LossClient
from lossd.client.call import ALLOCATE_DEVICE, COMPUTE_LOSS, RELEASE_DEVICE
from lossd.v1 import CrossEntropy, SquaredError
from tests.device import is_fake
from tests.end_to_end import on_device
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.on_device import (
    CLASSES,
    CUPY,
    MEBIBYTE,
    ROWS,
    classes,
    filled,
    held,
    holder,
    idle,
    in_use,
    logits,
)

pytestmark = pytest.mark.gpu
# These are fixtures here too, and the first of every test.
fake, sharing, cupy = on_device.fake, on_device.sharing, on_device.cupy


def falls_back(process: Process, **options: Any) -> None:
    """A client is given ordinary memory, and computes with it, at once and again."""
    with LossClient(process.address, **options) as client:
        for _ in range(2):
            array = client.device_empty((ROWS, CLASSES))
            assert type(array) is np.ndarray
            array[...] = logits()
            found = client.compute(CrossEntropy(), array, classes())
            assert found.transport in ("shared_memory", "grpc")
            assert isinstance(found.gradients["predictions"], np.ndarray)


def test_without_cupy(sharing: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    falls_back(sharing)


@pytest.mark.parametrize("call", ["cudaIpcOpenMemHandle", "cudaIpcOpenEventHandle"])
def test_a_handle_that_cannot_be_opened(sharing: Process, fake: Any, call: str) -> None:
    """As in another namespace of processes."""
    idle(sharing)
    fake.fault(call, nth=1, error=201)
    falls_back(sharing)
    assert not in_use(sharing)


def test_another_device(tmp_path: Path) -> None:
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(64 * MEBIBYTE))
    both = {**os.environ, "GPULAB_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPULAB_DEVICES", "2")
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with serve(*CUPY, *flags) as process, holder(process, **both) as client:
            assert client.stdout is not None
            assert client.stdout.readline().startswith("numpy")
            client.communicate()


@pytest.mark.parametrize("flags", [("--backend", "numpy"), CUPY])
def test_a_server_that_shares_none(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """One is on the CPU, which the log tells; the other has no directory for the lease."""
    asked = ("--max-device-bytes", str(64 * MEBIBYTE))
    shm = ("--shm-dir", str(tmp_path)) if flags != CUPY else ()
    with serve(*flags, *asked, *shm) as process:
        with LossClient(process.address) as client:
            info = client.server_info()
            assert "device_memory" not in info.transports
            assert not info.HasField("device_memory")
        falls_back(process)
        process.end()
        assert any("no device memory is shared" in line for line in process.log())


def test_no_room(tmp_path: Path) -> None:
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(4 * MEBIBYTE))
    with serve(*CUPY, *flags) as process, LossClient(process.address) as client:
        array = filled(client, logits())
        assert type(client.device_empty((2000, 2000))) is np.ndarray
        found = client.compute(CrossEntropy(), array, classes())
        assert found.transport == "device_memory"
        assert hasattr(found.gradients["predictions"], "__cuda_array_interface__")


def test_a_device_without_memory(sharing: Process) -> None:
    """Memory that is there stays in use; what is new goes elsewhere."""
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        assert type(client.device_empty((1 << 20, 128))) is np.ndarray
        assert client.compute(CrossEntropy(), array, classes()).transport == "device_memory"


RULES = """
[callers.one]
may = ["compute", "information", "shared_memory"]
tokens = ["0123456789-the-first-one"]

[callers.other]
may = ["compute", "information", "shared_memory"]
tokens = ["0123456789-the-other-one"]

[callers.small]
may = ["compute", "information", "shared_memory"]
tokens = ["0123456789-the-small-one"]
device_bytes = 4194304

[callers.without]
may = ["compute", "information"]
tokens = ["0123456789-one-without"]
"""


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that knows its callers by their tokens."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    folder = tmp_path_factory.mktemp("ruled")
    (folder / "rules.toml").write_text(RULES)
    (folder / "shm").mkdir()
    flags = ("--access", str(folder / "rules.toml"), "--shm-dir", str(folder / "shm"))
    address = f"unix:{folder}/socket"
    with serve(*CUPY, *flags, "--max-device-bytes", str(64 * MEBIBYTE), address=address) as process:
        yield process


def test_a_caller_who_may_not_share(ruled: Process) -> None:
    falls_back(ruled, token="0123456789-one-without")  # noqa: S106 - of this test


def test_a_caller_has_a_quota_of_its_own(ruled: Process) -> None:
    """It counts whole pages, of all processes of the caller together, and for nobody else."""
    small, other = "0123456789-the-small-one", "0123456789-the-other-one"
    with (
        LossClient(ruled.address, token=small) as one,
        LossClient(ruled.address, token=small) as again,
        LossClient(ruled.address, token=other) as free,
    ):
        kept = [held(one, (1, 1)), held(again, (1, 1))]
        ask, sharing = one._connection()._ask, one._connection().sharing.device
        reason, message = refused(ask, ALLOCATE_DEVICE, allocation(sharing, size=1))
        assert reason == "DEVICE_MEMORY_FULL"
        assert "of one client must be at most 4194304, got 6291456" in message
        kept.append(held(free, (4 * MEBIBYTE,)))


@pytest.mark.parametrize("method", [ALLOCATE_DEVICE, RELEASE_DEVICE], ids=lambda m: m.path)
def test_methods_are_granted_with_shared_memory(ruled: Process, method: Any) -> None:
    with LossClient(ruled.address, token="0123456789-one-without") as client:  # noqa: S106
        reason, _ = refused(client._connection()._ask, method, v1.ReleaseDeviceRequest())
    assert reason == "NOT_GRANTED"


def test_what_belongs_to_another_caller_cannot_be_used(ruled: Process) -> None:
    with (
        LossClient(ruled.address, token="0123456789-the-first-one") as one,  # noqa: S106
        LossClient(ruled.address, token="0123456789-the-other-one") as other,  # noqa: S106
    ):
        array = held(one)
        kept = one._connection().sharing.device
        token, lease = kept._segments[0].token, kept._lease
        assert lease is not None
        place = v1.DeviceMemory(segment=token)
        ask = other._connection()._ask
        for method, request in (
            (COMPUTE_LOSS, request_at(place)),
            (RELEASE_DEVICE, v1.ReleaseDeviceRequest(segment=token)),
            (ALLOCATE_DEVICE, allocation(kept, lease=lease.token)),
        ):
            with pytest.raises(Exception) as raised:
                ask(method, request, 5.0)
            assert getattr(raised.value, "reason", "") == "SEGMENT_NOT_FOUND"
        del array


# ------------------------------------------------------------------ raw requests


def request_at(place: v1.DeviceMemory, **use: Any) -> v1.ComputeLossRequest:
    """A request whose predictions are at a place in device memory."""
    request = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    request.device.CopyFrom(v1.DeviceUse(**use))
    array = np.zeros((4, 4), np.float32)
    tensors.refer(request.inputs.add(name="predictions").tensors.add(), array, place)
    tensors.fill(request.inputs.add(name="targets").tensors.add(), array)
    return request


def allocation(kept: Any, **changes: Any) -> v1.AllocateDeviceRequest:
    fields = {"size": 64, "device_uuid": kept._uuids[0], "lease": kept._lease.token}
    return v1.AllocateDeviceRequest(**{**fields, **changes})


@pytest.fixture
def raw(sharing: Process) -> Iterator[tuple[Any, Any, v1.DeviceMemory]]:
    """A function that asks, a client's device memory, and a place in it."""
    with LossClient(sharing.address) as client:
        array = held(client)
        kept = client._connection().sharing.device
        place = v1.DeviceMemory(segment=kept._segments[0].token)
        yield client._connection()._ask, kept, place
        del array


def refused(ask: Any, method: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(Exception) as raised:
        ask(method, request, 5.0)
    return getattr(raised.value, "reason", ""), str(raised.value)


def test_places_are_checked(raw: Any) -> None:
    ask, kept, place = raw
    size = kept._segments[0].size
    for offset in (size - 63, size, 1 << 62, (1 << 64) - 1):
        beyond = v1.DeviceMemory(segment=place.segment, offset=offset)
        reason, message = refused(ask, COMPUTE_LOSS, request_at(beyond))
        assert reason == "SEGMENT_EXCEEDED", message
        assert "must end within" in message
    region = {"reply": place, "reply_size": size + 1}
    assert refused(ask, COMPUTE_LOSS, request_at(place, **region))[0] == "SEGMENT_EXCEEDED"
    unknown = v1.DeviceMemory(segment=b"0" * 16)
    assert refused(ask, COMPUTE_LOSS, request_at(unknown))[0] == "SEGMENT_NOT_FOUND"
    assert ask(COMPUTE_LOSS, request_at(place), 5.0).loss == 0


def test_regions_of_any_size_and_place_do(raw: Any) -> None:
    ask, _, place = raw
    for offset, size in ((0, 0), (0, 63), (1, 64 + 255), (256, 64), (7, 1 << 20)):
        at = v1.DeviceMemory(segment=place.segment, offset=offset)
        answer = ask(COMPUTE_LOSS, request_at(place, reply=at, reply_size=size), 5.0)
        (tensor,) = answer.gradients[0].tensors
        fits = -offset % 256 + 64 <= size
        assert tensor.WhichOneof("source") == ("device_memory" if fits else "data")
        if fits:
            assert tensor.device_memory.offset == offset + -offset % 256


@pytest.mark.parametrize("event", [b"x", b"\0" * 64, b"x" * 65])
def test_events_are_checked(raw: Any, event: bytes) -> None:
    ask, _, place = raw
    _, message = refused(ask, COMPUTE_LOSS, request_at(place, ready_event=event))
    assert "ready_event must be" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 0}, "size must be in"),
        ({"size": 1 << 40}, "size must be in"),
        ({"size": (1 << 64) - 1}, "size must be in"),
        ({"device_uuid": b""}, "device_uuid must be of a device"),
        ({"device_uuid": b"0" * 16}, "device_uuid must be of a device"),
        ({"lease": b""}, "segment must be attached"),
        ({"lease": b"0" * 16}, "segment must be attached"),
        ({"size": 400 << 20}, "of one client must be at most"),
    ],
)
def test_allocations_are_checked(raw: Any, changes: Any, says: str) -> None:
    ask, kept, _ = raw
    assert says in refused(ask, ALLOCATE_DEVICE, allocation(kept, **changes))[1]


def test_new_memory_holds_nothing_of_others(raw: Any, cupy: Any) -> None:
    ask, kept, _ = raw
    found = ask(ALLOCATE_DEVICE, allocation(kept, size=1), 5.0)
    base = cupy.cuda.runtime.ipcOpenMemHandle(found.cuda_ipc)
    memory = cupy.cuda.UnownedMemory(base + found.offset, found.size, None)
    array = cupy.ndarray((found.size,), np.uint8, cupy.cuda.MemoryPointer(memory, 0))
    assert not array.any()
    del array, memory
    cupy.cuda.runtime.ipcCloseMemHandle(base)
    ask(RELEASE_DEVICE, v1.ReleaseDeviceRequest(segment=found.segment), 5.0)
    released = v1.ReleaseDeviceRequest(segment=found.segment)
    assert refused(ask, RELEASE_DEVICE, released)[0] == "SEGMENT_NOT_FOUND"


def test_arrays_with_gaps_or_unknown_types_are_refused(sharing: Process) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        for wrong, says in ((array[:, ::2], "C order"), (array.T, "C order"),
                            (array.astype(np.complex64), "must hold one of")):  # fmt: skip
            with pytest.raises(InvalidRequestError, match=says):
                client.compute(CrossEntropy(), wrong, classes())
