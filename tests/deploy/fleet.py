"""Several servers behind one name, as pods behind a headless service, and load on them.

Each has an address of its own on loopback and the port of all, and a name server tells which there
are: those that are ready, and neither those that are going nor those that are gone.
"""

import contextlib
import itertools
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lossd.client import LossClient, LossdError
from tests.end_to_end.conftest import Process, metric, serve

NAME = "lossd.test"
_HEADER = struct.Struct(">HHHHHH")
_A, _IN, _NOW = 1, 1, 0
_AUTHORITATIVE = 0x8580


class NameServer:
    """Answers every question for an address with those that there are; its name lives for 0 s."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        number = _HEADER.unpack_from(question)[0]
        end = question.index(b"\0", _HEADER.size) + 5  # the name, its type and its class
        kind = struct.unpack_from(">H", question, end - 4)[0]
        found = self.addresses if kind == _A else ()
        self.questions += kind == _A
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", _A, _IN, _NOW, 4) + socket.inet_aton(address)
            for address in found
        )
        header = _HEADER.pack(number, _AUTHORITATIVE, 1, len(found), 0, 0)
        return header + question[_HEADER.size : end] + records

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@dataclass
class Fleet:
    """Servers behind a name."""

    arguments: tuple[str, ...]
    port: int
    metrics_port: int
    names: NameServer = field(default_factory=NameServer)
    running: dict[str, Process] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _hosts: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def target(self) -> str:
        """The target that a client is given."""
        return f"dns://{self.names.address}/{NAME}:{self.port}"

    def add(self) -> str:
        """Starts a server, and names it when it is ready."""
        host = f"127.0.0.{next(self._hosts)}"
        pages = ("--metrics-host", host, "--metrics-port", str(self.metrics_port))
        process = self._stack.enter_context(
            serve("--backend", "numpy", *pages, *self.arguments, address=f"{host}:{self.port}")
        )
        self.running[host] = process
        self._tell()
        return host

    def remove(self, host: str, number: int = signal.SIGTERM) -> int:
        """Ends a server; its name goes when the signal comes, as Kubernetes does it."""
        process = self.running.pop(host)
        if number == signal.SIGTERM:
            self._tell()
        status = process.end(number)
        self._tell()
        return status

    def replace(self, host: str) -> str:
        """Starts another one before it ends one."""
        added = self.add()
        assert self.remove(host) == 0
        return added

    def calls(self, host: str) -> float:
        """The batches that a server has answered."""
        return sum(
            metric(self.running[host], "lossd_requests_total", loss=loss, status="OK")
            for loss in ("huber", "cross_entropy")
        )

    def _tell(self) -> None:
        self.names.addresses = tuple(self.running)

    def close(self) -> None:
        self._stack.close()
        self.names.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def fleet(size: int, *arguments: str) -> Iterator[Fleet]:
    """Runs so many servers."""
    servers = Fleet(arguments, free_port(), free_port())
    try:
        for _ in range(size):
            servers.add()
        yield servers
    finally:
        servers.close()


@dataclass
class Load:
    """The view of callers: how many calls were answered, and what the others ended with."""

    answered: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    transports: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


PAUSE = 0.02  # seconds


@contextlib.contextmanager
def load(
    target: str | Callable[[], str],
    call: Callable[[LossClient], Any],
    *,
    is_right: Callable[[Any], bool],
    threads: int = 4,
) -> Iterator[Load]:
    """Calls from so many threads with one client, one call after the other, until it is left.

    They pause between calls, so that servers have time to start beside them.
    """
    seen, lock, done = Load(), threading.Lock(), threading.Event()

    def caller(client: LossClient) -> None:
        while not done.wait(PAUSE):
            begin = time.monotonic()
            try:
                result = call(client)
            except LossdError as error:
                with lock:
                    seen.errors.append(f"{type(error).__name__}: {error}")
                continue
            seconds = time.monotonic() - begin
            with lock:
                seen.answered += 1
                seen.wrong += not is_right(result)
                seen.transports[result.transport] += 1
                seen.slowest = max(seen.slowest, seconds)

    with LossClient(target, timeout=30) as client:
        callers = [threading.Thread(target=caller, args=(client,)) for _ in range(threads)]
        for each in callers:
            each.start()
        try:
            yield seen
        finally:
            done.set()
            for each in callers:
                each.join()
