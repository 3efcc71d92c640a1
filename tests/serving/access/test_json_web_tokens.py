"""JSON web tokens are taken from the issuer, in time, and from nobody else."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lossd.errors import Unauthenticated
from lossd.serving.access import rules
from lossd.serving.access.json_web_tokens import verifier
from lossd.serving.access.policy import Policy
from lossd.serving.access.reloading import Reloaded
from lossd.serving.access.tokens import AccessError

jwt = pytest.importorskip("jwt")
EC = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": EC,
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def jwk(name: str, key: Any, **said: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.get_default_algorithms()[name]
    found = {**algorithm.to_jwk(key, as_dict=True), "alg": name}
    found.pop("key_ops", None)
    return {**found, **said}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def jwks(*names: str) -> bytes:
    return key_set(*(jwk(name, KEYS[name].public_key(), kid=name, use="sig") for name in names))


def signed(name: str = "ES256", key: Any = None, kid: str | None = None, **claims: Any) -> str:
    """A token, whose ``kid`` is the name of the algorithm; empty for none."""
    known = {"sub": "trainer", "iss": "us", "aud": "lossd", "exp": time.time() + 86400, **claims}
    given = {claim: value for claim, value in known.items() if value is not None}
    headers = {"kid": name if kid is None else kid} if kid != "" else {}
    token: str = jwt.encode(given, key or KEYS[name], name, headers=headers)
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
        (signed(exp=float("inf")), "TOKEN_INVALID"),
        ("\udcff.a.b", "TOKEN_INVALID"),  # which the library fails to encode
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


@pytest.mark.parametrize(("claim", "direction"), [("exp", -1), ("nbf", 1)])
def test_clocks_may_differ_by_some_seconds_and_no_more(claim: str, direction: int) -> None:
    subject = verifier(jwks("ES256"), issuer="us", audience="lossd")

    now: Any = time.time()
    assert subject(signed(**{claim: now + 3 * direction})) == "trainer"
    with pytest.raises(Unauthenticated):
        subject(signed(**{claim: now + 30 * direction}))


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


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"keys": {}}'])
def test_a_file_without_a_list_of_keys_is_told_so(content: bytes) -> None:
    with pytest.raises(AccessError, match=r"^jwks must be .*, got no list of keys$"):
        verifier(content, issuer="", audience="")


@pytest.mark.parametrize("name", KEYS)
def test_a_private_key_is_refused_by_its_id(name: str) -> None:
    private = jwk(name, KEYS[name], kid="ours")

    with pytest.raises(AccessError, match=r"^jwks must hold public keys, .* of kid 'ours'$"):
        verifier(key_set(jwk("RS256", KEYS["RS256"].public_key()), private), issuer="", audience="")


def test_a_private_key_that_comes_later_changes_nothing(tmp_path: Path) -> None:
    path, failures = tmp_path / "jwks.json", list[str]()
    path.write_bytes(jwks("ES256"))
    made = Reloaded(
        "jwks", [str(path)], lambda x: verifier(x, issuer="", audience=""), failures.append
    )
    path.write_bytes(key_set(jwk("ES256", EC, kid="ES256")))
    made.look()

    assert failures == ["jwks"]
    assert made.value(signed()) == "trainer"


@pytest.mark.parametrize("said", [{"use": "enc"}, {"key_ops": ["encrypt", "wrapKey"]}])
def test_a_key_for_something_else_verifies_nothing(said: dict[str, Any]) -> None:
    other = jwk("ES256", EC.public_key(), kid="ES256", **said)

    with pytest.raises(AccessError, match=r"^jwks must have a key that verifies"):
        verifier(key_set(other), issuer="", audience="")
    another = jwk("EdDSA", KEYS["EdDSA"].public_key(), kid="EdDSA")
    subject = verifier(key_set(other, another), issuer="", audience="")
    assert subject(signed("EdDSA")) == "trainer"
    with pytest.raises(Unauthenticated):
        subject(signed())


@pytest.mark.parametrize("name", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_a_key_that_names_no_algorithm_verifies_each_of_its_kind(name: str) -> None:
    key = jwk("RS256", KEYS["RS256"].public_key(), kid="one")
    token = signed(name, KEYS["RS256"], kid="one")

    nameless = {said: value for said, value in key.items() if said != "alg"}
    assert verifier(key_set(nameless), issuer="", audience="")(token) == "trainer"
    for named in (key, {**key, "alg": "PS512"}):
        subject = verifier(key_set(named), issuer="", audience="")
        if name != named["alg"]:
            with pytest.raises(Unauthenticated):
                subject(token)


def test_a_key_says_that_it_verifies_in_either_way() -> None:
    said = {"use": "sig", "key_ops": ["verify"]}
    key = jwk("ES256", EC.public_key(), kid="ES256", **said)

    assert verifier(key_set(key), issuer="", audience="")(signed()) == "trainer"


@pytest.mark.parametrize("kid", ["", "one"])
def test_of_several_keys_that_fit_any_may_have_signed(kid: str) -> None:
    ours = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    named = {"kid": kid} if kid else {}
    keys = key_set(*(jwk("ES256", key.public_key(), **named) for key in ours))
    subject = verifier(keys, issuer="us", audience="")

    assert [subject(signed(key=key, kid=kid)) for key in ours] == ["trainer"] * 3
    for wrong, reason in (
        (signed(kid=kid), "TOKEN_INVALID"),
        (signed(key=ours[0], kid=kid, exp=1), "TOKEN_EXPIRED"),
        (signed(key=ours[2], kid=kid, iss="them"), "TOKEN_INVALID"),
    ):
        with pytest.raises(Unauthenticated) as caught:
            subject(wrong)
        assert caught.value.reason == reason


def test_no_token_has_many_keys_tried() -> None:
    keys = key_set(*[jwk("ES256", EC.public_key())] * 17)

    with pytest.raises(Unauthenticated, match=r"name its key where more than 16 fit, got 17"):
        verifier(keys, issuer="", audience="")(signed(kid=""))


def test_rules_say_what_a_subject_may() -> None:
    subject = verifier(jwks("ES256"), issuer="", audience="")
    read = rules.read(b'[callers.ours]\nmay = ["compute"]\nsubjects = ["trainer"]')

    assert Policy(subject=subject).identify(signed(), (), "").name == "trainer"
    assert Policy(subject=subject, rules=read).identify(signed(), (), "").name == "ours"
    with pytest.raises(Unauthenticated) as caught:
        Policy(subject=subject, rules=read).identify(signed(sub="other"), (), "")
    assert caught.value.reason == "SUBJECT_UNKNOWN"
