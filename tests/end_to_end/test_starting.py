"""A server says in the form of its log why it does not start."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import faulty_server

SERVE = (
    sys.executable, "-m", "lossd", "serve", "--backend", "numpy", "--metrics-port", "0",
)  # fmt: skip


def popen(*command: str, **how: str) -> subprocess.Popen[str]:
    """Runs a command whose terminal may go, even where that of the tests may not."""
    return subprocess.Popen(
        ["env", "--default-signal=HUP", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **how},
    )


def faulty(fault: Callable[[], None]) -> tuple[str, ...]:
    """A command that has a fault in the server that it runs."""
    return (sys.executable, str(Path(faulty_server.__file__)), fault.__name__, *SERVE[1:])


NOT_STARTED = {
    "an address of another": (
        (*SERVE, "--address", "192.0.2.1:1"),
        "address must be one of this machine, got 192.0.2.1:1",
    ),
    "no such directory": (
        (*SERVE, "--address", "127.0.0.1:0", "--shm-dir", "/dev/null/none"),
        "shm_dir must be a directory",
    ),
    "a fault of its own": (
        (*faulty(faulty_server.cannot_be_checked), "--address", "127.0.0.1:0"),
        "nobody thought of this",
    ),
}


@pytest.mark.parametrize("why", NOT_STARTED)
def test_why_a_server_does_not_start_is_an_object_of_json(why: str) -> None:
    command, said = NOT_STARTED[why]
    with popen(*command, LOSSD_LOG_FORMAT="json") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    (told,) = [line for line in map(json.loads, log.splitlines()) if line["level"] == "critical"]
    assert said in json.dumps(told)
