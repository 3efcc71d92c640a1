"""Whole jobs, from the host's memory and back."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from on_gpu.bench import TYPES, Array, Bench, Row, wall_ms

from lossd.backends import cupy as backend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES


def calls(bench: Bench) -> Iterator[Row]:
    """Whole jobs from the host's memory and back, with the device's part of them by phase."""
    engine = Engine(backend.CupyBackend())
    try:
        for name, inputs in _jobs(smoke=bench.smoke):
            job = Job(loss=LOSSES[name], parameters={}, inputs={n: [a] for n, a in inputs.items()})
            start = time.perf_counter()
            engine.run(job)
            first = (time.perf_counter() - start) * 1e3
            shape = "x".join(map(str, next(iter(inputs.values())).shape))
            row = {"loss": name, "type": next(iter(inputs.values())).dtype.name, "shape": shape,
                   "first ms": first}  # fmt: skip
            took = wall_ms(lambda job=job: engine.run(job), 1 if bench.smoke else 5)  # type: ignore[misc]
            yield row | {"ms": took} | _phases(lambda job=job: engine.run(job))  # type: ignore[misc]
    finally:
        engine.close()


def _jobs(*, smoke: bool) -> Iterator[tuple[str, dict[str, Array]]]:
    rng = np.random.default_rng(1)

    def floats(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    rows, columns = (64, 100) if smoke else (8192, 32000)
    count, width = (64, 32) if smoke else (8192, 256)
    time_steps, classes, labels = (20, 10, 4) if smoke else (1000, 30, 100)
    for dtype in TYPES:
        targets = rng.integers(0, columns, rows)
        yield (
            "cross_entropy",
            {"predictions": floats(rows, columns).astype(dtype), "targets": targets},
        )
    plane = (rows, columns // 4)
    yield "huber", {"predictions": floats(*plane), "targets": floats(*plane)}
    yield "dice", {"predictions": floats(*plane), "targets": rng.random(plane, np.float32)}
    yield "info_nce", {"queries": floats(count, width), "keys": floats(count, width)}
    yield "supervised_contrastive", {
        "embeddings": floats(count, width), "labels": rng.integers(0, 100, count)}  # fmt: skip
    yield (
        "ctc",
        {
            "predictions": floats(16, time_steps, classes),
            "targets": rng.integers(1, classes, (16, labels)),
        },
    )


def _phases(work: Callable[[], object]) -> Row:
    """Returns launches, and milliseconds of kernels and copies, as CUPTI tells PyTorch."""
    try:
        import torch as library  # noqa: PLC0415
        from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415
    except ImportError:
        return {}
    if not library.cuda.is_available():
        return {}
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        work()
        library.cuda.synchronize()
    found: Row = {"launches": 0, "kernel ms": 0.0, "up ms": 0.0, "down ms": 0.0}
    for event in recorded.events():
        milliseconds = event.device_time_total / 1e3
        if event.name.startswith("Memcpy"):
            found["up ms" if "HtoD" in event.name else "down ms"] += milliseconds
        elif "CUDA" in str(event.device_type) and not event.name.startswith("Memset"):
            found["launches"] += 1
            found["kernel ms"] += milliseconds
    return found
