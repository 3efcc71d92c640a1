"""Large batches over TCP: calls of lossd, Arrow Flight and gRPC for Python itself, in turns.

    python benchmarks/large.py [--rounds N] [--rows N] [--json FILE]

Cross-entropy of 16,384 rows of 1,024 classes in float32: 64 MiB there and 64 MiB back.  Flight
(``pip install pyarrow``) and a bare stream of gRPC send the same bytes back, MiB by MiB as they
come, and compute nothing; the bare stream shows what gRPC for Python takes whoever uses it.
"""

import argparse
import importlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tokens import beside
from transport import Row, medians, milliseconds, report

from lossd.cli.bench import serving
from lossd.client import LossClient
from lossd.v1 import CrossEntropy

CLASSES = 1024
CHUNK_BYTES = 1 << 20
BAR = 1.3


def flight(connection: Any, _: tuple[int, int]) -> None:
    """Serves Flight: sends each batch back as it comes."""
    import pyarrow.flight as fl  # noqa: PLC0415 - optional

    class Server(fl.FlightServerBase):  # type: ignore[misc]
        """Exchanges arrays, and computes nothing."""

        def do_exchange(self, _: Any, __: Any, reader: Any, writer: Any) -> None:
            """Sends back what comes."""
            writer.begin(reader.schema)
            for chunk in reader:
                writer.write_batch(chunk.data)

    with Server("grpc://127.0.0.1:0") as server:
        connection.send(server.port)
        connection.recv()


def exchanging(port: int, array: Any) -> Callable[[], None]:
    """Returns what makes one exchange of Flight, which sends while it receives."""
    import pyarrow as pa  # noqa: PLC0415 - optional
    import pyarrow.flight as fl  # noqa: PLC0415

    client = fl.connect(f"grpc://127.0.0.1:{port}")
    batch = pa.record_batch([pa.array(array.reshape(-1))], ["array"])
    step = CHUNK_BYTES // array.itemsize

    def once() -> None:
        writer, reader = client.do_exchange(fl.FlightDescriptor.for_command(b"loss"))

        def send() -> None:
            for start in range(0, batch.num_rows, step):
                writer.write_batch(batch.slice(start, step))
            writer.done_writing()

        with writer:
            writer.begin(batch.schema)
            sender = threading.Thread(target=send)
            sender.start()
            held = [chunk.data for chunk in reader]
            sender.join()
        del held

    return once


def stream(connection: Any, _: tuple[int, int]) -> None:
    """Serves a stream of gRPC: sends all back once it has come, as a loss would."""

    class Echo(grpc.GenericRpcHandler):
        """Knows one method."""

        def service(self, _: Any) -> Any:
            """Returns the method."""
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: iter(list(messages)))

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    connection.send(port)
    connection.recv()
    server.stop(None)


def streaming(port: int, array: Any) -> Callable[[], None]:
    """Returns what sends the bytes of an array to the stream, and takes them back."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    echo: Any = channel.stream_stream("/a/b")
    view = memoryview(array).cast("B")
    starts = range(0, view.nbytes, CHUNK_BYTES)

    def once() -> None:
        for _ in echo(bytes(view[start : start + CHUNK_BYTES]) for start in starts):
            pass

    return once


def rows_of(rows: int, rounds: int) -> Iterator[Row]:
    """Measures; without pyarrow there is no Flight."""
    random = np.random.default_rng(5)
    logits = random.standard_normal((rows, CLASSES), np.float32)
    labels = random.integers(0, CLASSES, rows)
    shape = (rows, CLASSES)
    with (
        serving("tcp") as server,
        LossClient(server.address) as client,
        beside(stream, shape) as bare,
        beside(flight, shape) as arrow,
    ):
        sides = {
            "lossd": lambda: client.compute(CrossEntropy(), logits, labels),
            "flight": exchanging(arrow.recv(), logits),
            "stream": streaming(bare.recv(), logits),
        }
        for _ in range(3):
            for side in sides.values():
                side()
        took = medians({name: _timed(side) for name, side in sides.items()}, rounds)
    yield Row("large batch to Arrow Flight", "ms", took["lossd"], took["flight"], BAR)
    yield Row("large batch to a bare stream", "ms", took["lossd"], took["stream"], BAR)


def _timed(side: Callable[[], object]) -> Callable[[], float]:
    return lambda: milliseconds(side)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    try:
        importlib.import_module("pyarrow.flight")
    except ImportError:
        parser.error("pyarrow is not installed: pip install pyarrow")
    rows = list(rows_of(arguments.rows, arguments.rounds))
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
