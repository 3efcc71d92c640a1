"""Whole calls of a client beside a server on the same card: device memory against shared memory."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from on_gpu.bench import TYPES, Array, Bench, Row, wall_ms

from lossd.client import LossClient
from lossd.v1 import CrossEntropy

READY_SECONDS = 60
ROOM = 8 << 30


def ipc(bench: Bench) -> Iterator[Row]:
    """Calls with predictions in shared memory, and in memory of the device, with their gradients.

    The time is that until results on the device are complete.
    """
    rows, columns = (64, 1000) if bench.smoke else (8192, 32000)
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((rows, columns), np.float32)
    labels = rng.integers(0, columns, rows)
    with _server(256 << 20 if bench.smoke else ROOM) as address, LossClient(address) as client:
        client.wait_until_ready(READY_SECONDS)
        for dtype in TYPES:
            given = logits.astype(dtype)
            for place in (client.empty, client.device_empty):
                array = _filled(place(given.shape, dtype), given)
                yield {"type": dtype.name, "shape": f"{rows}x{columns}"} | _timed(
                    bench, client, array, labels
                )


def _filled(array: Any, given: Array) -> Any:
    if hasattr(array, "set"):
        array.set(given)
    else:
        array[...] = given
    return array


def _timed(bench: Bench, client: LossClient, array: Any, labels: Array) -> Row:
    """Returns the median time of a call, and what of it the server says that it computed."""
    found: list[Any] = []

    def call() -> None:
        found[:] = [client.compute(CrossEntropy(), array, labels)]
        bench.cupy.cuda.get_current_stream().synchronize()

    took = wall_ms(call, 1 if bench.smoke else 9)
    result = found[0]
    return {
        "transport": result.transport,
        "ms": took,
        "of it computing": result.server_timing.compute * 1e3,
    }


@contextlib.contextmanager
def _server(room: int) -> Iterator[str]:
    """Yields the address of a server of this card that shares its memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        address = f"unix:{Path(folder) / 'socket'}"
        process = subprocess.Popen([
            sys.executable, "-m", "lossd", "serve", "--address", address, "--backend", "cupy",
            "--no-check-device", "--metrics-port", "0", "--shm-dir", folder,
            "--max-device-bytes", str(room), "--caller-device-bytes", str(room),
            "--max-shm-bytes", str(room), "--max-inflight-bytes", str(room),
        ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)
