"""lossd on the GPU of this machine: copies, every kernel, PyTorch beside them, whole calls.

    python benchmarks/gpu.py [--only SECTION ...] [--json FILE] [--table FILE] [--smoke]

Prints "no GPU" where there is none.  A section that fails is reported, and the next one runs.
Times are medians.  Those of kernels are the device's own, as a share of what a copy within its
memory moves in the same time: 1 is as fast as reading all inputs and writing all results once.
``--json`` keeps all numbers, ``--table`` writes the tables for docs/performance.md under the card's
name, and ``--smoke`` takes tiny batches, to try the program out.
"""

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.backends import cupy as backend
from lossd.backends._compiled import DeviceKernels
from lossd.backends._tiles import Tile
from lossd.batch import Batch, Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Axes, Choices, Input, Loss, Shape
from lossd.losses._declare import CudaText
from lossd.selftest._long_rows import parameters_for
from lossd.shapes import lay_out

Array = npt.NDArray[Any]
Row = dict[str, Any]

ROUNDS, LAUNCHES = 9, 5
TYPES: tuple[np.dtype[Any], ...] = (
    np.dtype(np.float32),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(np.float16),
)
COLD = """
import time; start = time.perf_counter()
from lossd import selftest
from lossd.backends.cupy import CupyBackend
from lossd.engine import Engine
from lossd.networks import Networks, worked_networks
faults = selftest.faults(Engine(CupyBackend(), Networks(worked_networks())))
print(time.perf_counter() - start, faults)
"""
SANITIZERS = ("memcheck", "racecheck", "initcheck")
SANITIZED = "test_every_variant_equals_numpy and float32 and (cross_entropy or huber or dice)"


@dataclass(frozen=True)
class Bench:
    """The GPU with the sizes for it, and the results of all sections until now."""

    cupy: Any
    smoke: bool
    results: dict[str, list[Row]]

    def device_ms(self, work: Callable[[], object]) -> float:
        """Returns how long the device takes for something."""
        stream = self.cupy.cuda.get_current_stream()
        times: list[float] = []
        work()
        for _ in range(1 if self.smoke else ROUNDS):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record(stream)
            for _ in range(LAUNCHES):  # so that the host is ahead of the device
                work()
            end.record(stream)
            end.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, end) / LAUNCHES)
        return statistics.median(times)

    def share_of_copy(self, moved: int, milliseconds: float) -> float | None:
        """Returns the rate of something by that of a copy within the device's memory."""
        for row in self.results.get("copies", ()):
            if row["copy"] == "device" and row["GB/s"] and milliseconds:
                return float(moved / milliseconds / 1e6 / row["GB/s"])
        return None


def wall_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Returns how long something takes on the host."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


# ---------------------------------------------------------------- the card and its copies


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


# ---------------------------------------------------------------- kernels


def drawn(loss: Loss, text: CudaText, rows: int, columns: int) -> dict[str, Array]:
    """Inputs that a text of a loss is for; a block of rows again and again."""
    rng = np.random.default_rng(columns)
    block = min(rows, max(1, (1 << 22) // columns))
    given = loss.complete(parameters_for(loss, text))
    found: dict[str, Array] = {}
    for declared in loss.inputs:
        if text.targets_are_classes and declared is loss.inputs[1]:
            found[declared.name] = rng.integers(0, columns, rows)
            continue
        size = (block, columns) if declared.axes is Axes.ELEMENTS else (block,)
        numbers = _numbers(rng, loss, declared.under(given), size)
        repeats = (-(-rows // block), *[1] * (len(size) - 1))
        found[declared.name] = np.tile(numbers, repeats)[:rows] if repeats[0] > 1 else numbers
    return found


def _numbers(rng: np.random.Generator, loss: Loss, declared: Input, size: tuple[int, ...]) -> Array:
    domain = declared.domain
    if isinstance(domain, Choices):
        return rng.choice(np.array(domain.numbers, np.float32), size)
    if domain is None:
        return rng.standard_normal(size, np.float32)
    if np.isfinite(domain.high - domain.low):
        return rng.uniform(domain.low, domain.high, size).astype(np.float32)
    positive = 0.1 + rng.exponential(2, size).astype(np.float32)
    if loss.shape is Shape.ROWWISE:
        return -positive if domain.low < 0 else positive / positive.sum(axis=-1, keepdims=True)
    return np.float32(domain.low if np.isfinite(domain.low) else 0) + positive


SIZES = {
    Shape.POINTWISE: ((4096, 16384), (1 << 25, 1)),
    Shape.ROWWISE: ((8192, 32000), (65536, 1000), (1 << 20, 10)),
    Shape.REGIONWISE: ((1024, 65536),),
    Shape.VECTORS: ((65536, 256),),
}


def kernels(bench: Bench) -> Iterator[Row]:
    """Every kernel's time, and whether two runs give the same bits."""
    compiled = DeviceKernels(bench.cupy, bench.cupy.cuda.get_current_stream())
    for loss in LOSSES.values():
        for number, text in enumerate(loss.cuda):
            for rows, columns in SIZES.get(loss.shape, ()):
                size = (4, min(columns, 100)) if bench.smoke else (rows, columns)
                inputs = drawn(loss, text, *size)
                for dtype in TYPES:
                    row = {"loss": loss.name, "text": number, "type": dtype.name,
                           "rows": size[0], "columns": size[1]}  # fmt: skip
                    given = {
                        name: [a.astype(dtype) if a.dtype.kind == "f" else a]
                        for name, a in inputs.items()
                    }
                    job = Job(loss=loss, parameters=parameters_for(loss, text), inputs=given)
                    yield row | _kernel(bench, compiled, job, text)
                    bench.cupy.get_default_memory_pool().free_all_blocks()


def _kernel(bench: Bench, compiled: DeviceKernels, job: Job, text: CudaText) -> Row:
    laid = lay_out(job)
    batch = laid.batch(job, laid.arrays(job))
    tile = _tile(bench.cupy, batch)
    first = batch.operands[0].name
    found = [compiled.run(batch, text, tile) for _ in range(2)]
    results = [(one.values.tobytes(), one.gradients[first].tobytes()) for one in found]
    moved = sum(array.nbytes for array in tile.operands.values())
    moved += sum(array.nbytes for array in found[0].gradients.values())
    moved += found[0].values.nbytes + found[0].nonfinite.nbytes
    del found
    took = bench.device_ms(lambda: compiled.run(batch, text, tile))
    return {
        "ms": took,
        "GB/s": moved / max(took, 1e-6) / 1e6,
        "share of copy": bench.share_of_copy(moved, took),
        "same bits": results[0] == results[1],
    }


def _tile(cupy: Any, batch: Batch) -> Tile:
    return Tile(
        count=batch.rows,
        operands={
            o.name: cupy.asarray(o.rows if o.rows.dtype.kind != "i" else o.rows.astype(np.int64))
            for o in batch.operands
        },
        types={o.name: o.compute_type(batch.dtype) for o in batch.operands},
        parameters={n: None if n in batch.loss.vectors else v for n, v in batch.parameters.items()},
        scale=1.0,
        scales=None,
        excluded=None,
        elements=batch.length,
        sent_types={o.name: o.rows.dtype for o in batch.operands},
    )


# ---------------------------------------------------------------- PyTorch on the same card


def torch(bench: Bench) -> Iterator[Row]:
    """PyTorch's losses with their gradients, eager and compiled."""
    import torch as library  # noqa: PLC0415 - may be absent
    from torch.nn import functional  # noqa: PLC0415

    if not library.cuda.is_available():
        yield {"loss": "none", "mode": "PyTorch here has no CUDA"}
        return
    for name, function, size in (
        ("cross_entropy", functional.cross_entropy, (8192, 32000)),
        ("cross_entropy", functional.cross_entropy, (65536, 1000)),
        ("squared_error", functional.mse_loss, (4096, 16384)),
        ("huber", functional.huber_loss, (4096, 16384)),
        ("binary_cross_entropy", functional.binary_cross_entropy_with_logits, (4096, 16384)),
    ):
        for dtype in (library.float32, library.bfloat16, library.float16):
            x = library.randn(size, device="cuda", dtype=dtype, requires_grad=True)
            t = library.rand(size, device="cuda", dtype=dtype)
            if name == "cross_entropy":
                t = library.randint(size[1], size[:1], device="cuda")
            for mode, call in {"eager": function, "compiled": library.compile(function)}.items():

                def step(call: Any = call, x: Any = x, t: Any = t) -> None:
                    x.grad = None
                    call(x, t).backward()

                took = _torch_ms(library, step)
                moved = 2 * x.nbytes + t.nbytes
                yield {"loss": name, "mode": mode, "type": str(dtype).removeprefix("torch."),
                       "rows": size[0], "columns": size[1], "ms": took,
                       "share of copy": bench.share_of_copy(moved, took)}  # fmt: skip


def _torch_ms(library: Any, step: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(ROUNDS + 3):
        start, end = (library.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[3:])


# ---------------------------------------------------------------- whole calls


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


# ---------------------------------------------------------------- starts and sanitizers


def cold(bench: Bench) -> Iterator[Row]:
    """Seconds until every loss is checked, with nothing compiled yet and with everything."""
    if bench.smoke:
        return
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full"):
            environment = {**os.environ, "CUPY_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, "-c", COLD],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            seconds, _, faults = done.stdout.strip().partition(" ")
            yield {"cache": cache, "seconds": float(seconds), "faults": faults}


def sanitizers(bench: Bench) -> Iterator[Row]:
    """Faults that compute-sanitizer finds in a few kernels, where it is installed."""
    if bench.smoke or shutil.which("compute-sanitizer") is None:
        return
    root = Path(__file__).resolve().parents[1]
    for tool in SANITIZERS:
        done = subprocess.run(
            ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m",
             "pytest", "-q", "-m", "gpu", "tests/backends/test_cupy.py", "-k", SANITIZED],
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield {"tool": tool, "status": done.returncode, "said": done.stdout[-300:]}


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "card": card, "copies": copies, "kernels": kernels, "torch": torch, "calls": calls,
    "cold": cold, "sanitizers": sanitizers,
}  # fmt: skip


# ---------------------------------------------------------------- what is written


def table(rows: Sequence[Row]) -> str:
    """Returns rows as a table in Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/").strip()


def main() -> int:
    """Runs the sections; fails if one of them did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    available = backend.probe()
    if available.device is None:
        print(f"no GPU: {available.reason}")
        return 0
    bench = Bench(backend._import_cupy(), asked.smoke, {})  # noqa: SLF001 - its only import
    written, failed = [f"## {available.device}"], False
    for name in asked.only:
        rows = bench.results.setdefault(name, [])
        try:
            for row in SECTIONS[name](bench):
                rows.append(row)
        except Exception as error:  # noqa: BLE001 - the other sections still count
            failed = True
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
        if rows:
            written.append(f"### {name}\n\n{table(rows)}")
            print(written[-1], end="\n\n", flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(bench.results, indent=1, default=str))
    if asked.table:
        asked.table.write_text("\n\n".join(written) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
