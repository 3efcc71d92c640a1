"""Kernels as CuPy runs them: compiled once, for the types that inputs are stored in.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
import itertools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import numpy as np

from lossd.backends._rooms import with_room
from lossd.backends._tiles import Found, Tile, type_on_device
from lossd.batch import Batch
from lossd.crew import usable_cores
from lossd.kernels import (
    MOST_THREADS,
    SHARED_BYTES,
    Domain,
    Kernel,
    Launch,
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
# The arguments for gradients, in the order in which a loss names their inputs.
_GRADIENTS = ("gradient", "second_gradient", "third_gradient")


class DeviceKernels:
    """The kernels of one device, compiled at first use; for one thread at a time."""

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self._stream = stream
        self._most_bytes = _shared_bytes(cupy)
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def run(self, batch: Batch, text: CudaText, tile: Tile) -> Found:
        """Computes values, scaled gradients and flags of a tile, in as few launches as can be."""
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
        sizes = _sizes(tile)
        launch = self.kernel.launch(
            tile.count,
            sizes["columns"],
            most_bytes,
            parts=sizes["parts"],
            labels=sizes["labels"],
        )
        gives_statuses = self.kernel.template.gives_statuses
        found = Found(
            cupy.empty(tile.count, batch.dtype),
            _places_of_gradients(cupy, batch, tile),
            statuses=cupy.empty(tile.count, np.uint8) if gives_statuses else None,
            flags=cupy.empty(tile.count, np.uint8),
        )
        launch = with_room(cupy, self.module.get_function(launch.name), launch)
        room = cupy.empty(launch.workspace_bytes, np.uint8) if launch.workspace_bytes else None
        available = {
            **sizes,
            **_arguments(batch, tile, found),
            "workspace": room,
            "kept": launch.kept,
            "segment": launch.segment,
        }
        taken = {argument.name for argument in self.kernel.signature}
        named = {name: value for name, value in available.items() if name in taken}
        arguments = typed_arguments(self.kernel.signature, named, batch.dtype)
        for step in launch.steps:
            self._queue(stream, step, arguments)
        return found

    def _queue(self, stream: Any, step: Launch, arguments: tuple[Any, ...]) -> None:
        function = self.module.get_function(step.name)
        if step.needs_permission:
            function.max_dynamic_shared_size_bytes = step.shared_bytes
        threads = step.threads, step.rows
        function((step.blocks,), threads, arguments, shared_mem=step.shared_bytes, stream=stream)


def _sizes(tile: Tile) -> dict[str, int]:
    """Returns the sizes of the first operand, and how many numbers of the second a row has."""
    given, *rest = tile.operands.values()
    return {
        "rows": tile.count,
        "columns": math.prod(given.shape[1:]),
        "parts": given.shape[1] if given.ndim > 2 else 1,
        "labels": math.prod(size for second in rest[:1] for size in second.shape[1:]),
    }


def _arguments(batch: Batch, tile: Tile, found: Found) -> dict[str, Any]:
    """Returns what kernels take besides sizes, by the names of their arguments."""
    first, *rest = tile.operands
    gradients = itertools.zip_longest(_GRADIENTS, gradients_of(batch.loss))
    return {
        "predictions": tile.operands[first],
        "targets": next((tile.operands[name] for name in rest[:1]), None),
        **{argument_of(name): tile.operands[name] for name in rest[1:]},
        "scales": tile.scales,
        "scale": tile.scale,
        "silent": tile.excluded,
        "values": found.values,
        **{argument: found.gradients.get(name) for argument, name in gradients},
        "nonfinite": found.flags,
        "statuses": found.statuses,
        **{name: _plain(value) for name, value in tile.parameters.items()},
    }


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
    """Returns the most shared memory of a block: a share, as if threads alone set how many fit.

    A longer row is faster read once more, from the cache of the device, than by a block that is
    alone on its multiprocessor, where nobody computes while it waits for the memory.  Registers let
    fewer blocks together, one or two of those that keep a row; a larger share was not measured.
    """
    found = cupy.cuda.Device().attributes
    together = found.get("MaxThreadsPerMultiProcessor", MOST_THREADS) // MOST_THREADS
    share = found.get("MaxSharedMemoryPerMultiprocessor", 0) // max(1, together)
    most = min(share - SHARED_BYTES_OF_BLOCK, found.get("MaxSharedMemoryPerBlockOptin", 0))
    return max(SHARED_BYTES, int(most))
