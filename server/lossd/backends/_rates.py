"""How fast a device is, as far as that decides what is worth bringing to it: measured, once.

Nothing here imports CuPy; the caller passes it in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Large enough that a copy is at its fastest, and as large as a tile is.
_BYTES = 16 << 20
_TIMES = 3


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second: within the host's memory, to the device, back, and within the device's."""

    staging: float
    up: float
    down: float
    on_device: float

    def seconds(self, sent: int, returned: int, *, resident: bool) -> float:
        """Returns about how long a loss takes that looks at each number once.

        Copies and computing go on at the same time, so that the slowest decides.
        """
        computing = (sent + returned) / self.on_device
        if resident:
            return computing
        copies = sent / self.up, returned / self.down, (sent + returned) / self.staging
        return max(computing, *copies)

    def __str__(self) -> str:
        """Returns the copies in words."""
        up, down = self.up / 1e9, self.down / 1e9
        return f"copies {up:.3g} GB/s there and {down:.3g} back"


def measured(cupy: Any) -> Rates:
    """Measures the current device."""
    stream = cupy.cuda.Stream(non_blocking=True)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(_BYTES), np.uint8, _BYTES)
    ordinary = np.ones(_BYTES, np.uint8)
    with stream:
        here, there = cupy.empty(_BYTES, np.uint8), cupy.empty(_BYTES, np.uint8)

    def copied_on_device() -> None:
        cupy.cuda.runtime.memcpyAsync(there.data.ptr, here.data.ptr, _BYTES, 3, stream.ptr)

    def stage() -> None:
        pinned[...] = ordinary

    return Rates(
        staging=_BYTES / _least(stage, stream),
        up=_BYTES / _least(lambda: here.set(pinned, stream=stream), stream),
        down=_BYTES / _least(lambda: here.get(out=pinned, stream=stream, blocking=False), stream),
        on_device=2 * _BYTES / _least(copied_on_device, stream),  # read and written
    )


def _least(work: Callable[[], Any], stream: Any) -> float:
    """Returns the least time of a few, not counting the first: nobody else's work counts."""
    found = []
    for _ in range(1 + _TIMES):
        begun = time.perf_counter()
        work()
        stream.synchronize()
        found.append(time.perf_counter() - begun)
    return max(min(found[1:]), 1e-9)
