"""Files of certificates and tokens change while a client lives, and no call notices."""

import asyncio
import contextlib
import logging
import pickle
import shutil
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd import v1
from lossd.client import TLS, AsyncLossClient, LossClient, UnavailableError, moving
from lossd.client.security import Security
from tests.certificates import Authority, Issued
from tests.waiting import until

SERVER_INFO = "/lossd.v1.LossService/GetServerInfo"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "LOOKING_SECONDS", 0.05)
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0.1)


class Generation:
    """An authority, and what it issued to a server and to a client."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client")


@pytest.fixture(scope="module")
def generations() -> tuple[Generation, Generation]:
    return Generation(), Generation()


class Service(grpc.GenericRpcHandler):
    """Answers whoever has a certificate of its generation."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != SERVER_INFO:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda *_: v1.GetServerInfoResponse(version="one").SerializeToString()
        )


@contextlib.contextmanager
def served(generation: Generation, port: int = 0) -> Iterator[int]:
    own = generation.server
    credentials = grpc.ssl_server_credentials(
        [(own.key, own.certificate)], generation.authority.certificate, require_client_auth=True
    )
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Service()])
    port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


class Files:
    """The files of a client, which are replaced one by one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tls = TLS(folder / "ca.pem", folder / "client.pem", folder / "client.key")

    def replace(self, name: str, content: bytes) -> None:
        beside = self._folder / "beside"
        beside.write_bytes(content)
        beside.replace(self._folder / name)

    def rotate(self, generation: Generation) -> None:
        self.replace("ca.pem", generation.authority.certificate)
        self.begin(generation.client)
        self.replace("client.key", generation.client.key)

    def begin(self, issued: Issued) -> None:
        """Replaces the certificate, which does not go with the key yet."""
        self.replace("client.pem", issued.certificate)


@pytest.fixture
def files(tmp_path: Path, generations: tuple[Generation, Generation]) -> Files:
    found = Files(tmp_path)
    found.rotate(generations[0])
    return found


def version(client: Any) -> str:
    found: str = client.server_info(timeout=10).version
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "told"])
def test_certificates_that_were_rotated_need_no_new_client(
    files: Files, generations: tuple[Generation, Generation], host: str
) -> None:
    old, new = generations
    with served(old) as port:
        target: Any = f"{host}:{port}" if host != "told" else lambda: f"127.0.0.1:{port}"
        client = LossClient(target, tls=files.tls)
        assert version(client) == "one"
        files.rotate(new)
    with client, served(new, port):
        assert version(client) == "one"


def test_asyncio_needs_no_new_client_either(
    files: Files, generations: tuple[Generation, Generation]
) -> None:
    old, new = generations

    async def rotate() -> None:
        with served(old) as port:
            client = AsyncLossClient(f"127.0.0.1:{port}", tls=files.tls)
            assert (await client.server_info()).version == "one"
            files.rotate(new)
        with served(new, port):
            assert (await client.server_info(timeout=10)).version == "one"
        await client.close()

    asyncio.run(rotate())


def test_half_a_pair_changes_nothing(
    files: Files,
    generations: tuple[Generation, Generation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    old, new = generations
    caplog.set_level(logging.WARNING, "lossd.client")
    with served(old) as port:
        connected = LossClient(f"127.0.0.1:{port}", tls=files.tls)
        waiting = LossClient(f"127.0.0.1:{port}", tls=files.tls)
        assert version(connected) == "one"
        files.begin(new.client)
    with connected, waiting, served(old, port):
        assert version(connected) == version(waiting) == "one"
        copied = pickle.loads(pickle.dumps(waiting))  # noqa: S301 - our own
        with copied, pytest.raises(UnavailableError, match=r"that tls\.key belongs to"):
            copied.server_info(timeout=0.3)  # it never had a pair
    said = [record.getMessage() for record in caplog.records]
    assert 1 <= sum("tls stays what it was" in line for line in said) <= 2  # once for each client


def test_a_connection_that_is_open_moves_to_new_certificates(
    files: Files, generations: tuple[Generation, Generation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several servers one may restart, and no call fails that would tell."""
    opened: list[Any] = []
    secure_channel = grpc.secure_channel

    def open_one(*given: Any) -> Any:
        opened.append(secure_channel(*given))
        return opened[-1]

    monkeypatch.setattr(grpc, "secure_channel", open_one)
    old, _ = generations
    with served(old) as port, LossClient(f"127.0.0.1:{port}", tls=files.tls) as client:
        assert version(client) == "one"
        files.rotate(old)
        until(lambda: version(client) == "one" and len(opened) == 2)


def test_a_token_file_that_is_being_written_leaves_the_last_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lossd.client")
    path = tmp_path / "token"
    path.write_text("one")
    security = Security.checked(tls=False, token=path, channel=None)
    for content in (b"", b"\n", b"\xff\xfe", b"o n e"):
        path.write_bytes(content)
        assert security.metadata() == (("authorization", "Bearer one"),)
    path.unlink()
    assert security.metadata() == (("authorization", "Bearer one"),)
    assert len(caplog.records) == 1
    path.write_text("two")
    assert security.metadata() == (("authorization", "Bearer two"),)
    shutil.copy(path, tmp_path / "kept")
    path.write_text("")
    copied = pickle.loads(pickle.dumps(security))  # noqa: S301 - our own
    with pytest.raises(UnavailableError, match="token file must hold one token, got nothing in"):
        copied.metadata()
    shutil.copy(tmp_path / "kept", path)
    assert copied.metadata() == security.metadata() == (("authorization", "Bearer two"),)
