"""Help with the device that tests run on, real or fake."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def is_fake() -> bool:
    """Returns whether the device is gpulab's fake one."""
    try:
        from gpulab import fake  # noqa: PLC0415 - only there on the fake device
    except ImportError:
        return False
    return bool(fake.is_active())


@contextlib.contextmanager
def keeping_small_doubles() -> Iterator[None]:
    """Has the fake device keep doubles below the smallest normal number, as every GPU does.

    It flushes them to 0 wherever it flushes floats, which CuPy asks for, so then it keeps both.
    """
    if not is_fake():
        yield
        return
    from gpulab import host  # noqa: PLC0415

    host.set_flush_denormals(False)
    try:
        yield
    finally:
        host.set_flush_denormals(True)


@contextlib.contextmanager
def own_pool(cupy: Any) -> Iterator[Any]:
    """Takes device memory from a pool of its own, in which other tests have left nothing."""
    pool = cupy.cuda.MemoryPool()
    cupy.cuda.set_allocator(pool.malloc)
    try:
        yield pool
    finally:
        cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


def stand_in_for_sorting(cupy: Any) -> None:
    """Lets the host sort where the device is gpulab's fake one, which has no Thrust."""
    if not is_fake():
        return

    def argsort(array: Any, axis: int = -1, kind: None = None) -> Any:
        del kind  # CuPy's is stable whatever is said
        return cupy.asarray(np.argsort(array.get(), axis=axis, kind="stable"))

    cupy.argsort = argsort
