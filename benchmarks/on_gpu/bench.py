"""How things are timed on a GPU and beside it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Row = dict[str, Any]

ROUNDS, LAUNCHES = 9, 5
TYPES: tuple[np.dtype[Any], ...] = (
    np.dtype(np.float32),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(np.float16),
)


@dataclass(frozen=True)
class Bench:
    """The GPU with the sizes for it, and the results of all sections until now."""

    cupy: Any
    smoke: bool
    results: dict[str, list[Row]]

    def device_ms(self, work: Callable[[], object]) -> float:
        """Returns how long the device takes for something."""
        stream = self.cupy.cuda.get_current_stream()
        times: list[float] = []
        work()
        for _ in range(1 if self.smoke else ROUNDS):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record(stream)
            for _ in range(LAUNCHES):  # so that the host is ahead of the device
                work()
            end.record(stream)
            end.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, end) / LAUNCHES)
        return statistics.median(times)

    def share_of_copy(self, moved: int, milliseconds: float) -> float | None:
        """Returns the rate of something by that of a copy within the device's memory."""
        for row in self.results.get("copies", ()):
            if row["copy"] == "device" and row["GB/s"] and milliseconds:
                return float(moved / milliseconds / 1e6 / row["GB/s"])
        return None


def wall_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Returns how long something takes on the host."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
