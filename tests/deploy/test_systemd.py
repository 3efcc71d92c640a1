"""The unit of systemd: as systemd reads it, and with settings that the server takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lossd.serving.config import Config, settings, unknown_variables

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/lossd.service"
TEXT = UNIT.read_text()


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    there = TEXT.replace("/opt/lossd/bin/lossd", shutil.which("true") or "/bin/true")
    (tmp_path / "lossd.service").write_text(there)
    done = analyze("verify", str(tmp_path / "lossd.service"))

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_little_is_exposed() -> None:
    done = analyze("security", "--offline=true", "--threshold=25", str(UNIT))

    assert done.returncode == 0, done.stdout


def variables() -> dict[str, str]:
    found = re.findall(r"^Environment=(\w+)=(.*)$", TEXT, re.MULTILINE)
    return {name: value for name, value in found if name.startswith("LOSSD_")}


def test_its_variables_are_settings() -> None:
    given = variables()

    assert unknown_variables(given) == []
    Config(**{s.name: s.type(given[s.variable]) for s in settings() if s.variable in given})


def test_the_socket_is_in_a_directory_that_is_made_for_it() -> None:
    assert variables()["LOSSD_ADDRESS"].startswith("unix:/run/lossd/")
    assert "\nRuntimeDirectory=lossd\n" in TEXT


def test_there_is_time_to_drain() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", TEXT, re.MULTILINE)
    config = Config()

    assert int(seconds) >= config.drain_delay_seconds + config.drain_seconds + 10
