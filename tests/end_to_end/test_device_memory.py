"""Tensors in device memory that client and server share, and what callers might do to it.

Run on gpulab's fake device, whose work waits until somebody waits for it: a missing wait between
the processes gives wrong numbers every time.
"""

import asyncio
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import (
    AsyncLossClient,
    DeadlineExceededError,
    InvalidRequestError,
    LossClient,
    UnavailableError,
)
from lossd.client.call import ALLOCATE_DEVICE, COMPUTE_LOSS, RELEASE_DEVICE
from lossd.v1 import (
    BinaryCrossEntropy,
    CrossEntropy,
    Ctc,
    Dice,
    FeatureMatching,
    Huber,
    InfoNce,
    KlDivergence,
    SquaredError,
    Triplet,
    WeightedSum,
    WeightedTerm,
)
from tests.device import is_fake
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until

pytestmark = pytest.mark.gpu

ROWS, CLASSES = 200, 300
MEBIBYTE = 1 << 20
NOT_FOUND, DENIED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
CUPY = ("--backend", "cupy", "--no-check-device")


@pytest.fixture(autouse=True)
def fake() -> Iterator[Any]:
    """The fake device of this process, without faults and violations before and after."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    found = importlib.import_module("gpulab.fake")
    yield found
    assert not found.violations()


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that shares memory of its device."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    directory = str(tmp_path_factory.mktemp("shm"))
    room = str(512 * MEBIBYTE)
    with serve(*CUPY, "--shm-dir", directory, "--max-device-bytes", room) as process:
        yield process


@pytest.fixture
def cupy() -> Any:
    return importlib.import_module("cupy")


def logits(rows: int = ROWS, columns: int = CLASSES) -> Any:
    return np.random.default_rng(2).normal(size=(rows, columns)).astype(np.float32)


def classes(rows: int = ROWS, columns: int = CLASSES) -> Any:
    return np.random.default_rng(3).integers(0, columns, rows)


def filled(client: Any, array: Any) -> Any:
    """An array in device memory with the numbers of one on the host."""
    found = held(client, array.shape, array.dtype)
    found.set(array)
    return found


def held(client: Any, shape: tuple[int, ...] = (ROWS, CLASSES), dtype: Any = np.float32) -> Any:
    """An array in device memory; on a machine that is busy a question may take too long once."""
    made: list[Any] = []

    def is_made() -> bool:
        made.append(client.device_empty(shape, dtype))
        return hasattr(made[-1], "set")

    until(is_made)
    return made[-1]


def in_use(process: Process) -> float:
    return metric(process, "lossd_device_memory_bytes")


def idle(process: Process) -> None:
    """Waits until no client of the tests before has memory."""
    gc.collect()
    until(lambda: not in_use(process))


def assert_same(found: Any, expected: Any) -> None:
    host = found.get() if hasattr(found, "get") else found
    assert host.dtype == expected.dtype
    assert host.tobytes() == expected.tobytes()


# ------------------------------------------------------------------ the bundled clients

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_come_back_in_device_memory(
    sharing: Process, connect: Any, cupy: Any, dtype: Any
) -> None:
    given = logits().astype(dtype)
    with connect(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), filled(near, given), classes())
        sent = far.compute(CrossEntropy(), given, classes())
    gradient = found.gradients["predictions"]
    assert found.transport == "device_memory"
    assert isinstance(gradient, cupy.ndarray)
    assert found.loss == sent.loss
    assert_same(gradient, sent.gradients["predictions"])
    assert_same(found.per_example, sent.per_example)


def probabilities() -> Any:
    return (1 / (1 + np.exp(-logits()))).astype(np.float32)


LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "two inputs that stay": (SquaredError(), {"predictions": logits(), "targets": logits() * 2}),
    "an input with a domain": (
        BinaryCrossEntropy(),
        {"predictions": logits(), "targets": probabilities()},
    ),
    "a distribution": (
        KlDivergence(),
        {"predictions": logits(), "targets": probabilities() / CLASSES / 2},
    ),
    "another class axis": (
        CrossEntropy(class_axis=0),
        {"predictions": np.ascontiguousarray(logits().T), "targets": classes()},
    ),
    "a loss of regions": (Dice(), {"predictions": logits(), "targets": probabilities()}),
    "a loss of vectors": (
        Triplet(),
        {"anchor": logits(), "positive": logits() + 1, "negative": logits() * 2},
    ),
    "a loss of sequences": (
        Ctc(),
        {
            "predictions": logits(20, 300).reshape(4, 50, 30),
            "targets": classes(4 * 9, 29).reshape(4, 9) + 1,
        },
    ),
    "a loss of pairs": (InfoNce(), {"queries": logits(16, 8), "keys": logits(16, 8) + 1}),
    "a sum": (
        WeightedSum(terms=[WeightedTerm(loss=v1.LossSpec(huber=Huber()), weight=2)]),
        {"predictions": logits(), "targets": logits() * 2},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_kind_of_loss_takes_device_memory(sharing: Process, name: str) -> None:
    """The server copies those that it has to look at first, and those of other shapes."""
    loss, given = LOSSES[name]
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(loss, **{n: filled(near, array) for n, array in given.items()})
        sent = far.compute(loss, **given)
    assert found.transport == "device_memory"
    assert found.loss == sent.loss
    assert found.gradients.keys() == sent.gradients.keys()
    for input_name, gradient in sent.gradients.items():
        assert hasattr(found.gradients[input_name], "__cuda_array_interface__")
        assert_same(found.gradients[input_name], gradient)


def test_numbers_outside_their_domain_are_refused_as_elsewhere(sharing: Process) -> None:
    """Though the server never reads them on the host but for the error."""
    targets = probabilities()
    targets[ROWS - 2, 7] = -1e-40
    said = []
    with LossClient(sharing.address) as client:
        for put in (lambda array: filled(client, array), np.asarray):
            with pytest.raises(InvalidRequestError) as raised:
                client.compute(BinaryCrossEntropy(), put(logits()), put(targets))
            said.append((raised.value.field, str(raised.value).partition(" (request")[0]))
    assert said[0] == said[1]
    assert said[0][0] == "inputs.targets"


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_options_are_as_elsewhere(sharing: Process, nonfinite: Any) -> None:
    given = logits()
    given[3, 5] = np.nan
    options: dict[str, Any] = {
        "weights": np.linspace(0, 2, ROWS),
        "mask": np.arange(ROWS) % 7 != 0,
        "reduction": "sum",
        "nonfinite": nonfinite,
    }
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), filled(near, given), classes(), **options)
        sent = far.compute(CrossEntropy(), given, classes(), **options)
    assert found.statuses == sent.statuses
    np.testing.assert_equal(found.loss, sent.loss)
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_metrics_weights_and_labels_may_be_on_the_device(sharing: Process) -> None:
    weights = np.linspace(0, 2, ROWS).astype(np.float32)
    options: dict[str, Any] = {"metrics": [v1.MetricSpec(accuracy=v1.Accuracy())]}
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        inputs = [filled(near, logits()), filled(near, classes())]
        found = near.compute(CrossEntropy(), *inputs, weights=filled(near, weights), **options)
        sent = far.compute(CrossEntropy(), logits(), classes(), weights=weights, **options)
    assert found.loss == sent.loss
    assert found.metrics[0].value == sent.metrics[0].value
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_the_server_waits_for_what_was_queued_and_the_client_for_results(
    sharing: Process, cupy: Any
) -> None:
    given = logits()
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        sent = far.compute(CrossEntropy(), 2 * given, classes())
        stream = cupy.cuda.Stream(non_blocking=True)
        source = cupy.asarray(given)
        cupy.cuda.Device().synchronize()
        with stream:
            array = near.device_empty(given.shape)
            cupy.multiply(source, 2, out=array)  # which has not run yet
            found = near.compute(CrossEntropy(), array, classes())
            total = found.gradients["predictions"] * 1
        stream.synchronize()
        assert found.loss == sent.loss
        assert_same(total, sent.gradients["predictions"])


def test_an_array_from_elsewhere_on_the_device_is_copied_there(sharing: Process, cupy: Any) -> None:
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), cupy.asarray(logits()), classes())
        sent = far.compute(CrossEntropy(), logits(), classes())
    assert found.transport == "device_memory"
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_lists_of_arrays_stay_on_the_device_for_asyncio(sharing: Process, cupy: Any) -> None:
    maps = [logits(4, 16), logits(4, 32)]
    given: dict[str, Any] = {"predictions": maps, "targets": [one + 1 for one in maps]}
    lying: dict[str, Any] = {n: [cupy.asarray(one) for one in maps] for n, maps in given.items()}

    async def ask() -> Any:
        async with AsyncLossClient(sharing.address) as near:
            return await near.compute(FeatureMatching(), **lying)

    with LossClient(sharing.address) as far:
        sent = far.compute(FeatureMatching(), **given)
    found = asyncio.run(ask())
    assert found.transport == "device_memory"
    assert found.loss == sent.loss
    for name, gradients in sent.gradients.items():
        for near, expected in zip(found.gradients[name], gradients, strict=True):
            assert isinstance(near, cupy.ndarray)
            assert_same(near, expected)


def test_other_libraries_take_the_array(sharing: Process, cupy: Any) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        assert array.__dlpack_device__() == (2, 0)
        viewed = cupy.from_dlpack(array)
        del array
        viewed *= 2
        assert client.compute(CrossEntropy(), viewed, classes()).transport == "device_memory"
        assert_same(viewed, 2 * logits())


def test_the_device_may_be_named(sharing: Process, connect: Any, cupy: Any) -> None:
    with connect(sharing.address) as client:
        assert client.device_empty((2, 3), "float16", device=0).device.id == 0
        assert type(client.device_empty((2, 3), device=7)) is np.ndarray  # there is none
        assert isinstance(client.device_empty((2, 3)), cupy.ndarray)


SECOND = """
import sys
import numpy as np
from gpulab import fake
from lossd.client import LossClient
from lossd.v1 import CrossEntropy
given = np.random.default_rng(2).normal(size=(200, 300)).astype(np.float32)
labels = np.arange(200)
with LossClient(sys.argv[1]) as client:
    array = client.device_empty(given.shape, device=1)
    with array.device:
        array.set(given)
        found = client.compute(CrossEntropy(), array, labels)
        gradient = found.gradients["predictions"]
        same = client.compute(CrossEntropy(), given, labels).gradients["predictions"]
        assert gradient.get().tobytes() == same.tobytes()
    print(found.transport, gradient.device.id, fake.violations())
"""


def test_memory_is_computed_on_the_device_that_it_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULAB_DEVICES", "2")
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(64 * MEBIBYTE))
    with serve(*CUPY, *flags) as process:
        command = [sys.executable, "-c", SECOND, process.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "device_memory 1 []\n", done.stderr


def test_memory_is_used_again(sharing: Process) -> None:
    idle(sharing)
    given = logits(1000, 1000)
    with LossClient(sharing.address) as client:
        array = filled(client, given)
        for _ in range(20):
            client.compute(CrossEntropy(), array, classes(1000))
        assert in_use(sharing) <= 16 * MEBIBYTE


def test_threads_do_not_get_in_each_others_way(sharing: Process, cupy: Any) -> None:
    wanted: dict[int, bytes] = {}
    found: dict[int, list[bytes]] = {}
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        for factor in range(4):
            sent = far.compute(CrossEntropy(), factor * logits(), classes())
            wanted[factor] = sent.gradients["predictions"].tobytes()

        def work(factor: int) -> None:
            array = filled(near, factor * logits())
            for _ in range(5):
                gradient = near.compute(CrossEntropy(), array, classes()).gradients["predictions"]
                found.setdefault(factor, []).append(cupy.asnumpy(gradient).tobytes())

        threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {factor: [bits] * 5 for factor, bits in wanted.items()}


def test_tensors_on_the_device_are_computed_there_whatever_others_are(tmp_path: Path) -> None:
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(64 * MEBIBYTE))
    auto = ("--backend", "auto", "--no-check-device", "--routes", "rowwise=numpy")
    with serve(*auto, *flags) as process, LossClient(process.address) as client:
        (route,) = (one for one in client.server_info().routes if one.shape == "rowwise")
        assert (route.backend, route.device_backend) == ("numpy", "cupy")
        assert (route.reason, "cross_entropy" in route.losses) == ("asked for", True)
        backends = [
            client.compute(CrossEntropy(), predictions, classes()).backend
            for predictions in (logits(), filled(client, logits()))
        ]
    assert backends == ["numpy", "cupy"]


# ------------------------------------------------------------------ clients that go

HOLDER = """
import sys
from lossd.client import LossClient
client = LossClient(sys.argv[1])
array = client.device_empty((1000, 1000))
print(type(array).__module__, flush=True)
sys.stdin.read()
"""


def holder(process: Process, **environment: str) -> "subprocess.Popen[str]":
    """Another process that holds an array in device memory."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, process.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_killed_clients_memory_is_freed(sharing: Process) -> None:
    idle(sharing)
    with holder(sharing) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith("cupy")
        assert in_use(sharing)
        client.send_signal(signal.SIGKILL)
        client.wait()
        idle(sharing)


def test_a_closed_client_gives_memory_back_with_its_last_array(sharing: Process) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
    assert in_use(sharing)
    assert_same(array, logits())
    del array
    idle(sharing)


def test_a_server_that_restarts_shares_memory_again(tmp_path: Path) -> None:
    """Memory of the one that ended is lost, and is never touched again."""
    flags = ("--shm-dir", str(tmp_path / "shm"), "--max-device-bytes", str(64 * MEBIBYTE))
    (tmp_path / "shm").mkdir()
    address = f"unix:{tmp_path}/socket"
    with LossClient(address) as client:
        with serve(*CUPY, *flags, address=address) as process:
            array = filled(client, logits())
            before = client.compute(CrossEntropy(), array, classes())
            process.end()
        with serve(*CUPY, *flags, address=address):
            client.wait_until_ready(20)
            with pytest.raises(UnavailableError, match="make it anew with device_empty"):
                client.compute(CrossEntropy(), array, classes())
            until(lambda: hasattr(client.device_empty((2, 2)), "get"))
            again = client.compute(CrossEntropy(), filled(client, logits()), classes())
    assert (again.transport, before.transport) == ("device_memory", "device_memory")
    assert again.loss == before.loss


def test_a_call_that_is_given_up_never_writes_to_a_later_result(
    sharing: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        kept = client._connection().sharing.device
        client.compute(CrossEntropy(), array, classes())
        (segment,) = kept._segments

        def give_up(*_: Any, **__: Any) -> None:
            raise DeadlineExceededError("call must be answered in time, got nothing")

        with monkeypatch.context() as patch:
            patch.setattr(client._connection(), "call", give_up)
            with pytest.raises(DeadlineExceededError):
                client.compute(CrossEntropy(), array, classes())
        assert segment not in kept._segments
        found = client.compute(CrossEntropy(), filled(client, logits()), classes())
        assert found.transport == "device_memory"
        assert kept._segments != [segment]


# ------------------------------------------------------------------ refusals


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
