"""Certificates of the server, as gRPC and the pages want them."""

import codecs
import contextlib
import datetime as dt
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import grpc

from lossd.serving.access.tokens import AccessError

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0
# The kinds of keys that gRPC serves with, by their identifiers in a certificate (RFC 3279, 5480 and
# 8410).  Python's library takes others, of which gRPC only says that it cannot listen; and while it
# serves it goes on with the last pair.
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "2a864886f70d010101": "RSA",
        "2a8648ce3d0201 2a8648ce3d030107": "P-256",
        "2a8648ce3d0201 2b81040022": "P-384",
        "2a8648ce3d0201 2b81040023": "P-521",
        "2b6570": "Ed25519",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A certificate with its key, and the authorities of clients if these need one too.

    ``kind`` is that of the key, if gRPC knows it.  ``expires`` is when the certificate does,
    ``client_ca_expires`` when the first authority does.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext
    kind: str | None
    expires: float
    client_ca_expires: float | None

    @property
    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The pair as gRPC takes it."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], self.client_ca
        )


def pair(
    certificate: bytes, key: bytes, client_ca: bytes | None = None, *, setting: str = "tls_cert"
) -> Pair:
    """Checks that a certificate and its key are whole and belong together.

    ``setting`` is the certificate's, by which those of the others are named.

    Raises:
        AccessError: if not; TLS itself says of most files only that it could not read one.
    """
    prefix = setting.removesuffix("cert")
    both = f"{setting} and {prefix}key"
    certificate, key = _unmarked(certificate), _unmarked(key)
    if not _CERTIFICATE.search(_text(certificate)):
        raise AccessError(f"{setting} must be a certificate in PEM, got none")
    if b"PRIVATE KEY-----" not in key:
        raise AccessError(f"{prefix}key must be a private key in PEM, got none")
    if any(sign in key for sign in _ENCRYPTED):
        raise AccessError(f"{prefix}key must have no passphrase, got a key with one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        with _as_file(certificate) as chain, _as_file(key) as private:
            context.load_cert_chain(chain, private, password=lambda: b"")  # else it would ask
    except (ssl.SSLError, ValueError) as error:
        raise AccessError(f"{both} must be a pair, got {_reason(error)}") from error
    except OSError as error:
        raise AccessError(
            f"{both} must be handed to TLS by /proc/self/fd, got: {error.strerror}"
        ) from error
    authority_expires = None
    if client_ca is not None:
        client_ca = _unmarked(client_ca)
        try:
            context.load_verify_locations(cadata=_text(client_ca))
            authority_expires = min(_expiries(client_ca), default=None)
        except (ssl.SSLError, ValueError, IndexError) as error:
            raise AccessError(
                f"{prefix}client_ca must hold certificates, got {_reason(error)}"
            ) from error
    expires, kind = expiry(certificate), _kind(certificate)
    if kind is None and setting == "tls_cert":  # Python's library itself serves the pages
        known = ", ".join(_KINDS.values())
        raise AccessError(f"tls_key must be of {known}, got another kind of key")
    return Pair(certificate, key, client_ca, context, kind, expires, authority_expires)


def credentials(newest: Callable[[], Pair], *, certified: bool) -> grpc.ServerCredentials:
    """Returns credentials that take the newest pair for each new connection.

    With ``certified`` clients have to show a certificate.
    """
    given = newest()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        found = newest()
        if found is given:
            return None
        given = found
        return found.configuration

    # None, for nothing new, is missing from the library's types.
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)
    return grpc.dynamic_ssl_server_credentials(
        given.configuration, fetch, require_client_authentication=certified
    )


def expiry(certificate: bytes) -> float:
    """Returns when the first certificate of a file expires, in seconds since 1970.

    Raises:
        AccessError: if it is no certificate.
    """
    try:
        return next(_expiries(certificate))
    except (ValueError, IndexError) as error:
        raise AccessError(f"certificate must be one in PEM, got {error}") from error
    except StopIteration as error:
        raise AccessError("certificate must be one in PEM, got none") from error


def _unmarked(content: bytes) -> bytes:
    """Returns a file without the byte order mark of some editors, behind which gRPC sees no PEM."""
    return content.removeprefix(codecs.BOM_UTF8)


def _text(content: bytes) -> str:
    """Returns a file in PEM, in which text beside certificates may have any letters.

    A certificate has letters of ASCII alone, and no question mark, which none can be read with.
    """
    return content.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")


def _certificates(content: bytes) -> Iterator[memoryview]:
    """Yields the certificates of a file in DER."""
    for found in _CERTIFICATE.findall(_text(content)):
        yield memoryview(ssl.PEM_cert_to_DER_cert(found))


def _expiries(content: bytes) -> Iterator[float]:
    """Yields when each certificate of a file expires."""
    return map(_expiry, _certificates(content))


def _expiry(der: memoryview) -> float:
    """Returns the second of the two times in the validity of a certificate."""
    tag, validity, _ = _element(_from_validity(der))
    if tag != _SEQUENCE:
        raise ValueError("one without a validity")
    _, _, after = _element(validity)
    tag, time, _ = _element(after)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    found = dt.datetime.strptime(bytes(time).decode(), form).replace(tzinfo=dt.UTC)
    return found.timestamp()


def _kind(content: bytes) -> str | None:
    """Returns the kind of the key of the first certificate of a file; None for an unknown one."""
    _, _, after_validity = _element(_from_validity(next(_certificates(content))))
    _, _, after_subject = _element(after_validity)
    _, key, _ = _element(after_subject)
    _, algorithm, _ = _element(key)
    _, name, parameters = _element(algorithm)
    curve = _element(parameters)[1] if parameters else b""  # empty for those that have none
    return _KINDS.get(f"{name.hex()} {curve.hex()}".rstrip())


def _from_validity(der: memoryview) -> memoryview:
    """Returns what follows serial, algorithm and issuer in a certificate (RFC 5280, 4.1)."""
    _, whole, _ = _element(der)
    _, rest, _ = _element(whole)
    if rest[0] == _VERSION:
        _, _, rest = _element(rest)
    for _ in range(3):
        _, _, rest = _element(rest)
    return rest


def _element(der: memoryview) -> tuple[int, memoryview, memoryview]:
    """Returns the tag and the contents of the first element of DER, and what follows it."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[0], der[start : start + length], der[start + length :]


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yields a path for what the library takes from files alone; it is in memory, and private."""
    descriptor = os.memfd_create("lossd", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
