"""JSON web tokens, checked by PyJWT with the keys of a JWKS file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossd.errors import Unauthenticated
from lossd.serving.access.tokens import AccessError

# Signatures that only the issuer can make: with a shared secret whoever checks could sign as well.
_ALGORITHMS = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip
_LEEWAY_SECONDS = 10  # clocks differ
_REQUIRED = ("exp", "sub")
# Keys that are tried for one token: each takes about as long as all else that is done for a call.
_MOST_TRIED = 16

Subject = Callable[[str], str]


def verifier(content: bytes, *, issuer: str, audience: str) -> Subject:
    """Returns what gives the subject of a token, and raises Unauthenticated for a wrong one.

    Raises:
        AccessError: if the file is no JWKS with a usable key, or PyJWT is not installed.
    """
    try:
        import jwt  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise AccessError("jwks must have PyJWT, got none: pip install 'lossd[jwt]'") from error
    return _Verifier(jwt, _read(jwt, content), issuer, audience).subject


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Verifies tokens by keys, with PyJWT."""

    jwt: Any
    keys: Sequence[Any]
    issuer: str
    audience: str

    def subject(self, token: str) -> str:
        """Returns the subject of a token.

        Raises:
            Unauthenticated: if it is a wrong one.
        """
        try:
            found = str(self._verified(token)["sub"])
        except Unauthenticated:
            raise
        except self.jwt.ExpiredSignatureError as error:
            raise Unauthenticated(
                "token must not have expired, got one that has", reason="TOKEN_EXPIRED"
            ) from error
        except Exception as error:  # whatever it is that the library cannot take
            raise _invalid(f"be valid, got one with: {str(error) or repr(error)}") from error
        if not found:  # without a name there would be no share
            raise _invalid("name its subject, got an empty one")
        return found

    def _verified(self, token: str) -> Mapping[str, Any]:
        *others, last = _fitting(self.keys, self.jwt.get_unverified_header(token))
        for key in others:
            try:
                return self._claimed(token, key)
            except self.jwt.InvalidSignatureError:  # by another key, perhaps
                continue
        return self._claimed(token, last)

    def _claimed(self, token: str, key: Any) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = self.jwt.decode(
            token,
            key,
            algorithms=_ALGORITHMS,
            issuer=self.issuer or None,
            audience=self.audience or None,
            leeway=_LEEWAY_SECONDS,
            options={"require": list(_REQUIRED), "verify_aud": bool(self.audience)},
        )
        return claims


def _read(jwt: Any, content: bytes) -> list[Any]:
    """Returns the keys of a file that verify signatures.

    Raises:
        AccessError: if there is none, or one is private.
    """
    try:
        found = [key for key in _listed(json.loads(content)) if isinstance(key, dict)]
        _check_public(found)
        verifying = [one for key in found if _verifies(key) for one in _by_algorithm(key)]
        keys = jwt.PyJWKSet.from_dict({"keys": verifying}).keys if verifying else []
    except AccessError:
        raise
    except Exception as error:  # RecursionError is among them
        fault = str(error) or repr(error)
        raise AccessError(f"jwks must be a JSON web key set, got one with: {fault}") from error
    usable = [key for key in keys if key.algorithm_name in _ALGORITHMS]
    if not usable:
        raise AccessError(
            f"jwks must have a key that verifies one of {', '.join(_ALGORITHMS)}, got none"
        )
    return usable


def _listed(given: Any) -> list[Any]:
    """Returns the keys of a set, or raises AccessError if it is none."""
    keys = given.get("keys") if isinstance(given, dict) else None
    if not isinstance(keys, list):
        raise AccessError("jwks must be a JSON web key set, got no list of keys")
    return keys


def _check_public(keys: list[dict[str, Any]]) -> None:
    """Raises AccessError for a private key: it is the issuer's alone, and verifies nothing."""
    for key in keys:
        if "d" in key:
            raise AccessError(
                f"jwks must hold public keys, got the private one of kid {key.get('kid')!r:.40}"
            )


def _verifies(key: dict[str, Any]) -> bool:
    """Returns whether a key is for signatures, if it says what for (RFC 7517, 4.2 and 4.3)."""
    return key.get("use", "sig") == "sig" and "verify" in key.get("key_ops", ["verify"])


def _by_algorithm(key: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a key once for each algorithm that it is for.

    A key need not name one (RFC 7517, 4.4). A curve has one alone, and one of RSA has six, of which
    PyJWT takes the first.
    """
    if key.get("kty") != "RSA" or key.get("alg"):
        return [key]
    return [{**key, "alg": name} for name in _ALGORITHMS if name.startswith(("RS", "PS"))]


def _fitting(keys: Sequence[Any], header: Mapping[str, Any]) -> list[Any]:
    """Returns the keys that may have signed a token: of its algorithm, and the one it names."""
    found = [
        key
        for key in keys
        if key.algorithm_name == header.get("alg") and key.key_id == header.get("kid", key.key_id)
    ]
    if not found:
        raise _invalid("be signed with a key of the issuer, got another")
    if len(found) > _MOST_TRIED:
        raise _invalid(f"name its key where more than {_MOST_TRIED} fit, got {len(found)}")
    return found


def _invalid(rule: str) -> Unauthenticated:
    return Unauthenticated(f"token must {rule}", reason="TOKEN_INVALID")
