"""Who a caller is, from what it proves, and what it may do."""

import hashlib
import re

import pytest

from lossd.errors import Unauthenticated
from lossd.serving.access import rules, tokens
from lossd.serving.access.policy import Policy
from lossd.serving.access.tokens import AccessError
from lossd.serving.caller import EVERYTHING, FROM_ELSEWHERE, Group, Quotas

TOKEN = "a-token-of-the-trainer"  # noqa: S105 - nobody else's
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
ELSEWHERE = "192.0.2.7"
RULES = f"""
[anonymous]
may = ["information"]

[callers.trainer]
may = ["compute", "information"]
tokens = ["sha256:{DIGEST}", "another-token-in-plain"]
calls = 3
calls_per_second = 0.5

[callers.judge]
may = ["evaluate"]
certificates = ["judge.example.com"]
subjects = ["judge"]
"""


def test_without_any_rule_everybody_may_all_but_share_memory_from_elsewhere() -> None:
    assert Policy().identify(None, (), "").groups == EVERYTHING
    assert Policy().identify(None, (), ELSEWHERE).groups == FROM_ELSEWHERE
    assert Policy().identify("of a proxy", (), "").groups == EVERYTHING


def test_with_a_token_file_a_token_is_as_good_as_no_rule() -> None:
    policy = Policy(tokens=tokens.read_lines(f"# ours\n\nsha256:{DIGEST} # mine\n".encode()))

    assert policy.identify(TOKEN, (), "").groups == EVERYTHING
    assert policy.identify(TOKEN, (), ELSEWHERE).groups == FROM_ELSEWHERE
    for wrong in (None, "", TOKEN[:-1], TOKEN + "x", DIGEST, f"sha256:{DIGEST}"):
        with pytest.raises(Unauthenticated):
            policy.identify(wrong, (), "")


@pytest.mark.parametrize("written", [f"sha256:{DIGEST}", f"sha256:{DIGEST.upper()}", TOKEN])
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_files_are_read_as_other_systems_write_them(written: str, before: str) -> None:
    lines = f"{before}{written}\r\n".encode()
    table = f"{before}[callers.a]\r\nmay = ['compute']\r\ntokens = ['{written}']\r\n".encode()

    assert Policy(tokens=tokens.read_lines(lines)).identify(TOKEN, (), "").name == "token"
    assert Policy(rules=rules.read(table)).identify(TOKEN, (), "").name == "a"


@pytest.mark.parametrize("said", [TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", ""])
def test_a_token_that_is_not_called_one_is_told_so(said: str) -> None:
    token = tokens.bearer([("authorization", said)])

    policy = Policy(tokens=tokens.read_lines(TOKEN.encode()))
    with pytest.raises(Unauthenticated, match=r"^authorization must be Bearer and a") as caught:
        policy.identify(token, (), "")
    assert caught.value.reason == "TOKEN_UNKNOWN"


def test_rules_grant_what_they_say_and_no_more() -> None:
    policy = Policy(rules=rules.read(RULES.encode()))

    trainer = policy.identify(TOKEN, (), ELSEWHERE)
    assert trainer.name == "trainer"
    assert trainer.groups == {Group.COMPUTE, Group.INFORMATION}
    assert trainer.quotas == Quotas(calls=3, calls_per_second=0.5)
    assert policy.identify("another-token-in-plain", (), "").name == "trainer"
    assert policy.identify(None, ["x", "judge.example.com"], "").name == "judge"
    assert policy.identify(None, ["somebody"], "").groups == {Group.INFORMATION}
    for wrong in ("another-token-in-plaiN", ""):  # worse than none: somebody tries
        with pytest.raises(Unauthenticated) as caught:
            policy.identify(wrong, (), "")
        assert caught.value.reason == "TOKEN_UNKNOWN"


def test_an_unknown_certificate_is_told_from_none() -> None:
    policy = Policy(
        rules=rules.read(b'[callers.a]\nmay = ["compute"]\ncertificates = ["a"]'), certified=True
    )
    with pytest.raises(Unauthenticated) as caught:
        policy.identify(None, ["b"], "")
    assert caught.value.reason == "CERTIFICATE_UNKNOWN"


def test_a_certificate_of_the_authority_is_enough_where_nothing_else_is_asked_for() -> None:
    assert Policy(certified=True).identify(None, ["a", "b"], "").name == "a"
    with pytest.raises(Unauthenticated):
        Policy(certified=True).identify(None, (), "")
    assert not Policy(certified=True).is_open
    both = Policy(certified=True, tokens=tokens.read_lines(TOKEN.encode()))
    with pytest.raises(Unauthenticated):
        both.identify(None, ["a"], "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[callers.a]\ntokens = ['0123456789abcdef']", "callers.a.may must be a list of texts"),
        ("[callers.a]\nmay = ['all']\ntokens = []", "callers.a.may must hold some of compute,"),
        ("[callers.a]\nmay = []", "callers.a must have one of tokens,"),
        ("[callers.a]\nmay = []\ntokens = ['of-15-letters..']", "callers.a.tokens must be sha256:"),
        ("[callers.a]\nmay = []\ntoken = []", "callers.a must have keys of may,"),
        ("[callers.a]\nmay = []\nsubjects = ['s']\ncalls = 0", "calls must be a whole number in"),
        (
            f"[callers.a]\nmay = []\nsubjects = ['s']\ncalls = {2**50}",
            f"callers.a.calls must be a whole number in [1, 4096], got {2**50}",
        ),
        (
            "[callers.a]\nmay = []\nsubjects = ['s']\ncalls_per_second = 1e-300",
            "callers.a.calls_per_second must be a number in [0.0001, 1000000000], got 1e-300",
        ),
        ("[callers.a]\nmay = []\nsubjects = ['s']\ncalls = true", "callers.a.calls must be"),
        ("[callers.a]\nmay = []\nsubjects = ['s']\ncalls = 1.5", "callers.a.calls must be"),
        ("[callers.'']\nmay = []\nsubjects = ['s']", "callers must have names, got an empty one"),
        ("[callers]\na = 1", "callers.a must be a table"),
        ("callers = 1", "callers must be a table"),
        ("[everybody]\nmay = []", "access must have keys of anonymous, callers"),
        ("[anonymous]\nmay = []\ntokens = []", "anonymous must have keys of may,"),
        ("", "access must have callers or anonymous, got an empty file"),
        (" \n", "access must have callers or anonymous, got an empty file"),
        ("\ufeff", "access must have callers or anonymous, got an empty file"),
        ("# rules\n", "access must have callers or anonymous, got neither"),
        ("[callers", "access must be a TOML file"),
        pytest.param("a = " + "[" * 20_000, "access must be a TOML file", id="deep"),
        ("[callers.a]\nmay=[]\nsubjects=['s']\n[callers.b]\nmay=[]\nsubjects=['s']", "be its own"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place(content: str, said: str) -> None:
    with pytest.raises(AccessError, match=re.escape(said)):
        rules.read(content.encode())


@pytest.mark.parametrize(
    "content", [b"", b"# none\n", b"of-15-letters..\n", b"\xff\xfe", b"two words here 12345"]
)
def test_a_token_file_without_usable_tokens_is_refused(content: bytes) -> None:
    with pytest.raises(AccessError):
        tokens.read_lines(content)


def test_no_message_about_a_token_repeats_it() -> None:
    with pytest.raises(AccessError) as caught:
        tokens.read_lines(b"my secret with spaces")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ((), None),
        ((("authorization", "Bearer abc"),), "abc"),
        ((("authorization", "bearer  abc "),), "abc"),
        ((("authorization", "Basic abc"),), ""),
        ((("authorization", ""),), ""),
        ((("x-authorization", "Bearer abc"),), None),
    ],
)
def test_the_token_of_a_call(metadata: tuple[tuple[str, str], ...], token: str | None) -> None:
    assert tokens.bearer(metadata) == token
