"""Real servers in processes of their own."""

import contextlib
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lossd.client import LossClient
from tests.drawn_networks import save_worked


@dataclass(frozen=True, slots=True)
class Process:
    """A server process and where it can be reached."""

    process: subprocess.Popen[str]
    address: str
    metrics_url: str
    _log: "Log"

    def log(self) -> list[str]:
        """The lines that it logged, once it has ended."""
        return self._log.lines()

    def has_logged(self, text: str) -> bool:
        """Whether a line has a text by now."""
        return self._log.has(text)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


class Log:
    """Reads what a process logs as it comes: a pipe that nobody reads would stop it."""

    def __init__(self, pipe: IO[str]) -> None:
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._lines.extend, args=(pipe,), daemon=True)
        self._reader.start()

    def end(self) -> None:
        """Waits for the last line, but not for those of a process that lives on."""
        self._reader.join(5)

    def has(self, text: str) -> bool:
        """Whether a line that has come has a text."""
        return any(text in line for line in [*self._lines])

    def lines(self) -> list[str]:
        """All lines, when there will be no more."""
        self._reader.join()
        return self._lines


def page(process: Process, path: str) -> tuple[int, str]:
    """Status and text of a page beside /metrics."""
    url = process.metrics_url.removesuffix("/metrics") + path
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310 - ours
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(process: Process, name: str, **labels: str) -> float:
    """The value of a series; 0 if there is none yet of a metric that there is.

    Of the page only its own lines are parsed, which takes a tenth of the time: tests ask often.
    """
    lines = page(process, "/metrics")[1].splitlines(keepends=True)
    own = (line for line in lines if name.startswith(_metric_of(line)))
    families = list(text_string_to_metric_families("".join(own)))
    assert any(name.startswith(family.name) for family in families), name
    for family in families:
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def _metric_of(line: str) -> str:
    """Returns which metric a line of a page is about, or which series of it."""
    words = line.split(maxsplit=3)
    return words[2] if line.startswith("#") else words[0].partition("{")[0]


@contextlib.contextmanager
def serve(
    *arguments: str, address: str = "127.0.0.1:0", inside: tuple[str, ...] = ()
) -> Iterator[Process]:
    """Runs ``lossd serve`` and waits for its line; ``inside`` is a command that runs another."""
    command = [
        *inside, sys.executable, "-m", "lossd", "serve", "--address", address,
        "--metrics-port", "0", *arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log = Log(process.stderr)
        try:
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], "".join(log.lines())
            found = dict(word.split("=", 1) for word in words[1:])
            yield Process(process, found["address"], found["metrics"], log)
        finally:
            process.kill()
            log.end()  # before the pipe is closed under it


def not_served(*arguments: str, status: int = 1) -> str:
    """Returns why ``lossd serve`` does not, which is one line; its ports are free ones."""
    command = [
        sys.executable, "-m", "lossd", "serve", "--address", "127.0.0.1:0", "--metrics-port", "0",
        "--backend", "numpy", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    *usage, line = done.stderr.splitlines()
    assert not usage or status == 2
    return line.removeprefix("Error: ")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the networks that the losses' own examples are worked with."""
    folder = tmp_path_factory.mktemp("networks")
    save_worked(folder)
    return folder


@pytest.fixture(scope="session")
def server(networks: Path) -> Iterator[Process]:
    arguments = ("--backend", "numpy", "--threads", "2", "--networks", str(networks))
    with serve(*arguments) as process:
        yield process


@pytest.fixture
def client(server: Process) -> Iterator[LossClient]:
    with LossClient(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files of shared memory are."""
    return tmp_path_factory.mktemp("shm")


@pytest.fixture(scope="module")
def sharing(directory: Path) -> Iterator[Process]:
    """A server that shares memory."""
    with serve("--backend", "numpy", "--threads", "2", "--shm-dir", str(directory)) as process:
        yield process
