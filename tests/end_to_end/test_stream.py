"""Batches in chunks: the same answers as in one message, and broken streams told and survived."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd import chunks, tensors, v1
from lossd.client import LossClient, errors
from lossd.client.answer_memory import AnswerMemory
from lossd.client.chunked import WORTHWHILE_BYTES, Answer
from lossd.framing import Framed, Payloads
from lossd.v1 import Accuracy, CrossEntropy, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.end_to_end.raw import CHANNEL
from tests.end_to_end.test_load import wait_for

METHOD = "/lossd.v1.LossService/StreamLoss"
LABELS = {
    "grpc_type": "bidi_stream",
    "grpc_service": "lossd.v1.LossService",
    "grpc_method": "StreamLoss",
}


def batch(rows: int = 1500, classes: int = 1000) -> dict[str, Any]:
    """Just large enough for chunks."""
    random = np.random.default_rng(3)
    assert rows * classes * 4 > WORTHWHILE_BYTES
    return {
        "predictions": random.standard_normal((rows, classes), np.float32),
        "targets": random.integers(0, classes, rows),
        "weights": random.random(rows),
        "mask": random.random(rows) < 0.9,
        "cotangent": random.standard_normal(rows),
    }


def call_of(size: int = 4, payloads: Payloads | None = None) -> Framed[v1.ComputeLossRequest]:
    """A squared error between 2 and 0."""
    payloads = payloads or Payloads()
    made = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    for name, value in (("predictions", 2.0), ("targets", 0.0)):
        array = np.full(size, value)
        tensors.fill(made.inputs.add(name=name).tensors.add(), array, payloads)
    return Framed(made, payloads)


def messages_of(framed: Framed[v1.ComputeLossRequest]) -> list[bytes]:
    header, following = chunks.split(framed)
    first = v1.StreamLossRequest(call=header).SerializeToString()
    return [first, *chunks.encoded_chunks(following)]


@pytest.fixture
def stream(server: Process) -> Iterator[Any]:
    """The method, from an iterator of bytes to one."""
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        yield channel.stream_stream(METHOD)


def answers(replies: Any) -> list[v1.ComputeLossResponse]:
    found: list[Answer] = []
    for encoded in replies:
        if chunks.chunk_of(encoded) is None:
            found.append(Answer(AnswerMemory()))
        found[-1].take(encoded)
    return [answer.framed().message for answer in found]


# ------------------------------------------------------------------ both clients


def test_a_large_batch_has_the_bits_of_shared_memory(
    server: Process, connect: Any, tmp_path: Any
) -> None:
    given = batch()
    with (
        serve("--backend", "numpy", "--threads", "2", "--shm-dir", str(tmp_path)) as sharing,
        LossClient(sharing.address) as near,
    ):
        expected = near.compute(CrossEntropy(label_smoothing=0.1), **given)
    before = metric(server, "grpc_server_handled_total", grpc_code="OK", **LABELS)
    with connect(server.address) as client:
        result = client.compute(CrossEntropy(label_smoothing=0.1), metrics=[Accuracy()], **given)
    assert (expected.transport, result.transport) == ("shared_memory", "grpc")
    after = metric(server, "grpc_server_handled_total", grpc_code="OK", **LABELS)
    assert after == before + 1
    assert (result.loss, result.weight_sum) == (expected.loss, expected.weight_sum)
    assert result.ignored_count == expected.ignored_count > 0
    assert result.metrics[0].example_count == result.example_count
    assert expected.per_example is not None
    for found, sound in (
        (result.per_example, expected.per_example),
        (result.gradients["predictions"], expected.gradients["predictions"]),
    ):
        assert found.tobytes() == sound.tobytes()
        assert not found.flags.writeable
        assert found.flags.aligned


def test_an_answer_stays_as_it_is_while_others_come(server: Process, connect: Any) -> None:
    """Its memory goes to a later one only when nobody has a part of it."""
    given = batch()
    with connect(server.address) as client:

        def gradient(scale: float) -> Any:
            result = client.compute(CrossEntropy(), normalizer=scale, **given)
            return result.gradients["predictions"]

        first = gradient(1)
        before, row = first.copy(), first[7:8]
        for scale in (2, 4):
            np.testing.assert_array_equal(gradient(scale), before / scale)
        np.testing.assert_array_equal(first, before)
        was = first.ctypes.data
        del first
        assert gradient(8).ctypes.data != was
        np.testing.assert_array_equal(row, before[7:8])
        del row
        assert was in {gradient(16).ctypes.data for _ in range(3)}


def test_small_batches_go_in_one_message(server: Process, client: LossClient) -> None:
    before = metric(server, "grpc_server_started_total", **LABELS)
    assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4
    assert metric(server, "grpc_server_started_total", **LABELS) == before


def test_what_a_caller_can_fix_is_said_with_its_field(server: Process, connect: Any) -> None:
    given = batch()
    given["targets"][7], given["mask"][7] = 1000, True
    with connect(server.address) as client:
        with pytest.raises(errors.InvalidRequestError, match=r"targets\[7\] must be in") as caught:
            client.compute(CrossEntropy(), request_id="of-mine", **given)
        assert caught.value.field == "inputs.targets"
        assert caught.value.request_id == "of-mine"
        assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4


def test_a_deadline_ends_a_large_call_wherever_it_is(server: Process, connect: Any) -> None:
    """Before, between and behind the chunks of the request and of the answer."""
    given = batch(12_000)
    with connect(server.address) as client:
        client.compute(CrossEntropy(), **given)
        begin = time.monotonic()
        client.compute(CrossEntropy(), **given)
        took = time.monotonic() - begin
        cut = 0
        for timeout in np.linspace(0.01, 1.2, 12) * took:
            try:
                client.compute(CrossEntropy(), timeout=float(timeout), **given)
            except errors.DeadlineExceededError:
                cut += 1
        assert cut
        assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4


def test_a_large_batch_that_never_fits_is_refused_and_not_repeated(connect: Any) -> None:
    given = batch()
    with (
        serve("--backend", "numpy", "--max-inflight-bytes", "1000000") as process,
        connect(process.address) as client,
        pytest.raises(errors.OverloadedError) as caught,
    ):
        client.compute(CrossEntropy(), timeout=20, **given)
    assert caught.value.reason == "TOO_LARGE"
    assert caught.value.retry_delay is None


# ------------------------------------------------------------------ the method itself


def test_calls_on_a_stream_are_answered_in_order(stream: Any) -> None:
    sizes = (4, 200_000, 1, 300_000)
    sent = [message for size in sizes for message in messages_of(call_of(size))]
    found = answers(stream(iter(sent), timeout=30))
    assert [reply.example_count for reply in found] == list(sizes)
    assert {reply.loss for reply in found} == {4.0}


def test_tensors_may_stay_in_the_message(stream: Any) -> None:
    framed = call_of()
    whole = v1.ComputeLossRequest.FromString(framed.serialise())
    (reply,) = answers(stream(iter([v1.StreamLossRequest(call=whole).SerializeToString()])))
    assert reply.loss == 4


def test_chunks_may_be_encoded_in_another_way(stream: Any) -> None:
    """With an empty one before each, of which the last counts."""
    first, *rest = messages_of(call_of())
    odd = [message[:1] + b"\0" + message for message in rest]
    assert all(chunks.chunk_of(message) is None for message in odd)
    (reply,) = answers(stream(iter([first, *odd])))
    assert reply.loss == 4


def test_calls_of_a_stream_are_counted_one_by_one(server: Process, stream: Any) -> None:
    def counted() -> list[float]:
        return [
            metric(server, "lossd_requests_total", loss="squared_error", status="OK"),
            metric(server, "lossd_examples_total", loss="squared_error", backend="numpy"),
            metric(server, "grpc_server_handled_total", grpc_code="OK", **LABELS),
            metric(server, "lossd_request_bytes_count", transport="grpc"),
        ]

    before = counted()
    answers(stream(iter(messages_of(call_of(5)) * 3), timeout=30))
    wait_for(server, "grpc_server_handled_total", before[2] + 1, grpc_code="OK", **LABELS)
    assert [a - b for a, b in zip(counted(), before, strict=True)] == [3, 15, 1, 3]


FIRST, *REST = messages_of(call_of())


def announcing(*sizes: int, first: int = 0) -> bytes:
    framed = call_of()
    header, _ = chunks.split(framed)
    for index, (tensor, size) in enumerate(
        zip(chunks.tensors_of(header), sizes, strict=True), first
    ):
        tensor.chunks.position, tensor.chunks.size_bytes = index, size
    return v1.StreamLossRequest(call=header).SerializeToString()


def crowded() -> bytes:
    call = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=SquaredError()))
    named = call.inputs.add(name="predictions")
    for index in range(100_000):
        named.tensors.add().chunks.position = index
    return v1.StreamLossRequest(call=call).SerializeToString()


BROKEN = {
    "no part": ([b""], "BROKEN_STREAM", "part must be a call, got no part"),
    "no message": ([b"\xff"], "MALFORMED_REQUEST", "StreamLossRequest"),
    "a chunk first": (REST, "BROKEN_STREAM", "part must be a call, got chunk"),
    "cut off": ([FIRST, REST[0]], "BROKEN_STREAM", "got the end of the stream"),
    "a call between": ([FIRST, REST[0], FIRST], "BROKEN_STREAM", "must be a chunk, got call"),
    "too much of one": (
        [FIRST, v1.StreamLossRequest(chunk=bytes(33)).SerializeToString()],
        "BROKEN_STREAM",
        "at most the 32 that are left of a tensor, got 33",
    ),
    "an empty chunk": (
        [FIRST, v1.StreamLossRequest(chunk=b"").SerializeToString()],
        "BROKEN_STREAM",
        "at least 1 byte",
    ),
    "a chunk too many": ([FIRST, *REST, REST[0]], "BROKEN_STREAM", "must be a call, got chunk"),
    "out of order": ([announcing(32, 32, first=1)], "BROKEN_STREAM", "position must be 0, got 1"),
    "less than nothing": ([announcing(32, -1)], "BROKEN_STREAM", "must be at least 0, got -1"),
    "other than its shape": ([announcing(8, 8), *(m[:2] + m[2:10] for m in REST)], "", ""),
    "more than may be": ([announcing(1 << 40, 1 << 62)], "", "must have at most"),
    "too many tensors": ([crowded()], "INVALID_TENSOR", "predictions must be at most 64 tensors"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_stream_is_told_and_the_next_is_served(stream: Any, what: str) -> None:
    sent, reason, words = BROKEN[what]
    with pytest.raises(grpc.RpcError) as caught:
        answers(stream(iter(sent), timeout=30))
    error = errors.from_rpc_error(caught.value)
    assert error.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    assert words in str(error)
    assert reason in ("", error.reason)
    (reply,) = answers(stream(iter([FIRST, *REST]), timeout=30))
    assert reply.loss == 4


def test_calls_before_a_broken_one_were_answered(stream: Any) -> None:
    replies = stream(iter([FIRST, *REST, FIRST, b""]), timeout=30)
    assert v1.StreamLossResponse.FromString(next(replies)).result.loss == 4
    with pytest.raises(grpc.RpcError):
        list(replies)


def test_chunks_in_one_message_are_refused(server: Process) -> None:
    header, _ = chunks.split(call_of())
    with grpc.insecure_channel(server.address) as channel:
        compute: Any = channel.unary_unary("/lossd.v1.LossService/ComputeLoss")
        with pytest.raises(grpc.RpcError, match="data must be set, got chunks"):
            compute(header.SerializeToString(), timeout=30)


def test_announced_bytes_take_no_room_from_others() -> None:
    """Else a few callers who announce much and send nothing could keep everyone out."""
    never = threading.Event()

    def announced() -> Iterator[bytes]:
        yield messages_of(call_of(100))[0]
        never.wait(30)

    with (
        serve("--backend", "numpy", "--max-inflight-bytes", "2000") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        method: Any = channel.stream_stream(METHOD)
        waiting = [method(announced(), timeout=30) for _ in range(2)]
        for stream in waiting:
            assert stream.initial_metadata()  # it was let in
        (reply,) = answers(method(iter(messages_of(call_of(50))), timeout=30))
        assert reply.loss == 4
        for stream in waiting:
            stream.cancel()
        never.set()


def test_what_would_not_fit_is_refused_before_it_comes() -> None:
    with (
        serve("--backend", "numpy", "--max-inflight-bytes", "1000") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        method: Any = channel.stream_stream(METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            answers(method(iter([messages_of(call_of(100))[0]]), timeout=30))
        assert errors.from_rpc_error(caught.value).reason == "TOO_LARGE"
        whole = v1.ComputeLossRequest.FromString(call_of(100).serialise())
        with pytest.raises(grpc.RpcError) as caught:
            answers(method(iter([v1.StreamLossRequest(call=whole).SerializeToString()])))
        assert errors.from_rpc_error(caught.value).reason == "TOO_LARGE"
        (reply,) = answers(method(iter(messages_of(call_of(50))), timeout=30))
        assert reply.loss == 4
        wait_for(process, "lossd_inflight_bytes", 0)


def test_an_answer_that_nobody_reads_counts_in_bytes() -> None:
    window = (*CHANNEL, ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    with (
        serve("--backend", "numpy") as process,
        grpc.insecure_channel(process.address, options=window) as channel,
    ):
        method: Any = channel.stream_stream(METHOD)
        sent = messages_of(call_of(1 << 20))
        unread = method(iter(sent), timeout=60)
        wait_for(process, "lossd_examples_total", 1 << 20, loss="squared_error", backend="numpy")
        held = metric(process, "lossd_inflight_bytes")
        assert held == pytest.approx(2 * 8 << 20, rel=0.01)
        unread.cancel()
        wait_for(process, "lossd_inflight_bytes", 0)


def test_a_caller_that_goes_leaves_nothing_behind() -> None:
    with (
        serve("--backend", "numpy") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        method: Any = channel.stream_stream(METHOD)
        half = method(iter(messages_of(call_of(1 << 20))[:3]), timeout=30)
        del half
        large = method(iter(messages_of(call_of(1 << 22))), timeout=30)
        next(large)
        large.cancel()  # most of the answer is still to come
        wait_for(process, "lossd_inflight_requests", 0)
        wait_for(process, "lossd_inflight_bytes", 0)
        (reply,) = answers(method(iter(messages_of(call_of())), timeout=30))
        assert reply.loss == 4


def test_a_stream_that_rests_between_two_batches_holds_up_no_end() -> None:
    whole = v1.ComputeLossRequest.FromString(call_of().serialise())
    batch = v1.StreamLossRequest(call=whole).SerializeToString()
    said: queue.Queue[bytes | None] = queue.Queue()
    with (
        serve("--backend", "numpy", "--drain-seconds", "60") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        method: Any = channel.stream_stream("/lossd.v1.LossService/StreamLoss")
        replies = method(iter(said.get, None), timeout=60)
        said.put(batch)
        next(replies)
        assert process.end() == 0  # within 20 s
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        said.put(None)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
