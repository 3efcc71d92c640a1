"""A network of its own between a server and its clients, which can lose what it carries.

The server runs in a network namespace of Linux, at the far end of a pair of virtual interfaces.
"""

import contextlib
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ESTABLISHED = "01"  # of the fourth column of /proc/net/tcp
FIRST_NETWORK = ipaddress.IPv4Address("10.213.0.0")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass(frozen=True, slots=True)
class Network:
    """A cable with a namespace at its far end."""

    namespace: str
    interface: str
    server_address: str
    client_address: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The command that runs another one at the far end."""
        return ("ip", "netns", "exec", self.namespace)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Takes the cable out: nothing arrives, and nobody is told."""
        _run("ip", "link", "set", self.interface, "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self.interface, "up")

    @contextlib.contextmanager
    def failing(self, share: float, *outcome: str) -> Iterator[None]:
        """Lets a share of what reaches the server end so, as the target of an iptables rule."""
        rule = ("INPUT", "-p", "tcp", "-m", "statistic", "--mode", "random",
                "--probability", str(share), "-j", *outcome)  # fmt: skip
        _run(*self.inside, "iptables", "-I", *rule)
        try:
            yield
        finally:
            _run(*self.inside, "iptables", "-D", *rule)

    def connections(self, pid: int) -> int:
        """Counts the connections from the near end that a server holds to be alive."""
        ours = f"{int.from_bytes(ipaddress.IPv4Address(self.client_address).packed, 'little'):08X}"
        lines = [
            line.split()
            for name in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        ]
        return sum(
            peer.partition(":")[0].endswith(ours) and state == ESTABLISHED
            for _, _, peer, state, *_ in lines
        )


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Makes one, where one may."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("iptables")):
        pytest.skip("networks of one's own need root, ip and iptables")
    number = os.getpid()
    namespace, near, far = f"lossd-{number}", f"ln{number}", f"lf{number}"
    ours, theirs = (str(FIRST_NETWORK + number % 0x4000 * 4 + end) for end in (1, 2))
    try:
        _run("ip", "netns", "add", namespace)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"there are no network namespaces: {error.stderr.strip()}")
    try:
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        _run("ip", "addr", "add", f"{ours}/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        for command in (("addr", "add", f"{theirs}/30", "dev", far), ("link", "set", far, "up"),
                        ("link", "set", "lo", "up")):  # fmt: skip
            _run("ip", "netns", "exec", namespace, "ip", *command)
        yield Network(namespace, near, theirs, ours)
    finally:
        _run("ip", "netns", "del", namespace)
