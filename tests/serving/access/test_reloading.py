"""Files are read again; what cannot be used changes nothing, and is counted once."""

import contextlib
import datetime as dt
import errno
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, NoReturn

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lossd.serving.access import certificates, tokens
from lossd.serving.access.audit import Audit
from lossd.serving.access.reloading import Reloaded
from lossd.serving.access.tokens import AccessError
from lossd.serving.cautions import UNFAMILIAR
from tests.certificates import Authority
from tests.waiting import until


def test_a_pair_that_is_half_written_keeps_the_old_one(tmp_path: Path) -> None:
    authority = Authority()
    first, second = authority.issue("one"), authority.issue("two", days=2)
    paths = [str(path) for path in first.write(tmp_path, "server")]
    failures: list[str] = []
    made = Reloaded("tls_cert", paths, certificates.pair, failures.append)
    old = made.value

    halves = (second.certificate, second.certificate[:300], b"", first.certificate + b"-----BEGIN")
    for number, half in enumerate(halves[:3], 1):
        Path(paths[0]).write_bytes(half)
        made.look()
        made.look()
        assert made.value is old
        assert failures == ["tls_cert"] * number

    second.write(tmp_path, "server")
    made.look()
    assert made.value.certificate == second.certificate
    assert len(failures) == 3


def test_a_system_without_proc_is_told_apart_from_a_pair_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(path) for path in Authority().issue("one").write(tmp_path, "server")]

    def load(_: ssl.SSLContext, path: str, *_others: object, **_named: object) -> NoReturn:
        assert path.startswith("/proc/")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    with pytest.raises(AccessError, match="must be handed to TLS by /proc/self/fd, got: No such"):
        Reloaded("tls_cert", paths, certificates.pair)


def test_a_file_that_is_gone_for_a_moment_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("0123456789abcdef")
    made = Reloaded("token_file", [str(path)], tokens.read_lines)
    path.unlink()
    made.look()
    assert len(made.value) == 1
    path.write_text("0123456789abcdef\nfedcba9876543210")
    made.look()
    assert len(made.value) == 2


def test_an_empty_file_is_half_written_whatever_it_could_mean(tmp_path: Path) -> None:
    path, failures = tmp_path / "access", list[str]()
    path.write_text("")
    made = Reloaded("access", [str(path)], bytes, failures.append)
    made.look()
    assert not failures  # it was begun with
    for content, kept in ((b"rules", b"rules"), (b"", b"rules"), (b" \n", b"rules"), (b"#", b"#")):
        path.write_bytes(content)
        made.look()
        assert made.value == kept
    assert failures == ["access", "access"]


def test_a_file_that_cannot_be_read_is_counted_once_each_time(tmp_path: Path) -> None:
    path, failures = tmp_path / "tokens", list[str]()
    path.write_text("0123456789abcdef")
    made = Reloaded("token_file", [str(path)], tokens.read_lines, failures.append)
    for count in (1, 2):
        path.unlink()
        made.look()
        made.look()
        assert len(failures) == count
        path.write_text("0123456789abcdef")
        made.look()


@pytest.mark.parametrize("want", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_process_lacks_for_a_moment_says_nothing_of_a_file(
    want: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, failures = tmp_path / "tokens", list[str]()
    path.write_text("0123456789abcdef")
    made = Reloaded("token_file", [str(path)], tokens.read_lines, failures.append)

    def lacking(*_: object, **__: object) -> int:
        raise OSError(want, os.strerror(want))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lacking)
        with pytest.raises(OSError, match=os.strerror(want)) as caught:
            made.look()
    assert caught.value.errno == want
    assert not failures
    path.write_text("0123456789abcdef\nfedcba9876543210")
    made.look()
    assert len(made.value) == 2


def test_a_pipe_in_the_place_of_a_file_is_waited_for_by_nobody(tmp_path: Path) -> None:
    path, failures = tmp_path / "tokens", list[str]()
    path.write_text("0123456789abcdef")
    made = Reloaded("token_file", [str(path)], tokens.read_lines, failures.append)
    path.unlink()
    os.mkfifo(path)
    looking = threading.Thread(target=made.look, daemon=True)
    looking.start()
    looking.join(10)
    assert not looking.is_alive()
    assert failures == ["token_file"]
    assert len(made.value) == 1


def test_a_server_may_begin_with_what_a_command_writes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = threading.Thread(target=path.write_text, args=("0123456789abcdef",))
    writing.start()
    failures: list[str] = []
    made = Reloaded("token_file", [str(path)], tokens.read_lines, failures.append)
    writing.join()
    made.look()
    assert (len(made.value), failures) == (1, [])
    path.unlink()
    path.write_text("0123456789abcdef\nfedcba9876543210")
    made.look()
    assert (len(made.value), failures) == (2, [])


@pytest.mark.parametrize("failure", [KeyError("k"), RecursionError(), OSError("no descriptor")])
def test_whatever_a_file_fails_by_is_reported_and_tried_again(
    failure: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, failures, faults = tmp_path / "file", list[str](), list[Exception]()

    def make(content: bytes) -> bytes:
        if faults:
            raise faults[0]
        return content

    path.write_bytes(b"one")
    made = Reloaded("jwks", [str(path)], make, failures.append)
    faults.append(failure)
    path.write_bytes(b"two")
    made.look()
    made.look()
    assert made.value == b"one"
    assert failures == ["jwks"]
    assert all(record.because for record in caplog.records)  # type: ignore[attr-defined]
    faults.clear()
    made.look()
    assert made.value == b"two"


def test_at_the_start_there_is_no_old_one(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"^token_file must be files that can be read, got"):
        Reloaded("token_file", [str(tmp_path / "none")], tokens.read_lines)


@pytest.mark.parametrize("days", [-3, 1, 365, 36500])  # from 2050 on another form is written
def test_the_expiry_is_what_the_certificate_says(days: float) -> None:
    issued = Authority().issue("server", days=days)
    expected = x509.load_pem_x509_certificate(issued.certificate).not_valid_after_utc

    found = dt.datetime.fromtimestamp(certificates.expiry(issued.certificate), dt.UTC)
    assert found == expected


def test_a_pair_of_two_is_refused() -> None:
    authority = Authority()
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(AccessError, match=r"^tls_cert and tls_key must be a pair, got"):
        certificates.pair(one.certificate, other.key)
    for wrong in (b"none", authority.certificate + authority.certificate[:100]):
        with pytest.raises(AccessError, match=r"^tls_client_ca must hold certificates, got"):
            certificates.pair(one.certificate, one.key, wrong)


@pytest.mark.parametrize("before", ["# autorité\n", "\ufeff", "\ufeff# autorité\n"])
def test_text_beside_certificates_may_have_any_letters(before: str) -> None:
    """Bundles of authorities name them so, and some editors put a mark before all."""
    authority, text = Authority(), before.encode()
    issued = authority.issue("one")
    files = (text + held for held in (issued.certificate, issued.key, authority.certificate))

    with served(certificates.pair(*files)) as port:
        shown = grpc.ssl_channel_credentials(authority.certificate, issued.key, issued.certificate)
        assert is_connected(port, shown)


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_a_key_that_grpc_does_not_serve_with_is_refused(curve: ec.EllipticCurve) -> None:
    issued = Authority().issue("one", key=ec.generate_private_key(curve))

    with pytest.raises(AccessError, match=r"^tls_key must be of RSA, P-256, .*, got another kind"):
        certificates.pair(issued.certificate, issued.key)
    certificates.pair(issued.certificate, issued.key, setting="metrics_tls_cert")
    credentials = grpc.ssl_server_credentials([(issued.key, issued.certificate)])
    with pytest.raises(RuntimeError):
        grpc.server(ThreadPoolExecutor(1)).add_secure_port("127.0.0.1:0", credentials)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA"),
        (ec.generate_private_key(ec.SECP256R1()), "P-256"),
        (ec.generate_private_key(ec.SECP384R1()), "P-384"),
        (ec.generate_private_key(ec.SECP521R1()), "P-521"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whoever_calls_by_grpc_takes_the_familiar_keys(key: Any, kind: str) -> None:
    authority = Authority()
    issued = authority.issue("one", key=key)
    pair = certificates.pair(issued.certificate, issued.key)

    with served(pair) as port:
        taken = is_connected(port, grpc.ssl_channel_credentials(authority.certificate))
    assert (pair.kind, taken) == (kind, kind not in UNFAMILIAR)


@contextlib.contextmanager
def served(pair: certificates.Pair) -> Iterator[int]:
    """Serves with a pair; yields the port."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        certified = pair.client_ca is not None
        credentials = certificates.credentials(lambda: pair, certified=certified)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield port
        server.stop(None).wait()


def is_connected(port: int, credentials: grpc.ChannelCredentials) -> bool:
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        states = Queue[grpc.ChannelConnectivity]()
        channel.subscribe(states.put, try_to_connect=True)
        failed, ready = grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.READY
        while (state := states.get(timeout=20)) not in {failed, ready}:
            pass
        return state is ready


def locked(key: bytes, form: serialization.PrivateFormat) -> bytes:
    encryption = serialization.BestAvailableEncryption(b"secret")
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(serialization.Encoding.PEM, form, encryption)


def test_a_file_that_holds_something_else_is_named_by_its_setting() -> None:
    issued = Authority().issue("one")
    forms = serialization.PrivateFormat
    for certificate, key, said in (
        (issued.key, issued.certificate, "metrics_tls_cert must be a certificate in PEM, got none"),
        (issued.certificate, issued.certificate, "metrics_tls_key must be a private key in PEM"),
        (issued.certificate, locked(issued.key, forms.PKCS8), "metrics_tls_key must have no pass"),
        (
            issued.certificate,
            locked(issued.key, forms.TraditionalOpenSSL),
            "metrics_tls_key must have no passphrase, got a key with one",
        ),
    ):
        with pytest.raises(AccessError, match=f"^{said}"):
            certificates.pair(certificate, key, setting="metrics_tls_cert")


def test_of_many_refusals_a_few_are_written_and_the_rest_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    audit = Audit(clock=lambda: now[0])
    for _ in range(1000):
        audit.refused(reason="TOKEN_UNKNOWN")
    assert sum(record.message == "refused" for record in caplog.records) == 20
    now[0] = 1.0
    audit.refused(reason="TOKEN_UNKNOWN")
    assert [record.message for record in caplog.records[20:]] == ["refused more calls", "refused"]
    assert caplog.records[20].count == 980  # type: ignore[attr-defined]


def test_the_rest_is_counted_though_nobody_is_refused_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit = Audit(clock=lambda: 0.0)
    for _ in range(1000):
        audit.refused(reason="TOKEN_UNKNOWN")
    until(lambda: len(caplog.records) == 21)
    assert caplog.records[20].count == 980  # type: ignore[attr-defined]
