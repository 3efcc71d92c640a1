"""Losses on the CPU: pieces of a batch, run by the calling thread and those of a pool.

A piece fits the second-level cache.  NumPy releases the interpreter lock while it computes, so
threads are enough.
"""

import contextlib
import functools
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lossd.backends import Array, Body, Compute, Computed, Piece, each_row, round_into
from lossd.backends._host import NO_KERNELS, KernelSource, compute, piece_elements, prepared
from lossd.backends._means import shrunk_means
from lossd.batch import Batch
from lossd.crew import Crew
from lossd.kernels.host import SoftCountsKernel, TokenKernel, TokenSums
from lossd.losses import BodyResult
from lossd.networks import Device, DeviceNetwork, DeviceNetworks, Network

# Elements of the windows that go into one product of a convolution: 2 MiB of float32, a cache.
PRODUCT_ELEMENTS = 1 << 19


class NumpyBackend:
    """Computes on the CPU with ``threads`` threads: the caller's, and a pool that all calls share.

    ``kernels`` take the place of the bodies that they are compiled from; elsewhere NumPy computes.
    """

    name = "numpy"
    bus_id = ""
    exports = None
    xp = np
    in_cache = True

    def __init__(self, threads: int, kernels: KernelSource = NO_KERNELS) -> None:
        self.threads = threads
        self.kernels = kernels
        self._crew = Crew(threads, "lossd-compute")
        # Products run on our own threads, and their bits must not depend on how BLAS splits them.
        # This holds for the process and is not undone, since another backend may still rely on it.
        threadpool_limits(1, user_api="blas")
        self._networks = DeviceNetworks(Device(np, PRODUCT_ELEMENTS), np.asarray)

    @property
    def device(self) -> str:
        """The device, in words."""
        return f"{platform.machine()} CPU, {self.threads} threads, {self.kernels.description}"

    def place(self, array: Array, dtype: np.dtype[Any] | None = None) -> Array:
        """See ``Backend.place``."""
        return np.asarray(array, dtype)

    def fetch(self, array: Any, dtype: np.dtype[Any] | None = None) -> Array:
        """See ``Backend.fetch``; what is here already is rounded where it is written."""
        del dtype
        return np.asarray(array)

    def pin(self, memory: Array) -> Callable[[], None]:
        """See ``Backend.pin``; here nothing is copied."""
        del memory
        return _nothing

    def session(self) -> contextlib.AbstractContextManager[None]:
        """See ``Backend.session``; here nothing waits."""
        return contextlib.nullcontext()

    def network(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        """See ``Backend.network``."""
        return self._networks.find(network, dtype)

    def compiling_ahead(self) -> contextlib.AbstractContextManager[None]:
        """See ``Backend.compiling_ahead``; here kernels were compiled long before."""
        return contextlib.nullcontext()

    def token_kernel(self, batch: Batch) -> TokenKernel | None:
        """See ``Backend.token_kernel``."""
        return self.kernels.tokens(batch)

    def checks_domains(self, batch: Batch) -> bool:
        """See ``Backend.checks_domains``."""
        kernel = self.kernels.find(batch)
        return kernel is not None and kernel.checks_domains

    def token_sums(self) -> TokenSums | None:
        """See ``Backend.token_sums``."""
        return self.kernels.token_sums()

    def soft_counts(self, dtype: np.dtype[Any]) -> SoftCountsKernel | None:
        """See ``Backend.soft_counts``."""
        return self.kernels.soft_counts(dtype)

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        """See ``Backend.over_rows``."""
        kernel = self.kernels.find(batch) if body is batch.loss.body else None
        if kernel is None:
            return Compute(functools.partial(_compute, body))
        beside = functools.partial(_run_body, body)
        return Compute(
            functools.partial(compute, kernel, batch, beside),
            checks_domains=kernel.checks_domains,
            is_kernel=True,
            piece_elements=piece_elements(kernel, batch, self.threads),
            prepare=functools.partial(prepared, kernel, batch),
        )

    def side_by_side(self, count: int, work: Callable[[int], None]) -> None:
        """See ``Backend.side_by_side``."""
        self._crew.run(count, work)

    def rates(self) -> None:
        """See ``Backend.rates``."""

    def close(self) -> None:
        """Ends the threads."""
        self._crew.close()
        self._networks.clear()


def _nothing() -> None:
    """Does nothing."""


def _compute(body: Body, piece: Piece) -> Computed:
    """Runs a body, and writes its gradients to the reply while they are in the cache."""
    found = _run_body(body, piece, tuple(piece.gradients))
    return Computed(_row_values(found.value, piece.elements), found.statuses)


def _run_body(body: Body, piece: Piece, gradients: Sequence[str]) -> BodyResult:
    inputs = (_ready(*given) for given in piece.inputs.values())
    found = body(np, *inputs, **piece.parameters)
    for name in gradients:
        gradient, out = found.gradient(name), piece.gradients[name]
        factor = each_row(piece.scale, gradient) if piece.scale.ndim else piece.scale
        if out.dtype.itemsize == 2:
            round_into(gradient * factor, out)
        else:
            np.multiply(gradient, factor, out=out, casting="unsafe")
    for name, out in piece.outputs.items():
        out[...] = found.outputs[name]
    return found


def _ready(rows: Array, dtype: np.dtype[Any]) -> Array:
    if not rows.flags.aligned:  # in the order of a message; one copy now spares many later
        rows = rows.copy()
    return np.ascontiguousarray(rows, dtype)


def _row_values(value: Array, elements: int) -> Array:
    """Returns one value for each row: those of elements are averaged."""
    if value.ndim == 1:
        return value
    if value.shape[1] == 1:
        return value[:, 0]
    found: Array = np.add.reduce(value, axis=-1)
    if elements == 1:
        return found
    beyond = ~np.isfinite(found)
    found /= elements
    if beyond.any():  # a row may add up to more than the type holds, and its mean not
        found[beyond] = shrunk_means(value[beyond], elements)
    return found
