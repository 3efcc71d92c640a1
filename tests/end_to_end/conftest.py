"""Real servers in processes of their own."""

import contextlib
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lossd.client import LossClient
from lossd.networks import save, worked_networks


@dataclass(frozen=True, slots=True)
class Process:
    """A server process and where it can be reached."""

    process: subprocess.Popen[str]
    address: str
    metrics_url: str

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


def page(process: Process, path: str) -> tuple[int, str]:
    """Status and text of a page beside /metrics."""
    url = process.metrics_url.removesuffix("/metrics") + path
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - ours
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(process: Process, name: str, **labels: str) -> float:
    """The value of a series; 0 if there is none yet of a metric that there is."""
    families = list(text_string_to_metric_families(page(process, "/metrics")[1]))
    assert any(name.startswith(family.name) for family in families), name
    for family in families:
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


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
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], process.stderr.read() if process.stderr else ""
            found = dict(word.split("=", 1) for word in words[1:])
            yield Process(process, found["address"], found["metrics"])
        finally:
            process.kill()


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the networks that the losses' own examples are worked with."""
    folder = tmp_path_factory.mktemp("networks")
    for network in worked_networks().values():
        save(folder, network)
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
