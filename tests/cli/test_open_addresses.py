"""An address that other hosts can reach, where nobody has to prove who he is, is warned of."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lossd.cli import command
from lossd.cli.machine import findings_here
from lossd.serving.config import Config, ConfigError


def check(*flags: str) -> Result:
    return CliRunner().invoke(command, ["config", "--check", *flags])


HERE = ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.9.10:1", "unix:a", "unix-abstract:a")
ELSEWHERE = ("0.0.0.0:1", "[::]:1", "192.0.2.7:1", "example.com:1", "[2001:db8::1]:1")


@pytest.mark.parametrize("address", HERE)
def test_no_warning_of_an_address_of_this_host(address: str) -> None:
    assert check("--address", address).output == "every setting is in bounds\n"


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_warning_of_an_open_one(address: str) -> None:
    done = check("--address", address)

    assert done.exit_code == 0
    assert "warning: the address is open to other hosts" in done.output


@pytest.mark.parametrize("flag", ["--token-file", "--access", "--jwks"])
def test_a_file_that_cannot_be_used_fails_the_check(flag: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    missing = check(flag, str(path))
    path.write_text("short")
    wrong = check(flag, str(path))

    setting = flag[2:].replace("-", "_")
    assert (missing.exit_code, wrong.exit_code) == (1, 1)
    assert missing.output.startswith(f"Error: {setting} must be files that can be read, got {path}")
    assert wrong.output.startswith(f"Error: {setting}")


def test_doctor_tells_of_it_too_and_of_files_that_cannot_be_used(tmp_path: Path) -> None:
    def said(**settings: str) -> tuple[str, bool, bool]:
        found = findings_here(Config(metrics_port=0, **settings))  # type: ignore[arg-type]
        one = next(finding for finding in found if finding.thing == "who may call")
        return one.found, one.is_bad, one.is_warning

    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef")
    assert said() == ("whoever is on this host", False, False)
    assert said(address="0.0.0.0:1")[2]
    proven = ("those who prove who they are", False, False)
    assert said(address="0.0.0.0:1", token_file=str(tokens)) == proven
    tokens.write_text("short")
    text, is_bad, _ = said(token_file=str(tokens))
    assert is_bad
    assert text.startswith("token_file's line 1 must be")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_cert": "a"}, "tls_key must be set with tls_cert, got none"),
        ({"tls_key": "a"}, "tls_cert must be set with tls_key, got none"),
        ({"tls_client_ca": "a"}, "tls_cert must be set with tls_client_ca, got none"),
        ({"metrics_tls_cert": "a"}, "metrics_tls_key must be set with metrics_tls_cert, got none"),
        ({"jwt_issuer": "a"}, "jwks must be set with jwt_issuer, got none"),
        ({"socket_mode": "8"}, "socket_mode must be three octal digits, such as 660, got 8"),
        ({"socket_mode": "660"}, "address must be a unix:/path with socket_mode, got 127.0.0.1:50"),
        (
            {"socket_mode": "660", "address": "unix-abstract:a"},
            "address must be a unix:/path with socket_mode, got unix-abstract:a",
        ),
    ],
)
def test_settings_that_mean_nothing_alone(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(**settings)  # type: ignore[arg-type]  # by name


def test_the_report_as_json_says_what_is_a_warning() -> None:
    done = CliRunner().invoke(command, ["doctor", "--json", "--address", "0.0.0.0:1"])

    found = {one["thing"]: one for one in json.loads(done.stdout)}
    assert found["who may call"]["is_warning"]
