"""Kernels as CuPy runs them: compiled once, for the types that inputs are stored in.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import numpy as np

from lossd.backends._tiles import Found, Tile, type_on_device
from lossd.batch import Batch
from lossd.crew import usable_cores
from lossd.kernels import (
    MOST_THREADS,
    SHARED_BYTES,
    Domain,
    Kernel,
    argument_of,
    checks_domains,
    gradients_of,
    has_plain_logits,
    kernel_source,
    number_of,
    typed_arguments,
)
from lossd.losses import CudaText

# CuPy adds -ftz=true, so float32 numbers below 1e-38 are 0; the kernels do not rely on them.
COMPILER_OPTIONS = ("-std=c++17",)
# Compilers at the same time; each takes 0.1 to 0.2 GB.
MOST_COMPILERS = 8
# What a device takes of its shared memory for each block.
SHARED_BYTES_OF_BLOCK = 1 << 10


class DeviceKernels:
    """The kernels of one device, compiled at first use; for one thread at a time."""

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self._stream = stream
        self._most_bytes = _shared_bytes(cupy)
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def run(self, batch: Batch, text: CudaText, tile: Tile) -> Found:
        """Computes values, scaled gradients and flags of a tile in one launch."""
        compiled = self._find(batch, text, tile)
        return compiled.run(self._cupy, self._stream, batch, tile, self._most_bytes)

    def clear(self) -> None:
        """Forgets all kernels."""
        self._compiled.clear()

    def _find(self, batch: Batch, text: CudaText, tile: Tile) -> "_Compiled":
        stored = {o.name: tile.operands[o.name].dtype for o in batch.operands if not o.is_classes}
        key = (
            batch.loss.name,
            batch.loss.cuda.index(text),
            batch.dtype,
            has_plain_logits(text, batch.parameters),
            *stored.values(),
            *domains_of(batch).values(),
        )
        if key not in self._compiled:
            kernel = _kernel(batch, text, stored)
            self._compiled[key] = _Compiled(kernel, _module(self._cupy, kernel))
        return self._compiled[key]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A kernel and the module that NVRTC made of it."""

    kernel: Kernel
    module: Any

    def run(self, cupy: Any, stream: Any, batch: Batch, tile: Tile, most_bytes: int) -> Found:
        values = cupy.empty(tile.count, batch.dtype)
        flags = cupy.empty(tile.count, np.uint8)
        first, *rest = tile.operands
        second, others = rest[:1], rest[1:]
        given = tile.operands[first]
        gradients = _places_of_gradients(cupy, batch, tile)
        _, *wanted = gradients_of(batch.loss)
        by_second, by_third = (gradients.get(name) for name in (*wanted, "", "")[:2])
        parts = given.shape[1] if given.ndim > 2 else 1
        labels = math.prod(size for name in second for size in tile.operands[name].shape[1:])
        launch = self.kernel.launch(
            tile.count, math.prod(given.shape[1:]), most_bytes, parts=parts, labels=labels
        )
        statuses = cupy.empty(tile.count, np.uint8) if self.kernel.template.gives_statuses else None
        room = cupy.empty(launch.workspace_bytes, np.uint8) if launch.workspace_bytes else None
        available = {
            "rows": tile.count,
            "columns": math.prod(given.shape[1:]),
            "parts": parts,
            "labels": labels,
            "predictions": given,
            "targets": next((tile.operands[name] for name in second), None),
            **{argument_of(name): tile.operands[name] for name in others},
            "scales": tile.scales,
            "scale": tile.scale,
            "silent": tile.excluded,
            "values": values,
            "gradient": gradients.get(first),
            "second_gradient": by_second,
            "third_gradient": by_third,
            "nonfinite": flags,
            "statuses": statuses,
            "workspace": room,
            "kept": launch.kept,
            **{name: _plain(value) for name, value in tile.parameters.items()},
        }
        taken = {argument.name for argument in self.kernel.signature}
        arguments = {name: value for name, value in available.items() if name in taken}
        function = self.module.get_function(launch.name)
        if launch.needs_permission:
            function.max_dynamic_shared_size_bytes = launch.shared_bytes
        function(
            (launch.blocks,),
            (launch.threads, launch.rows),
            typed_arguments(self.kernel.signature, arguments, batch.dtype),
            shared_mem=launch.shared_bytes,
            stream=stream,
        )
        return Found(values, gradients, statuses=statuses, flags=flags)


def _plain(value: Any) -> Any:
    """Returns a parameter as a kernel takes it."""
    return number_of(value) if isinstance(value, Enum) else value


def _places_of_gradients(cupy: Any, batch: Batch, tile: Tile) -> dict[str, Any]:
    """Returns where a kernel writes each gradient: in memory of the caller's, or of its own."""
    found = {name: tile.places.get(name) for name in gradients_of(batch.loss)}
    return {
        name: cupy.empty_like(tile.operands[name]) if place is None else place
        for name, place in found.items()
        if name in batch.gradients
    }


def domains_of(batch: Batch) -> dict[str, Domain]:
    """Returns the domains that the kernel of a batch looks at."""
    if not checks_domains(batch.loss):
        return {}
    return {o.name: o.input.domain for o in batch.operands if not o.is_classes}


class Compilers:
    """Threads that compile kernels, until the end of a ``with`` statement; CuPy remembers them."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._pool = ThreadPoolExecutor(min(usable_cores(), MOST_COMPILERS))
        self._sources: set[str] = set()

    def add(self, batch: Batch, text: CudaText) -> None:
        """Begins to compile the kernel of a batch, unless that was done before."""
        kernel = _kernel(batch, text, _stored_types(batch))
        if kernel.source not in self._sources:
            self._sources.add(kernel.source)
            self._pool.submit(self._compile, kernel)

    def _compile(self, kernel: Kernel) -> None:
        """Compiles a kernel; what fails is left to whoever needs it."""
        with contextlib.suppress(Exception), self._cupy.cuda.Device(0):
            _module(self._cupy, kernel).compile()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def _stored_types(batch: Batch) -> dict[str, np.dtype[Any]]:
    """Returns the types in which the inputs of a batch are on a device."""
    return {
        o.name: type_on_device(o.rows, o.compute_type(batch.dtype))
        for o in batch.operands
        if not o.is_classes
    }


def _kernel(batch: Batch, text: CudaText, stored: Mapping[str, np.dtype[Any]]) -> Kernel:
    return kernel_source(
        batch.loss,
        text,
        batch.dtype,
        stored,
        domains_of(batch),
        has_plain_logits=has_plain_logits(text, batch.parameters),
    )


def _module(cupy: Any, kernel: Kernel) -> Any:
    return cupy.RawModule(code=kernel.source, options=COMPILER_OPTIONS)


def _shared_bytes(cupy: Any) -> int:
    """Returns the most shared memory of a block: as many fit together as there are threads for.

    A longer row is faster read once more, from the cache of the device, than by a block that is
    alone on its multiprocessor, where nobody computes while it waits for the memory.
    """
    found = cupy.cuda.Device().attributes
    together = found.get("MaxThreadsPerMultiProcessor", MOST_THREADS) // MOST_THREADS
    share = found.get("MaxSharedMemoryPerMultiprocessor", 0) // max(1, together)
    most = min(share - SHARED_BYTES_OF_BLOCK, found.get("MaxSharedMemoryPerBlockOptin", 0))
    return max(SHARED_BYTES, int(most))
