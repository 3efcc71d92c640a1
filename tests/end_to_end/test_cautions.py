"""Whoever reads the settings warns of the same, and refuses the same, before there is a caller."""

from pathlib import Path

from click.testing import CliRunner

from lossd.cli import command
from lossd.cli.machine import findings_here
from lossd.serving.config import Config
from tests.certificates import Authority
from tests.end_to_end.conftest import not_served, serve

RULES = """
[callers.a]
may = ["compute"]
tokens = ["0123456789abcdef"]
certificates = ["a"]
"""


def test_the_check_the_doctor_and_the_start_say_the_same(tmp_path: Path) -> None:
    certificate, key = Authority().issue("pages", days=-3).write(tmp_path, "pages")
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    settings = {
        "backend": "numpy",
        "threads": 1,
        "access": str(rules),
        "max_inflight_bytes": 1 << 20,
        "metrics_tls_cert": str(certificate),
        "metrics_tls_key": str(key),
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    address = "0.0.0.0:0"

    checked = CliRunner().invoke(command, ["config", "--check", "--address", address, *flags])
    marked = [x for x in checked.stderr.splitlines() if x.startswith("warning: ")]
    said = [line.removeprefix("warning: ") for line in marked]
    assert (checked.exit_code, len(said)) == (0, 4)

    config = Config(address=address, metrics_port=0, **settings)  # type: ignore[arg-type]
    warnings = [one for one in findings_here(config) if one.is_warning]
    assert [one.found for one in warnings if one.thing != "kernels for the CPU"] == said
    with serve(*flags, address=address) as process:
        process.end()
    warned = [line for line in process.log() if "[warning" in line]
    assert [text for text in said if not any(text in line for line in warned)] == []


def test_the_check_fails_where_the_start_does(tmp_path: Path) -> None:
    rules, tokens = tmp_path / "rules.toml", tmp_path / "tokens"
    rules.write_text(RULES)
    tokens.write_text("fedcba9876543210")
    flags = (f"--access={rules}", f"--token-file={tokens}")

    checked = CliRunner().invoke(command, ["config", "--check", *flags])
    assert checked.exit_code == 1
    assert checked.output == f"Error: {not_served(*flags)}\n"


def test_rules_that_are_empty_are_refused_as_at_a_reload(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.touch()
    said = "access must have callers or anonymous, got an empty file"

    checked = CliRunner().invoke(command, ["config", "--check", f"--access={rules}"])
    assert (checked.exit_code, checked.output) == (1, f"Error: {said}\n")
    assert not_served(f"--access={rules}") == said
    rules.write_text("[callers]\n")
    assert CliRunner().invoke(command, ["config", "--check", f"--access={rules}"]).exit_code == 0
