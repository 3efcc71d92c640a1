"""Whole calls to a server in another process, against computing in process and against bare gRPC.

    python benchmarks/transport.py [--rounds N] [--quick] [--calls N] [--json FILE]
                                   [--pytriton PYTHON]

Every row is a ratio of medians with its bar.  The two sides of a ratio take turns, each in a
process of its own, so that a machine that slows down slows both.  ``lossd bench`` has latencies by
transport, size and callers.
"""

import argparse
import base64
import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
from contenders import Case, Contender, contenders
from rich.console import Console
from rich.table import Table

from lossd import tensors, v1
from lossd.cli.bench import serving
from lossd.cli.served import RunningServer
from lossd.client import LossClient
from lossd.client.requests import build_request

MEBIBYTE = 1 << 20
# PyTorch's threads spin for some milliseconds after their work, on cores that the next one needs.
PAUSE_SECONDS = 0.03
CALLERS = 64  # with a call in flight each, where it is about the rate


@dataclass(frozen=True, slots=True)
class Row:
    """One ratio: what was measured, in the unit of both, and the most that it may be."""

    work: str
    unit: str
    found: float
    base: float
    bar: float

    @property
    def ratio(self) -> float:
        """Returns the number that is to be at most the bar."""
        return self.found / self.base


def medians(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measures in turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(PAUSE_SECONDS)
            times[name].append(side())
    return {name: statistics.median(values) for name, values in times.items()}


def milliseconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


# ------------------------------------------------------------------ the sidecar


def sidecar(present: dict[str, Contender], case: Case, rounds: int) -> Iterator[Row]:
    """Shared memory with and without copying in, against PyTorch in process."""
    predictions, targets = case.inputs().values()
    message = getattr(v1, MESSAGES[case.loss])()
    frameworks = {name: c for name, c in present.items() if name.startswith(("eager", "compiled"))}
    with serving("shared_memory") as server, LossClient(server.address) as client:
        given = {"predictions": predictions, "targets": targets}
        lying = {name: _placed(client, array) for name, array in given.items()}

        def run(inputs: dict[str, Any]) -> Callable[[], float]:
            def once() -> None:
                result = client.compute(message, per_example=False, **inputs)
                if result.transport != "shared_memory":
                    raise SystemExit("memory must be shared, got a call without")

            for _ in range(3):  # memory is made and mapped at first use
                once()
            return lambda: milliseconds(once)

        sides = {"copy": run(given), "empty": run(lying)}
        for name, contender in frameworks.items():
            contender.prepare(case)
            sides[name] = lambda contender=contender: contender.milliseconds(1)  # type: ignore[misc]  # its own default
        took = medians(sides, rounds)
    shape = "x".join(map(str, case.shape))
    for name, side, words, bar in (
        ("eager", "copy", "copied in, to PyTorch eager", 0.55),
        ("eager kept", "copy", "copied in, to PyTorch eager, memory kept", 0.8),
        ("compiled", "empty", "lying there, to torch.compile", 0.8),
        ("compiled kept", "empty", "lying there, to torch.compile, memory kept", 0.5),
    ):
        if name in took:
            yield Row(f"{case.loss} {shape}, {words}", "ms", took[side], took[name], bar)


MESSAGES = {"cross_entropy": "CrossEntropy", "squared_error": "SquaredError"}


def _placed(client: LossClient, array: Any) -> Any:
    placed = client.empty(array.shape, array.dtype)
    placed[...] = array
    return placed


# ------------------------------------------------------------------ small calls


def small(rounds: int) -> Iterator[Row]:
    """The median of 32x10 and the rate of many callers, against a bare echo of as many bytes.

    Beside them the least that computes the same: how much of the bar Python takes by itself.
    """
    case = Case("cross_entropy", (32, 10))
    predictions, targets = case.inputs().values()
    inputs: dict[str, Any] = {"predictions": predictions, "targets": targets}
    request = build_request(v1.CrossEntropy(), inputs).serialise()

    def median(call: Callable[[], object]) -> float:
        return statistics.median(milliseconds(call) for _ in range(200))

    with (
        serving("tcp") as server,
        LossClient(server.address) as client,
        echo() as address,
        grpc.insecure_channel(address) as channel,
    ):
        bare, least = (
            cast("Any", channel.unary_unary(f"/bare/{name}")) for name in ("Echo", "Least")
        )
        sides = {
            "lossd": lambda: median(lambda: client.compute(v1.CrossEntropy(), **inputs)),
            "least": lambda: median(lambda: least(request)),
            "echo": lambda: median(lambda: bare(request)),
        }
        took = medians(sides, rounds)
        crowds = {
            "lossd": lambda: share(lambda: client.compute(v1.CrossEntropy(), **inputs)),
            "echo": lambda: share(lambda: bare(request)),
        }
        shares = medians(crowds, rounds)
    yield Row("32x10, median, to a bare echo", "ms", took["lossd"], took["echo"], 1.8)
    yield Row("32x10, the least that computes it", "ms", took["least"], took["echo"], 1.8)
    work = f"32x10, {CALLERS} callers, time by call, to a bare echo"
    yield Row(work, "ms", shares["lossd"], shares["echo"], 2.2)


def share(call: Callable[[], object]) -> float:
    """Returns the milliseconds of a second that one of the calls of many callers takes."""
    end = time.perf_counter() + 1.0

    def count() -> int:
        calls = 0
        while time.perf_counter() < end:
            call()
            calls += 1
        return calls

    with ThreadPoolExecutor(CALLERS) as pool:
        counts = [pool.submit(count) for _ in range(CALLERS)]
        return 1e3 / sum(one.result() for one in counts)


def beside_pytriton(python: str, rounds: int) -> Iterator[Row]:
    """The rate of many callers beside PyTriton's, whose client is the least: bytes by bare gRPC."""
    case = Case("cross_entropy", (32, 10))
    inputs: dict[str, Any] = dict(case.inputs())
    with (
        serving("tcp") as server,
        LossClient(server.address) as client,
        pytriton(python) as (address, request),
        grpc.insecure_channel(address) as channel,
    ):
        infer = cast("Any", channel.unary_unary("/inference.GRPCInferenceService/ModelInfer"))
        sides = {
            "lossd": lambda: share(lambda: client.compute(v1.CrossEntropy(), **inputs)),
            "pytriton": lambda: share(lambda: infer(request)),
        }
        took = medians(sides, rounds)
    work = f"32x10, {CALLERS} callers, time by call, to PyTriton"
    yield Row(work, "ms", took["lossd"], took["pytriton"], 0.625)


@contextlib.contextmanager
def pytriton(python: str) -> Iterator[tuple[str, bytes]]:
    """A server of PyTriton, by the Python of its environment; gives its address and a request."""
    command = [python, str(Path(__file__).with_name("pytriton_server.py"))]
    pipe, log = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process:
        told = json.loads(next(iter(process.stdout or ()), "null"))
        if told is None:
            raise SystemExit("PyTriton must start, got its end")
        yield f"127.0.0.1:{told['port']}", base64.b64decode(told["request"])


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """A server of bare gRPC in a process of its own; gives its address."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_echo, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _echo(connection: Any) -> None:
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "Least": grpc.unary_unary_rpc_method_handler(lambda request, _: _least(request)),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    connection.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def _least(encoded: bytes) -> bytes:
    """Cross-entropy with nothing around it: no other loss, no option, no limit, no metric."""
    request = v1.ComputeLossRequest.FromString(encoded)
    logits, labels = (tensors.read(named.tensors[0]) for named in request.inputs)
    rows = np.arange(len(logits))
    margins = logits - logits.max(axis=1, keepdims=True)
    gradient = np.exp(margins)
    totals = gradient.sum(axis=1)
    values = np.log(totals) - margins[rows, labels]
    gradient /= totals[:, None]
    gradient[rows, labels] -= 1
    gradient /= len(logits)
    reply = v1.ComputeLossResponse(loss=values.mean(dtype=np.float64))
    tensors.fill(reply.per_example, values)
    tensors.fill(reply.gradients.add(name="predictions").tensors.add(), gradient)
    return reply.SerializeToString()


# ------------------------------------------------------------------ memory


def peak() -> Row:
    """The server's memory at most, beyond what it has when idle, for one call of 64 MiB."""
    predictions = np.random.default_rng(0).standard_normal((16384, 1024), np.float32)
    with serving("tcp") as server, LossClient(server.address) as client:
        client.compute(v1.CrossEntropy(), predictions=predictions[:2], targets=[0, 0])
        idle = server.resident()
        server.forget_peak()
        client.compute(v1.CrossEntropy(), predictions=predictions, targets=np.zeros(16384, int))
        found = server.peak() - idle
    base = predictions.nbytes / MEBIBYTE
    return Row(
        "peak memory of one call of 64 MiB, to the tensor", "MiB", found / MEBIBYTE, base, 2.2
    )


def growth(calls: int) -> Row:
    """How much memory the second half of many mixed calls adds to what the first half took."""
    random = np.random.default_rng(0)
    with serving("shared_memory") as server, LossClient(server.address) as client:
        sizes = [(32, 10), (100, 7), (300, 200), (1000, 1000)]
        weights = [0.5, 0.3, 0.19, 0.01]

        def some(count: int) -> None:
            for choice in random.choice(len(sizes), count, p=weights):
                rows, classes = sizes[choice]
                logits = random.standard_normal((rows, classes), np.float32)
                client.compute(v1.CrossEntropy(), predictions=logits, targets=[0] * rows)

        some(calls // 2)
        before = _resident(server)
        some(calls - calls // 2)
        found = _resident(server) - before
    work = f"growth over the second half of {calls} mixed calls, to 5 MiB"
    return Row(work, "MiB", found / MEBIBYTE, 5, 1)


def _resident(server: RunningServer) -> int:
    time.sleep(0.5)
    return server.resident()


# ------------------------------------------------------------------ all of it


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table("work", "found", "base", "", "ratio", "bar")
    for row in rows:
        mark = "green" if row.ratio <= row.bar else "red"
        numbers = f"{row.found:.4g}", f"{row.base:.4g}", row.unit
        table.add_row(row.work, *numbers, f"[{mark}]{row.ratio:.2f}[/]", f"{row.bar:g}")
    Console(width=120).print(table)


def report(rows: list[Row], file: Path | None) -> None:
    """Prints the table, and writes it as JSON where a file is named."""
    show(rows)
    if file:
        found = [asdict(row) | {"ratio": row.ratio} for row in rows]
        file.write_text(json.dumps(found, indent=2))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=100_000, help="of the search for growth")
    parser.add_argument("--quick", action="store_true", help="small shapes only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--pytriton", metavar="PYTHON", help="of an environment that has it")
    arguments = parser.parse_args()
    cases = [
        Case("cross_entropy", (1024, 1000) if arguments.quick else (65536, 1000)),
        Case("cross_entropy", (256, 8000) if arguments.quick else (4096, 32000)),
        Case("cross_entropy", (128, 1000) if arguments.quick else (4096, 1000)),
        Case("squared_error", (512, 512) if arguments.quick else (4096, 4096)),
    ]
    rows = list(small(arguments.rounds))
    if arguments.pytriton:
        rows += beside_pytriton(arguments.pytriton, arguments.rounds)
    rows += [peak(), growth(arguments.calls)]
    present = contenders()
    try:
        for case in cases:
            rows += sidecar(present, case, arguments.rounds)
    finally:
        for contender in present.values():
            contender.close()
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
