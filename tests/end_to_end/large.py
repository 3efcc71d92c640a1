"""Large calls, more at a time than may be: by each transport, complete, half sent and cancelled.

    python -m tests.end_to_end.large 512 32 64

starts servers that may have 512 MiB in flight, has 32 callers send 64 MiB to each, and prints what
memory they took.  All in one is how a server is brought down; none of it may.
"""

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from lossd import chunks, v1
from lossd.client import LossClient
from lossd.client.requests import build_request
from lossd.v1 import SquaredError
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.frames import Peer
from tests.end_to_end.raw import CHANNEL, unary

STREAM = "/lossd.v1.LossService/StreamLoss"
PATIENCE = 120.0
HELD_SECONDS = 1.0  # for which what is half sent is left so
MIB = 1 << 20
FEW_BYTES = 80 * MIB  # that a process may keep: it gives back what is worth it


@dataclass(frozen=True, slots=True)
class Outcome:
    """Memory over idle, in MiB, and how many of the complete calls were answered."""

    peak: int
    left: int
    answered: int


Caller = Callable[[Process, int], bool]


def own_memory(process: Process) -> int:
    """Returns the memory of a server without that which a client shares with it."""
    _, resident, shared, *_ = Path(f"/proc/{process.process.pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * 4096


@contextlib.contextmanager
def watched(process: Process) -> Iterator[Callable[[], int]]:
    """Looks at a server's memory all the time; yields what tells the most."""
    most, is_over = own_memory(process), threading.Event()

    def look() -> None:
        nonlocal most
        while not is_over.wait(0.002):
            most = max(most, own_memory(process))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most
    finally:
        is_over.set()
        looking.join()


def _batch(size: int) -> dict[str, Any]:
    """Two inputs of so many bytes together."""
    return dict.fromkeys(("predictions", "targets"), np.ones(size // 8, np.float32))


def _encoded(size: int) -> bytes:
    return build_request(SquaredError(), _batch(size)).serialise()


def _again(call: Callable[[], object]) -> bool:
    """Calls until it is answered, as a client does whom nobody has helped."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            call()
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() not in {
                grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.UNAVAILABLE,
            }:  # fmt: skip
                raise
            time.sleep(0.1)
        else:
            return True
    return False


def unary_complete(process: Process, size: int) -> bool:
    """Sends all in one message."""
    message = _encoded(size)
    with unary(process.address) as compute:
        return _again(lambda: compute(message, timeout=PATIENCE))


def by_client(process: Process, size: int) -> bool:
    """Lets the client send it, in shared memory where there is some, else in chunks."""
    with LossClient(process.address, timeout=PATIENCE) as client:
        return client.compute(SquaredError(), **_batch(size)).example_count == size // 8


def unary_unfinished(process: Process, size: int) -> bool:
    """Sends almost all of a message, and waits."""
    with contextlib.closing(Peer(process.address)) as peer:
        peer.send(peer.begin(), size, size - size // 32)
        time.sleep(HELD_SECONDS)
    return False


def stream_unfinished(process: Process, size: int) -> bool:
    """Announces a batch, sends almost all of a chunk of half of it, and waits."""
    head, _ = chunks.split(build_request(SquaredError(), _batch(size)))
    first = v1.StreamLossRequest(call=head).SerializeToString()
    with contextlib.closing(Peer(process.address)) as peer:
        call = peer.begin(STREAM)
        peer.message(call, first)
        peer.send(call, size // 2, size // 2 - size // 32)
        time.sleep(HELD_SECONDS)
    return False


def unary_cancelled(process: Process, size: int) -> bool:
    """Sends all, and goes while the server has it."""
    message = _encoded(size)
    with grpc.insecure_channel(process.address, options=CHANNEL) as channel:
        compute: Any = channel.unary_unary("/lossd.v1.LossService/ComputeLoss")
        for wait in (0.05, 0.2, 0.5):
            call = compute.future(message, timeout=PATIENCE)
            with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
                call.result(timeout=wait)
            call.cancel()
    return False


def client_cancelled(process: Process, size: int) -> bool:
    """Lets the client send it, and gives it too little time."""
    from lossd.client import LossdError  # noqa: PLC0415 - used here alone

    for seconds in (0.05, 0.2, 0.5):
        with (
            LossClient(process.address, timeout=seconds) as client,
            contextlib.suppress(LossdError),
        ):
            client.compute(SquaredError(), **_batch(size))
    return False


WAYS: dict[str, Caller] = {
    "unary, complete": unary_complete,
    "unary, unfinished": unary_unfinished,
    "unary, cancelled": unary_cancelled,
    "stream, complete": by_client,
    "stream, unfinished": stream_unfinished,
    "stream, cancelled": client_cancelled,
    "shared memory, complete": by_client,
    "shared memory, cancelled": client_cancelled,
}


def crowd(way: str, *, limit: int, callers: int, size: int, rest: float = 10.0) -> Outcome:
    """Has callers send so many bytes each to a server that may have ``limit`` in flight."""
    with contextlib.ExitStack() as stack:
        given = ["--backend", "numpy", "--max-inflight-bytes", str(limit)]
        if way.startswith("shared"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
            given += ["--shm-dir", folder]
        process = stack.enter_context(serve(*given))
        with LossClient(process.address) as client:
            client.compute(SquaredError(), [1.0], [1.0])
        idle = own_memory(process)
        with watched(process) as most, ThreadPoolExecutor(callers) as pool:
            answered = sum(pool.map(partial(WAYS[way], process), [size] * callers))
        deadline = time.monotonic() + rest
        while (
            own_memory(process) - idle > max(limit // 5, FEW_BYTES) and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        left = own_memory(process) - idle
        return Outcome((most() - idle) // MIB, left // MIB, answered)


def main() -> None:
    """Tries every way, and prints what it took."""
    limit, callers, size = map(int, sys.argv[1:4])
    for way in WAYS:
        if len(sys.argv) > 4 and sys.argv[4] not in way:
            continue
        begun = time.monotonic()
        found = crowd(way, limit=limit * MIB, callers=callers, size=size * MIB)
        told = {"way": way, **asdict(found), "seconds": round(time.monotonic() - begun, 1)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
