"""Tensors in memory that client and server share."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import (
    AsyncLossClient,
    DeadlineExceededError,
    LossClient,
    LossdError,
    UnavailableError,
    to_torch,
)
from lossd.client.call import COMPUTE_LOSS
from lossd.losses import Loss
from lossd.v1 import CrossEntropy, SquaredError
from tests.end_to_end.conftest import Process, metric, not_served, serve
from tests.sampling import draw, forms
from tests.waiting import until

ROWS, CLASSES = 200, 300  # 240 kB of float32: worth sharing


def batch(rows: int = ROWS) -> dict[str, Any]:
    random = np.random.default_rng(2)
    logits = random.standard_normal((rows, CLASSES)).astype(np.float32)
    return {"predictions": logits, "targets": random.integers(0, CLASSES, rows)}


def segments(process: Process) -> float:
    return metric(process, "lossd_shared_memory_segments")


@pytest.fixture(autouse=True)
def nothing_is_shared(sharing: Process) -> None:
    """Waits for what tests before left: a client that cannot say that it goes is missed later."""
    until(lambda: segments(sharing) == 0)


def maps(process: Process) -> str:
    return Path(f"/proc/{process.process.pid}/maps").read_text()


# ------------------------------------------------------------------ the bundled clients


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_loss_gives_the_same_bits_over_both_transports(
    sharing: Process, server: Process, loss: Loss, dtype: Any, connect: Any
) -> None:
    message = getattr(v1, loss.message)()
    with connect(sharing.address) as near, LossClient(server.address) as far:
        for form in forms(loss):
            inputs = draw(loss, {}, form, 900, 60).inputs
            given: dict[str, Any] = {
                name: array.astype(dtype) if array.dtype.kind == "f" else array
                for name, array in inputs.items()
            }
            shared = near.compute(message, **given)
            sent = far.compute(message, **given)
            assert (shared.transport, sent.transport) == ("shared_memory", "grpc")
            assert (shared.loss, shared.weight_sum) == (sent.loss, sent.weight_sum)
            if sent.per_example is not None:
                assert_same(shared.per_example, sent.per_example)
            for name, gradient in sent.gradients.items():
                assert_same(shared.gradients[name], gradient)


def assert_same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()
    assert not found.flags.writeable


def test_another_class_axis_gives_the_same_bits(
    sharing: Process, server: Process, connect: Any
) -> None:
    given = batch() | {"predictions": np.ascontiguousarray(batch()["predictions"].T)}
    with connect(sharing.address) as near, LossClient(server.address) as far:
        shared = near.compute(CrossEntropy(class_axis=0), **given)
        sent = far.compute(CrossEntropy(class_axis=0), **given)
    assert shared.transport == "shared_memory"
    assert_same(shared.gradients["predictions"], sent.gradients["predictions"])


def test_small_batches_stay_in_the_message(sharing: Process, connect: Any) -> None:
    with connect(sharing.address) as client:
        assert client.compute(SquaredError(), [2.0], [0.0]).transport == "grpc"
        assert segments(sharing) == 0


def test_an_array_of_the_client_is_used_where_it_lies(sharing: Process, connect: Any) -> None:
    given = batch()
    with connect(sharing.address) as client:
        logits = client.empty(given["predictions"].shape)
        logits[...] = given["predictions"]
        first = client.compute(CrossEntropy(), predictions=logits, targets=given["targets"])
        kept = first.gradients["predictions"].copy()
        logits[...] = 0
        second = client.compute(CrossEntropy(), predictions=logits, targets=given["targets"])

        assert (first.transport, second.transport) == ("shared_memory", "shared_memory")
        assert second.loss == pytest.approx(np.log(CLASSES))
        assert_same(first.gradients["predictions"], kept)  # not written over
        assert segments(sharing) <= 2


def test_an_array_waits_for_a_server_that_is_about_to_start(tmp_path: Path, connect: Any) -> None:
    address, shm = f"unix:{tmp_path}/lossd.sock", str(tmp_path)
    with connect(address) as client, ThreadPoolExecutor(1) as pool:
        made = pool.submit(client.empty, (ROWS, CLASSES))
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            made.result(20)[:] = 1
            assert segments(process) == 1
            process.end(signal.SIGKILL)
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            client.compute(CrossEntropy(), **batch())  # which notices that the other one is gone
            client.empty((ROWS, CLASSES))[:] = 1
            assert segments(process) == 1  # though the client rests from sharing memory


def test_an_array_waits_for_a_server_that_is_started_anew(tmp_path: Path, connect: Any) -> None:
    address, shm = f"unix:{tmp_path}/lossd.sock", str(tmp_path)
    with connect(address) as client, ThreadPoolExecutor(1) as pool:
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            assert client.compute(CrossEntropy(), **batch()).transport == "shared_memory"
            process.end(signal.SIGKILL)
        made = pool.submit(client.empty, (20 * ROWS, CLASSES))  # more than there is room for
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            made.result(20)[:] = 1
            assert segments(process) == 1


def test_an_array_is_ordinary_where_no_server_comes(tmp_path: Path) -> None:
    with LossClient(f"unix:{tmp_path}/lossd.sock", timeout=0.2) as client:
        made = client.empty((3, 2), np.float16)
        assert made.shape == (3, 2)
        assert made.dtype == np.float16
        assert client.device_empty(3).shape == (3,)


def test_an_array_waits_for_a_silent_server_no_longer_than_a_call(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossd.client.sharing.ASK_SECONDS", 60.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2) as client,
    ):
        began = time.monotonic()
        assert client.empty(3).shape == (3,)
        assert time.monotonic() - began < 20


def test_a_tensor_is_filled_where_there_is_no_device_memory(sharing: Process, connect: Any) -> None:
    torch = pytest.importorskip("torch")
    scores = torch.arange(ROWS * CLASSES).reshape(ROWS, CLASSES) % 7
    with connect(sharing.address) as client:
        logits = to_torch(client.device_empty((ROWS, CLASSES), "bfloat16"))
        logits.copy_(scores)
        found = client.compute(CrossEntropy(), logits, np.zeros(ROWS, int))
        expected = client.compute(
            CrossEntropy(), scores.numpy().astype(ml_dtypes.bfloat16), np.zeros(ROWS, int)
        )
    assert found.transport == "shared_memory"
    assert found.loss == expected.loss
    assert to_torch(found.gradients["predictions"]).dtype == torch.bfloat16


def test_big_endian_arrays_are_shared_in_the_order_of_the_wire(
    sharing: Process, connect: Any
) -> None:
    given = batch()
    with connect(sharing.address) as client:
        expected = client.compute(CrossEntropy(), **given)
        own = client.empty((ROWS, CLASSES), ">f4")
        own[...] = given["predictions"]
        labels = given["targets"].astype(">i8")
        for predictions in (given["predictions"].astype(">f4"), own):
            result = client.compute(CrossEntropy(), predictions=predictions, targets=labels)
            assert result.transport == "shared_memory"
            assert_same(result.per_example, expected.per_example)
            assert_same(result.gradients["predictions"], expected.gradients["predictions"])


def test_an_array_of_objects_is_ordinary_memory(sharing: Process, connect: Any) -> None:
    with connect(sharing.address) as client:
        assert client.empty((ROWS, CLASSES), object)[0, 0] is None


def test_memory_comes_back_when_the_last_view_of_a_result_goes(
    sharing: Process, connect: Any
) -> None:
    with connect(sharing.address) as client:
        view = client.compute(CrossEntropy(), **batch(4000)).gradients["predictions"][1:, ::2]
        kept = view.copy()
        for _ in range(5):
            client.compute(CrossEntropy(), **batch(4000), normalizer=3)
        before = metric(sharing, "lossd_shared_memory_bytes")
        np.testing.assert_array_equal(view, kept)
        for _ in range(20):
            client.compute(CrossEntropy(), **batch(4000))
        assert metric(sharing, "lossd_shared_memory_bytes") == before


def test_losses_of_examples_keep_no_memory_of_gradients(sharing: Process, connect: Any) -> None:
    """A training loop may keep them for an epoch."""
    loss = CrossEntropy(outputs=["LOG_SUM_EXP"])
    with connect(sharing.address) as client:
        kept: list[tuple[Any, Any]] = []
        for _ in range(10):
            result = client.compute(loss, **batch(4000))
            assert result.transport == "shared_memory"
            kept.append((result.per_example, result.outputs["log_sum_exp"]))
        assert segments(sharing) <= 3
        for found in kept:
            for array, expected in zip(found, kept[0], strict=True):
                assert_same(array, expected)


def test_a_closed_client_leaves_nothing_and_its_results_stay(
    sharing: Process, directory: Path, connect: Any
) -> None:
    with connect(sharing.address) as client:
        result = client.compute(CrossEntropy(), **batch())
        assert segments(sharing) > 0
        kept = result.gradients["predictions"].copy()
    until(lambda: segments(sharing) == 0)
    until(lambda: [path.name[:13] for path in directory.iterdir()] == ["lossd-beacon-"])
    assert_same(result.gradients["predictions"], kept)


CHILD = """
import sys, numpy as np
from lossd.client import LossClient
from lossd.v1 import SquaredError
client = LossClient(sys.argv[1])
array = client.empty(1 << 18)
array[:] = 1
assert client.compute(SquaredError(), array, np.zeros_like(array)).transport == "shared_memory"
print("shared", flush=True)
sys.stdin.read()
"""


def test_a_killed_client_gives_its_memory_back(sharing: Process, directory: Path) -> None:
    command = [sys.executable, "-c", CHILD, sharing.address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "shared\n"
        assert segments(sharing) > 0
        child.kill()
        child.wait()
    until(lambda: segments(sharing) == 0)
    assert metric(sharing, "lossd_shared_memory_bytes") == 0
    # The count falls first, and the thread that noticed may be made to wait before it unmaps.
    until(lambda: str(directory) not in maps(sharing))


FORKING = """
import contextlib, os, sys, time, numpy as np
from lossd.client import LossClient
from lossd.v1 import SquaredError
targets = np.zeros(1 << 18, np.float32)
with LossClient(sys.argv[1]) as client:
    mine = client.empty(1 << 18)
    mine[:] = 2
    assert client.compute(SquaredError(), mine, targets).transport == "shared_memory"
    print("shared", flush=True)
    sys.stdin.readline()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(Exception):
            for _ in range(50):  # the first connection after a fork may fail in gRPC
                found = client.compute(SquaredError(), mine, targets, timeout=20)
                if found.transport == "shared_memory":
                    break
                time.sleep(0.1)
            code = int((found.loss, found.transport) != (4.0, "shared_memory"))
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("forked", flush=True)
    sys.stdin.readline()
    assert client.compute(SquaredError(), mine, targets).transport == "shared_memory"
"""


def test_a_fork_shares_memory_of_its_own(sharing: Process) -> None:
    # In a process of its own: gRPC cannot be forked where asyncio's has a thread inside of it.
    command = [sys.executable, "-c", FORKING, sharing.address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "shared\n"
        count = segments(sharing)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        until(lambda: segments(sharing) == count)  # the child's are gone, the parent's not
        process.communicate("\n", timeout=20)
    assert process.returncode == 0
    until(lambda: segments(sharing) == 0)


def test_a_server_that_restarts_is_shared_with_again(tmp_path: Path, connect: Any) -> None:
    address, shm = f"unix:{tmp_path}/lossd.sock", str(tmp_path)
    with connect(address) as client:
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            result = client.compute(CrossEntropy(), **batch())
            kept = result.gradients["predictions"].copy()
            process.end(signal.SIGKILL)
        with serve("--backend", "numpy", "--shm-dir", shm, address=address) as process:
            client.wait_until_ready(20)
            again = client.compute(CrossEntropy(), **batch())  # silently in the message
            assert again.loss == result.loss
            time.sleep(1.1)  # the client's rest
            assert client.compute(CrossEntropy(), **batch()).transport == "shared_memory"
            assert_same(result.gradients["predictions"], kept)
            process.end(signal.SIGKILL)
        with pytest.raises(UnavailableError):
            client.compute(CrossEntropy(), **batch(), timeout=1)


@pytest.mark.parametrize("before", ["no directory", "another directory"])
def test_a_server_that_restarts_is_shared_with_in_its_own_directory(
    before: str, tmp_path: Path, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossd.client.rest.REFUSED_SECONDS", 1000.0)
    address = f"unix:{tmp_path}/lossd.sock"
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    flags = ("--shm-dir", str(old)) if before == "another directory" else ()
    with connect(address) as client:
        with serve("--backend", "numpy", *flags, address=address) as process:
            found = client.compute(CrossEntropy(), **batch())
            assert found.transport == ("shared_memory" if flags else "grpc")
            process.end(signal.SIGKILL)
        if not flags:  # who notices that the server went asks the next one
            with pytest.raises(LossdError):
                client.compute(CrossEntropy(), **batch(), timeout=0.2)
        with serve("--backend", "numpy", "--shm-dir", str(new), address=address):
            client.wait_until_ready(20)
            given = batch(20 * ROWS)  # more than there is room for
            until(lambda: client.compute(CrossEntropy(), **given).transport == "shared_memory")


def test_a_directory_without_room_means_the_message(tmp_path: Path, connect: Any) -> None:
    with (
        small_tmpfs(tmp_path, 3 << 20) as shm,
        serve("--backend", "numpy", "--shm-dir", str(shm)) as process,
        connect(process.address) as client,
    ):
        fits = client.compute(CrossEntropy(), **batch(500))
        grows = client.compute(CrossEntropy(), **batch(4000))
        assert (fits.transport, grows.transport) == ("shared_memory", "grpc")
        assert grows.example_count == 4000
        assert [path.name[:13] for path in shm.iterdir()] == ["lossd-beacon-"]


@contextlib.contextmanager
def small_tmpfs(parent: Path, size: int) -> Iterator[Path]:
    shm = parent / "shm"
    shm.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lossd", str(shm)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small tmpfs")
    try:
        yield shm
    finally:
        subprocess.run(["umount", "-l", str(shm)], check=True)


@pytest.mark.parametrize("limit", [("--max-shm-bytes", "1000"), ("--max-shm-segments", "1")])
def test_what_exceeds_a_limit_goes_into_the_message(
    tmp_path: Path, limit: tuple[str, str], connect: Any
) -> None:
    with (
        serve("--backend", "numpy", "--shm-dir", str(tmp_path), *limit) as process,
        connect(process.address) as client,
        connect(process.address) as other,
    ):
        held = client.empty(1 << 16)
        assert other.compute(CrossEntropy(), **batch()).transport == "grpc"
        held[:] = 0


def test_memory_that_another_directory_holds_is_not_shared(tmp_path: Path, connect: Any) -> None:
    shm = tmp_path / "shm"
    shm.mkdir()
    with serve("--backend", "numpy", "--shm-dir", str(shm)) as process:
        shm.rename(tmp_path / "elsewhere")  # as in a container with another view of the disk
        with connect(process.address) as client:
            assert client.compute(CrossEntropy(), **batch()).transport == "grpc"


def test_a_directory_that_is_removed_is_offered_no_more_until_it_is_there_again(
    tmp_path: Path, connect: Any
) -> None:
    shm = tmp_path / "shm"
    shm.mkdir()
    with (
        serve("--backend", "numpy", "--shm-dir", str(shm)) as process,
        LossClient(process.address) as asking,
    ):
        shutil.rmtree(shm)
        until(lambda: not asking.server_info().HasField("shared_memory"))
        assert asking.server_info().transports == ["grpc"]
        shm.mkdir()
        until(lambda: asking.server_info().HasField("shared_memory"))
        with connect(process.address) as client:
            assert client.compute(CrossEntropy(), **batch()).transport == "shared_memory"


def test_a_call_that_is_given_up_never_writes_to_a_later_result(
    sharing: Process, connect: Any
) -> None:
    with connect(sharing.address) as client:
        large = client.empty((20_000, 500))
        large[...] = 1
        labels = np.zeros(20_000, int)
        with pytest.raises(DeadlineExceededError):
            client.compute(CrossEntropy(), predictions=large, targets=labels, timeout=0.005)
        result = client.compute(SquaredError(), np.zeros(1 << 22, np.float32), np.ones(1 << 22))
        kept = result.gradients["predictions"].copy()
        time.sleep(0.2)
        assert_same(result.gradients["predictions"], kept)


def test_tasks_that_are_cancelled_leave_no_memory_behind(sharing: Process, directory: Path) -> None:
    given = batch(20_000)

    async def cancelled_after(client: AsyncLossClient, seconds: float) -> bool:
        task = asyncio.create_task(client.compute(CrossEntropy(), **given))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    async def main() -> None:
        async with AsyncLossClient(sharing.address) as client:
            expected = (await client.compute(CrossEntropy(), **given)).loss
            delays = (0, 0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04)
            assert any([await cancelled_after(client, delay) for delay in delays])
            result = await client.compute(CrossEntropy(), **given)
            assert (result.loss, result.transport) == (expected, "shared_memory")

    asyncio.run(main())
    until(lambda: segments(sharing) == 0)
    until(lambda: str(directory) not in maps(sharing))


def test_a_large_batch_leaves_the_loop_to_other_tasks(sharing: Process) -> None:
    ticked = threading.Event()

    class Awaited:
        """An array that can be viewed once the loop has ticked."""

        nbytes = batch()["predictions"].nbytes

        def __array__(self, *_: Any, **__: Any) -> Any:
            assert ticked.wait(20)
            return batch()["predictions"]

    async def main() -> str:
        async with AsyncLossClient(sharing.address) as client:
            given = batch() | {"predictions": Awaited()}
            task = asyncio.create_task(client.compute(CrossEntropy(), **given))
            for _ in range(5):
                await asyncio.sleep(0.01)
            ticked.set()
            transport: str = (await task).transport
            return transport

    assert asyncio.run(main()) == "shared_memory"


def test_a_directory_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    said = not_served("--shm-dir", str(tmp_path / "none"))
    assert said.startswith("shm_dir must be a directory that can be written to")


# ------------------------------------------------------------------ no device memory


def test_without_device_memory_arrays_for_it_are_shared(sharing: Process, connect: Any) -> None:
    given = batch()
    with connect(sharing.address) as client:
        logits = client.device_empty(given["predictions"].shape)
        assert type(logits) is np.ndarray
        logits[...] = given["predictions"]
        found = client.compute(CrossEntropy(), logits, given["targets"])
    assert found.transport == "shared_memory"


@pytest.mark.parametrize("where", ["an input", "the weights", "the reply"])
def test_places_in_device_memory_are_refused_where_there_is_none(
    sharing: Process, where: str
) -> None:
    place = v1.DeviceMemory(segment=b"0" * 16)
    request = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    for name in ("predictions", "targets"):
        tensors.fill(request.inputs.add(name=name).tensors.add(), np.zeros((4, 4)))
    if where == "the reply":
        request.device.reply.CopyFrom(place)
        request.device.reply_size = 64
    elif where == "the weights":
        tensors.refer(request.weights, np.zeros(4), place)
    else:
        tensors.refer(request.inputs[0].tensors[0], np.zeros((4, 4)), place)
    with LossClient(sharing.address) as client, pytest.raises(LossdError) as error:
        client._connection()._ask(COMPUTE_LOSS, request, 5.0)
    assert error.value.reason == "SEGMENT_NOT_FOUND"
