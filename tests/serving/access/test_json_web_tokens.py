"""JSON web tokens are taken from the issuer, in time, and from nobody else."""

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lossd.errors import Unauthenticated
from lossd.serving.access import rules
from lossd.serving.access.json_web_tokens import verifier
from lossd.serving.access.policy import Policy
from lossd.serving.access.tokens import AccessError

jwt = pytest.importorskip("jwt")
EC = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": EC,
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def jwks(*names: str) -> bytes:
    keys = []
    for name in names:
        algorithm = jwt.algorithms.get_default_algorithms()[name]
        found = algorithm.to_jwk(KEYS[name].public_key(), as_dict=True)
        keys.append({**found, "kid": name, "alg": name, "use": "sig"})
    return json.dumps({"keys": keys}).encode()


def signed(name: str = "ES256", key: Any = None, kid: str | None = None, **claims: Any) -> str:
    known = {"sub": "trainer", "iss": "us", "aud": "lossd", "exp": time.time() + 86400, **claims}
    given = {claim: value for claim, value in known.items() if value is not None}
    token: str = jwt.encode(given, key or KEYS[name], name, headers={"kid": kid or name})
    return token


@pytest.mark.parametrize("name", KEYS)
def test_a_token_of_the_issuer_says_its_subject(name: str) -> None:
    subject = verifier(jwks(*KEYS), issuer="us", audience="lossd")

    assert subject(signed(name)) == "trainer"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(exp=time.time() - 3600), "TOKEN_EXPIRED"),
        (signed(exp=None), "TOKEN_INVALID"),
        (signed(sub=None), "TOKEN_INVALID"),
        (signed(sub=""), "TOKEN_INVALID"),
        (signed(iss="them"), "TOKEN_INVALID"),
        (signed(iss=None), "TOKEN_INVALID"),
        (signed(aud="other"), "TOKEN_INVALID"),
        (signed(aud=None), "TOKEN_INVALID"),
        (signed(nbf=time.time() + 43200), "TOKEN_INVALID"),
        (signed(key=ec.generate_private_key(ec.SECP256R1())), "TOKEN_INVALID"),
        (signed(kid="unknown"), "TOKEN_INVALID"),
        (signed()[:-4] + "AAAA", "TOKEN_INVALID"),
        (jwt.encode({"sub": "trainer"}, None, "none"), "TOKEN_INVALID"),
        (
            jwt.encode({"sub": "trainer"}, "s" * 32, "HS256", headers={"kid": "ES256"}),
            "TOKEN_INVALID",
        ),
        ("..", "TOKEN_INVALID"),
    ],
)
def test_any_other_is_refused_with_its_reason(token: str, reason: str) -> None:
    subject = verifier(jwks("ES256"), issuer="us", audience="lossd")

    with pytest.raises(Unauthenticated) as caught:
        subject(token)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "oct"}]}',
        b'{"keys": [{"kty": ["RSA"]}]}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=range(9),
)
def test_a_file_without_a_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(AccessError, match=r"^jwks must"):
        verifier(content, issuer="", audience="")


def test_rules_say_what_a_subject_may() -> None:
    subject = verifier(jwks("ES256"), issuer="", audience="")
    read = rules.read(b'[callers.ours]\nmay = ["compute"]\nsubjects = ["trainer"]')

    assert Policy(subject=subject).identify(signed(), (), "").name == "trainer"
    assert Policy(subject=subject, rules=read).identify(signed(), (), "").name == "ours"
    with pytest.raises(Unauthenticated) as caught:
        Policy(subject=subject, rules=read).identify(signed(sub="other"), (), "")
    assert caught.value.reason == "SUBJECT_UNKNOWN"
