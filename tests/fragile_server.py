"""Runs ``lossd`` in a process whose device SIGUSR1 breaks: a kernel faults on gpulab's fake one."""

import contextlib
import signal
import sys

from lossd.__main__ import main as lossd
from lossd.backends.cupy import _import_cupy

# Threads that part at a barrier, which the fake device takes as a fault.
FAULTY = """
extern "C" __global__ void faulty() {
    if (threadIdx.x < 5) __syncthreads();
    else __syncwarp();
}
"""


BROKEN = "the device is broken"  # said when it is


def break_device() -> None:
    """Has a kernel fault, after which every call of the device fails."""
    cupy = _import_cupy()
    cupy.RawKernel(FAULTY, "faulty")((1,), (64,), ())
    with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.runtime.deviceSynchronize()  # launches are heard of when someone waits


def break_and_say_so(*_: object) -> None:
    """Hears a signal."""
    break_device()
    sys.stderr.write(f"{BROKEN}\n")


def main() -> None:
    """Takes the command of a server, as it would be run without this."""
    signal.signal(signal.SIGUSR1, break_and_say_so)
    sys.argv = ["lossd", *sys.argv[sys.argv.index("lossd") + 1 :]]
    lossd()


if __name__ == "__main__":
    main()
