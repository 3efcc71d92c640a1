"""Who may come in: certificates, tokens and groups, at real servers."""

import asyncio
import contextlib
import functools
import json
import os
import pickle
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd import client, v1
from lossd.client import TLS, LossClient
from lossd.serving.access.groups import GROUPS
from lossd.serving.caller import Group
from tests.certificates import Authority, Issued
from tests.end_to_end.conftest import Process, metric, page, serve
from tests.waiting import until

NUMPY = ("--backend", "numpy", "--threads", "2")
ALL, SOME = "0123456789-all-of-them", "0123456789-some-of-them"
RULES = f"""
[callers.all]
may = ["compute", "evaluate", "information", "shared_memory", "reflection"]
tokens = ["{ALL}"]

[callers.some]
may = []
tokens = ["{SOME}"]
"""
BATCH: dict[str, Any] = {"predictions": [1.0, 2.0], "targets": [1.0, 3.0]}


@dataclass(frozen=True)
class Files:
    """An authority of ours, another's, and what they issued."""

    folder: Path
    ours: Authority
    theirs: Authority

    def path(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def issued(
        self, name: str, authority: Authority | None = None, **how: Any
    ) -> tuple[Path, Path]:
        return (authority or self.ours).issue(name, **how).write(self.folder, name)

    @functools.cached_property
    def ca(self) -> Path:
        """Written once: who reads a file while it is written may find nothing in it."""
        return self.path("ca.pem", self.ours.certificate)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("access"), Authority("ours"), Authority("theirs"))


def tls_flags(files: Files) -> tuple[str, ...]:
    certificate, key = files.issued("server")
    return ("--tls-cert", str(certificate), "--tls-key", str(key))


@pytest.fixture(scope="module")
def ruled(files: Files) -> Iterator[Process]:
    """A server with TLS and rules."""
    shared = files.folder / "shared"
    shared.mkdir()
    rules = files.path("access.toml", RULES)
    flags = ("--access", str(rules), "--shm-dir", str(shared), *tls_flags(files))
    with serve(*NUMPY, *flags) as process:
        yield process


def compute(connect: Any, address: str, timeout: float = 3, **how: Any) -> float:
    """Returns the loss of a batch, by a client that is made for it."""
    with connect(address, timeout=timeout, **how) as made:
        return number(made.compute(v1.Huber(), **BATCH).loss)


def number(found: Any) -> float:
    """A result as a plain number."""
    return float(getattr(found, "value", found))


def test_who_is_known_computes(ruled: Process, files: Files, connect: Any) -> None:
    kept = files.path("kept", ALL + "\n")
    for token in (ALL, kept, lambda: ALL):
        assert compute(connect, ruled.address, tls=TLS(files.ca), token=token) == 0.25


def test_long_tokens_are_taken_each_time_or_never(ruled: Process, files: Files) -> None:
    """Of calls with long headers gRPC by itself refuses some, by chance."""
    with LossClient(ruled.address, tls=TLS(files.ca), token="x" * 14_000) as made:
        for _ in range(20):
            with pytest.raises(client.UnauthenticatedError):
                made.server_info()
    with LossClient(ruled.address, tls=TLS(files.ca), token="x" * 17_000) as made:
        for _ in range(20):
            with pytest.raises(client.OverloadedError, match="metadata size exceeds hard limit"):
                made.server_info()


def test_whoever_comes_without_tls_is_asked_for_it(ruled: Process, connect: Any) -> None:
    with pytest.raises(client.UnavailableError, match=r"; does it want TLS, or another cert"):
        compute(connect, ruled.address, timeout=1)


Refused = tuple[str | None, grpc.StatusCode, str]
REFUSED: dict[str, Refused] = {
    "no token": (None, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    "wrong token": ("wrong", grpc.StatusCode.UNAUTHENTICATED, "TOKEN_UNKNOWN"),
    "no right": (SOME, grpc.StatusCode.PERMISSION_DENIED, "NOT_GRANTED"),
}


# A server without a GPU has no device memory: test_device_memory_refused.py has those.
SERVED = [method for method in GROUPS if "DeviceMemory" not in method]


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("method", SERVED)
def test_every_method_is_refused_before_its_message_is_read(
    ruled: Process, files: Files, method: str, how: str
) -> None:
    token, code, reason = REFUSED[how]
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    before = metric(ruled, "lossd_rejected_total", reason=reason)
    silent = threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(10)
        yield b""

    with grpc.secure_channel(ruled.address, credentials) as channel:
        stream: Any = channel.stream_stream(method)
        call = stream(nothing(), timeout=5, metadata=metadata)
        assert call.code() is code
        silent.set()
    assert metric(ruled, "lossd_rejected_total", reason=reason) == before + 1


LARGE = np.zeros((1 << 20, 2), np.float32)  # it goes in chunks


def evaluation(made: Any) -> float:
    """Returns the result of an evaluation over a stream."""
    with made.evaluation(v1.RocAuc()) as run:
        run.update(predictions=[1.0, 0.0], targets=[1, 0])
        return number(run.result())


CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "compute": (lambda made: made.compute(v1.Huber(), **BATCH).loss, 0.25),
    "in order": (lambda made: made.compute(v1.Huber(), *BATCH.values()).loss, 0.25),
    "large": (lambda made: made.compute(v1.Huber(), predictions=LARGE, targets=LARGE).loss, 0),
    "evaluate": (
        lambda made: made.evaluate(v1.RocAuc(), predictions=[1.0, 0.0], targets=[1, 0]).value,
        1,
    ),
    "evaluation": (evaluation, 1),
    "losses": (lambda made: len(made.list_losses().losses) > 10, True),
    "metrics": (lambda made: len(made.list_metrics().metrics) > 10, True),
    "information": (lambda made: made.server_info().backend, "numpy"),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_the_clients_brings_its_token(
    ruled: Process, files: Files, connect: Any, name: str
) -> None:
    call, expected = CALLS[name]
    with connect(ruled.address, tls=TLS(files.ca), token=ALL) as made:
        assert call(made) == expected


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_the_clients_says_why_it_was_refused(
    ruled: Process, files: Files, connect: Any, name: str, how: str
) -> None:
    token, code, reason = REFUSED[how]
    with (
        connect(ruled.address, tls=TLS(files.ca), token=token) as made,
        pytest.raises(client.LossdError) as caught,
    ):
        CALLS[name][0](made)
    assert type(caught.value) in (client.UnauthenticatedError, client.PermissionDeniedError)
    assert (caught.value.code, caught.value.reason) == (code.name, reason)
    assert token is None or token not in str(caught.value)


def test_a_stream_of_asyncio_says_why_it_was_refused_whenever_it_learns_it(
    ruled: Process, files: Files
) -> None:
    """The status comes before, while or after the first message is written."""

    async def ask(made: client.AsyncLossClient, seconds: float) -> None:
        async with made.evaluation(v1.RocAuc()) as run:
            await asyncio.sleep(seconds)
            await run.update(predictions=[1.0, 0.0], targets=[1, 0])
            await run.result()

    async def refusals() -> set[str]:
        found = set()
        tls = TLS(files.ca)
        async with client.AsyncLossClient(ruled.address, tls=tls, token=SOME) as made:
            for call in range(200):
                with pytest.raises(client.LossdError) as caught:
                    await ask(made, call % 20 * 1e-4)
                found.add(caught.value.code)
        return found

    assert asyncio.run(refusals()) == {"PERMISSION_DENIED"}


def test_health_is_open_to_everybody_who_can_connect(ruled: Process, files: Files) -> None:
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
    with grpc.secure_channel(ruled.address, credentials) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=5
        )
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert page(ruled, "/healthz") == (200, "ok\n")


HANDSHAKES: dict[str, Callable[[Files], TLS | bool]] = {
    "plain text": lambda _: False,
    "another authority": lambda files: TLS(files.path("other.pem", files.theirs.certificate)),
    "a public authority": lambda _: True,
    "another name": lambda files: TLS(files.ca, server_name="elsewhere"),
    "no certificate": lambda files: TLS(files.ca),
    "their certificate": lambda files: TLS(files.ca, *files.issued("theirs", files.theirs)),
    "an expired certificate": lambda files: TLS(files.ca, *files.issued("expired", days=-1)),
}


@pytest.fixture(scope="module")
def mutual(files: Files) -> Iterator[Process]:
    """A server that wants certificates of its clients."""
    with serve(*NUMPY, *tls_flags(files), "--tls-client-ca", str(files.ca)) as process:
        yield process


def test_a_certificate_of_the_authority_comes_in(
    mutual: Process, files: Files, connect: Any
) -> None:
    tls = TLS(files.ca, *files.issued("trainer"))
    assert compute(connect, mutual.address, tls=tls) == 0.25


@pytest.mark.parametrize("how", HANDSHAKES)
def test_no_other_handshake_does(mutual: Process, files: Files, connect: Any, how: str) -> None:
    with pytest.raises(client.LossdError) as caught:
        compute(connect, mutual.address, timeout=1, tls=HANDSHAKES[how](files))  # all of it passes
    assert caught.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    said = {
        "another authority": "server must have a certificate of an authority in tls.ca",
        "another name": "server must have a certificate for its name",
    }
    if caught.value.code == "UNAVAILABLE":  # else the last attempt had no time to learn why
        assert said.get(how, "") in str(caught.value)
    assert metric(mutual, "lossd_requests_total", loss="huber", status="OK") <= 2


def test_names_of_certificates_are_callers(files: Files) -> None:
    rules = files.path(
        "names.toml",
        '[callers.judge]\nmay = ["evaluate"]\ncertificates = ["judge.example.com"]\n'
        '[callers.trainer]\nmay = ["compute"]\ncertificates = ["trainer"]\n',
    )
    flags = (*tls_flags(files), "--tls-client-ca", str(files.ca), "--access", str(rules))
    judge = TLS(files.ca, *files.issued("somebody", alternative="judge.example.com"))
    trainer = TLS(files.ca, *files.issued("trainer"))
    other = TLS(files.ca, *files.issued("other"))
    with serve(*NUMPY, *flags) as process:
        assert compute(LossClient, process.address, tls=trainer) == 0.25
        with pytest.raises(client.PermissionDeniedError, match="by judge"):
            compute(LossClient, process.address, tls=judge)
        with pytest.raises(client.UnauthenticatedError) as caught:
            compute(LossClient, process.address, tls=other)
        assert caught.value.reason == "CERTIFICATE_UNKNOWN"
        process.end()
        refused = [line for line in process.log() if "lossd.audit" in line]
    assert len(refused) == 2
    assert all("peer=ipv4:127.0.0.1" in line and "ComputeLoss" in line for line in refused)


@pytest.fixture
def plain(files: Files) -> Iterator[Process]:
    """A server with the same rules that other hosts could reach, in plain text."""
    with serve(*NUMPY, "--access", str(files.path("plain.toml", RULES))) as process:
        yield process


@pytest.mark.parametrize("kind", ["ruled", "plain"])
def test_the_way_by_which_the_server_hears_itself_leads_nowhere(
    kind: str, request: pytest.FixtureRequest
) -> None:
    process: Process = request.getfixturevalue(kind)
    (name,) = pulses_of(process)
    with grpc.insecure_channel(f"unix-abstract:{name}") as channel:
        call: Any = channel.unary_unary("/lossd.v1.LossService/GetServerInfo")
        metadata = (("authorization", f"Bearer {ALL}"),)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5, metadata=metadata)
    code: Any = caught.value
    assert code.code() is grpc.StatusCode.UNAUTHENTICATED
    assert process.process.poll() is None


def pulses_of(process: Process) -> set[str]:
    """Returns the names of the kernel by which a server hears itself."""
    opened = set()
    for each in Path(f"/proc/{process.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            opened.add(str(each.readlink()))
    listed = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {
        columns[-1].removeprefix("@")
        for columns in listed
        if columns[-1].startswith("@lossd-pulse-") and f"socket:[{columns[-2]}]" in opened
    }


def test_pages_by_tls(files: Files) -> None:
    certificate, key = files.issued("pages")
    flags = ("--metrics-tls-cert", str(certificate), "--metrics-tls-key", str(key))
    with serve(*NUMPY, *flags) as process:
        assert process.metrics_url.startswith("https://")
        trusted = ssl.create_default_context(cafile=files.ca)
        with urllib.request.urlopen(process.metrics_url, timeout=5, context=trusted) as reply:  # noqa: S310 - ours
            text = reply.read().decode()
        plain = process.metrics_url.replace("https", "http")
        with pytest.raises(OSError):
            urllib.request.urlopen(plain, timeout=5)  # noqa: S310
    name = 'lossd_certificate_expiry_timestamp_seconds{certificate="metrics_tls_cert"}'
    assert name in text


def test_certificates_and_tokens_rotate_under_load(
    files: Files,
    tmp_path: Path,
    whole: bool,  # noqa: FBT001
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(ALL)
    kept = tmp_path / "kept"
    kept.write_text(ALL)
    first = files.ours.issue("server")
    certificate, key = first.write(tmp_path, "rotating")
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens))
    ended = threading.Event()
    found: list[float | Exception] = []

    def call(*, anew: bool) -> None:
        made = LossClient(address, tls=TLS(files.ca), token=kept)
        while not ended.wait(0.005):  # there is time for the server beside it
            try:
                found.append(number(made.compute(v1.Huber(), **BATCH).loss))
            except client.LossdError as error:
                found.append(error)
            if anew:
                made.close()
                made = LossClient(address, tls=TLS(files.ca), token=kept)
        made.close()

    with serve(*NUMPY, *flags) as process:
        address = process.address
        callers = [threading.Thread(target=call, kwargs={"anew": anew}) for anew in (False, True)]
        for caller in callers:
            caller.start()
        newest = first
        for turn in range(6 if whole else 3):
            newest = files.ours.issue(f"server {turn}", days=2 + turn)
            certificate.write_bytes(newest.certificate[:100])  # half of it, and an old key
            until(functools.partial(has_failed, process, turn + 1))
            assert is_unusable(process)
            newest.write(tmp_path, "rotating")
            token = f"0123456789-turn-{turn}"
            tokens.write_text(f"{kept.read_text()}\n{token}\n")
            until(functools.partial(serves, process, newest))
            assert not is_unusable(process)
            until(functools.partial(knows, process, files.ca, token))
            replace(kept, token)
        ended.set()
        for caller in callers:
            caller.join()
    assert len(found) > 20
    assert set(found) == {0.25}


def replace(path: Path, content: str) -> None:
    """Writes a file as a whole, as who rotates tokens should."""
    beside = path.with_suffix(".new")
    beside.write_text(content)
    beside.replace(path)


def has_failed(process: Process, times: int) -> bool:
    return metric(process, "lossd_reload_failures_total", file="tls_cert") >= times


def is_unusable(process: Process) -> bool:
    return metric(process, "lossd_file_unusable", file="tls_cert") == 1


def serves(process: Process, issued: Issued) -> bool:
    host, _, port = process.address.rpartition(":")
    found = ssl.get_server_certificate((host, int(port)), timeout=5)
    return found.split() == issued.certificate.decode().split()


def knows(process: Process, ca: Path, token: str) -> bool:
    """Whether a token was read; its file is read by itself, after or before a certificate."""
    with LossClient(process.address, tls=TLS(ca), token=token) as made:
        try:
            made.server_info()
        except client.UnauthenticatedError:
            return False
    return True


def test_a_caller_has_its_share_and_the_others_the_rest(files: Files) -> None:
    rules = files.path("shares.toml", RULES.replace("may = []", 'may = ["compute"]\ncalls = 2'))
    flags = ("--access", str(rules), "--max-calls", "8")
    with serve(*NUMPY, *flags) as process, grpc.insecure_channel(process.address) as channel:
        held = [open_call(channel, SOME) for _ in range(8)]
        until(lambda: sum(call.done() for call, _ in held) == 6)
        codes = {call.code() for call, _ in held if call.done()}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert compute(LossClient, process.address, token=ALL) == 0.25
        for call, end in held:
            end.set()
            call.cancel()


def own_address() -> str:
    """An address of this machine that other hosts could reach it by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("there is no network")
        return str(trial.getsockname()[0])


def test_another_host_has_a_share_and_no_shared_memory_as_shipped(tmp_path: Path) -> None:
    flags = ("--max-calls", "8", "--shm-dir", str(tmp_path))
    with serve(*NUMPY, *flags, address="0.0.0.0:0") as process:
        port = process.address.rpartition(":")[2]
        elsewhere = f"{own_address()}:{port}"
        with grpc.insecure_channel(elsewhere) as channel:
            held = [open_call(channel, "") for _ in range(8)]
            until(lambda: sum(call.done() for call, _ in held) == 2)
            with LossClient(f"127.0.0.1:{port}", timeout=5) as near:
                assert near.compute(v1.Huber(), **BATCH).loss == 0.25
                assert near.server_info().HasField("shared_memory")
            for call, end in held:
                end.set()
                call.cancel()
        with LossClient(elsewhere) as far:
            assert not far.server_info().HasField("shared_memory")
            assert far.compute(v1.Huber(), predictions=LARGE, targets=LARGE).transport == "grpc"


def test_a_rate_is_kept_and_the_client_waits(files: Files) -> None:
    rules = files.path(
        "rate.toml",
        f'[callers.a]\nmay = ["compute"]\ntokens = ["{ALL}"]\ncalls_per_second = 2\n',
    )
    with serve(*NUMPY, "--access", str(rules)) as process:
        began = time.monotonic()
        with LossClient(process.address, token=ALL) as made:
            for _ in range(5):
                assert made.compute(v1.Huber(), **BATCH).loss == 0.25
        assert time.monotonic() - began > 1.4  # two at once, three at their pace
        assert metric(process, "lossd_rejected_total", reason="TOO_MANY_CALLS") > 0


def open_call(channel: grpc.Channel, token: str) -> tuple[Any, threading.Event]:
    """A call that says nothing after its headers."""
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait(30)
        yield b""

    method: Any = channel.stream_unary("/lossd.v1.LossService/ComputeLoss")
    return method.future(nothing(), metadata=(("authorization", f"Bearer {token}"),)), end


@pytest.mark.parametrize("method", ["LossService/ComputeLoss", "LossService/StreamLoss"])
def test_headers_alone_do_not_keep_a_place(method: str) -> None:
    flags = ("--max-calls", "2", "--first-message-seconds", "0.5")
    with serve(*NUMPY, *flags) as process, grpc.insecure_channel(process.address) as channel:
        ends = [threading.Event() for _ in range(2)]

        def silent(end: threading.Event) -> Iterator[bytes]:
            end.wait(30)
            yield b""

        stream: Any = channel.stream_stream(f"/lossd.v1.{method}")
        calls = [stream(silent(end)) for end in ends]
        until(  # both are in, or were in
            lambda: (
                metric(process, "lossd_inflight_requests") == len(calls)
                or all(call.done() for call in calls)
            )
        )
        assert compute(LossClient, process.address) == 0.25  # as soon as there is room
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
        for end in ends:
            end.set()


def test_an_idle_stream_ends() -> None:
    first = v1.EvaluateRequest(metrics=[v1.MetricSpec(accuracy=v1.Accuracy())])
    part = v1.EvaluateStreamRequest(part=first).SerializeToString()
    flags = ("--idle-seconds", "0.5")
    with serve(*NUMPY, *flags) as process, grpc.insecure_channel(process.address) as channel:
        end = threading.Event()

        def idle() -> Iterator[bytes]:
            yield part
            end.wait(30)

        method: Any = channel.stream_unary("/lossd.v1.EvaluationService/EvaluateStream")
        call = method.future(idle(), timeout=20)
        assert call.code() is grpc.StatusCode.CANCELLED
        end.set()


def test_the_mode_of_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serve(*NUMPY, "--socket-mode", "660", address=f"unix:{path}"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660  # noqa: PTH116 - a socket


def test_shared_memory_is_granted_on_its_own(ruled: Process, files: Files) -> None:
    rules = files.path(
        "unshared.toml", f'[callers.a]\nmay = ["compute", "information"]\ntokens = ["{ALL}"]\n'
    )
    how: dict[str, Any] = {"token": ALL, "tls": TLS(files.ca)}
    large = np.zeros(1 << 17, np.float32)
    flags = ("--shm-dir", str(files.folder / "shared"), "--access", str(rules), *tls_flags(files))
    with serve(*NUMPY, *flags) as process, LossClient(process.address, **how) as made:
        info = made.server_info()
        assert list(info.transports) == ["grpc"]
        assert not info.HasField("shared_memory")
        result = made.compute(v1.Huber(), predictions=large, targets=large)
        assert result.transport == "grpc"
    with LossClient(ruled.address, **how) as made:
        assert "shared_memory" in made.server_info().transports


def test_a_copy_of_a_client_has_its_credentials(ruled: Process, files: Files) -> None:
    with LossClient(ruled.address, tls=TLS(files.ca), token=ALL) as made:
        copied = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    with copied:
        assert copied.compute(v1.Huber(), **BATCH).loss == 0.25
    assert ALL not in repr(made)
    assert ALL not in repr(made._connections._security)


def test_commands_take_credentials(ruled: Process, files: Files) -> None:
    for name, array in BATCH.items():
        np.save(files.folder / f"{name}.npy", np.array(array))
    inputs = [f"--input={name}={files.folder / name}.npy" for name in BATCH]
    tls, token = ("--tls-ca", str(files.ca)), files.path("token", ALL)
    there = ("--address", ruled.address)
    computed = ("compute", "huber", *inputs, *there, *tls)
    assert run(*computed, "--token-file", str(token)).returncode == 0
    assert "caller must give a token" in run(*computed).stderr
    assert run("healthcheck", *there, *tls).stdout == "ready\n"
    assert run("healthcheck", *there).returncode == 1


@pytest.mark.parametrize("is_secret", [False, True])
def test_a_container_with_tls_finds_itself_ready(files: Files, *, is_secret: bool) -> None:
    certificate, key = files.issued("pages", alternative="losses.example.com")
    secret = ("--metrics-tls-cert", str(certificate), "--metrics-tls-key", str(key))
    flags = (*tls_flags(files), *(secret if is_secret else ()))
    with serve(*NUMPY, *flags) as process:
        known = {"LOSSD_TLS_CERT": str(certificate), "LOSSD_ADDRESS": process.address}
        known["LOSSD_METRICS_PORT"] = process.metrics_url.split(":")[2].split("/")[0]
        known["LOSSD_METRICS_TLS_CERT"] = str(certificate) if is_secret else ""
        assert run("healthcheck", **known).stdout == "ready\n"
        asked = run("healthcheck", "--address", "127.0.0.1:1", **known)  # where nobody is
        assert (asked.returncode, asked.stdout) == (1, "")
        assert asked.stderr.startswith("Error: 127.0.0.1:1: ")
    done = run("healthcheck", **known)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: http" in done.stderr


def test_a_page_that_is_none_is_told_in_a_line() -> None:
    with serve(*NUMPY) as process:
        port = process.address.rpartition(":")[2]  # of gRPC
        done = run("healthcheck", LOSSD_TLS_CERT="server.crt", LOSSD_METRICS_PORT=port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0].startswith("Error: http")


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lossd", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_every_method_has_its_group() -> None:
    assert set(GROUPS.values()) == set(Group)
    assert GROUPS["/lossd.v1.LossService/GetServerInfo"] is Group.INFORMATION
    assert GROUPS["/lossd.v1.EvaluationService/ListMetrics"] is Group.INFORMATION
    assert GROUPS["/lossd.v1.LossService/StreamLoss"] is Group.COMPUTE


def test_a_caller_cannot_write_into_the_log(tmp_path: Path) -> None:
    name, own = "evil\x1b[2J\x07\u202e", "0123456789-a-caller-with-a-name"
    rules = tmp_path / "access.toml"
    rules.write_text(f"[callers.{json.dumps(name)}]\nmay = []\ntokens = ['{own}']\n")
    with serve(*NUMPY, "--access", str(rules)) as process:
        with (
            LossClient(process.address, token=own) as made,
            pytest.raises(client.PermissionDeniedError),
        ):
            made.server_info()
        assert process.end() == 0
        lines = process.log()
    assert any(f"caller={name!r}" in line for line in lines)
    assert all(line.removesuffix("\n").isprintable() for line in lines)
