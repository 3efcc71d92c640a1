"""Memory is told from what was freed of it, and goes back when there is too much."""

import subprocess
import sys

import numpy as np
import pytest

from lossd.serving.process import allocator

MIB = 1 << 20

RELIEVED = """
import threading, time
import numpy as np
from lossd.serving.process.allocator import Relief, keep_freed_memory, resident_bytes

class InFlight:
    request_bytes = 0
    def take_most(self):
        return 0

keep_freed_memory()
before = resident_bytes()
relief = Relief(InFlight(), 64 << 20, every=3600, glance=0.01)
kept = []
for _ in range(8):
    array = np.ones(16 << 20, np.uint8)
    kept.append(np.ones(1, np.uint8))  # between, so that the heap's end stays where it is
    del array
arrays = [np.ones(16 << 20, np.uint8) for _ in range(8)]
arrays[:-1] = [None] * 7
deadline = time.monotonic() + 20
while resident_bytes() - before > 48 << 20 and time.monotonic() < deadline:
    time.sleep(0.01)
print(resident_bytes() - before >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can tell")
def test_what_is_freed_is_not_given_out() -> None:
    allocated = allocator.allocated_bytes()
    before = allocated()
    array = np.ones(8 * MIB, np.uint8)
    assert allocated() - before == pytest.approx(8 * MIB, rel=0.05)
    del array
    assert allocated() - before < MIB


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can tell")
def test_what_was_counted_is_not_beyond() -> None:
    counted = 0
    beyond = allocator.beyond(lambda: counted, -1)
    array = np.ones(8 * MIB, np.uint8)
    assert beyond() == pytest.approx(8 * MIB, rel=0.05)
    counted = array.nbytes
    assert abs(beyond()) < MIB


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not kept")
def test_freed_memory_goes_back_at_once_above_the_ceiling() -> None:
    found = subprocess.run(
        [sys.executable, "-c", RELIEVED], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) <= 48
