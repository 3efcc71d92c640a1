"""How many blocks of a kernel work at a time, where each takes memory of the device to work in.

As many as the device works on at once: more would wait for each other, and of fewer a part of the
device has nothing to do.  No bit of a result depends on how many they are.

Nothing here imports CuPy; the caller passes it in.
"""

from typing import Any

from lossd.kernels import Launch

# What is taken without a look at what is free: asking the device takes as long as a small launch.
ROOM_BYTES = 256 << 20
# The part of what is free that may be taken: CuPy keeps it, and tiles need memory as well.
PART = 16


def with_room(cupy: Any, function: Any, launch: Launch) -> Launch:
    """Returns a launch of as many blocks as work at once, and as there is memory for.

    What is kept of a row in segments stays from one step to the next, so that each has its own.
    """
    if not launch.room_bytes or launch.is_in_segments:
        return launch
    filling = launch.with_at_most(_blocks_at_once(cupy, function, launch))
    if filling.workspace_bytes <= ROOM_BYTES:
        return filling
    most = max(ROOM_BYTES, _free_bytes(cupy) // PART)
    return filling.with_at_most(max(1, most // launch.room_bytes))


def multiprocessors(cupy: Any) -> int:
    """Returns how many the current device has."""
    return int(cupy.cuda.Device().attributes["MultiProcessorCount"])


def _blocks_at_once(cupy: Any, function: Any, launch: Launch) -> int:
    """Returns how many blocks the current device works on at once."""
    together = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
        function.kernel.ptr, launch.threads * launch.rows, launch.shared_bytes
    )
    return max(1, int(together) * multiprocessors(cupy))


def _free_bytes(cupy: Any) -> int:
    """Returns what the current device has free, with what the pool keeps for the next one."""
    free: int = cupy.cuda.Device().mem_info[0]
    return free + int(cupy.get_default_memory_pool().free_bytes())
