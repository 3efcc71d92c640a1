"""Losses on a GPU: the project's only import of CuPy.

A batch goes to the device in tiles of rows, as it came.  Where the loss has kernel text, one
launch gives values, scaled gradients in the type that is sent, and which rows are not finite;
elsewhere the body runs with ``xp=cupy``.  Only these come back, and the aggregates are made of them
by the same host code as for every backend.  No kernel gives outputs: where some are asked for, the
body runs too.

Tiles take turns on one stream, so that memory which the pool hands on is never still in use.

Verified by executing the kernels and this code on the CPU; nothing here has run on hardware.
"""

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lossd.backends import (
    Array,
    Buffers,
    Checkpoint,
    Evaluated,
    block_of,
    check_domains,
)
from lossd.backends._accelerators import use_no_accelerators
from lossd.backends._compiled import Kernels
from lossd.backends._coupled import CoupledEvaluation, evaluate_coupled
from lossd.backends._opposed import OpposedEvaluation, evaluate_opposed
from lossd.backends._sets import SetEvaluation, evaluate_set
from lossd.backends._tiles import Computed, Tile, download, run_body, upload
from lossd.batch import Batch, check_rules
from lossd.errors import BackendUnavailable, DeviceLost, TooLarge
from lossd.losses import Anchors, Opposed, Shape, Whole
from lossd.networks import Device, Placements
from lossd.reduction import Floats, block_sums

# A tile bounds the memory on the device and the time between two checkpoints: 64 MiB of float32.
TILE_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a GPU can be used: its name, or the reason why not."""

    reason: str
    device: str | None

    def __bool__(self) -> bool:
        return self.device is not None


def probe() -> Availability:
    """Looks for CuPy, a driver, a device and NVRTC; never raises."""
    try:
        cupy = _import_cupy()
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        return Availability(f"CuPy cannot be imported: {error}", None)
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return Availability("there is no CUDA device", None)
        cupy.cuda.nvrtc.getVersion()
        return Availability("", _device_name(cupy))
    except Exception as error:  # noqa: BLE001 - no driver, no NVRTC, a device in a bad state
        return Availability(f"CUDA cannot be used: {error}", None)


class CupyBackend:
    """Computes on the first CUDA device; may be called from many threads.

    Raises:
        BackendUnavailable: if there is no usable device.
    """

    name = "cupy"

    def __init__(self) -> None:
        available = probe()
        if available.device is None:
            raise BackendUnavailable(f"backend must be usable, got cupy: {available.reason}")
        self.device = available.device
        self._cupy = _import_cupy()
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._lock = threading.Lock()
        self._kernels = Kernels(self._cupy, self._stream)
        self._networks = Placements(Device(self._cupy, TILE_ELEMENTS), self._cupy.asarray)

    def evaluate(
        self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool, checkpoint: Checkpoint
    ) -> Evaluated:
        """See ``Backend.evaluate``."""
        if not batch.loss.shape.has_values:
            compute = functools.partial(self._compute_set, batch, checkpoint)
            return evaluate_set(batch, buffers, compute, zero_nonfinite=zero_nonfinite)
        if batch.loss.shape is Shape.OPPOSED:
            checkpoint()
            opposed = functools.partial(self._compute_opposed, batch)
            return evaluate_opposed(batch, buffers, opposed, zero_nonfinite=zero_nonfinite)
        if batch.loss.shape is Shape.COUPLED:
            coupled = functools.partial(self._compute_coupled, batch, checkpoint)
            return evaluate_coupled(
                batch, buffers, coupled, zero_nonfinite=zero_nonfinite, checkpoint=checkpoint
            )
        check_domains(batch)
        check_rules(batch)
        values = np.zeros(batch.rows, batch.dtype)
        nonfinite = np.zeros(batch.rows, np.bool_)
        statuses: list[Array | None] = []
        for rows in _tiles(batch):
            checkpoint()
            gradients = {name: buffer[rows] for name, buffer in buffers.gradients.items()}
            outputs = {name: buffer[rows] for name, buffer in buffers.outputs.items()}
            places = Computed(values[rows], gradients, outputs, nonfinite=nonfinite[rows])
            with self._device_turn():
                statuses.append(self._tile(batch, rows, places))
        sums = _finished(batch, buffers, values, nonfinite, zero_nonfinite=zero_nonfinite)
        said = [found for found in statuses if found is not None]
        return Evaluated(sums, nonfinite, np.concatenate(said) if said else None)

    def close(self) -> None:
        """Gives the device's memory back."""
        with contextlib.suppress(DeviceLost):
            with self._device_turn():
                self._stream.synchronize()
                self._kernels.clear()
                self._networks.clear()
            self._cupy.get_default_memory_pool().free_all_blocks()

    @contextlib.contextmanager
    def _device_turn(self) -> Iterator[None]:
        """One thread at a time, on our stream; what the device lacks becomes the caller's news."""
        with self._lock, self._stream:
            try:
                yield
            except self._cupy.cuda.memory.OutOfMemoryError as error:
                raise TooLarge(
                    f"batch must fit into the device's memory, got: {error}",
                    reason="DEVICE_OUT_OF_MEMORY",
                ) from error
            except Exception as error:
                if self._answers():
                    raise
                raise DeviceLost(f"device must answer, got: {error}") from error

    def _answers(self) -> bool:
        """Whether the device works at all: some faults leave it useless to the whole process."""
        runtime = self._cupy.cuda.runtime
        try:
            runtime.deviceSynchronize()
        except runtime.CUDARuntimeError:
            return False
        return True

    def _tile(self, batch: Batch, rows: slice, places: Computed) -> Array | None:
        """Computes some rows and waits for them: nothing of the host's is in use afterwards.

        Returns their statuses, if the loss gives any.
        """
        tile = upload(self._cupy, self._stream, batch, rows)
        found = self._compute(batch, tile)
        pairs = [(found.values, places.values), (found.nonfinite, places.nonfinite)]
        pairs += [(found.gradients[name], out) for name, out in places.gradients.items()]
        pairs += [(found.outputs[name], out) for name, out in places.outputs.items()]
        statuses = None
        if found.statuses is not None:
            statuses = np.empty(tile.count, np.uint8)
            pairs.append((found.statuses, statuses))
        self._receive(pairs)
        return statuses

    def _receive(self, places: Sequence[tuple[Any, Array]]) -> None:
        """Copies arrays from the device to where they belong, and waits."""
        arrived = [(download(self._stream, *place), place[1]) for place in places]
        self._stream.synchronize()
        for host, out in arrived:
            if host is not out:
                out[...] = host

    def _compute_set(
        self, batch: Batch, checkpoint: Checkpoint, rows: Sequence[Array], weights: Floats
    ) -> SetEvaluation:
        checkpoint()
        with self._device_turn(), np.errstate(all="ignore"):
            given = [self._cupy.asarray(array) for array in rows]
            whole = Whole(self._cupy.asarray(weights), _in_turn(checkpoint), in_cache=False)
            found = batch.loss.body(self._cupy, *given, whole, **batch.parameters)
            gradients = {n: self._cupy.asnumpy(found.gradient(n)) for n in batch.gradients}
            return SetEvaluation(float(found.value), gradients, found.status)

    def _compute_opposed(
        self, batch: Batch, given: list[Array | None], opposed: Opposed
    ) -> OpposedEvaluation:
        cupy = self._cupy
        with self._device_turn():
            sent = [None if rows is None else cupy.asarray(rows) for rows in given]
            there = Opposed(
                {name: cupy.asarray(numbers) for name, numbers in opposed.weights.items()},
                {name: cupy.asarray(numbers) for name, numbers in opposed.cotangents.items()},
            )
            found = batch.loss.body(cupy, *sent, there, **batch.parameters)
            statuses = None if found.statuses is None else cupy.asnumpy(found.statuses)
            gradients = {name: cupy.asnumpy(found.gradient(name)) for name in batch.gradients}
            return OpposedEvaluation(cupy.asnumpy(found.value), gradients, statuses)

    def _compute_coupled(
        self, batch: Batch, checkpoint: Checkpoint, rows: Sequence[Array | None], scales: Floats
    ) -> CoupledEvaluation:
        cupy = self._cupy
        checkpoint()
        with self._device_turn(), np.errstate(all="ignore"):
            given = [None if array is None else cupy.asarray(array) for array in rows]
            anchors = Anchors(
                cupy.asarray(scales),
                frozenset(batch.gradients),
                _in_turn(checkpoint),
                in_cache=False,
            )
            found = batch.loss.body(cupy, *given, anchors, **batch.parameters)
            return CoupledEvaluation(
                cupy.asnumpy(found.value),
                {name: cupy.asnumpy(found.gradient(name)) for name in batch.gradients},
                {name: cupy.asnumpy(output) for name, output in found.outputs.items()},
                None if found.statuses is None else cupy.asnumpy(found.statuses),
            )

    def _compute(self, batch: Batch, tile: Tile) -> Computed:
        """Values, scaled gradients and outputs on the device.

        What a kernel gives comes from it whatever else is asked for, so that no bit of it depends
        on that; the texts know the gradient of the first input, the body all there is.
        """
        if batch.view is not None:
            network = self._networks.find(batch.view.network, batch.dtype)
            return run_body(self._cupy, batch, tile, batch.gradients, network)
        found = self._kernels.run(batch, tile)
        if found is None:
            return run_body(self._cupy, batch, tile, batch.gradients)
        others = [name for name in batch.gradients if name not in found.gradients]
        if not others and not batch.outputs:
            return found
        more = run_body(self._cupy, batch, tile, others)
        return replace(
            found,
            gradients={**found.gradients, **more.gradients},
            outputs=more.outputs,
            nonfinite=found.nonfinite | more.nonfinite,
        )


def _in_turn(checkpoint: Checkpoint) -> Callable[[int, Callable[[int], None]], None]:
    """What calls the pieces of a body's work one after the other."""

    def for_each(count: int, work: Callable[[int], None]) -> None:
        for index in range(count):
            checkpoint()
            work(index)

    return for_each


def _tiles(batch: Batch) -> Iterator[slice]:
    """Rows of about TILE_ELEMENTS elements; a row's result does not depend on its tile."""
    step = max(1, TILE_ELEMENTS // batch.length)
    for start in range(0, batch.rows, step):
        yield slice(start, min(start + step, batch.rows))


def _finished(
    batch: Batch, buffers: Buffers, values: Array, nonfinite: Array, *, zero_nonfinite: bool
) -> Floats:
    """Fills the buffers and sums the values."""
    if zero_nonfinite:
        values[nonfinite] = 0
        for buffer in (*buffers.gradients.values(), *buffers.outputs.values()):
            buffer[nonfinite] = 0
    if buffers.values is not None:
        buffers.values[:] = values
    with np.errstate(all="ignore"):
        return block_sums(values, batch.plan.weights, block_of(batch))


# ------------------------------------------------------------------ CuPy itself


def _import_cupy() -> Any:
    _ensure_cache_folder()
    import cupy  # noqa: PLC0415 - an optional dependency, whose import has effects

    use_no_accelerators(cupy)
    return cupy


def _ensure_cache_folder() -> None:
    """Gives CuPy a folder for compiled kernels that can be written.

    It makes the folder when it is imported, and fails there or at the first launch if it cannot
    write, as in a container with a read-only root.
    """
    try:
        default = Path.home() / ".cupy" / "kernel_cache"
        folder = Path(os.environ.get("CUPY_CACHE_DIR") or default)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except (OSError, RuntimeError):  # a user by number alone has no home
        os.environ["CUPY_CACHE_DIR"] = tempfile.mkdtemp(prefix="lossd-cupy-")


def _device_name(cupy: Any) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
