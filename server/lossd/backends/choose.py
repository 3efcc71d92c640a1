"""Chooses the backend: the one that was asked for, or one that is available."""

import enum
from dataclasses import dataclass

from lossd.backends import Backend, cupy
from lossd.backends._host import host_kernels
from lossd.backends.numpy import NumpyBackend
from lossd.errors import BackendUnavailable


class BackendChoice(enum.StrEnum):
    """The backend that the operator asks for."""

    AUTO = "auto"
    NUMPY = "numpy"
    CUPY = "cupy"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A backend and the reason for it; a fallback is second choice for the operator."""

    backend: Backend
    reason: str
    is_fallback: bool = False


def cpu_backend(threads: int) -> NumpyBackend:
    """Makes the backend for the CPU, with the compiled kernels if there are any."""
    return NumpyBackend(threads, host_kernels())


def choose(choice: BackendChoice, *, threads: int) -> Chosen:
    """Makes the backend: AUTO takes the GPU if it can be used now, and NumPy otherwise.

    Raises:
        BackendUnavailable: if CUPY was asked for and cannot be used.
    """
    if choice is BackendChoice.NUMPY:
        return Chosen(cpu_backend(threads), "asked for")
    found = cupy.probe()
    reason = found.reason
    if found.device is not None:
        try:
            return Chosen(cupy.CupyBackend(host_kernels()), f"{choice}: a GPU can be used")
        except BackendUnavailable as error:
            if choice is BackendChoice.CUPY:
                raise
            reason = str(error)
    if choice is BackendChoice.CUPY:
        raise BackendUnavailable(f"backend must be usable, got cupy without a GPU: {reason}")
    return Chosen(cpu_backend(threads), f"no usable GPU: {reason}", is_fallback=True)
