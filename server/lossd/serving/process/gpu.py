"""The memory and the utilisation of the GPU, as NVIDIA's management library tells them.

The GPU extras bring its bindings; the library itself comes with the driver.  Neither is looked for
where the CPU computes.
"""

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU.  What its library does not tell is NaN: utilisation of a part of one, for example."""

    _library: Any
    _handle: Any

    def memory_used(self) -> float:
        """Returns the bytes that are taken, by whatever process."""
        return self._asked(lambda: self._library.nvmlDeviceGetMemoryInfo(self._handle).used)

    def memory(self) -> float:
        """Returns the bytes that there are."""
        return self._asked(lambda: self._library.nvmlDeviceGetMemoryInfo(self._handle).total)

    def utilization(self) -> float:
        """Returns the share of the last moments in which something was computed, from 0 to 1."""
        rates = self._library.nvmlDeviceGetUtilizationRates
        return self._asked(lambda: rates(self._handle).gpu / 100)

    def _asked(self, question: Callable[[], float]) -> float:
        try:
            return float(question())
        except self._library.NVMLError:
            return math.nan


def gpu_at(bus_id: str) -> Gpu | None:
    """Returns the GPU at an address of the PCI bus; None if there is none, or none that tells."""
    if not bus_id:
        return None
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            import pynvml  # noqa: PLC0415 - an extra
    except ImportError as error:
        log.info("no metrics of the GPU", extra={"because": str(error)})
        return None
    try:
        pynvml.nvmlInit()
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode()))
    except pynvml.NVMLError as error:
        log.warning("no metrics of the GPU", extra={"because": str(error)})
        return None
