"""One peer that means ill beside ten that do not: what these notice of it.

    python -m tests.end_to_end.hostile [ATTACK ...] [--after SECONDS]

has ten clients make twenty calls a second each, and prints how long these took: beside an attacker
that is a process of its own, and beside one that takes as much of a processor and harms nobody, in
turns.  Both are of the lowest priority, so that on a small machine what is measured is what the
server does, and not what the attacker's own work takes from the clients.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
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
from tests.end_to_end.raw import CHANNEL, METHOD, request

HONEST = 10
PAUSE = 0.05  # from one call of an honest client to its next
WINDOW, ROUNDS = 8.0, 3  # seconds that one neighbour is measured, and how often
BURST = 0.02  # seconds of which a harmless neighbour computes its share
ADVANCE = 1.0  # seconds that the attacker has before they come
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is attacked, and from where."""

    address: str
    metrics_url: str
    folder: str
    source: str = "127.0.0.2"  # another address than that of the honest

    def peer(self, **settings: int) -> contextlib.closing[Peer]:
        """Connects, as a context."""
        return contextlib.closing(Peer(self.address, self.source, **settings))


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


def unread(target: Target, is_over: Any) -> None:
    """Asks for as many answers as may be, and reads none."""
    while not is_over.is_set():
        with target.peer(window=0) as peer:
            while not (peer.is_closed or is_over.wait(0.05)):
                for _ in range(64):
                    peer.message(peer.begin(), request())


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
    resets, resets_on_one, headers, idle_streams, unread, half_messages, slow_pages, segments,
)  # fmt: skip


def burn(share: float, is_over: Any) -> None:
    """Computes for a share of the time, and does nothing else."""
    while not is_over.is_set():
        begun, spent = time.monotonic(), time.process_time()
        while time.process_time() - spent < share * BURST and time.monotonic() - begun < 2 * BURST:
            pass
        time.sleep(max(0.0, begun + BURST - time.monotonic()))


def _begin(work: Callable[..., None], given: Any, is_ready: Any, is_over: Any) -> None:
    if sys.platform == "linux":  # the others may have real-time priority (`chrt -f 1 python ...`)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(19)
    is_ready.set()
    work(given, is_over)


@contextlib.contextmanager
def _apart(work: Callable[..., None], given: Any) -> Iterator[BaseProcess]:
    """Works meanwhile in another process of the lowest priority."""
    context = multiprocessing.get_context("spawn")
    is_ready, is_over = context.Event(), context.Event()
    process = context.Process(target=_begin, args=(work, given, is_ready, is_over))
    process.start()
    try:
        assert is_ready.wait(60)
        yield process
        assert process.is_alive(), "it must last"
    finally:
        is_over.set()
        process.join(2)  # it may wait for a connection
        process.kill()


@contextlib.contextmanager
def attacked(target: Target, attack: Attack) -> Iterator[None]:
    """Attacks a server meanwhile."""
    with _apart(attack, target):
        time.sleep(ADVANCE)
        yield


def ask(process: Process, seconds: float, number: int = 0) -> list[float]:
    """Calls at set times for some seconds; returns how long after its time each was answered.

    Any error is raised.
    """
    taken: list[float] = []
    logits, labels = np.zeros((32, 10), np.float32), np.zeros(32, np.int64)
    with LossClient(process.address, timeout=30) as client:
        client.compute(CrossEntropy(), logits, labels)  # connects, and asks for names
        due = time.monotonic() + PAUSE * number / HONEST
        ends = due + seconds
        while due < ends or not taken:
            time.sleep(max(0.0, due - time.monotonic()))
            client.compute(CrossEntropy(), logits, labels)
            taken.append(time.monotonic() - due)
            due += PAUSE
    return taken


def honest(process: Process, seconds: float) -> list[list[float]]:
    """Returns how long the calls of each honest client took."""
    with ThreadPoolExecutor(HONEST) as pool:
        return list(pool.map(partial(ask, process, seconds), range(HONEST)))


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[Process, Target]]:
    """Serves with shared memory."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        serve("--backend", "numpy", "--shm-dir", folder, *arguments) as process,
    ):
        yield process, Target(process.address, process.metrics_url, folder)


@dataclass(frozen=True, slots=True)
class Window:
    """How long calls took, and the neighbour's share of the processors."""

    taken: Any
    share: float

    def at(self, quantile: float) -> float:
        """Returns a quantile in milliseconds."""
        return float(np.quantile(self.taken, quantile) * 1000)

    def beyond(self, milliseconds: float) -> float:
        """Returns which part of the calls took longer."""
        return float(np.mean(self.taken * 1000 > milliseconds))


def _window(process: Process, work: Callable[..., None], given: Any, after: float = 0.0) -> Window:
    with _apart(work, given) as neighbour:
        time.sleep(after)
        before, begun = _processor_seconds(neighbour), time.monotonic()
        taken = np.concatenate(honest(process, WINDOW))
        share = (_processor_seconds(neighbour) - before) / (time.monotonic() - begun)
    return Window(taken, share)


def _processor_seconds(process: BaseProcess) -> float:
    used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def measure(attack: Attack, rounds: int, after: float = 0.0) -> str:
    """Returns a row of the table: medians over some rounds, each with one of both neighbours.

    The attacker has ``after`` seconds before its window begins.
    """
    beside, usual = [], []
    with served() as (process, target):
        for number in range(rounds):
            # An address of its own each time: it may have to wait for a minute after the first.
            now = replace(target, source=f"127.0.0.{number + 2}")
            beside.append(_window(process, attack, now, after))
            usual.append(_window(process, burn, beside[-1].share))
    pairs = list(zip(beside, usual, strict=True))
    cells = [
        f"{statistics.median(window.at(quantile) for window in windows):.1f}"
        for windows in (usual, beside)
        for quantile in (0.5, 0.99)
    ]
    ratio = statistics.median(b.at(0.99) / u.at(0.99) for b, u in pairs)
    late = statistics.median(b.beyond(3 * u.at(0.99)) for b, u in pairs)
    share = statistics.median(window.share for window in beside)
    row = (attack.__name__, f"{share:.2f}", *cells, f"{ratio:.1f}", f"{late:.1%}")
    return f"| {' | '.join(row)} |"


def main() -> None:
    """Measures every attack, and prints a table in milliseconds; an error of a call ends it."""
    parser = argparse.ArgumentParser(description="Has one peer attack a server beside ten.")
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--after", type=float, default=0.0, help="seconds before it is measured")
    given = parser.parse_args()
    head = (
        "attack", "its processors", "usual p50", "p99", "beside p50", "p99", "median ratio of p99",
        "later than three usual p99",
    )  # fmt: skip
    _print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for attack in ATTACKS:
        if attack.__name__ in (given.attacks or [each.__name__ for each in ATTACKS]):
            _print(measure(attack, ROUNDS, given.after))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
