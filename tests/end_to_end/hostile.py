"""One peer that means ill beside ten that do not: what these notice of it.

    python -m tests.end_to_end.hostile [ATTACK ...]

has ten clients call a server now and then, alone and beside an attacker that is a process of its
own, and prints how long their calls took.
"""

import contextlib
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from lossd import v1
from lossd.client import LossClient
from lossd.client.segments import Segment
from lossd.v1 import CrossEntropy
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.frames import Peer
from tests.end_to_end.large import STREAM
from tests.end_to_end.raw import CHANNEL, METHOD

HONEST = 10
PAUSE = 0.02  # between the calls of one honest client
ADVANCE = 1.0  # seconds that the attacker has before they come
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is attacked, and from where."""

    address: str
    metrics_url: str
    folder: str
    source: str = "127.0.0.2"  # another address than that of the honest

    def peer(self) -> contextlib.closing[Peer]:
        """Connects, as a context."""
        return contextlib.closing(Peer(self.address, self.source))


# Any event: of threads, or of processes.
Attack = Callable[[Target, Any], None]


def resets(target: Target, is_over: Any) -> None:
    """Begins calls and ends them at once, on one connection after the other."""
    while not is_over.is_set():
        with target.peer() as peer:
            for _ in range(500):
                peer.reset(peer.begin())


def headers(target: Target, is_over: Any) -> None:
    """Begins as many calls as may be, and says nothing more."""
    _silent(target, is_over, METHOD)


def idle_streams(target: Target, is_over: Any) -> None:
    """Opens as many streams as may be, and says nothing more."""
    _silent(target, is_over, STREAM)


def _silent(target: Target, is_over: Any, path: str) -> None:
    while not is_over.is_set():
        with target.peer() as peer:
            while not (peer.is_closed or is_over.wait(0.05)):
                for _ in range(64):
                    peer.begin(path)


def half_messages(target: Target, is_over: Any) -> None:
    """Sends half of large messages, on connections of their own."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        while not is_over.is_set():
            peers = [stack.enter_context(target.peer()) for _ in "12345678"]
            list(pool.map(lambda peer: peer.send(peer.begin(), 64 * MIB, 32 * MIB), peers))


def slow_pages(target: Target, is_over: Any) -> None:
    """Asks for pages a byte at a time, on many connections."""
    url = urlsplit(target.metrics_url)
    with contextlib.ExitStack() as stack:
        while not is_over.wait(0.05):
            for _ in range(20):
                asked = socket.create_connection((url.hostname, url.port))
                stack.enter_context(contextlib.closing(asked)).sendall(b"G")


def segments(target: Target, is_over: Any) -> None:
    """Shares as much memory as may be, and never uses it."""
    import grpc  # noqa: PLC0415 - a process that forks has none

    held = []
    with grpc.insecure_channel(target.address, options=CHANNEL) as channel:
        attach: Any = channel.unary_unary("/lossd.v1.SharedMemoryService/AttachSegment")
        while not is_over.wait(0.01):
            segment = Segment(Path(target.folder), MIB)
            asked = v1.AttachSegmentRequest(name=segment.name, size=segment.size)
            try:
                attach(asked.SerializeToString(), timeout=5)
            except grpc.RpcError:
                segment.unlink()
            else:
                held.append(segment)


def resets_on_one(target: Target, is_over: Any) -> None:
    """Begins calls and ends them at once, on one connection for as long as it lasts."""
    while not is_over.is_set():
        with target.peer() as peer:
            while not (peer.is_closed or is_over.is_set()):
                peer.reset(peer.begin())


ATTACKS: tuple[Attack, ...] = (
    resets, resets_on_one, headers, idle_streams, half_messages, slow_pages, segments,
)  # fmt: skip


def _attack(attack: Attack, target: Target, is_ready: Any, is_over: Any) -> None:
    is_ready.set()
    attack(target, is_over)


@contextlib.contextmanager
def attacked(target: Target, attack: Attack) -> Iterator[None]:
    """Attacks a server meanwhile, from another process."""
    apart = multiprocessing.get_context("spawn")
    is_ready, is_over = apart.Event(), apart.Event()
    attacker = apart.Process(target=_attack, args=(attack, target, is_ready, is_over))
    attacker.start()
    try:
        assert is_ready.wait(60)
        time.sleep(ADVANCE)
        yield
        assert attacker.is_alive(), "the attack must last"
    finally:
        is_over.set()
        attacker.join(2)  # it may wait for a connection
        attacker.kill()


def ask(process: Process, seconds: float) -> list[float]:
    """Calls now and then for some seconds; returns how long each call took. Any error is raised."""
    taken: list[float] = []
    deadline = time.monotonic() + seconds
    logits, labels = np.zeros((32, 10), np.float32), np.zeros(32, np.int64)
    with LossClient(process.address, timeout=30) as client:
        client.compute(CrossEntropy(), logits, labels)  # connects, and asks for names
        while time.monotonic() < deadline or not taken:
            begun = time.monotonic()
            client.compute(CrossEntropy(), logits, labels)
            taken.append(time.monotonic() - begun)
            time.sleep(PAUSE)
    return taken


def honest(process: Process, seconds: float) -> list[list[float]]:
    """Returns how long the calls of each honest client took."""
    with ThreadPoolExecutor(HONEST) as pool:
        return list(pool.map(lambda _: ask(process, seconds), range(HONEST)))


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[Process, Target]]:
    """Serves with shared memory."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        serve("--backend", "numpy", "--shm-dir", folder, *arguments) as process,
    ):
        yield process, Target(process.address, process.metrics_url, folder)


def _told(taken: list[list[float]]) -> dict[str, float]:
    calls = np.sort(np.concatenate(taken)) * 1000
    at = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {name: round(float(np.quantile(calls, q)), 1) for name, q in at.items()}


def main() -> None:
    """Measures every attack, and prints milliseconds."""
    for attack in ATTACKS:
        if len(sys.argv) > 1 and attack.__name__ not in sys.argv[1:]:
            continue
        with served() as (process, target):
            alone = honest(process, 10)
            with attacked(target, attack):
                beside = honest(process, 20)
        told = {"attack": attack.__name__, "alone": _told(alone), "beside": _told(beside)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
