"""A server that starts heeds who ends it, and says in the form of its log why it does not start."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests import faulty_server
from tests.end_to_end.test_ending import LATE

SERVE = (
    sys.executable, "-m", "lossd", "serve", "--backend", "numpy", "--metrics-port", "0",
)  # fmt: skip
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FIRST_OF_ITS_KIND = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


def popen(*command: str, **how: str) -> subprocess.Popen[str]:
    """Runs a command whose terminal may go, even where that of the tests may not."""
    return subprocess.Popen(
        ["env", "--default-signal=HUP,INT", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **how},
    )


def faulty(fault: Callable[[], None]) -> tuple[str, ...]:
    """A command that has a fault in the server that it runs."""
    return (sys.executable, str(Path(faulty_server.__file__)), fault.__name__, *SERVE[1:])


def ended(
    process: subprocess.Popen[str], number: int, *, by_its_child: bool = False
) -> tuple[int, str, str]:
    """Signals a process, or its child, once it has said a line.

    Returns its status, and what it said and logged after that.
    """
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            os.kill(_child(process) if by_its_child else process.pid, number)
            said, log = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, said, log


def _child(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_server_amid_its_start(number: int, tmp_path: Path) -> None:
    socket = tmp_path / "lossd.sock"
    command = (*faulty(faulty_server.checks_for_long), "--address", f"unix:{socket}")
    status, said, log = ended(popen(*command), number)
    assert (status, said) == (0, "")
    assert "ended before it was ready" in log
    assert not socket.exists()


def test_a_server_that_was_told_to_end_does_not_become_ready(tmp_path: Path) -> None:
    socket, shared = tmp_path / "lossd.sock", tmp_path / "shared"
    shared.mkdir()
    process = popen(
        *faulty(faulty_server.lingers_before_it_is_ready), "--address", f"unix:{socket}",
        "--shm-dir", str(shared), "--drain-delay-seconds", "60",
    )  # fmt: skip
    started = time.monotonic()
    status, said, log = ended(process, signal.SIGTERM)
    assert (status, said) == (0, "")
    assert time.monotonic() - started < 2 + 3 * LATE  # of the 60 that who was sent here has
    assert "ready " not in log
    assert (socket.exists(), [*shared.iterdir()]) == (False, [])


def test_the_garbage_collector_does_not_look_at_what_lasts_as_long_as_the_server() -> None:
    process = popen(*faulty(faulty_server.tells_what_is_collected), "--address", "127.0.0.1:0")
    with process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[1].removeprefix("address=")
            with LossClient(address) as client:
                client.server_info()
            looked_at, frozen = map(int, process.stdout.readline().split())
        finally:
            process.kill()
    assert 20 * looked_at < frozen


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """The path of modules on which a library takes an hour, which serving imports within click.

    That makes an error of what ends a command.
    """
    module = tmp_path / "prometheus_client.py"
    module.write_text("import time\nprint('waits', flush=True)\ntime.sleep(3600)")
    return os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_server_from_the_beginning(number: int, slow: str) -> None:
    assert ended(popen(*SERVE, PYTHONPATH=slow), number) == (-number, "", "")


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_first_process_of_a_container_from_the_beginning(
    number: int, slow: str
) -> None:
    if subprocess.run([*FIRST_OF_ITS_KIND, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have processes of their own")
    process = popen(*FIRST_OF_ITS_KIND, *SERVE, PYTHONPATH=slow)
    assert ended(process, number, by_its_child=True) == (128 + number, "", "")


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_server_does_without_what_the_shell_closed(closed: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    inside = ("sh", "-c", f'exec "$@" {closed}', "sh")
    with popen(*inside, *SERVE, "--address", address) as process:
        try:
            with LossClient(address) as client:
                client.wait_until_ready(30)
            assert Path(f"/proc/{process.pid}/fd/2").readlink() == Path(os.devnull)
            process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A pipe that nobody reads, and that takes nothing any more."""
    read, written = os.pipe()
    os.set_blocking(written, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(written, b"x")
    os.set_blocking(written, True)
    yield written
    os.close(written)
    os.close(read)


@contextlib.contextmanager
def broken() -> Iterator[int]:
    """A pipe whose reader is gone."""
    read, written = os.pipe()
    os.close(read)
    yield written
    os.close(written)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    """A file that takes nothing."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("output", [full, broken, full_disk])
def test_a_server_serves_and_drains_whatever_becomes_of_its_line(
    output: Callable[[], contextlib.AbstractContextManager[int]], tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with (
        output() as stdout,
        subprocess.Popen([*SERVE, "--address", address], stdout=stdout) as process,
    ):
        try:
            with LossClient(address) as client:
                client.wait_until_ready(30)
                assert client.compute(SquaredError(), [2.0], [0.0], timeout=20).loss == 4
            started = time.monotonic()
            process.terminate()
            assert process.wait(timeout=40) == 0
            assert time.monotonic() - started < LATE
        finally:
            process.kill()


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
