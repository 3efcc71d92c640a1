"""TLS and tokens of a client: checked where they are given, never shown, read when they change."""

import os
import pickle
import re
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lossd import client
from lossd.client import TLS, LossClient
from lossd.client.errors import UnavailableError
from lossd.client.security import Security, explained
from tests.certificates import Authority

TOKEN = "0123456789-mine"  # noqa: S105 - nobody's


def given(token: Any) -> str:
    """The token that goes with a call."""
    return Security.checked(tls=False, token=token, channel=None).metadata()[-1][1]


def test_a_token_is_a_text_a_file_or_a_function(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"\n{TOKEN}\n")
    for token in (TOKEN, path, lambda: TOKEN):
        assert given(token) == f"Bearer {TOKEN}"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    security = Security.checked(tls=False, token=path, channel=None)
    beside = tmp_path / "beside"
    beside.write_text("two")
    beside.replace(path)
    assert security.metadata((("x", "y"),)) == (("x", "y"), ("authorization", "Bearer two"))


def test_a_function_is_asked_for_each_call() -> None:
    tokens = iter("abc")
    security = Security.checked(tls=False, token=lambda: next(tokens), channel=None)
    assert [security.metadata()[0][1] for _ in range(3)] == ["Bearer a", "Bearer b", "Bearer c"]


def test_a_function_that_fails_is_asked_again_until_the_timeout(serve: Any, connect: Any) -> None:
    answers = [OSError("vault is away"), OSError("vault is away"), TOKEN]

    def told() -> str:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return str(found)

    with connect(serve().address, token=told) as made:
        assert made.server_info().version == "1.2.3"
        answers += [OSError(f"vault says {TOKEN}")] * 100
        with pytest.raises(UnavailableError, match=r"by its function, got OSError$") as caught:
            made.server_info(timeout=0.3)
    assert isinstance(caught.value.__cause__, OSError)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another thing": ({"token": 7}, "token must be a text, a Path or a function, got int"),
    "an empty token": ({"token": ""}, "token must be one or more visible ASCII characters"),
    "a token of lines": ({"token": "a\nb"}, "token must be one or more visible ASCII"),
    "no file": ({"token": Path("/none")}, "token must be in a file that can be read, got /none"),
    "TLS of another kind": ({"tls": "ca.pem"}, "tls must be a TLS, True or False, got str"),
    "no authority": ({"tls": TLS("/none")}, "tls must be in a file that can be read, got /none"),
}


@pytest.mark.parametrize(
    ("content", "found"), [("", "nothing in"), (" \n", "nothing in"), ("a\n\nb\n", "2 lines in")]
)
def test_a_file_of_a_token_holds_one(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    said = f"token file must hold one token, got {found} {path}"
    with pytest.raises(client.InvalidRequestError, match=re.escape(said)) as caught:
        LossClient("localhost:1", token=path)
    assert caught.value.field == "token"


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("kind", [client.LossClient, client.AsyncLossClient])
def test_a_mistake_is_told_at_once(kind: Any, how: str) -> None:
    arguments, said = WRONG[how]
    with pytest.raises(client.InvalidRequestError) as caught:
        kind("localhost:1", **arguments)
    assert said in str(caught.value)
    assert caught.value.field in arguments


def test_tls_beside_a_channel_is_a_mistake() -> None:
    with (
        grpc.insecure_channel("localhost:1") as channel,
        pytest.raises(client.InvalidRequestError, match="tls must be left out with a channel"),
    ):
        LossClient(channel=channel, tls=True)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(client.InvalidRequestError, match="tls must have a certificate and its key"):
        TLS(certificate="trainer.pem")


@pytest.mark.parametrize("content", [b"", b"no PEM", "half of it"], ids=["empty", "other", "half"])
def test_authorities_are_in_their_file(tmp_path: Path, content: bytes | str) -> None:
    """With an empty one gRPC would trust whom everybody trusts."""
    whole = Authority().certificate
    ca = tmp_path / "ca.pem"
    ca.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(client.InvalidRequestError, match=r"tls\.ca must hold certificates in PEM"):
        LossClient("localhost:1", tls=TLS(ca))
    ca.write_bytes("# Müller\n".encode() + whole)
    LossClient("localhost:1", tls=TLS(ca)).close()


def test_a_certificate_goes_with_its_own_key(tmp_path: Path) -> None:
    ours = Authority()
    certificate, key = ours.issue("trainer").write(tmp_path, "one")
    _, other = ours.issue("trainer").write(tmp_path, "other")
    LossClient("localhost:1", tls=TLS(certificate=certificate, key=key)).close()
    with pytest.raises(client.InvalidRequestError, match=r"that tls\.key belongs to, got"):
        LossClient("localhost:1", tls=TLS(certificate=certificate, key=other))


def test_a_file_of_a_token_may_begin_with_the_mark_of_some_editors(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\r\n", "utf-8-sig")
    assert Security.checked(None, file, None).metadata() == (("authorization", f"Bearer {TOKEN}"),)


def test_what_a_function_returns_is_checked_and_not_shown() -> None:
    made = LossClient("localhost:1", token=lambda: f"{TOKEN} with spaces")
    with pytest.raises(client.InvalidRequestError, match="token must be") as caught:
        made.server_info()
    assert TOKEN not in str(caught.value)


def test_a_copy_has_all_of_it_and_shows_nothing(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority().certificate)
    security = Security.checked(tls=TLS(ca), token=TOKEN, channel=None)
    copied = pickle.loads(pickle.dumps(security))  # noqa: S301 - our own
    assert (copied.tls, copied.metadata()) == (TLS(ca), security.metadata())
    assert TOKEN not in repr(copied)


def test_other_failures_stay_as_they_are() -> None:
    error = UnavailableError("Socket closed")
    assert str(explained(error)) == error.message == "Socket closed"
    told = explained(UnavailableError("x WRONG_VERSION_NUMBER y"))
    assert str(told) == told.message
    assert told.message.startswith("server must speak TLS")
    assert os.linesep not in told.message


def test_a_certificate_of_another_time_is_told_from_one_of_another_authority() -> None:
    said = "x CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
    rule = "server must have a certificate that is good now, and so must its authority"
    assert explained(UnavailableError(said)).message == f"{rule}, got: {said}"


def test_a_key_that_grpc_does_not_take_is_told_from_a_server_that_is_gone(tmp_path: Path) -> None:
    authority = Authority()
    issued = authority.issue("trainer", key=ec.generate_private_key(ec.SECP256K1()))
    certificate, key = issued.write(tmp_path, "trainer")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        LossClient(
            f"127.0.0.1:{listening.getsockname()[1]}", tls=TLS(None, certificate, key), timeout=1
        ) as made,
        pytest.raises(client.UnavailableError, match=r"^tls must hold what gRPC takes, with keys"),
    ):
        made.server_info()


def test_a_handshake_that_failed_names_the_address_and_not_what_grpc_tried() -> None:
    why = "10.0.0.1:50051: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"
    error = UnavailableError(f"failed to connect to all addresses; last error: UNKNOWN: ipv4:{why}")
    rule = "server must have a certificate of an authority in tls.ca"
    assert explained(error).message == f"{rule}, got: {why}"
