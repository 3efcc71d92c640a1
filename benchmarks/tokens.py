"""Losses of tokens: the sidecar against PyTorch in process, TCP against Arrow Flight.

    python benchmarks/tokens.py [--rounds N] [--quick] [--json FILE]

GRPO of 512 x 2,048 tokens: log-probabilities of policy, sampler and reference, and advantages,
16 MiB there and 4 MiB back.  PyTorch computes loss and backward eagerly and keeps the memory that
it frees; Flight (``pip install pyarrow``) exchanges the same bytes and computes nothing.
"""

import argparse
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from transport import Row, medians, milliseconds, report

from lossd.cli.bench import serving
from lossd.client import LossClient, presets
from lossd.serving.process.allocator import keep_freed_memory

Arrays = dict[str, Any]
BARS = {"eager": 0.5, "flight": 1.3}


def drawn(rows: int, length: int) -> Arrays:
    """Log-probabilities near each other, and an advantage for each token."""
    rng = np.random.default_rng(0)
    now = -rng.exponential(1, (rows, length)).astype(np.float32)
    near = [now + rng.normal(0, 0.1, now.shape).astype(np.float32) for _ in range(2)]
    return {
        "log_probabilities": now,
        "sampling_log_probabilities": near[0],
        "reference_log_probabilities": near[1],
        "advantages": rng.normal(0, 1, now.shape).astype(np.float32),
    }


def eager(connection: Any, shape: tuple[int, int]) -> None:
    """Answers how long PyTorch takes."""
    keep_freed_memory()
    import torch  # noqa: PLC0415 - in a process of its own

    logs, sampling, reference, advantages = map(torch.from_numpy, drawn(*shape).values())
    logs.requires_grad_()

    def run() -> None:
        logs.grad = None
        ratio = torch.exp(logs - sampling)
        gain = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        apart = reference - logs
        costs = 0.04 * (torch.exp(apart) - apart - 1) - gain
        costs.mean(dim=-1).mean().backward()  # type: ignore[no-untyped-call]

    _answer(connection, run)


def flight(connection: Any, shape: tuple[int, int]) -> None:
    """Serves Flight: takes what is sent, and sends as much back as one gradient."""
    import pyarrow as pa  # noqa: PLC0415 - optional
    import pyarrow.flight as fl  # noqa: PLC0415

    class Server(fl.FlightServerBase):  # type: ignore[misc]
        """Exchanges arrays, and computes nothing."""

        def do_exchange(self, _: Any, __: Any, reader: Any, writer: Any) -> None:
            """Reads all and answers with the first column."""
            table = reader.read_all().combine_chunks()
            back = pa.record_batch([table.column(0).chunk(0)], ["gradient"])
            writer.begin(back.schema)
            writer.write_batch(back)

    del shape
    with Server("grpc://127.0.0.1:0") as server:
        connection.send(server.port)
        connection.recv()


def exchanging(port: int, arrays: Arrays) -> Callable[[], None]:
    """Returns what makes one exchange."""
    import pyarrow as pa  # noqa: PLC0415 - optional
    import pyarrow.flight as fl  # noqa: PLC0415

    client = fl.connect(f"grpc://127.0.0.1:{port}")
    descriptor = fl.FlightDescriptor.for_command(b"loss")

    def once() -> None:
        columns = [pa.array(array.reshape(-1)) for array in arrays.values()]
        batch = pa.record_batch(columns, list(arrays))
        writer, reader = client.do_exchange(descriptor)
        with writer:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            writer.done_writing()
            np.asarray(reader.read_all().column(0).chunk(0))

    return once


def _answer(connection: Any, run: Callable[[], None]) -> None:
    run()
    while connection.recv():
        connection.send(milliseconds(run))


@contextmanager
def beside(target: Callable[..., None], shape: tuple[int, int]) -> Iterator[Any]:
    """A process of its own, which ends with the block."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, shape), daemon=True)
    process.start()
    yield ours
    ours.send(None)
    process.join()


def calling(client: LossClient, arrays: Arrays) -> Callable[[], float]:
    """Returns what times one call."""
    message = presets.grpo()

    def once() -> None:
        client.compute(message, per_example=False, **arrays)

    for _ in range(3):
        once()
    return lambda: milliseconds(once)


def sidecar(shape: tuple[int, int], rounds: int) -> Iterator[Row]:
    """Shared memory against PyTorch: with the arrays lying there, and with copying them in."""
    arrays = drawn(*shape)
    with (
        serving("shared_memory") as server,
        LossClient(server.address) as client,
        beside(eager, shape) as peer,
    ):
        lying = {}
        for name, array in arrays.items():
            lying[name] = client.empty(array.shape, array.dtype)
            lying[name][...] = array

        def theirs() -> float:
            peer.send(1)
            return float(peer.recv())

        took = medians(
            {"lying": calling(client, lying), "copied": calling(client, arrays), "eager": theirs},
            rounds,
        )
    for how, text in (("lying", "lying there"), ("copied", "copied in")):
        yield Row(f"sidecar, {text}, to PyTorch", "ms", took[how], took["eager"], BARS["eager"])


def over_tcp(shape: tuple[int, int], rounds: int) -> Iterator[Row]:
    """Calls over TCP against exchanges of the same bytes; without pyarrow nothing waits for it."""
    importlib.import_module("pyarrow.flight")
    arrays = drawn(*shape)
    with (
        serving("tcp") as server,
        LossClient(server.address) as client,
        beside(flight, shape) as peer,
    ):
        exchange = exchanging(peer.recv(), arrays)
        took = medians(
            {"tcp": calling(client, arrays), "flight": lambda: milliseconds(exchange)}, rounds
        )
    yield Row("TCP to Arrow Flight", "ms", took["tcp"], took["flight"], BARS["flight"])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="a smaller batch")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    shape = (64, 512) if arguments.quick else (512, 2048)
    rows = list(sidecar(shape, arguments.rounds))
    try:
        rows += over_tcp(shape, arguments.rounds)
    except ImportError:
        print("pyarrow is not installed: no Flight to compare with")
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
