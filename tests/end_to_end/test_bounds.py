"""Requests are bounded from their first byte on, and computations until they are let go."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import LossClient
from lossd.framing import encoded_varint
from lossd.v1 import Bleu, LossSpec, MetricSpec, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.end_to_end.raw import CHANNEL, METHOD, request, unary
from tests.end_to_end.test_load import wait_for

EVALUATE = "/lossd.v1.EvaluationService/Evaluate"
STREAM = "/lossd.v1.LossService/StreamLoss"
MIB = 1 << 20


def resident(process: Process) -> int:
    """The memory that a server has."""
    return int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]) * 4096


def most_resident(process: Process) -> int:
    """The most memory that it ever had."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def field(kind: Any, name: str, body: bytes = b"") -> bytes:
    """One field of a message, as it is on the wire."""
    tag = kind.DESCRIPTOR.fields_by_name[name].number << 3 | 2
    return encoded_varint(tag) + encoded_varint(len(body)) + body


def empty(kind: Any, name: str, size: int) -> bytes:
    """So many bytes of empty fields."""
    one = field(kind, name)
    return one * (size // len(one))


def in_call(body: bytes) -> bytes:
    return field(v1.StreamLossRequest, "call", body)


def sent(channel: grpc.Channel, method: str, message: bytes) -> None:
    """Sends one message, to a stream or not."""
    if method == STREAM:
        streamed: Any = channel.stream_stream(method)
        list(streamed(iter([message]), timeout=60))
        return
    called: Any = channel.unary_unary(METHOD if method == "unary" else method)
    called(message, timeout=60)


CROWDED: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "metrics": (EVALUATE, lambda n: empty(v1.EvaluateRequest, "metrics", n)),
    "states": (EVALUATE, lambda n: empty(v1.EvaluateRequest, "states", n)),
    "texts": (
        EVALUATE,
        lambda n: field(
            v1.EvaluateRequest, "batch",
            field(v1.EvaluationBatch, "sequences", empty(v1.NamedSequences, "texts", n)),
        ),
    ),
    "inputs": ("unary", lambda n: empty(v1.ComputeLossRequest, "inputs", n)),
    "metrics beside a loss": ("unary", lambda n: empty(v1.ComputeLossRequest, "metrics", n)),
    "tensors": (
        "unary",
        lambda n: field(v1.ComputeLossRequest, "inputs", empty(v1.NamedTensors, "tensors", n)),
    ),
    "inputs of a stream": (STREAM, lambda n: in_call(empty(v1.ComputeLossRequest, "inputs", n))),
    "metrics of a stream": (STREAM, lambda n: in_call(empty(v1.ComputeLossRequest, "metrics", n))),
}  # fmt: skip


@pytest.fixture(scope="module")
def crowded() -> Iterator[Process]:
    """A server that is sent nothing else, so that the most that it took is what this took."""
    with serve("--backend", "numpy", "--threads", "1") as process:
        yield process


@pytest.mark.parametrize("what", CROWDED)
def test_fields_are_counted_before_they_are_parsed(crowded: Process, what: str) -> None:
    method, make = CROWDED[what]
    message = make(16 * MIB)
    before = resident(crowded)
    with (
        grpc.insecure_channel(crowded.address, options=CHANNEL) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        sent(channel, method, message)
    code: Any = caught.value
    assert code.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert most_resident(crowded) - before < 100 * MIB
    with unary(crowded.address) as compute:
        compute(request(), timeout=30)


@pytest.mark.parametrize("name", ["inputs", "metrics"])
def test_a_crowded_stream_is_refused_at_once(server: Process, name: str) -> None:
    """As many as may be parsed, and yet none of them is a tensor."""
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        method: Any = channel.stream_stream(STREAM)
        sent = in_call(empty(v1.ComputeLossRequest, name, 2 * MIB))
        with pytest.raises(grpc.RpcError) as caught:
            list(method(iter([sent]), timeout=20))
    code: Any = caught.value
    assert code.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}


def test_memory_of_a_large_batch_is_kept_for_the_next() -> None:
    """In every thread, and above the 64 MiB that glibc would keep in all but one."""
    logits = np.zeros((18 * 1024, 1024), np.float32)
    with (
        serve("--backend", "numpy", "--threads", "1") as process,
        LossClient(process.address) as client,
    ):
        client.compute(v1.CrossEntropy(), logits[:1024], np.zeros(1024, int))
        before = resident(process)
        client.compute(v1.CrossEntropy(), logits, np.zeros(len(logits), int))
        client.compute(v1.CrossEntropy(), logits[:8], np.zeros(8, int))
        assert resident(process) - before > logits.nbytes


def long_text(words: int) -> bytes:
    """A text whose n-grams take long."""
    random = np.random.default_rng(0)
    text = " ".join(map(str, random.integers(0, 1000, words)))
    made = v1.EvaluateRequest(metrics=[MetricSpec(bleu=Bleu(order=16))])
    for name in ("hypotheses", "references"):
        made.batch.sequences.add(name=name, texts=[text])
    return made.SerializeToString()


def test_a_call_that_waits_for_a_turn_ends_with_its_caller() -> None:
    with (
        serve("--backend", "numpy", "--threads", "1") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        evaluate: Any = channel.unary_unary(EVALUATE)
        message = long_pairs()
        busy = evaluate.future(message, timeout=120)
        wait_for(process, "lossd_inflight_requests", 1)
        large = request(rows=8 * 1024, classes=512)
        with unary(process.address) as compute:
            waiting: Any = [compute.future(large, timeout=120) for _ in range(10)]  # type: ignore[attr-defined]
            wanted = len(message) + 10 * len(large)
            eventually(lambda: metric(process, "lossd_inflight_bytes") >= wanted)
            for call in waiting:
                call.cancel()
            wait_for(process, "lossd_inflight_requests", 1)
            assert metric(process, "lossd_inflight_bytes") <= wanted - 5 * len(large)
        assert not busy.done()
        busy.cancel()
        wait_for(process, "lossd_inflight_requests", 0)


def ending(process: Process, seconds: float) -> float:
    """How long it takes from SIGTERM to the end."""
    started = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    process.process.wait(timeout=seconds)
    return time.monotonic() - started


@pytest.mark.parametrize("what", ["n-grams", "edits"])
def test_the_end_waits_for_nothing_that_computes(what: str) -> None:
    with (
        serve("--backend", "numpy", "--threads", "1", "--drain-seconds", "1") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        evaluate: Any = channel.unary_unary(EVALUATE)
        message = long_text(450_000) if what == "n-grams" else long_pairs()
        busy = evaluate.future(message, timeout=120)
        wait_for(process, "lossd_inflight_requests", 1)
        assert ending(process, 30) < 1 + 1 + 5  # that a busy machine may add
        assert isinstance(busy.exception(), grpc.RpcError)


def long_pairs() -> bytes:
    """Pairs of texts whose edits take long, and little memory beside."""
    random = np.random.default_rng(0)
    made = v1.EvaluateRequest(metrics=[MetricSpec(word_error_rate=v1.WordErrorRate())])
    for name in ("hypotheses", "references"):
        texts = [" ".join(map(str, random.integers(0, 9, 1 << 15))) for _ in range(100)]
        made.batch.sequences.add(name=name, texts=texts)
    return made.SerializeToString()


@pytest.mark.parametrize("what", ["n-grams", "edits"])
def test_long_work_stops_at_its_deadline(server: Process, what: str) -> None:
    message = long_text(450_000) if what == "n-grams" else long_pairs()
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        evaluate: Any = channel.unary_unary(EVALUATE)
        with pytest.raises(grpc.RpcError):
            evaluate(message, timeout=0.5)
    wait_for(server, "lossd_inflight_requests", 0)


def calling(address: str, codes: Counter[Any], is_over: threading.Event) -> None:
    """Calls one after the other, and counts what comes of it."""
    sent = request()
    with unary(address) as compute:
        while not is_over.is_set():
            try:
                compute(sent, timeout=20)
            except grpc.RpcError as error:
                failed: Any = error
                codes[failed.code()] += 1
                if failed.code() is grpc.StatusCode.UNAVAILABLE:
                    time.sleep(0.05)
            else:
                codes[grpc.StatusCode.OK] += 1


def test_calls_that_were_not_taken_in_are_told_to_go_elsewhere() -> None:
    """gRPC itself would cancel what it has received when it is told to stop."""
    codes: Counter[Any] = Counter()
    is_over = threading.Event()
    with serve("--backend", "numpy", "--threads", "1", "--drain-seconds", "3") as process:
        callers = [
            threading.Thread(target=calling, args=(process.address, codes, is_over))
            for _ in range(32)
        ]
        for caller in callers:
            caller.start()
        while codes[grpc.StatusCode.OK] < 100:
            time.sleep(0.01)
        ending(process, 30)
        is_over.set()
        for caller in callers:
            caller.join()
    assert codes[grpc.StatusCode.UNAVAILABLE] > 0
    # What comes in the very moment in which gRPC is told is beyond us.
    assert codes[grpc.StatusCode.CANCELLED] <= len(callers) // 4
    assert set(codes) <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }


def test_memory_goes_back_when_a_burst_is_over() -> None:
    with serve("--backend", "numpy", "--threads", "1") as process, unary(process.address) as call:
        call(request(), timeout=30)
        idle = resident(process)
        for _ in range(2):
            call(request(rows=64 * 1024, classes=512), timeout=60)
        eventually(lambda: resident(process) < idle + 100 * MIB)


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_can_never_fit_is_too_large_and_tells_the_limit() -> None:
    """A loss of the whole set that takes many times its bytes, within the limit of messages."""
    made = v1.ComputeLossRequest(loss=LossSpec(pairwise_auc=v1.PairwiseAuc()))
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "predictions": random.standard_normal(MIB, np.float32),
        "targets": random.integers(0, 2, MIB).astype(np.int8),
    }
    for name, array in arrays.items():
        tensors.fill(made.inputs.add(name=name).tensors.add(), array)
    with (
        serve("--backend", "numpy", "--max-inflight-bytes", str(32 * MIB)) as process,
        unary(process.address) as compute,
    ):
        before = resident(process)
        with pytest.raises(grpc.RpcError) as caught:
            compute(made.SerializeToString(), timeout=30)
        told: Any = caught.value
        assert told.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "bytes in flight must be at most" in told.details()
        assert most_resident(process) - before < 64 * MIB
        wait_for(process, "lossd_inflight_bytes", 0)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_what_is_too_large_takes_nothing_however_short_it_came(compression: Any) -> None:
    """64 MiB of zeros are some 64 KiB on their way."""
    with serve("--backend", "numpy", "--threads", "1", "--max-message-bytes", str(MIB)) as process:
        with unary(process.address) as compute:
            compute(request(), timeout=30)
        before = most_resident(process)
        with grpc.insecure_channel(process.address, CHANNEL, compression) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                sent(channel, METHOD, bytes(64 * MIB))
            told: Any = caught.value
        assert told.code() in {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNIMPLEMENTED,  # of a version that would inflate all of it
        }
        assert most_resident(process) - before < 10 * MIB
        with unary(process.address) as compute:
            compute(request(), timeout=30)


def test_gradients_in_the_memory_of_the_client_take_none_of_the_servers(
    tmp_path: Path, connect: Any
) -> None:
    """Each of the two is more than may be in flight beside what computing takes."""
    limit = str(24 * MIB)
    given = ("--backend", "numpy", "--shm-dir", str(tmp_path), "--max-inflight-bytes", limit)
    with serve(*given) as process, connect(process.address) as client:
        inputs = [client.empty((1 << 16, 256)) for _ in range(2)]
        for place in inputs:
            place[...] = 0
        found = client.compute(SquaredError(), *inputs, gradients=("predictions", "targets"))
        assert found.transport == "shared_memory"
        assert not any(gradient.any() for gradient in found.gradients.values())
        wait_for(process, "lossd_inflight_bytes", 0)


def test_gradients_that_come_in_the_message_count() -> None:
    made = v1.ComputeLossRequest(loss=LossSpec(squared_error=SquaredError()))
    for name in ("predictions", "targets"):
        zeros = np.zeros((MIB // 128, 128), np.float32)
        tensors.fill(made.inputs.add(name=name).tensors.add(), zeros)
    limit = ("--backend", "numpy", "--max-inflight-bytes", str(27 * MIB))
    with serve(*limit) as process, unary(process.address) as compute:
        made.gradients.SetInParent()
        assert v1.ComputeLossResponse.FromString(compute(made.SerializeToString())).loss == 0
        made.gradients.inputs.append("predictions")
        with pytest.raises(grpc.RpcError) as caught:  # 8 MiB and 4, and what computing takes
            compute(made.SerializeToString(), timeout=30)
        told: Any = caught.value
        assert not any(
            key == "grpc-status-details-bin" and b"RetryInfo" in value
            for key, value in told.trailing_metadata()
        )
