"""A server in a second process, for commands that show or measure one."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from lossd.cli.settings import of_a_service


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The server's address and process id."""

    address: str
    process: int

    def resident(self) -> int:
        """Returns the bytes of memory that it has now."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """Returns the most bytes of memory that it had since ``forget_peak``."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Resets the peak."""
        Path(f"/proc/{self.process}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def running_server(*arguments: str, address: str = "127.0.0.1:0") -> Iterator[RunningServer]:
    """Runs ``lossd serve`` with flags, and ends it afterwards.

    Its caller proves nothing and may share no memory but what the flags say, so that variables of
    a server that others call are left unread.
    """
    command = [
        sys.executable, "-m", "lossd", "serve", "--address", address, "--metrics-port", "0",
        *arguments,
    ]  # fmt: skip
    left = of_a_service()
    variables = {name: value for name, value in os.environ.items() if name not in left}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        try:
            words = process.stdout.readline().split() if process.stdout else []
            if not words:
                raise click.ClickException("the server did not start; its own message is above")
            found = dict(word.split("=", 1) for word in words[1:])
            yield RunningServer(found["address"], process.pid)
        finally:
            process.terminate()
