"""Memory that client and server share: what callers by hand might do to it."""

import contextlib
import fcntl
import os
import secrets
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
from lossd.client import LossClient, errors
from lossd.v1 import CrossEntropy, SquaredError
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.test_shared_memory import batch

SERVICE = "/lossd.v1.SharedMemoryService/"
COMPUTE = "/lossd.v1.LossService/ComputeLoss"
NOT_FOUND, DENIED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT


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

    def told(self, method: str, *messages: bytes) -> errors.LossdError:
        """Sends the messages of a call or a stream, and returns what is told of its refusal."""
        called: Any = self._channel.stream_stream(f"/lossd.v1.{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(called(iter(messages), timeout=20))
        return errors.from_rpc_error(caught.value)

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


def test_a_file_or_a_segment_that_is_refused_is_told_with_its_field(
    raw: Raw, directory: Path
) -> None:
    attach, detach = "SharedMemoryService/AttachSegment", "SharedMemoryService/DetachSegment"
    beacon = next(path.name for path in directory.iterdir() if "beacon" in path.name)
    with locked_file(directory) as (name, descriptor):
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        for one in ("nothing", beacon, name, "a/b"):
            asked = v1.AttachSegmentRequest(name=one, size=1).SerializeToString()
            assert raw.told(attach, asked).field == "name"
    unknown = v1.DetachSegmentRequest(segment=b"x").SerializeToString()
    assert raw.told(detach, unknown).field == "segment"
    lost = request(b"x", 0, 10)
    told = raw.told("LossService/ComputeLoss", lost.SerializeToString())
    assert (told.reason, told.field) == ("SEGMENT_NOT_FOUND", "inputs[1].tensors[0]")
    lost.reply.start.segment = b"x"
    assert raw.told("LossService/ComputeLoss", lost.SerializeToString()).field == "reply"


@pytest.mark.parametrize("kind", ["shared_memory", "device_memory"])
def test_what_travels_in_messages_is_no_segment(raw: Raw, directory: Path, kind: str) -> None:
    """A caller who has one is told so, and not that the server has none."""
    with locked_file(directory) as (name, _):
        token = raw.attach(name, 1 << 16)
        asked = request(token, 0, 10)
        if kind == "device_memory":
            asked.inputs[1].tensors[0].device_memory.segment = token
        evaluated = v1.EvaluateRequest(metrics=[v1.MetricSpec(regression_errors={})])
        evaluated.batch.inputs.extend(asked.inputs)
        for method, message, around in (
            ("LossService/StreamLoss", v1.StreamLossRequest(call=asked), ""),
            ("EvaluationService/Evaluate", evaluated, "batch."),
            (
                "EvaluationService/EvaluateStream",
                v1.EvaluateStreamRequest(part=evaluated),
                "batch.",
            ),
        ):
            told = raw.told(method, message.SerializeToString())
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_TENSOR")
            assert told.field == f"{around}inputs[1].tensors[0]"
            assert str(told).endswith(f"must be data, or chunks in StreamLoss, got {kind}")
        raw.detach(token)


@pytest.mark.parametrize("path", ["reply", "device.reply"])
def test_an_answer_on_a_stream_has_no_place_elsewhere(raw: Raw, path: str) -> None:
    asked = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    for name in ("predictions", "targets"):
        tensors.fill(asked.inputs.add(name=name).tensors.add(), np.zeros(1, np.float32))
    if path == "reply":
        asked.reply.SetInParent()
    else:
        asked.device.reply.SetInParent()
    told = raw.told("LossService/StreamLoss", v1.StreamLossRequest(call=asked).SerializeToString())
    assert (told.reason, told.field) == ("INVALID_TENSOR", path)


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
