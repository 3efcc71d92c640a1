"""Sends changed messages to a server and counts what comes of them.

    python -m tests.fuzz.run 1000000 --seed 1              a server within this process
    python -m tests.fuzz.run 100000 --seed 1 --socket      one in a process of its own

What must not come of any: an error of ours (INTERNAL, UNKNOWN), the end of the server, a call that
does not end, memory that grows, a call that stays in flight.
"""

import argparse
import faulthandler
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from lossd import v1
from tests.end_to_end.conftest import Process, metric, serve
from tests.end_to_end.raw import CHANNEL
from tests.fuzz.inside import inside
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import EVALUATE, STREAM, STREAMS, Seed, seeds

PATIENCE = 10.0  # seconds that a call may take
HANG = 60.0
FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
_PARTS = 10
_THREADS = 4

Call = Callable[[Seed], tuple[str, list[bytes]]]


@dataclass(slots=True)
class Found:
    """The codes that came back, the calls that failed as none may, and the slowest call."""

    codes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, Seed]] = field(default_factory=list)
    slowest: float = 0.0

    def note(self, seed: Seed, code: str, seconds: float) -> None:
        """Counts a call that has ended."""
        self.codes[code] += 1
        self.slowest = max(self.slowest, seconds)
        if code in FAULTS:
            self.faults.append((code, seed))


def draws(seed: int) -> random.Random:
    """Returns what changes are drawn with."""
    return random.Random(seed)  # noqa: S311 - no secret


def changed(number: int, known: list[Seed], drawn: random.Random) -> Iterator[Seed]:
    """Yields so many calls; of their messages one is changed at least."""
    every = [message for seed in known for message in seed.messages]
    for _ in range(number):
        seed = drawn.choice(known)
        messages = list(seed.messages)
        for at in drawn.sample(range(len(messages)), drawn.choice((1, 1, len(messages)))):
            messages[at] = mutated(drawn, messages[at], every)
        if seed.method in STREAMS and drawn.random() < 0.2:
            messages.insert(drawn.randrange(len(messages) + 1), drawn.choice(messages))
        yield Seed(seed.method, tuple(messages))


def with_states(known: list[Seed], call: Call) -> list[Seed]:
    """Adds calls that merge the states that others return."""
    more = []
    for seed in known:
        if seed.method == EVALUATE:
            request = v1.EvaluateRequest.FromString(seed.messages[0])
            code, replies = call(seed)
            if code == "OK" and request.return_state:
                state = v1.EvaluateResponse.FromString(replies[0]).state
                merging = v1.EvaluateRequest(metrics=request.metrics, states=[state, state])
                more.append(Seed(EVALUATE, (merging.SerializeToString(),)))
    return [*known, *more]


def run(call: Call, given: Iterator[Seed], found: Found) -> None:
    """Makes calls one after the other."""
    for seed in given:
        faulthandler.dump_traceback_later(HANG, exit=True)
        started = time.perf_counter()
        code, _ = call(seed)
        found.note(seed, code, time.perf_counter() - started)
    faulthandler.cancel_dump_traceback_later()


def over(channel: grpc.Channel) -> Call:
    """Returns what makes calls to a server elsewhere."""

    def call(seed: Seed) -> tuple[str, list[bytes]]:
        try:
            if seed.method == STREAM:
                conversation: Any = channel.stream_stream(seed.method)
                return "OK", list(conversation(iter(seed.messages), timeout=PATIENCE))
            method: Any = channel.stream_unary(seed.method)
            return "OK", [method(iter(seed.messages), timeout=PATIENCE)]
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code().name, []

    return call


def resident(pid: int | str) -> int:
    """Returns the memory of a process, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


def _report(found: Found, count: int, seconds: float, **more: object) -> None:
    told = {
        "messages": count,
        "a second": round(count / seconds),
        "codes": dict(sorted(found.codes.items())),
        "slowest": round(found.slowest, 2),
        "faults": len(found.faults),
        **more,
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _inside(number: int, seed: int, found: Found) -> None:
    with inside() as server:
        known = with_states(seeds(), server.call)
        drawn, started = draws(seed), time.perf_counter()
        for part in range(_PARTS):
            run(server.call, changed(number // _PARTS, known, drawn), found)
            count = (part + 1) * (number // _PARTS)
            spent = time.perf_counter() - started
            _report(found, count, spent, MiB=resident("self"), left=server.left())


def _outside(number: int, seed: int, found: Found) -> None:
    arguments = ("--backend", "numpy", "--threads", "1", "--max-inflight-bytes", str(512 << 20))
    with serve(*arguments) as process:
        started = time.perf_counter()
        with grpc.insecure_channel(process.address, options=CHANNEL) as channel:
            known = with_states(seeds(), over(channel))
        for part in range(_PARTS):
            share = number // _PARTS // _THREADS
            with ThreadPoolExecutor(_THREADS) as pool:
                of_thread = [seed + part * _THREADS + thread for thread in range(_THREADS)]
                waiting = [pool.submit(_some, process, share, known, s, found) for s in of_thread]
                for one in waiting:
                    one.result()
            count, spent = (part + 1) * share * _THREADS, time.perf_counter() - started
            left = {"calls": metric(process, "lossd_inflight_requests")}
            _report(found, count, spent, MiB=resident(process.process.pid), left=left)
        assert process.process.poll() is None
        status = process.end()
    sys.stdout.write(f"status: {status}\n")


def _some(process: Process, number: int, known: list[Seed], seed: int, found: Found) -> None:
    drawn = draws(seed)
    options = (*CHANNEL, ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(process.address, options=options) as channel:
        for one in changed(number, known, drawn):
            started = time.perf_counter()
            code, _ = over(channel)(one)
            found.note(one, code, time.perf_counter() - started)


def main() -> None:
    """Makes calls, and ends with 1 if any came to what none may come to."""
    parser = argparse.ArgumentParser(description="Sends changed messages to a server.")
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--socket", action="store_true")
    given = parser.parse_args()
    faulthandler.enable()
    found = Found()
    (_outside if given.socket else _inside)(given.number, given.seed, found)
    for code, seed in found.faults:
        sys.stdout.write(f"{code} {seed.method} {[m.hex() for m in seed.messages]}\n")
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    main()
