"""JSON web tokens, checked by PyJWT with the keys of a JWKS file."""

import json
from collections.abc import Callable
from typing import Any

from lossd.errors import Unauthenticated
from lossd.serving.access.tokens import AccessError

# Signatures that only the issuer can make: with a shared secret whoever checks could sign as well.
_ALGORITHMS = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip
_LEEWAY_SECONDS = 10  # clocks differ
_REQUIRED = ("exp", "sub")

Subject = Callable[[str], str]


def verifier(content: bytes, *, issuer: str, audience: str) -> Subject:
    """Returns what gives the subject of a token, and raises Unauthenticated for a wrong one.

    Raises:
        AccessError: if the file is no JWKS with a usable key, or PyJWT is not installed.
    """
    try:
        import jwt  # noqa: PLC0415 - an extra
        import jwt.algorithms  # noqa: PLC0415
    except ImportError as error:
        raise AccessError("jwks must have PyJWT, got none: pip install 'lossd[jwt]'") from error
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(content)).keys
    except Exception as error:  # KeyError and RecursionError are among them
        fault = str(error) or repr(error)
        raise AccessError(f"jwks must be a JSON web key set, got one with: {fault}") from error
    usable = [key for key in keys if key.algorithm_name in _ALGORITHMS]
    if not usable:
        raise AccessError(f"jwks must have a key for one of {', '.join(_ALGORITHMS)}, got none")

    def subject(token: str) -> str:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                _key(usable, jwt.get_unverified_header(token)),
                algorithms=_ALGORITHMS,
                issuer=issuer or None,
                audience=audience or None,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(_REQUIRED), "verify_aud": bool(audience)},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated(
                "token must not have expired, got one that has", reason="TOKEN_EXPIRED"
            ) from error
        except jwt.PyJWTError as error:
            raise Unauthenticated(
                f"token must be valid, got one with: {error}", reason="TOKEN_INVALID"
            ) from error
        if not claims["sub"]:  # who has no name would have no share
            raise Unauthenticated(
                "token must name its subject, got an empty one", reason="TOKEN_INVALID"
            )
        return str(claims["sub"])

    return subject


def _key(keys: list[Any], header: dict[str, Any]) -> Any:
    """The key that a token names, or the only one."""
    named = [key for key in keys if key.key_id == header.get("kid")]
    if named:
        return named[0]
    if len(keys) == 1 and "kid" not in header:
        return keys[0]
    raise Unauthenticated(
        "token must be signed with a key of the issuer, got another", reason="TOKEN_INVALID"
    )
