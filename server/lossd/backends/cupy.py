"""Losses on a GPU: the project's only import of CuPy.

A batch goes to the device in tiles of rows, in the types that it came in.  Where the loss has
kernel text, one launch gives values, scaled gradients in the type that is sent, and which rows are
not finite; elsewhere the body runs with ``xp=cupy``.  Only these come back, and the same host code
as for every backend makes the aggregates of them.  No kernel gives outputs: where some are asked
for, the body runs too.

Several tiles are under way at a time: ``_tasks`` chooses where, ``_worker`` says how.

Verified by executing the kernels and this code on the CPU, and on one card.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossd.backends import Array, Body, Compute
from lossd.backends._accelerators import TF32_VARIABLE, use_no_accelerators, use_no_tf32
from lossd.backends._compiled import Compilers
from lossd.backends._exports import Exports
from lossd.backends._host import NO_KERNELS, KernelSource
from lossd.backends._pinned import PinnedMemory
from lossd.backends._rates import Rates, measured
from lossd.backends._rooms import multiprocessors
from lossd.backends._tasks import Tasks, tile_elements
from lossd.backends._texts import text_of
from lossd.backends._worker import SLOTS, TILE_BYTES, Work, Worker, shared_vectors
from lossd.batch import Batch, check_rules
from lossd.errors import BackendUnavailable, DeviceLost
from lossd.kernels import checks_domains, kept_bytes, takes_long
from lossd.kernels.host import TokenKernel, TokenSums
from lossd.losses import CudaText
from lossd.networks import DeviceNetwork, Network

# Of the host, for each device: tiles on their way there and back.
PINNED_BYTES = 2 * SLOTS * TILE_BYTES


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a GPU can be used: its name and how many like it there are, or the reason why not."""

    reason: str
    device: str | None
    count: int = 0

    def __bool__(self) -> bool:
        return self.device is not None


def probe() -> Availability:
    """Looks for CuPy, a driver, a device and NVRTC; never raises."""
    try:
        cupy = _import_cupy()
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return Availability(f"CuPy cannot be imported: {error}", None)
        how = "pip install 'lossd[cuda13]', or 'lossd[cuda12]' for older drivers"
        return Availability(f"there is no CuPy: {how}", None)
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        return Availability(f"CuPy cannot be imported: {error}", None)
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return Availability("there is no CUDA device", None)
        cupy.cuda.nvrtc.getVersion()
        return Availability("", _device_name(cupy), len(_like_the_first(cupy)))
    except Exception as error:  # noqa: BLE001 - no driver, no NVRTC, a device in a bad state
        return Availability(f"CUDA cannot be used: {error}", None)


class CupyBackend:
    """Computes on the CUDA devices that are like the first; may be called from many threads.

    Each device has a worker, and a tile goes to the one that has the least to do.  ``kernels`` are
    those of the host, for what is computed there.

    Raises:
        BackendUnavailable: if there is no usable device, or no memory to start with.
    """

    name = "cupy"
    in_cache = False

    def __init__(self, kernels: KernelSource = NO_KERNELS) -> None:
        self._kernels = kernels
        available = probe()
        if available.device is None:
            raise BackendUnavailable(f"backend must be usable, got cupy: {available.reason}")
        self._cupy = _import_cupy()
        self._pinned = PinnedMemory(self._cupy)
        self.exports = Exports(self._cupy)
        with _starting():
            self._workers = [
                Worker(self._cupy, i, self._pinned, self.exports)
                for i in _like_the_first(self._cupy)
            ]
            self._multiprocessors = multiprocessors(self._cupy)
        self._tasks = Tasks(self._workers, self.exports)
        self._compilers: Compilers | None = None
        count = len(self._workers)
        self.device = available.device if count == 1 else f"{count} x {available.device}"

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
        """See ``Backend.threads``; pieces are computed on a device, not on the host."""
        return 1

    def place(self, array: Array, dtype: np.dtype[Any] | None = None) -> Any:
        """See ``Backend.place``."""
        placed = self._cupy.asarray(array)
        return placed if dtype is None else placed.astype(dtype, copy=False)

    def fetch(self, array: Any, dtype: np.dtype[Any] | None = None) -> Array:
        """See ``Backend.fetch``."""
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        host: Array = self._cupy.asnumpy(array)
        return host

    def pin(self, memory: Array) -> Callable[[], None]:
        """See ``Backend.pin``."""
        return self._pinned.pin(memory)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See ``Backend.session``; on the device that has the least to do."""
        with self._tasks.one() as worker, worker.session():
            yield

    def network(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        """See ``Backend.network``."""
        here = self._cupy.cuda.Device().id
        worker = next(worker for worker in self._workers if worker.index == here)
        return worker.networks.find(network, dtype)

    def checks_domains(self, batch: Batch) -> bool:
        """See ``Backend.checks_domains``."""
        return text_of(batch) is not None and checks_domains(batch.loss)

    def token_kernel(self, batch: Batch) -> TokenKernel | None:
        """See ``Backend.token_kernel``; on the host, where tokens are."""
        return self._kernels.tokens(batch)

    def token_sums(self) -> TokenSums | None:
        """See ``Backend.token_sums``."""
        return self._kernels.token_sums()

    def soft_counts(self, dtype: np.dtype[Any]) -> None:
        """See ``Backend.soft_counts``."""

    @contextlib.contextmanager
    def compiling_ahead(self) -> Iterator[None]:
        """See ``Backend.compiling_ahead``; CuPy remembers them."""
        try:
            with Compilers(self._cupy) as self._compilers:
                yield
        finally:
            self._compilers = None

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        """See ``Backend.over_rows``."""
        text = text_of(batch)
        if text is not None:
            check_rules(batch)
            if self._compilers is not None:
                self._compilers.add(batch, text)
        work = Work(batch, body, text, shared_vectors(batch), {})
        return Compute(
            functools.partial(self._tasks.piece, work),
            checks_domains=self.checks_domains(batch),
            is_kernel=text is not None,
            piece_elements=tile_elements(
                batch,
                runs_body=work.runs_body,
                least_rows=self._least_rows(batch, text),
                kept_bytes=_kept_bytes(batch, text),
            ),
            each=functools.partial(self._tasks.each, work),
        )

    def _least_rows(self, batch: Batch, text: CudaText | None) -> int:
        """Returns how many rows it takes to keep a device busy; 1 where it waits for copies."""
        is_slow = text is not None and takes_long(batch.loss, text)
        return self._multiprocessors if is_slow else 1

    def side_by_side(self, count: int, work: Callable[[int], None]) -> None:
        """See ``Backend.side_by_side``; here one after the other, on one stream."""
        for index in range(count):
            work(index)

    def rates(self) -> Rates:
        """See ``Backend.rates``; those of the first device, which the others are like."""
        with _starting():
            return measured(self._cupy)

    def close(self) -> None:
        """Frees the devices' memory."""
        for worker in self._workers:
            with contextlib.suppress(DeviceLost):
                worker.close()


def _kept_bytes(batch: Batch, text: CudaText | None) -> int:
    """Returns the memory that each row of a batch keeps to itself until its tile is done."""
    return 0 if text is None else kept_bytes(text, batch.operands[0].slot.rows_shape[1:])


def _import_cupy() -> Any:
    _ensure_cache_folder()
    os.environ[TF32_VARIABLE] = "0"
    import cupy  # noqa: PLC0415 - an optional dependency, whose import has effects

    use_no_accelerators(cupy)
    use_no_tf32(cupy)
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


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Says that a device which has no memory to start with, or is another's, cannot be used.

    Raises:
        BackendUnavailable: for whatever CUDA says.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # the kinds that CuPy's errors are of
        raise BackendUnavailable(f"backend must be usable, got cupy: {error}") from error


def _device_name(cupy: Any) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _like_the_first(cupy: Any) -> list[int]:
    """Returns the devices on which a tile has the same bits as on the first."""
    runtime = cupy.cuda.runtime
    kinds = []
    for index in range(runtime.getDeviceCount()):
        found = runtime.getDeviceProperties(index)
        kinds.append((found["name"], found["major"], found["minor"]))
    return [index for index, kind in enumerate(kinds) if kind == kinds[0]]
