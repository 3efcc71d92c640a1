"""Mixed calls on one server, and what they leave behind: memory, descriptors, calls without end.

    python -m tests.end_to_end.soak 100000

starts a server and tells what it found.  Of the callers some wait for their answers, some have a
deadline that is too short, some cancel and some leave their connection.
"""

import dataclasses
import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from lossd.client import LossClient
from lossd.v1 import Accuracy, CrossEntropy
from tests.end_to_end.conftest import Process, metric, serve
from tests.end_to_end.raw import CHANNEL, METHOD, request

_THREADS = 4
_PATIENCE = 30.0
_MIB = 1 << 20
# What a process may gain between two counts without losing anything: pools that fill, fragments.
MEMORY = 24 * _MIB
DESCRIPTORS = 8
_SMALL, _LARGE = request(), request(rows=512, classes=256)


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """What a server holds while nobody calls; ``open_calls`` were started and never ended."""

    memory: int
    descriptors: int
    open_calls: float
    in_flight: float


def count(process: Process) -> Count:
    """Counts once the calls that are over have ended, or after some seconds."""
    deadline = time.monotonic() + 3
    while True:
        found = _count(process)
        if not (found.open_calls or found.in_flight) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _count(process: Process) -> Count:
    own = Path(f"/proc/{process.process.pid}")
    resident = next(
        line for line in (own / "status").read_text().splitlines() if line.startswith("VmRSS")
    )
    labels = {"grpc_type": "unary", "grpc_service": "lossd.v1.LossService",
              "grpc_method": "ComputeLoss"}  # fmt: skip
    started = metric(process, "grpc_server_started_total", **labels)
    handled = sum(
        metric(process, "grpc_server_handled_total", grpc_code=code.name, **labels)
        for code in grpc.StatusCode
    )
    return Count(
        memory=int(resident.split()[1]) * 1024,
        descriptors=len(list((own / "fd").iterdir())),
        open_calls=started - handled,
        in_flight=metric(process, "lossd_inflight_requests"),
    )


def soak(address: str, calls: int, seed: int) -> None:
    """Makes so many calls, and leaves them in every way in which callers do."""
    drawn = random.Random(seed)  # noqa: S311 - no secret
    ways = drawn.choices(_WAYS, (6, 1, 1, 1, 1), k=calls)
    with (
        grpc.insecure_channel(address, options=CHANNEL) as channel,
        LossClient(address, timeout=_PATIENCE) as client,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        for done in [pool.submit(way, address, channel, client) for way in ways]:
            done.result()


def _answered(_: str, __: grpc.Channel, client: LossClient) -> None:
    client.compute(CrossEntropy(), [[0.0, 1.0]], [1])


def _evaluated(_: str, __: grpc.Channel, client: LossClient) -> None:
    client.evaluate(Accuracy(), predictions=[[0.0, 1.0]], targets=[1])


def _late(_: str, channel: grpc.Channel, __: LossClient) -> None:
    _begun(channel, _LARGE, timeout=0.001).exception()


def _cancelled(_: str, channel: grpc.Channel, __: LossClient) -> None:
    _begun(channel, _LARGE, timeout=_PATIENCE).cancel()


def _left(address: str, _: grpc.Channel, __: LossClient) -> None:
    with grpc.insecure_channel(address, options=CHANNEL) as own:
        _begun(own, _SMALL, timeout=_PATIENCE)


def _begun(channel: grpc.Channel, message: bytes, *, timeout: float) -> Any:
    """Begins a call that the bundled client would not make."""
    method: Any = channel.unary_unary(METHOD)
    return method.future(message, timeout=timeout)


_WAYS: tuple[Callable[[str, grpc.Channel, LossClient], None], ...] = (
    _answered, _evaluated, _late, _cancelled, _left,
)  # fmt: skip


def leaks(before: Count, after: Count) -> list[str]:
    """Names what a server lost between two counts."""
    found = []
    if after.memory > before.memory + MEMORY:
        found.append("memory")
    if after.descriptors > before.descriptors + DESCRIPTORS:
        found.append("descriptors")
    if after.open_calls:
        found.append("calls")
    if after.in_flight:
        found.append("gauge")
    return found


def main() -> None:
    """Soaks a server of its own in ten parts, and prints the counts."""
    calls = int(sys.argv[1])
    with serve("--backend", "numpy") as process:
        soak(process.address, 1000, seed=0)  # until its pools are full
        first = count(process)
        for part in range(10):
            soak(process.address, calls // 10, seed=1 + part)
            last = count(process)
            sys.stdout.write(json.dumps(dataclasses.asdict(last)) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"leaks: {', '.join(leaks(first, last)) or 'none'}\n")


if __name__ == "__main__":
    main()
