"""Clients that connect, call and leave: whatever they leave behind, the next one is answered.

    python -m tests.end_to_end.coming_and_going 100000

starts a server and tells what became of so many clients.  They come from 1 to 8 threads at a time,
half of them with asyncio, and beside them processes are killed in the middle of their calls.
"""

import asyncio
import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lossd.client import AsyncLossClient, LossClient, LossdError
from lossd.v1 import SquaredError
from tests.end_to_end.conftest import Process, page, serve

_PATIENCE = 20.0  # seconds that a client waits for its answer
_ROUND = 1000  # clients of one process
_ENDLESS = 1 << 30


@dataclass(slots=True)
class Tally:
    """The fates of the clients; ``faults`` are what those were told that got no answer."""

    answered: int = 0
    killed: int = 0
    faults: list[str] = field(default_factory=list)


def come_and_go(address: str, clients: int, seed: int = 0) -> Tally:
    """Has so many clients come, call and leave, and others killed beside them."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tally = Tally()
    threads = itertools.cycle(range(1, 9))
    for left in range(clients, 0, -_ROUND):
        with _visitors(address, next(threads), min(left, _ROUND)) as visitors:
            with _visitors(address, 4, _ENDLESS) as victims:
                _first_answer(victims)
                time.sleep(chance.uniform(0, 0.5))
                victims.kill()
                tally.killed += 1
            said, _ = visitors.communicate()
        if visitors.returncode:
            tally.faults.append(f"visitors ended with {visitors.returncode}")
            continue
        told = json.loads(said.splitlines()[-1])
        tally.answered += told["answered"]
        tally.faults += told["faults"]
    return tally


@contextlib.contextmanager
def _visitors(address: str, threads: int, clients: int) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", __spec__.name, "--visit", address, str(threads), str(clients)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _first_answer(visitors: "subprocess.Popen[str]") -> None:
    assert visitors.stdout is not None
    visitors.stdout.readline()


def _visit(address: str, threads: int, clients: int) -> None:
    """Is a process of visitors: says that they are answered, and in the end how many were."""
    tally, lock = Tally(), threading.Lock()
    share = [clients // threads + (number < clients % threads) for number in range(threads)]

    def heard(loss: float | None) -> None:
        with lock:
            if loss == 4:
                tally.answered += 1
            else:
                tally.faults.append(f"got {loss}")
            if tally.answered == 1:
                print("answered", flush=True)  # noqa: T201 - read by who started this

    def visit_from(number: int) -> None:
        visit = _visit_awaiting if number % 2 else _visit_waiting
        for _ in range(share[number]):
            try:
                heard(visit(address))
            except LossdError as error:
                with lock:
                    tally.faults.append(f"{type(error).__name__}: {error}")
                if len(tally.faults) > 10:
                    return

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(visit_from, range(threads)))
    print(json.dumps({"answered": tally.answered, "faults": tally.faults}))  # noqa: T201


def _visit_waiting(address: str) -> float | None:
    with LossClient(address) as client:
        return client.compute(SquaredError(), [2.0], [0.0], timeout=_PATIENCE).loss


def _visit_awaiting(address: str) -> float | None:
    async def visit() -> float | None:
        async with AsyncLossClient(address) as client:
            result = await client.compute(SquaredError(), [2.0], [0.0], timeout=_PATIENCE)
            return result.loss

    return asyncio.run(visit())


def taken(process: Process) -> str:
    """Returns what the server's process takes of the system."""
    folder = Path(f"/proc/{process.process.pid}")
    lines = (folder / "status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    files = len(list((folder / "fd").iterdir()))
    return f"{found['VmRSS'].strip()}, {found['Threads'].strip()} threads, {files} files"


def main(clients: int) -> None:
    """Tells what became of so many clients, and of the server."""
    with serve("--backend", "numpy", "--threads", "2") as process:
        print("before:", taken(process), flush=True)  # noqa: T201 - what is asked for
        started = time.monotonic()
        for seed in range(0, clients, 10 * _ROUND):
            tally = come_and_go(process.address, min(clients - seed, 10 * _ROUND), seed)
            print(  # noqa: T201
                f"{time.monotonic() - started:7.1f} s: {tally.answered} answered,"
                f" {tally.killed} processes killed, {len(tally.faults)} faults {tally.faults[:3]};"
                f" {taken(process)}; /healthz {page(process, '/healthz')}",
                flush=True,
            )
        started = time.monotonic()
        status = process.end()
        print(f"ended with {status} in {time.monotonic() - started:.1f} s")  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "--visit":
        _visit(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(int(sys.argv[1]))
