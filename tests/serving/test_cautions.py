"""Settings that are seldom meant are warned of, with what mends them, and others are not."""

from pathlib import Path
from typing import Any

import pytest

from lossd.serving.access import entrance
from lossd.serving.cautions import OPEN, cautions
from lossd.serving.config import Config
from tests.certificates import Authority

TOKEN = "0123456789abcdef"  # noqa: S105 - nobody's
RULES = f"""
[callers.a]
may = ["compute"]
tokens = ["{TOKEN}"]
"""
PLAIN = "tokens come over the network in plain text, and whoever reads one can use it"


def said(**settings: Any) -> list[str]:
    config = Config(**settings)
    return list(cautions(config, entrance.build(config)))


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def tls(folder: Path, days: float = 1, prefix: str = "tls") -> dict[str, str]:
    certificate, key = Authority().issue("server", days=days).write(folder, prefix)
    return {f"{prefix}_cert": str(certificate), f"{prefix}_key": str(key)}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "unix:/a", "unix-abstract:a"])
def test_of_the_defaults_nothing(address: str) -> None:
    assert said(address=address) == []


def test_of_an_address_that_anybody_can_call(tmp_path: Path) -> None:
    assert said(address="0.0.0.0:1") == [OPEN]
    assert said(address="0.0.0.0:1", **tls(tmp_path)) == [OPEN]  # it proves the server alone


@pytest.mark.parametrize(("setting", "content"), [("token_file", TOKEN), ("access", RULES)])
def test_of_tokens_that_others_can_read(setting: str, content: str, tmp_path: Path) -> None:
    given = {setting: write(tmp_path, "file", content)}

    (found,) = said(address="0.0.0.0:1", **given)
    assert found.startswith(PLAIN)
    assert said(**given) == []
    assert said(address="unix:/a", **given) == []
    assert said(address="0.0.0.0:1", **given, **tls(tmp_path)) == []


def test_rules_without_tokens_have_none_to_read(tmp_path: Path) -> None:
    rules = write(tmp_path, "rules", '[anonymous]\nmay = ["compute"]')

    assert said(address="0.0.0.0:1", access=rules) == []


def test_of_callers_who_cannot_prove_who_they_are(tmp_path: Path) -> None:
    rules = RULES + 'certificates = ["a"]\n[callers.b]\nmay = []\nsubjects = ["b"]\n'
    authority = Authority()
    ca = write(tmp_path, "ca", authority.certificate)
    given = {"access": write(tmp_path, "rules", rules), **tls(tmp_path)}

    by_certificate, by_subject = said(**given)
    assert "by certificates, which none can prove: set tls_client_ca" in by_certificate
    assert "by subjects, which none can prove: set jwks" in by_subject
    assert said(**given, tls_client_ca=ca) == [by_subject]


def test_of_messages_that_would_never_be_let_in() -> None:
    (found,) = said(max_message_bytes=2001, max_inflight_bytes=2000)

    assert "allows 2001" in found
    assert found.endswith("(TOO_LARGE): set it to 2000")
    assert said(max_message_bytes=2000, max_inflight_bytes=2000) == []


@pytest.mark.parametrize("prefix", ["tls", "metrics_tls"])
def test_of_a_certificate_that_has_expired(prefix: str, tmp_path: Path) -> None:
    (found,) = said(**tls(tmp_path, days=-3, prefix=prefix))

    assert found.startswith(f"{prefix}_cert expired on 20")


def test_of_an_authority_that_has_expired_wherever_it_stands(tmp_path: Path) -> None:
    old, new = Authority(days=-3).certificate, Authority().certificate
    given = tls(tmp_path)

    for number, content in enumerate((old, old + new, new + b"# the old one:\n" + old)):
        (found,) = said(**given, tls_client_ca=write(tmp_path, f"ca{number}", content))
        assert found.startswith("tls_client_ca has an authority that expired on 20")
    assert said(**given, tls_client_ca=write(tmp_path, "ca", new + new)) == []
