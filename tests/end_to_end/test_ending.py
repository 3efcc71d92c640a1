"""A server that cannot go on ends, and one that is told to end does so in time."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests import faulty_server
from tests.certificates import Authority
from tests.end_to_end.conftest import Process, metric, page, serve
from tests.end_to_end.raw import CHANNEL, Held, request, unary
from tests.waiting import until

LATE = 5  # seconds that a busy machine may add


@contextlib.contextmanager
def faulty(fault: Callable[[], None], *arguments: str) -> Iterator[Process]:
    script = str(Path(faulty_server.__file__))
    with serve(
        "--backend", "numpy", *arguments, inside=(sys.executable, script, fault.__name__)
    ) as process:
        yield process


def trigger(process: Process) -> None:
    """Sets the fault off."""
    with grpc.insecure_channel(process.address) as channel:
        method: Any = channel.unary_unary(faulty_server.TRIGGER)
        with pytest.raises(grpc.RpcError):
            method(b"", timeout=0.5)


def test_a_server_whose_grpc_thread_dies_ends_and_says_why() -> None:
    with faulty(faulty_server.dies, "--log-format", "json") as process:
        trigger(process)
        assert process.process.wait(timeout=15) == 1
        lines = [*map(json.loads, process.log())]
    (told,) = [line for line in lines if line["level"] == "critical"]
    assert "OutOfMemory" in json.dumps(told)


def test_a_server_whose_grpc_thread_dies_tells_people_in_its_last_line() -> None:
    with faulty(faulty_server.dies) as process:
        trigger(process)
        assert process.process.wait(timeout=15) == 1
        assert process.log()[-1].startswith("Error: threads must live")


def test_a_server_whose_grpc_thread_waits_is_not_alive_and_ends() -> None:
    with faulty(faulty_server.waits_and_is_asked_often) as process:
        assert page(process, "/healthz") == (200, "ok\n")
        trigger(process)
        with contextlib.suppress(OSError):  # it may have ended between two looks
            until(lambda: page(process, "/healthz") == (503, "gRPC does not answer\n"))
        assert process.process.wait(timeout=15) == 1
        assert process.log()[-1].startswith("Error: gRPC must answer, got nothing from it")


def test_sigterm_ends_a_deaf_server_in_time() -> None:
    with faulty(faulty_server.waits, "--drain-seconds", "1") as process:
        trigger(process)
        started = time.monotonic()
        assert process.end(signal.SIGTERM) not in {0, -signal.SIGKILL}
        assert time.monotonic() - started < 2 + LATE


@pytest.mark.parametrize("what", ["SIG_DFL", "SIG_IGN"])  # as a shell, and as nohup
def test_a_server_whose_terminal_goes_drains_unless_it_was_told_to_stay(what: str) -> None:
    program = (
        f"import os, signal, sys; signal.signal(signal.SIGHUP, signal.{what}); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with serve("--backend", "numpy", inside=(sys.executable, "-c", program)) as process:
        if what == "SIG_DFL":
            assert process.end(signal.SIGHUP) == 0
            return
        process.process.send_signal(signal.SIGHUP)
        with LossClient(process.address) as client:
            client.server_info()
        assert process.end() == 0


def test_sigterm_ends_a_server_that_computes_on() -> None:
    with (
        faulty(faulty_server.computes_on, "--drain-seconds", "1") as process,
        unary(process.address) as compute,
    ):
        computing = compute.future(request(), timeout=60)  # type: ignore[attr-defined]
        until(lambda: metric(process, "lossd_inflight_bytes") > 0)
        started = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        assert time.monotonic() - started < 2 + LATE
        assert isinstance(computing.exception(timeout=10), grpc.RpcError)


def test_no_thread_is_needed_once_a_server_is_ready() -> None:
    with (
        faulty(faulty_server.makes_no_thread, "--max-calls", "20") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = [Held(channel) for _ in range(20)]
        until(lambda: metric(process, "lossd_inflight_requests") == len(held))
        check = health_pb2_grpc.HealthStub(channel).Check
        with ThreadPoolExecutor(10) as callers:
            asked = [
                callers.submit(check, health_pb2.HealthCheckRequest(), timeout=20)
                for _ in range(100)
            ]
            pages = [callers.submit(page, process, "/readyz") for _ in range(100)]
            assert {reply.result().status for reply in asked} == {1}
            assert {reply.result() for reply in pages} == {(200, "ready\n")}
        for call in held:
            call.send(request())
            call.future.result(timeout=30)
        assert process.end(signal.SIGTERM) == 0


def test_a_watcher_does_not_delay_the_end() -> None:
    with serve("--backend", "numpy") as process, grpc.insecure_channel(process.address) as channel:
        told = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(told).status == health_pb2.HealthCheckResponse.SERVING
        started = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        assert time.monotonic() - started < 1 + LATE  # of the 25 seconds that calls have
        assert next(told).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert told.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("has_tls", "said"),
    [(False, b""), (False, b"PRI * HT"), (True, b""), (True, b"\x16\x03\x01\x02\x00\x01")],
)
def test_half_a_handshake_does_not_delay_the_end(
    said: bytes, tmp_path: Path, *, has_tls: bool
) -> None:
    certificate, key = Authority().issue("server").write(tmp_path, "server")
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key)) if has_tls else ()
    with serve("--backend", "numpy", *flags) as process:
        host, _, port = process.address.rpartition(":")
        before = open_files(process)
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall(said)
            until(lambda: open_files(process) > before)
            started = time.monotonic()
            assert process.end(signal.SIGTERM) == 0
            assert time.monotonic() - started < 2 + LATE  # of the 20 that a handshake has


def open_files(process: Process) -> int:
    """How many files the server has open, with its connections."""
    return len([*Path(f"/proc/{process.process.pid}/fd").iterdir()])


def test_calls_have_their_time_to_end_while_others_shake_hands() -> None:
    with (
        serve("--backend", "numpy") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        held = Held(channel)
        until(lambda: metric(process, "lossd_inflight_requests") == 1)
        host, _, port = process.address.rpartition(":")
        with socket.create_connection((host, int(port))):
            process.process.send_signal(signal.SIGTERM)
            time.sleep(2)  # longer than those have who only shake hands
            held.send(request())
            assert held.future.result(timeout=20)
            assert process.process.wait(timeout=20) == 0


def test_a_log_that_nobody_reads_stops_no_call() -> None:
    command = [
        sys.executable, "-m", "lossd", "serve", "--backend", "numpy", "--log-level", "debug",
        "--address", "127.0.0.1:0", "--metrics-port", "0",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            _, address, metrics = process.stdout.readline().split()
            with LossClient(address.removeprefix("address=")) as client:
                for _ in range(800):  # lines of some 200 bytes, for a pipe of 64 KiB
                    client.compute(SquaredError(), [2.0], [0.0], timeout=20)
                url = metrics.removeprefix("metrics=")
                with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - ours
                    lost = re.search(r"\nlossd_log_lines_lost (\S+)", reply.read().decode())
                read = [process.stderr.readline() for _ in range(100)]
                client.compute(SquaredError(), [2.0], [0.0], timeout=20)
            process.terminate()
            read += process.stderr.readlines()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert any("lines were lost" in line for line in read)
    assert lost is not None
    assert float(lost[1]) > 100
