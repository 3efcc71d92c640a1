"""Accepted calls are answered, the others refused at once, and health says so throughout."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd import v1
from lossd.client import LossClient, OverloadedError, errors
from lossd.client.requests import build_request
from lossd.serving.config import settings
from lossd.v1 import InfoNce, SquaredError
from tests.end_to_end.conftest import Process, metric, page, serve
from tests.end_to_end.raw import CHANNEL, Held, request, unary
from tests.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
LOG_3 = pytest.approx(np.log(3))


def reply_of(held: Held) -> v1.ComputeLossResponse:
    return v1.ComputeLossResponse.FromString(held.future.result(timeout=30))


COMPUTE = {
    "grpc_type": "unary",
    "grpc_service": "lossd.v1.LossService",
    "grpc_method": "ComputeLoss",
}


def wait_for(process: Process, name: str, value: float, **labels: str) -> None:
    until(lambda: metric(process, name, **labels) == value, f"{name} must become {value}")


def wait_for_bytes(process: Process, size: int) -> None:
    """Waits until messages of so many bytes have come; what computes takes more."""
    until(lambda: metric(process, "lossd_inflight_bytes") >= size)


def test_of_16_calls_too_many_exactly_16_are_refused_at_once() -> None:
    limit = 8
    with (
        serve("--backend", "numpy", "--max-calls", str(limit)) as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = [Held(channel) for _ in range(limit)]
        wait_for(process, "lossd_inflight_requests", limit)
        with LossClient(process.address) as other, unary(process.address) as compute:
            for _ in range(16):
                started = time.monotonic()
                with pytest.raises(grpc.RpcError) as caught:
                    compute(request())
                assert time.monotonic() - started < 5  # 50 ms on an idle machine
                error = errors.from_rpc_error(caught.value)
                assert isinstance(error, OverloadedError)
                assert error.reason == "TOO_MANY_CALLS"
                assert error.metadata["limit"] == str(limit)
                assert error.retry_delay is not None
                assert error.retry_delay > 0
            for call in held:
                call.send(request())
            assert [reply_of(call).loss for call in held] == [LOG_3] * limit
            assert other.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4
        assert metric(process, "lossd_rejected_total", reason="TOO_MANY_CALLS") == 16


def test_bytes_in_flight_are_bounded() -> None:
    with serve("--backend", "numpy", "--max-inflight-bytes", "5000") as process:
        with unary(process.address) as compute:
            with pytest.raises(grpc.RpcError) as caught:
                compute(request(rows=1000))
            assert errors.from_rpc_error(caught.value).reason == "TOO_LARGE"
            assert compute(request())
        wait_for(process, "lossd_inflight_bytes", 0)


def test_health_is_answered_while_every_thread_is_busy_and_no_call_is_let_in(
    *, whole: bool
) -> None:
    with (
        serve("--backend", "numpy", "--threads", "2", "--max-calls", "4") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        message = request(rows=2000, classes=2000)
        held = [Held(channel) for _ in range(4)]
        stop = threading.Event()

        def keep_busy(call: Held) -> None:
            call.send(message)
            call.future.result()
            while not stop.is_set():
                again = Held(channel)
                again.send(message)
                again.future.exception()

        with ThreadPoolExecutor(4) as callers:
            for call in held:
                callers.submit(keep_busy, call)
            check = health_pb2_grpc.HealthStub(channel).Check
            ending = time.monotonic() + (5 if whole else 1)
            while time.monotonic() < ending:
                assert check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
                assert page(process, "/readyz") == (200, "ready\n")
                time.sleep(0.02)
            stop.set()


def test_open_reflection_streams_do_not_starve_health_and_reflection(server: Process) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        never = threading.Event()

        def silence() -> "object":
            never.wait(60)
            yield from ()

        def asked() -> list[str]:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
            return [service.name for service in reply.list_services_response.service]

        streams = [stub.ServerReflectionInfo(silence()) for _ in range(200)]
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING
        for _ in range(3):
            assert "lossd.v1.LossService" in asked()
        for stream in streams:
            stream.cancel()
        never.set()


def test_a_caller_that_never_sends_keeps_its_place_for_a_while_only() -> None:
    with (
        serve("--backend", "numpy", "--max-calls", "1", "--max-call-seconds", "1") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = Held(channel)
        wait_for(process, "lossd_inflight_requests", 1)
        wait_for(process, "lossd_inflight_requests", 0)
        assert held.future.code() is grpc.StatusCode.CANCELLED
        with LossClient(process.address) as client:
            assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4


def test_replies_that_nobody_reads_are_in_flight() -> None:
    # A window that stays small: else gRPC takes whole replies that nobody asked for.
    window = (*CHANNEL, ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    with (
        serve("--backend", "numpy", "--max-calls", "4", "--max-call-seconds", "16") as process,
        grpc.insecure_channel(process.address, options=window) as channel,
    ):
        method: Any = channel.stream_stream("/lossd.v1.LossService/ComputeLoss")
        message = request(rows=4000, classes=1000)
        unread: list[Any] = [method(iter([message])) for _ in range(4)]
        wait_for(process, "grpc_server_msg_sent_total", 4, **COMPUTE)
        assert metric(process, "lossd_inflight_requests") == 4
        with unary(process.address) as compute, pytest.raises(grpc.RpcError) as caught:
            compute(request())
        assert errors.from_rpc_error(caught.value).reason == "TOO_MANY_CALLS"
        wait_for(process, "lossd_inflight_requests", 0)  # the patience with them is over
        assert len(unread) == 4


def test_200_calls_in_flight_survive_sigterm() -> None:
    with (
        serve("--backend", "numpy", "--max-calls", "200") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        # As the bundled client does: gRPC closes a connection with its last call, read or not.
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        held = [Held(channel) for _ in range(200)]
        wait_for(process, "lossd_inflight_requests", 200)
        process.process.send_signal(signal.SIGTERM)
        wait_for(process, "lossd_ready", 0)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert page(process, "/readyz") == (503, "draining\n")
        assert page(process, "/healthz") == (200, "ok\n")
        for call in held:
            call.send(request())
        assert not watch.done()
        assert [reply_of(call).loss for call in held] == [LOG_3] * 200
        assert process.process.wait(timeout=20) == 0


def test_what_outlasts_the_grace_is_cut_and_the_server_still_ends() -> None:
    with (
        serve("--backend", "numpy", "--drain-seconds", "0.5") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = Held(channel)
        wait_for(process, "lossd_inflight_requests", 1)
        started = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        assert time.monotonic() - started < 10
        assert isinstance(held.future.exception(timeout=10), grpc.RpcError)


def test_a_second_signal_ends_the_server_at_once() -> None:
    with (
        serve("--backend", "numpy") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = Held(channel)
        wait_for(process, "lossd_inflight_requests", 1)
        process.process.send_signal(signal.SIGTERM)
        wait_for(process, "lossd_ready", 0)
        assert not held.future.done()
        assert process.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_a_second_signal_ends_the_first_process_of_a_container_too() -> None:
    own_numbers = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*own_numbers, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process may not have process numbers of its own here")
    with (
        serve("--backend", "numpy", inside=own_numbers) as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = Held(channel)
        wait_for(process, "lossd_inflight_requests", 1)
        outer = process.process.pid
        first = int(Path(f"/proc/{outer}/task/{outer}/children").read_text())
        os.kill(first, signal.SIGTERM)
        wait_for(process, "lossd_ready", 0)
        assert not held.future.done()
        os.kill(first, signal.SIGTERM)
        assert process.process.wait(timeout=20) == 128 + signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="threads are found in /proc")
@pytest.mark.parametrize("most", ["1", "2"])
def test_a_client_that_watches_health_has_all_calls_of_its_connection(most: str) -> None:
    with (
        serve("--backend", "numpy", "--max-connection-calls", most) as process,
        LossClient(process.address) as client,
    ):
        for _ in range(3):
            assert client.compute(SquaredError(), [2.0], [0.0], timeout=10).loss == 4


def test_the_smallest_message_that_may_be_a_limit_lets_clients_connect() -> None:
    (setting,) = (each for each in settings() if each.name == "max_message_bytes")
    assert setting.bounds is not None
    with (
        serve("--backend", "numpy", setting.flag, str(int(setting.bounds.low))) as process,
        LossClient(process.address) as client,
    ):
        client.wait_until_ready(20)
        assert client.compute(SquaredError(), [2.0], [0.0], timeout=10).loss == 4


def test_a_signal_is_heard_whichever_thread_it_reaches() -> None:
    with serve("--backend", "numpy") as process:
        number = process.process.pid
        others = {int(task.name) for task in Path(f"/proc/{number}/task").iterdir()} - {number}
        assert ctypes.CDLL(None).tgkill(number, min(others), signal.SIGTERM) == 0
        assert process.process.wait(timeout=20) == 0


def test_a_client_killed_in_mid_call_leaves_nothing_behind() -> None:
    with serve("--backend", "numpy") as process:
        channel = grpc.insecure_channel(process.address, options=CHANNEL)
        held = [Held(channel) for _ in range(10)]
        wait_for(process, "lossd_inflight_requests", len(held))
        channel.close()
        wait_for(process, "lossd_inflight_requests", 0)
        with LossClient(process.address) as client:
            assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4


def test_calls_whose_deadline_passed_in_the_queue_are_never_computed() -> None:
    with serve("--backend", "numpy", "--threads", "1") as process:
        # Many products of few numbers: it is there at once, and computes for long.
        vectors = np.random.default_rng(0).standard_normal((6000, 256), np.float32)
        slow = build_request(InfoNce(), {"queries": vectors, "keys": vectors}).serialise()
        small = request(rows=4000)  # a smaller one would not wait
        with unary(process.address) as compute:
            busy = [compute.future(slow, timeout=60) for _ in range(2)]  # type: ignore[attr-defined]
            wait_for_bytes(process, 2 * len(slow))
            late = [compute.future(small, timeout=0.05) for _ in range(5)]  # type: ignore[attr-defined]
            assert all(isinstance(call.exception(), grpc.RpcError) for call in late)
            for call in busy:
                call.result()
        wait_for(process, "lossd_inflight_requests", 0)
        assert metric(process, "lossd_examples_total", loss="info_nce", backend="numpy") == 12_000
        assert metric(process, "lossd_examples_total", loss="cross_entropy", backend="numpy") == 0


def test_a_brief_call_waits_for_nobody() -> None:
    with serve("--backend", "numpy", "--threads", "1") as process:
        vectors = np.random.default_rng(0).standard_normal((6000, 256), np.float32)
        slow = build_request(InfoNce(), {"queries": vectors, "keys": vectors}).serialise()
        with unary(process.address) as compute:
            busy = [compute.future(slow, timeout=60) for _ in range(2)]  # type: ignore[attr-defined]
            wait_for_bytes(process, 2 * len(slow))
            compute(request(rows=10), timeout=20)
            assert not busy[1].done()
            for call in busy:
                call.result()


def test_a_cancelled_call_stops_within_a_tile() -> None:
    with serve("--backend", "numpy", "--threads", "1") as process:
        large = request(rows=40_000, classes=2000)
        with unary(process.address) as compute:
            call = compute.future(large, timeout=60)  # type: ignore[attr-defined]
            wait_for_bytes(process, len(large))
            call.cancel()
            wait_for(process, "lossd_inflight_requests", 0)
        assert metric(process, "lossd_examples_total", loss="cross_entropy", backend="numpy") == 0


def test_pages_tell_what_there_is(server: Process) -> None:
    assert page(server, "/healthz") == (200, "ok\n")
    assert page(server, "/readyz") == (200, "ready\n")
    assert page(server, "/etc/passwd")[0] == 404


def test_a_json_log_has_one_object_a_line_and_the_number_of_the_request() -> None:
    with serve("--backend", "numpy", "--log-format", "json", "--log-level", "debug") as process:
        with unary(process.address) as compute:
            compute(request(), metadata=(("x-request-id", "epoch-7"),))
        batch = v1.StreamLossRequest(call=v1.ComputeLossRequest.FromString(request()))
        with grpc.insecure_channel(process.address) as channel:
            stream: Any = channel.stream_stream("/lossd.v1.LossService/StreamLoss")
            list(stream(iter([batch.SerializeToString()]), metadata=(("x-request-id", "epoch-8"),)))
        process.end()
        lines = [json.loads(line) for line in process.log()]
    for name in ("epoch-7", "epoch-8"):
        (call,) = [line for line in lines if line.get("request_id") == name]
        assert (call["message"], call["code"], call["loss"]) == ("call", "OK", "cross_entropy")
    assert [line["message"] for line in lines][-2:] == ["draining", "stopped"]
