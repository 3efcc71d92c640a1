"""Losses on a GPU: the project's only import of CuPy.

A batch goes to the device in tiles of rows, in the types that it came in.  Where the loss has
kernel text, one launch gives values, scaled gradients in the type that is sent, and which rows are
not finite; elsewhere the body runs with ``xp=cupy``.  Only these come back, and the same host code
as for every backend makes the aggregates of them.  No kernel gives outputs: where some are asked
for, the body runs too.

Tiles take turns on one stream, so that memory which the pool reuses is never still in use.

Verified by executing the kernels and this code on the CPU; nothing here has run on hardware.
"""

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lossd.backends import Array, Body, Compute, Computed, Piece
from lossd.backends._accelerators import use_no_accelerators
from lossd.backends._compiled import DeviceKernels
from lossd.backends._texts import text_of
from lossd.backends._tiles import Found, Tile, download, run_body, upload
from lossd.batch import Batch, check_rules
from lossd.errors import BackendUnavailable, DeviceLost, TooLarge
from lossd.losses._declare import CudaText
from lossd.networks import Device, DeviceNetwork, DeviceNetworks, Network

# A piece bounds the memory on the device and the time between two checkpoints: 64 MiB of float32.
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
        self._kernels = DeviceKernels(self._cupy, self._stream)
        self._networks = DeviceNetworks(Device(self._cupy, TILE_ELEMENTS), self._cupy.asarray)

    @property
    def bus_id(self) -> str:
        """See ``Backend.bus_id``; what it is good for is not worth an error."""
        with contextlib.suppress(Exception):
            return str(self._cupy.cuda.runtime.deviceGetPCIBusId(0))
        return ""

    @property
    def xp(self) -> Any:
        """See ``Backend.xp``."""
        return self._cupy

    @property
    def threads(self) -> int:
        """See ``Backend.threads``; pieces are computed on the device, one at a time."""
        return 1

    @property
    def piece_elements(self) -> int:
        """See ``Backend.piece_elements``."""
        return TILE_ELEMENTS

    in_cache = False

    def place(self, array: Array) -> Any:
        """See ``Backend.place``."""
        return self._cupy.asarray(array)

    def fetch(self, array: Any) -> Array:
        """See ``Backend.fetch``."""
        host: Array = self._cupy.asnumpy(array)
        return host

    def network(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        """See ``Backend.network``."""
        with self.session():
            return self._networks.find(network, dtype)

    def has_kernel(self, batch: Batch) -> bool:
        """See ``Backend.has_kernel``."""
        return text_of(batch) is not None

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        """See ``Backend.over_rows``."""
        text = text_of(batch)
        if text is not None:
            check_rules(batch)
        return Compute(functools.partial(self._compute, batch, body, text))

    def side_by_side(self, count: int, work: Callable[[int], None]) -> None:
        """See ``Backend.side_by_side``; here one after the other, on one stream."""
        for index in range(count):
            work(index)

    def close(self) -> None:
        """Frees the device's memory."""
        with contextlib.suppress(DeviceLost):
            with self.session():
                self._stream.synchronize()
                self._kernels.clear()
                self._networks.clear()
            self._cupy.get_default_memory_pool().free_all_blocks()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See ``Backend.session``; one thread at a time, on our stream."""
        with self._lock:
            try:
                with self._stream:  # which asks a lost device when a thread first enters it
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
        """Returns whether the device still works: some faults make it useless to the process."""
        runtime = self._cupy.cuda.runtime
        try:
            runtime.deviceSynchronize()
        except runtime.CUDARuntimeError:
            return False
        return True

    def _compute(self, batch: Batch, body: Body, text: CudaText | None, piece: Piece) -> Computed:
        """Computes some rows and waits, so that no memory of the host is in use afterwards."""
        with self.session():
            tile = upload(self._cupy, self._stream, batch, piece)
            found = self._found(batch, body, text, tile)
            values = np.empty(piece.count, batch.dtype)
            nonfinite = np.empty(piece.count, np.bool_)
            pairs = [(found.values, values), (found.nonfinite, nonfinite)]
            pairs += [(found.gradients[name], out) for name, out in piece.gradients.items()]
            pairs += [(found.outputs[name], out) for name, out in piece.outputs.items()]
            statuses = None
            if found.statuses is not None:
                statuses = np.empty(piece.count, np.uint8)
                pairs.append((found.statuses, statuses))
            self._receive(pairs)
        return Computed(values, statuses, nonfinite)

    def _receive(self, places: list[tuple[Any, Array]]) -> None:
        """Copies arrays from the device to their destinations, and waits."""
        arrived = [(download(self._stream, *place), place[1]) for place in places]
        self._stream.synchronize()
        for host, out in arrived:
            if host is not out:
                out[...] = host

    def _found(self, batch: Batch, body: Body, text: CudaText | None, tile: Tile) -> Found:
        """Computes values, scaled gradients and outputs on the device.

        What a kernel can give comes from the kernel whatever else is asked for, so that its bits do
        not depend on that.  Texts give the gradient of the first input, the body gives everything.
        """
        if text is None:
            return run_body(self._cupy, batch, body, tile, batch.gradients)
        found = self._kernels.run(batch, text, tile)
        others = [name for name in batch.gradients if name not in found.gradients]
        if not others and not batch.outputs:
            return found
        more = run_body(self._cupy, batch, body, tile, others)
        return replace(
            found,
            gradients={**found.gradients, **more.gradients},
            outputs=more.outputs,
            nonfinite=found.nonfinite | more.nonfinite,
        )


# ------------------------------------------------------------------ CuPy itself


def _import_cupy() -> Any:
    _ensure_cache_folder()
    import cupy  # noqa: PLC0415 - an optional dependency, whose import has effects

    use_no_accelerators(cupy)
    return cupy


def _ensure_cache_folder() -> None:
    """Gives CuPy a writable folder for compiled kernels.

    CuPy makes its folder when it is imported, and fails then or at the first launch if it cannot
    write there, as in a container with a read-only root.
    """
    try:
        default = Path.home() / ".cupy" / "kernel_cache"
        folder = Path(os.environ.get("CUPY_CACHE_DIR") or default)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except (OSError, RuntimeError):  # a user without an entry in the user database has no home
        os.environ["CUPY_CACHE_DIR"] = tempfile.mkdtemp(prefix="lossd-cupy-")


def _device_name(cupy: Any) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
