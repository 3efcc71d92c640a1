"""Certificates for tests, made by an authority of their own."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

_NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes both; returns their paths."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """Issues certificates, for ``localhost`` and this host's addresses.

    With days below 0 it has expired.
    """

    def __init__(self, name: str = "authority", *, days: float = 1) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        builder = _builder(self._name, self._name, self._key, days)
        signed = builder.add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        self.certificate = _pem(signed)

    def issue(
        self,
        name: str,
        *,
        days: float = 1,
        alternative: str = "localhost",
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Issued:
        """Issues a certificate, of a new key if none is given; with days below 0 it has expired."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName(alternative), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = _builder(_named(name), self._name, key, days).add_extension(names, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Issued(_pem(builder.sign(self._key, hashes.SHA256())), private)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificateIssuerPrivateKeyTypes, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - dt.timedelta(days=10))
        .not_valid_after(_NOW + dt.timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return bytes(certificate.public_bytes(serialization.Encoding.PEM))
