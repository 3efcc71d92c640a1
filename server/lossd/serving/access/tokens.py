"""Bearer tokens: compared by their digests, in a time that tells nothing of them."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from lossd.errors import ServiceError

Named = TypeVar("Named")

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
_SCHEME = "bearer "


class AccessError(ServiceError):
    """A file that says who may come in cannot be used."""

    reason = "ACCESS"


def digest_of(written: str, where: str) -> bytes:
    """Returns the digest of a token that a file has, as it is or as ``sha256:`` and 64 hex digits.

    Raises:
        AccessError: if it is none.
    """
    if found := _DIGEST.fullmatch(written):
        return bytes.fromhex(found[1])
    if not _TOKEN.fullmatch(written):
        raise AccessError(
            f"{where} must be sha256: and 64 hex digits, or at least 16 letters, digits and "
            f"characters of ._~+/=-, got {len(written)} characters that are neither"
        )
    return _digest(written)


def read_lines(content: bytes) -> frozenset[bytes]:
    """Returns the digests of a file with a token on each line, and comments after ``#``.

    Raises:
        AccessError: if a line holds none, or all are empty.
    """
    lines = [line.partition("#")[0].strip() for line in decoded(content, "token_file").splitlines()]
    found = frozenset(
        digest_of(line, f"token_file's line {number}")
        for number, line in enumerate(lines, 1)
        if line
    )
    if not found:
        raise AccessError("token_file must have a token a line, got none")
    return found


def decoded(content: bytes, what: str) -> str:
    """Returns a file's text, without the byte order mark that some editors put before it.

    Raises:
        AccessError: if it has none.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AccessError(f"{what} must be UTF-8, got something else") from error


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Returns the token that came with a call; None without one, empty for what is no token."""
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str):
            is_bearer = value[: len(_SCHEME)].lower() == _SCHEME
            return value[len(_SCHEME) :].strip() if is_bearer else ""
    return None


def owner(token: str, owners: Mapping[bytes, Named]) -> Named | None:
    """Returns whose token it is; all are compared, whichever it is."""
    given = _digest(token)
    found: Named | None = None
    for digest, named in owners.items():
        if hmac.compare_digest(given, digest):
            found = named
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
