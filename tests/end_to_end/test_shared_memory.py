"""Tensors in memory that client and server share, and what callers might do to it."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from lossd import tensors, v1
from lossd.client import (
    AsyncLossClient,
    DeadlineExceededError,
    LossClient,
    LossdError,
    UnavailableError,
)
from lossd.client.call import COMPUTE_LOSS
from lossd.losses import Loss
from lossd.v1 import CrossEntropy, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.sampling import draw, forms
from tests.waiting import until

SERVICE = "/lossd.v1.SharedMemoryService/"
COMPUTE = "/lossd.v1.LossService/ComputeLoss"
NOT_FOUND, DENIED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ROWS, CLASSES = 200, 300  # 240 kB of float32: worth sharing


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shm")


@pytest.fixture(scope="module")
def sharing(directory: Path) -> Iterator[Process]:
    with serve("--backend", "numpy", "--threads", "2", "--shm-dir", str(directory)) as process:
        yield process


def batch(rows: int = ROWS) -> dict[str, Any]:
    random = np.random.default_rng(2)
    logits = random.standard_normal((rows, CLASSES)).astype(np.float32)
    return {"predictions": logits, "targets": random.integers(0, CLASSES, rows)}


def segments(process: Process) -> float:
    return metric(process, "lossd_shared_memory_segments")


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


def test_a_closed_client_leaves_nothing_and_its_results_stay(
    sharing: Process, directory: Path, connect: Any
) -> None:
    with connect(sharing.address) as client:
        result = client.compute(CrossEntropy(), **batch())
        assert segments(sharing) > 0
        kept = result.gradients["predictions"].copy()
    assert segments(sharing) == 0
    assert [path.name[:13] for path in directory.iterdir()] == ["lossd-beacon-"]
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
    assert segments(sharing) == 0


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
    assert segments(sharing) == 0
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
    command = [sys.executable, "-m", "lossd", "serve", "--shm-dir", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Error: shm_dir must be a directory that can be written to" in done.stderr


# ------------------------------------------------------------------ calls made by hand


@contextlib.contextmanager
def locked_file(directory: Path, size: int = 1 << 16) -> Iterator[tuple[str, int]]:
    """A file as a client makes it: its name and descriptor."""
    name = secrets.token_hex(8)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name, descriptor
    finally:
        (directory / name).unlink(missing_ok=True)
        os.close(descriptor)


@pytest.fixture
def raw(sharing: Process) -> Iterator["Raw"]:
    with grpc.insecure_channel(sharing.address) as channel:
        yield Raw(channel)


class Raw:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def attach(self, name: str, size: int) -> bytes:
        method = cast("Any", self._channel.unary_unary(f"{SERVICE}AttachSegment"))
        request = v1.AttachSegmentRequest(name=name, size=size).SerializeToString()
        return v1.AttachSegmentResponse.FromString(method(request, timeout=20)).segment

    def detach(self, token: bytes) -> None:
        method = cast("Any", self._channel.unary_unary(f"{SERVICE}DetachSegment"))
        method(v1.DetachSegmentRequest(segment=token).SerializeToString(), timeout=20)

    def compute(self, request: v1.ComputeLossRequest) -> v1.ComputeLossResponse:
        method = cast("Any", self._channel.unary_unary(COMPUTE))
        answer = method(request.SerializeToString(), timeout=60)
        return v1.ComputeLossResponse.FromString(answer)

    def refused(self, call: Callable[..., Any], *arguments: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call(*arguments)
        error: Any = caught.value
        trailing = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        assert error.code() is not grpc.StatusCode.INTERNAL
        return error.code(), error.details()


def request(token: bytes, offset: int, elements: int, name: str = "predictions") -> Any:
    """Squared error of ``elements`` numbers in shared memory."""
    made = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    for other in {"predictions", "targets"} - {name}:
        tensors.fill(made.inputs.add(name=other).tensors.add(), np.zeros(elements, np.float32))
    tensor = made.inputs.add(name=name).tensors.add(dtype=v1.D_TYPE_FLOAT32, shape=[elements])
    tensor.shared_memory.segment, tensor.shared_memory.offset = token, offset
    return made


@pytest.mark.parametrize(
    "name",
    ["", "/", "///", ".", "..", "../../etc/passwd", "/dev/mem", "a/b", "a\0b", "ä", "a" * 5000],
)
def test_no_name_leads_out_of_the_directory(raw: Raw, name: str, directory: Path) -> None:
    code, said = raw.refused(raw.attach, name, 1)
    assert code is INVALID
    assert str(directory) not in said
    assert "passwd" not in said


def test_a_name_of_nothing_is_not_found(raw: Raw) -> None:
    assert raw.refused(raw.attach, "nothing", 1)[0] is NOT_FOUND


def test_what_is_no_plain_file_of_ones_own_is_refused(
    raw: Raw, directory: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 100)
    held = os.open(tmp_path / "held", os.O_RDWR | os.O_CREAT, 0o600)  # right but for its name
    os.write(held, b"x" * 100)
    fcntl.lockf(held, fcntl.LOCK_EX)
    (directory / "link").symlink_to(tmp_path / "held")
    os.link(secret, directory / "hard") if same_disk(secret, directory) else None
    os.mkfifo(directory / "fifo")
    (directory / "folder").mkdir()
    beacon = next(path.name for path in directory.iterdir() if "beacon" in path.name)
    made = ["link", "fifo", "folder", *(["hard"] if (directory / "hard").exists() else [])]
    try:
        for name in (*made, beacon):
            code, said = raw.refused(raw.attach, name, 1)
            assert code is DENIED, name
            assert str(directory) not in said
        assert secret.read_bytes() == b"x" * 100
    finally:
        os.close(held)
        for name in made:
            path = directory / name
            path.rmdir() if name == "folder" else path.unlink()


def same_disk(left: Path, right: Path) -> bool:
    return left.stat().st_dev == right.stat().st_dev


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(raw: Raw, directory: Path) -> None:
    with locked_file(directory) as (name, descriptor):
        os.fchown(descriptor, 65534, 65534)
        assert raw.refused(raw.attach, name, 1)[0] is DENIED


@pytest.mark.parametrize("size", [0, (1 << 16) + 1, 1 << 63, (1 << 64) - 1])
def test_a_size_that_cannot_be_is_refused(raw: Raw, directory: Path, size: int) -> None:
    with locked_file(directory) as (name, _):
        assert raw.refused(raw.attach, name, size)[0] is INVALID


def test_one_process_leaves_segments_to_the_others(tmp_path: Path) -> None:
    flags = ("--shm-dir", str(tmp_path), "--max-shm-segments", "4", "--backend", "numpy")
    with serve(*flags) as process, grpc.insecure_channel(process.address) as channel:
        raw = Raw(channel)
        with contextlib.ExitStack() as held:
            for _ in range(3):
                raw.attach(held.enter_context(locked_file(tmp_path))[0], 1 << 16)
            name, _ = held.enter_context(locked_file(tmp_path))
            code, said = raw.refused(raw.attach, name, 1 << 16)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert said == "segments of one client must be at most 3, got 4"
            program = f"""
import numpy as np
from lossd.client import LossClient
from lossd.v1 import Huber
with LossClient({process.address!r}) as client:
    array = np.zeros(1 << 17, np.float32)
    print(client.compute(Huber(), predictions=array, targets=array).transport)
"""
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.stdout == "shared_memory\n", done.stderr


def test_a_file_that_nobody_locks_is_refused(raw: Raw, directory: Path) -> None:
    with locked_file(directory) as (name, descriptor):
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert raw.refused(raw.attach, name, 1)[0] is INVALID


def test_a_name_is_taken_once(raw: Raw, directory: Path) -> None:
    with locked_file(directory) as (name, _):
        token = raw.attach(name, 1 << 16)
        assert len(token) == 16
        assert not (directory / name).exists()
        assert raw.refused(raw.attach, name, 1 << 16)[0] is NOT_FOUND
        raw.detach(token)
        assert raw.refused(raw.detach, token)[0] is NOT_FOUND


@pytest.mark.parametrize(
    "offset", [(1 << 16) - 396, 1 << 16, 1 << 63, (1 << 64) - 400, (1 << 64) - 1]
)
def test_nothing_is_read_or_written_beyond_a_segment(
    raw: Raw, directory: Path, offset: int
) -> None:
    with locked_file(directory) as (name, _):
        token = raw.attach(name, 1 << 16)
        code, said = raw.refused(raw.compute, request(token, offset, 100))
        assert code is INVALID
        assert "must end within its segment" in said
        asked = request(token, 0, 100)
        asked.reply.start.segment, asked.reply.start.offset = token, offset
        asked.reply.size = 400
        assert raw.refused(raw.compute, asked)[0] is INVALID
        raw.detach(token)


@pytest.mark.parametrize("token", [b"", b"\0" * 16, b"x" * 5000])
def test_a_segment_of_nobody_is_not_found(raw: Raw, token: bytes) -> None:
    assert raw.refused(raw.compute, request(token, 0, 10))[0] is NOT_FOUND
    assert raw.refused(raw.detach, token)[0] is NOT_FOUND


def test_a_server_that_shares_nothing_finds_nothing(server: Process) -> None:
    with grpc.insecure_channel(server.address) as channel:
        assert Raw(channel).refused(Raw(channel).compute, request(b"x", 0, 10))[0] is NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            Raw(channel).attach("name", 1)
        assert cast("Any", caught.value).code() is grpc.StatusCode.UNIMPLEMENTED


def test_data_at_any_offset_is_computed(raw: Raw, directory: Path) -> None:
    with locked_file(directory) as (name, descriptor):
        os.pwrite(descriptor, np.full(10, 2, np.float32).tobytes(), 13)
        token = raw.attach(name, 1 << 16)
        asked = request(token, 13, 10)
        asked.reply.start.segment, asked.reply.start.offset, asked.reply.size = token, 701, 300
        reply = raw.compute(asked)
        raw.detach(token)

        assert reply.loss == 4
        place = reply.gradients[0].tensors[0].shared_memory
        assert place.offset % 64 == 0
        gradient = np.frombuffer(os.pread(descriptor, 40, place.offset), np.float32)
        np.testing.assert_allclose(gradient, np.full(10, 0.4, np.float32))


def test_what_does_not_fit_the_region_comes_in_the_message(raw: Raw, directory: Path) -> None:
    with locked_file(directory) as (name, _):
        token = raw.attach(name, 1 << 16)
        asked = request(token, 0, 100)
        asked.reply.start.segment, asked.reply.size = token, 450  # one array of 400 bytes, not two
        reply = raw.compute(asked)
        raw.detach(token)
    sources = {t.WhichOneof("source") for t in (reply.per_example, reply.gradients[0].tensors[0])}
    assert sources == {"shared_memory", "data"}


def test_a_file_shrunk_after_it_was_attached_fails_that_call_alone(
    raw: Raw, directory: Path, sharing: Process
) -> None:
    for place in ("predictions", "reply"):
        with locked_file(directory, 1 << 20) as (name, descriptor):
            token = raw.attach(name, 1 << 20)
            os.ftruncate(descriptor, 4096)
            asked = request(token, 8192 if place == "predictions" else 0, 100)
            asked.reply.start.segment, asked.reply.start.offset = token, 1 << 19
            asked.reply.size = 4096
            code, said = raw.refused(raw.compute, asked)
            assert code is INVALID
            assert "shrunk" in said
            assert raw.refused(raw.compute, asked)[0] is NOT_FOUND  # it is dropped
    with LossClient(sharing.address) as client:
        assert client.compute(CrossEntropy(), **batch()).transport == "shared_memory"


def test_a_file_shrunk_in_the_middle_of_calls_fails_those_alone(
    raw: Raw, directory: Path, sharing: Process
) -> None:
    size = 1 << 25
    for delay in (0, 0.002, 0.005, 0.01, 0.02):
        with locked_file(directory, 3 * size) as (name, descriptor):
            token = raw.attach(name, 3 * size)
            asked = request(token, 0, 1)
            for named in asked.inputs:
                (tensor,) = named.tensors
                tensor.shape[:] = [size // 4]
                tensor.shared_memory.segment = token
            asked.reply.start.segment, asked.reply.size = token, size
            asked.reply.start.offset = 2 * size
            outcomes: list[grpc.StatusCode] = []

            def call(asked: Any = asked, outcomes: Any = outcomes) -> None:
                try:
                    raw.compute(asked)
                    outcomes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    outcomes.append(cast("Any", error).code())

            threads = [threading.Thread(target=call) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(delay)
            os.ftruncate(descriptor, 0)
            for thread in threads:
                thread.join()
            refused = grpc.StatusCode.RESOURCE_EXHAUSTED  # three at once may be one too many
            assert set(outcomes) <= {grpc.StatusCode.OK, INVALID, NOT_FOUND, refused}
            with contextlib.suppress(grpc.RpcError):
                raw.detach(token)
    assert sharing.process.poll() is None


def test_a_segment_may_be_detached_while_it_is_used(raw: Raw, directory: Path) -> None:
    size = 1 << 25
    with locked_file(directory, size) as (name, descriptor):
        os.pwrite(descriptor, np.full(size // 4, 3, np.float32).tobytes(), 0)
        token = raw.attach(name, size)
        found: list[float] = []
        asked = request(token, 0, 1)
        for named in asked.inputs:
            named.tensors[0].shape[:] = [size // 4]
            named.tensors[0].shared_memory.segment = token
        asked.per_example = False
        asked.gradients.SetInParent()
        thread = threading.Thread(target=lambda: found.append(raw.compute(asked).loss))
        thread.start()
        time.sleep(0.02)
        raw.detach(token)
        thread.join()
    assert found in ([0.0], [])  # answered, or not found where it came too late


def test_labels_are_checked_in_a_copy_that_nobody_else_can_change(
    raw: Raw, directory: Path, sharing: Process
) -> None:
    rows, size = 200_000, 200_000 * 8
    with locked_file(directory, size) as (name, descriptor):
        token = raw.attach(name, size)
        made = v1.ComputeLossRequest(loss=v1.LossSpec(cross_entropy=CrossEntropy()))
        tensors.fill(made.inputs.add(name="predictions").tensors.add(), np.zeros((rows, 2), "f4"))
        tensor = made.inputs.add(name="targets").tensors.add(dtype=v1.D_TYPE_INT64, shape=[rows])
        tensor.shared_memory.segment = token
        right, wrong = np.zeros(rows, np.int64).tobytes(), np.full(rows, 1 << 40).tobytes()
        done = threading.Event()

        def flip() -> None:
            while not done.is_set():
                os.pwrite(descriptor, wrong, 0)
                os.pwrite(descriptor, right, 0)

        thread = threading.Thread(target=flip)
        thread.start()
        outcomes = set()
        for _ in range(20):
            try:
                outcomes.add(round(raw.compute(made).loss, 6))
            except grpc.RpcError as error:
                outcomes.add(cast("Any", error).code())
        done.set()
        thread.join()
        raw.detach(token)
    assert outcomes <= {round(float(np.log(2)), 6), INVALID}
    assert sharing.process.poll() is None


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
