"""The card and the rates of its copies."""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from on_gpu.bench import Array, Bench, Row, wall_ms


def card(bench: Bench) -> Iterator[Row]:
    """The card, its driver and the versions of what runs on it."""
    runtime = bench.cupy.cuda.runtime
    found = runtime.getDeviceProperties(0)
    for thing, value in {
        "card": found["name"].decode(),
        "memory": f"{found['totalGlobalMem'] / 2**30:.0f} GiB",
        "multiprocessors": found["multiProcessorCount"],
        "driver": runtime.driverGetVersion(),
        "CUDA": runtime.runtimeGetVersion(),
        "CuPy": bench.cupy.__version__,
        "cores": len(os.sched_getaffinity(0)),
    }.items():
        yield {"thing": thing, "value": value}


def copies(bench: Bench) -> Iterator[Row]:
    """Copy rates within the device, and each way by the kind of the host's memory."""
    cupy, size = bench.cupy, 1 << (20 if bench.smoke else 29)
    there, other = cupy.zeros(size, np.uint8), cupy.zeros(size, np.uint8)
    took = bench.device_ms(lambda: other.data.copy_from_device_async(there.data, size))
    yield _rate("device", 2 * size, took)
    pageable = np.ones(2 * size, np.uint8)
    yield from _copies(bench, "pageable", pageable, there, other)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(2 * size), np.uint8, 2 * size)
    yield from _copies(bench, "pinned", pinned, there, other)
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(2 * size)
        shared = np.frombuffer(mmap.mmap(file.fileno(), 2 * size), np.uint8)
        shared[:] = 1
        yield from _copies(bench, "shared memory", shared, there, other)
        start = time.perf_counter()
        cupy.cuda.runtime.hostRegister(shared.ctypes.data, 2 * size, 0)
        yield {"copy": "registering", "ms": (time.perf_counter() - start) * 1e3, "GB/s": None}
        yield from _copies(bench, "registered", shared, there, other)
        cupy.cuda.runtime.hostUnregister(shared.ctypes.data)


def _rate(name: str, moved: int, milliseconds: float) -> Row:
    return {"copy": name, "ms": milliseconds, "GB/s": moved / max(milliseconds, 1e-6) / 1e6}


def _copies(bench: Bench, kind: str, host: Array, there: Any, other: Any) -> Iterator[Row]:
    streams = [bench.cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    given, taken = host[: there.size], host[there.size :]
    up = (lambda: there.set(given, stream=streams[0]), 1)
    down = (lambda: other.get(stream=streams[1], out=taken, blocking=False), 1)
    both = (lambda: (up[0](), down[0]()), 2)
    for way, (work, times) in {"up": up, "down": down, "both ways": both}.items():

        def waited(work: Callable[[], object] = work) -> None:
            work()
            for stream in streams:
                stream.synchronize()

        yield _rate(f"{kind}, {way}", times * there.size, wall_ms(waited, 3))
