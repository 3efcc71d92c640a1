"""Every kernel of lossd by itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from on_gpu.bench import TYPES, Array, Bench, Row

from lossd.backends import cupy as backend
from lossd.backends._compiled import DeviceKernels
from lossd.backends._tiles import Tile
from lossd.batch import Batch, Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Axes, Choices, CudaText, Input, Loss, Shape
from lossd.selftest._long_rows import CLASSES, parameters_for
from lossd.shapes import lay_out


def drawn(loss: Loss, text: CudaText, rows: int, columns: int) -> dict[str, Array]:
    """Inputs that a text of a loss is for: so many rows as the host draws in a moment."""
    rng = np.random.default_rng(columns)
    block = min(rows, max(1, (1 << 22) // columns))
    given = loss.complete(parameters_for(loss, text))
    row = (CLASSES, columns // CLASSES) if text.has_class_axis else (columns,)
    found: dict[str, Array] = {}
    for declared in loss.inputs:
        if text.targets_are_classes and declared is loss.inputs[1]:
            found[declared.name] = rng.integers(0, row[0], (block, *row[1:]))
            continue
        size = (block, *row) if declared.axes is Axes.ELEMENTS else (block,)
        found[declared.name] = _numbers(rng, loss, declared.under(given), size)
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
    texts = [(loss, t) for loss in LOSSES.values() if loss.shape in SIZES for t in loss.cuda]
    _compile(texts)
    compiled = DeviceKernels(bench.cupy, bench.cupy.cuda.get_current_stream())
    for loss, text in texts:
        for rows, columns in SIZES[loss.shape]:
            size = (4, min(columns, 100)) if bench.smoke else (rows, columns)
            for job in _jobs(loss, text, *size):
                row = {"loss": loss.name, "text": loss.cuda.index(text),
                       "type": next(iter(job.inputs.values()))[0].dtype.name,
                       "rows": size[0], "columns": size[1]}  # fmt: skip
                yield row | _kernel(bench, compiled, job, text, size[0])
                bench.cupy.get_default_memory_pool().free_all_blocks()


def _compile(texts: Sequence[tuple[Loss, CudaText]]) -> None:
    """Compiles kernels side by side: one after the other they would take minutes."""
    engine = Engine(backend.CupyBackend())
    with engine.backend.compiling_ahead():
        for loss, text in texts:
            for job in _jobs(loss, text, rows=4, columns=100):
                engine.plan(job)
    engine.close()


def _jobs(loss: Loss, text: CudaText, rows: int, columns: int) -> Iterator[Job]:
    """Yields the same numbers in every type."""
    inputs = drawn(loss, text, rows, columns)
    for dtype in TYPES:
        given = {
            name: [a.astype(dtype) if a.dtype.kind == "f" else a] for name, a in inputs.items()
        }
        yield Job(loss=loss, parameters=parameters_for(loss, text), inputs=given)


def _kernel(bench: Bench, compiled: DeviceKernels, job: Job, text: CudaText, rows: int) -> Row:
    laid = lay_out(job)
    batch = laid.batch(job, laid.arrays(job))
    tile = _tile(bench.cupy, batch, rows)
    first = batch.operands[0].name
    found = [compiled.run(batch, text, tile) for _ in range(2)]
    results = [(one.values.tobytes(), one.gradients[first].tobytes()) for one in found]
    moved = sum(array.nbytes for array in tile.operands.values())
    moved += sum(array.nbytes for array in found[0].gradients.values())
    moved += found[0].values.nbytes + found[0].flags.nbytes
    del found
    took = bench.device_ms(lambda: compiled.run(batch, text, tile))
    return {
        "ms": took,
        "GB/s": moved / max(took, 1e-6) / 1e6,
        "share of copy": bench.share_of_copy(moved, took),
        "same bits": results[0] == results[1],
    }


def _tile(cupy: Any, batch: Batch, rows: int) -> Tile:
    """Returns a batch on the device, its rows again and again until there are as many as asked."""

    def sent(array: Array) -> Any:
        one = cupy.asarray(array if array.dtype.kind != "i" else array.astype(np.int64))
        times = -(-rows // len(one))
        return cupy.tile(one, (times, *[1] * (one.ndim - 1)))[:rows] if times > 1 else one

    return Tile(
        count=rows,
        operands={o.name: sent(o.rows) for o in batch.operands},
        types={o.name: o.compute_type(batch.dtype) for o in batch.operands},
        parameters={n: None if n in batch.loss.vectors else v for n, v in batch.parameters.items()},
        scale=1.0,
        scales=None,
        excluded=None,
        elements=batch.length,
        sent_types={o.name: o.rows.dtype for o in batch.operands},
    )
