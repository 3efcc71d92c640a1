"""Device memory that is dropped while a stream still uses it, and what others get it for.

Run on gpulab's fake device, where a stream works only when somebody waits for it: what is queued on
one that nobody waits for comes after all else.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import DeadlineExceededError, LossClient
from lossd.v1 import CrossEntropy
from tests.device import is_fake
from tests.end_to_end import on_device
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.on_device import CUPY, MEBIBYTE, assert_same, classes, filled, logits

pytestmark = pytest.mark.gpu
fake, cupy = on_device.fake, on_device.cupy

ROWS, COLUMNS = 256, 1024  # of float32 a mebibyte


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Process]:
    """A server that shares little memory, which is soon used again."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    with serve(
        *CUPY, "--shm-dir", str(tmp_path), "--max-device-bytes", str(16 * MEBIBYTE)
    ) as process:
        yield process


@pytest.fixture
def client(sharing: Process) -> Iterator[LossClient]:
    with LossClient(sharing.address) as found:
        yield found


@pytest.fixture
def far(sharing: Process) -> Iterator[LossClient]:
    """A client whose arrays are on the host."""
    with LossClient(sharing.address) as found:
        yield found


def numbers(factor: int = 1) -> Any:
    return factor * logits(ROWS, COLUMNS)


def labels() -> Any:
    return classes(ROWS, COLUMNS)


def rest_of_memory(client: LossClient) -> list[Any]:
    """Arrays over all that is left, so that who comes next gets what was dropped."""
    held: list[Any] = []
    while hasattr(array := client.device_empty((ROWS, COLUMNS)), "get"):
        held.append(array)
    return held


def address(array: Any) -> int:
    found: int = array.data.ptr
    return found


def cleared(cupy: Any, array: Any) -> None:
    """Clears an array at once, on a stream that knows of no other and is not current."""
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.runtime.memsetAsync(address(array), 0, array.nbytes, stream.ptr)
    stream.synchronize()


def give_up(*_: Any, **__: Any) -> None:
    raise DeadlineExceededError("call must be answered in time, got nothing")


def foreign(cupy: Any) -> Any:
    """A stream of which CuPy knows no more than the address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        address = cupy.cuda.runtime.streamCreateWithFlags(cupy.cuda.runtime.streamNonBlocking)
        return cupy.cuda.ExternalStream(address)


STREAMS: dict[str, Callable[[Any], Any]] = {
    "of CuPy": lambda cupy: cupy.cuda.Stream(non_blocking=True),
    "the default": lambda cupy: cupy.cuda.Stream.null,
    "of each thread": lambda cupy: cupy.cuda.Stream.ptds,
    "of others": foreign,
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_gradient_is_read_before_another_call_writes_there(
    client: LossClient, far: LossClient, cupy: Any, kind: str
) -> None:
    first = STREAMS[kind](cupy)
    second = cupy.cuda.Stream(non_blocking=True)
    arrays = [filled(client, numbers(factor)) for factor in (1, 2)]
    cupy.cuda.Device().synchronize()
    with first:
        gradient = client.compute(CrossEntropy(), arrays[0], labels()).gradients["predictions"]
        read = cupy.empty_like(gradient)
        held = rest_of_memory(client)
        read[...] = gradient  # which has not run yet
        place = address(gradient)
        del gradient
    with second:
        other = client.compute(CrossEntropy(), arrays[1], labels()).gradients["predictions"]
    assert address(other) == place
    cupy.cuda.Device().synchronize()
    assert_same(read, far.compute(CrossEntropy(), numbers(), labels()).gradients["predictions"])
    assert_same(other, far.compute(CrossEntropy(), numbers(2), labels()).gradients["predictions"])
    del held


def test_a_stream_that_goes_with_its_gradient_is_waited_for(
    client: LossClient, far: LossClient, cupy: Any
) -> None:
    array = filled(client, numbers())
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True):
        gradient = client.compute(CrossEntropy(), array, labels()).gradients["predictions"]
        read = cupy.empty_like(gradient)
        held = rest_of_memory(client)
        read[...] = gradient
        place = address(gradient)
        del gradient
    gc.collect()
    with cupy.cuda.Stream(non_blocking=True) as second:
        other = client.compute(CrossEntropy(), array, labels()).gradients["predictions"]
        assert address(other) == place
        other[...] = 0
        second.synchronize()
    cupy.cuda.Device().synchronize()
    assert_same(read, far.compute(CrossEntropy(), numbers(), labels()).gradients["predictions"])
    del held


def test_an_array_is_written_when_the_streams_of_its_calls_have_read_that_before(
    client: LossClient, cupy: Any
) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    array = filled(client, numbers())  # made under another stream than that of its call
    cupy.cuda.Device().synchronize()
    with stream:
        client.compute(CrossEntropy(), array, labels(), gradients=[])
        read = cupy.empty_like(array)
        held = rest_of_memory(client)
        read[...] = array
        place = address(array)
        del array
    again = client.device_empty((ROWS, COLUMNS))
    assert address(again) == place
    cleared(cupy, again)
    stream.synchronize()
    assert_same(read, numbers())
    del held


def test_an_array_may_be_used_on_any_number_of_streams(
    client: LossClient, cupy: Any, fake: Any
) -> None:
    """Few are remembered, as those wait for the others."""
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(20)]
    array = filled(client, numbers())
    cupy.cuda.Device().synchronize()
    read = []
    for stream in streams:
        with stream:
            client.compute(CrossEntropy(), array, labels(), gradients=[])
            read.append(cupy.empty_like(array))
            read[-1][...] = array
    held = rest_of_memory(client)
    place = address(array)
    del array
    with fake.recorded() as lines:
        again = client.device_empty((ROWS, COLUMNS))
    assert address(again) == place
    assert sum(line.startswith("eventRecord") for line in lines) <= 8
    cleared(cupy, again)
    for one, stream in zip(read, streams, strict=True):
        stream.synchronize()
        assert_same(one, numbers())
    del held


def test_the_copy_of_a_call_that_was_given_up_is_not_made_over_a_later_array(
    client: LossClient, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    source = cupy.asarray(numbers())
    client.compute(CrossEntropy(), source, labels(), gradients=[])
    cupy.cuda.Device().synchronize()
    held = rest_of_memory(client)
    held.pop()
    with first, monkeypatch.context() as patch:
        patch.setattr(client._connection(), "call", give_up)
        with pytest.raises(DeadlineExceededError):
            client.compute(CrossEntropy(), source, labels(), gradients=[])
    with second:
        array = client.device_empty((ROWS, COLUMNS))
        assert isinstance(array, cupy.ndarray)
        array.fill(7)
        second.synchronize()
    first.synchronize()
    assert_same(array, np.full((ROWS, COLUMNS), 7, np.float32))
    del held


def test_nobody_waits_for_other_streams_while_there_is_room(
    client: LossClient, cupy: Any, fake: Any
) -> None:
    """A call records one event, and its stream waits for one."""
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    array = filled(client, numbers())
    cupy.cuda.Device().synchronize()

    def call(stream: Any) -> None:
        with stream:
            client.compute(CrossEntropy(), array, labels())

    for stream in streams:
        call(stream)
    for stream in streams:
        with fake.recorded() as lines:
            call(stream)
        assert [line.split()[0] for line in lines] == ["eventRecord", "streamWaitEvent"]
