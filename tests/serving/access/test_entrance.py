"""Settings that nobody could come in by, or more than the rules say, are refused at the start."""

import re
from pathlib import Path

import pytest

from lossd.serving.access import entrance
from lossd.serving.access.tokens import AccessError
from lossd.serving.config import Config
from tests.certificates import Authority

TOKEN = "0123456789abcdef"  # noqa: S105 - nobody's
BY_CERTIFICATE = '[callers.a]\nmay = ["compute"]\ncertificates = ["a"]\n'
BY_SUBJECT = '[callers.b]\nmay = ["compute"]\nsubjects = ["b"]\n'
BY_TOKEN = f'[callers.c]\nmay = ["compute"]\ntokens = ["{TOKEN}"]\n'
ANYBODY = '[anonymous]\nmay = ["information"]\n'


@pytest.fixture
def mutual(tmp_path: Path) -> dict[str, str]:
    """The settings of mutual TLS."""
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    return {
        "tls_cert": str(certificate),
        "tls_key": str(key),
        "tls_client_ca": str(tmp_path / "ca.pem"),
    }


def build(folder: Path, rules: str, **settings: str) -> entrance.Entrance:
    path = folder / "rules.toml"
    path.write_text(rules)
    return entrance.build(Config(access=str(path), **settings))  # type: ignore[arg-type]  # by name


def test_tokens_beside_rules_are_refused(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)

    with pytest.raises(AccessError, match=r"^access must be set without token_file, got both"):
        build(tmp_path, BY_TOKEN, token_file=str(tokens))


def test_files_of_the_pages_are_named_by_their_settings(
    mutual: dict[str, str], tmp_path: Path
) -> None:
    swapped = {"metrics_tls_cert": mutual["tls_key"], "metrics_tls_key": mutual["tls_cert"]}

    with pytest.raises(AccessError, match=r"^metrics_tls_cert must be a certificate in PEM"):
        build(tmp_path, BY_TOKEN, **swapped)


REFUSED = pytest.mark.parametrize(
    ("rules", "said"),
    [
        (BY_CERTIFICATE, "tls_client_ca must be set where access knows callers by certificates"),
        (BY_SUBJECT, "jwks must be set where access knows callers by subjects alone"),
        (BY_CERTIFICATE + BY_SUBJECT, "tls_client_ca or jwks must be set where access knows"),
    ],
)


@REFUSED
def test_rules_by_which_nobody_could_come_in_are_refused(
    rules: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match=f"^{re.escape(said)}"):
        build(tmp_path, rules)


@REFUSED
def test_rules_that_a_server_would_not_start_with_do_not_replace_others(
    rules: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build(tmp_path, BY_TOKEN)
    first = built.rules
    (tmp_path / "rules.toml").write_text(rules)
    built.reloaded["access"].look()
    assert built.rules is first
    (told,) = caplog.records
    assert told.because.startswith(said)  # type: ignore[attr-defined]


def test_subjects_are_not_proven_by_certificates(tmp_path: Path, mutual: dict[str, str]) -> None:
    with pytest.raises(AccessError, match=r"^jwks must be set"):
        build(tmp_path, BY_SUBJECT, **mutual)


@pytest.mark.parametrize("rules", [BY_TOKEN, ANYBODY])
def test_one_who_can_come_in_is_enough(rules: str, tmp_path: Path) -> None:
    build(tmp_path, BY_CERTIFICATE + BY_SUBJECT + rules)


def test_certificates_are_proven_by_their_authority(tmp_path: Path, mutual: dict[str, str]) -> None:
    build(tmp_path, BY_CERTIFICATE + BY_SUBJECT, **mutual)


def test_rules_may_be_empty_until_there_are_callers(tmp_path: Path) -> None:
    build(tmp_path, "[callers]")
    build(tmp_path, "# nobody yet\n[callers]")
