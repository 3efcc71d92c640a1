"""Run on two fake devices: fails unless both compute as one does, each with memory of its own."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
from gpulab import fake

from lossd.backends import _tasks
from lossd.backends.cupy import CupyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import DeviceFull
from lossd.losses import LOSSES

CALLS, TIMES = 4, 5
KEPT_BYTES = 1 << 20


def cross_entropy() -> Job:
    """A batch of many tiles."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "predictions": [rng.normal(size=(5000, 100)).astype(np.float32)],
        "targets": [rng.integers(0, 100, 5000)],
    }
    return Job(loss=LOSSES["cross_entropy"], parameters={}, inputs=inputs, per_example=True)


def info_nce() -> Job:
    """A batch that is computed as a whole."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        name: [rng.normal(size=(8, 4)).astype(np.float32)] for name in ("queries", "keys")
    }
    return Job(loss=LOSSES["info_nce"], parameters={}, inputs=inputs, per_example=True)


def main(scenario: str) -> None:
    """Plays a scenario, on two devices or not at all."""
    backend = CupyBackend()
    if "2 x" not in backend.device:
        raise SystemExit(f"got {backend.device}")
    if scenario == "a full device":
        free_what_is_full(backend)
    else:
        compute_together(Engine(backend), scenario)


def free_what_is_full(backend: CupyBackend) -> None:
    """Fills each device in turn, and looks whose memory is given back, and whose is kept."""
    pool = backend.xp.get_default_memory_pool()

    def kept() -> list[int]:
        found = []
        for worker in backend._workers:
            with worker.session():
                found.append(pool.total_bytes())
        return found

    for full in backend._workers:
        for worker in backend._workers:
            with worker.session():
                backend.xp.empty(KEPT_BYTES, np.uint8)
        expected = [
            0 if worker is full else size
            for worker, size in zip(backend._workers, kept(), strict=True)
        ]
        try:
            with full.session():
                fake.fault("cudaStreamSynchronize", error=2)
                backend.xp.cuda.get_current_stream().synchronize()
        except DeviceFull:
            if kept() != expected:
                raise SystemExit(f"device {full.index} is full, kept {kept()}") from None
        else:
            raise SystemExit(f"device {full.index} was not full")
    backend.close()


def compute_together(engine: Engine, scenario: str) -> None:
    """Computes the same alone and together, and looks which devices launched kernels."""
    if scenario == "tiles of one call":
        job, calls = cross_entropy(), 1
    else:
        job, calls = info_nce(), CALLS
    alone = engine.run(job)
    start = threading.Barrier(calls)

    def run(_: int) -> bytes:
        start.wait()
        found = [engine.run(job).per_example for _ in range(TIMES)]
        return b"".join(array.tobytes() for array in found if array is not None)

    with fake.recorded(), ThreadPoolExecutor(calls) as pool:
        together = list(pool.map(run, range(calls)))
        devices = {call.device for call in fake.calls() if call.name == "launch"}
    engine.close()
    if alone.per_example is None or set(together) != {TIMES * alone.per_example.tobytes()}:
        raise SystemExit("bits differ")
    if devices != {0, 1} or fake.violations():
        raise SystemExit(f"{devices} computed: {fake.violations()}")


if __name__ == "__main__":
    with mock.patch.object(_tasks, "TILE_BYTES", 1 << 16):
        main(sys.argv[1])
