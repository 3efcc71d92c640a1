"""Memory of messages is taken from the system once, not at each call."""

import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lossd.client.local import local_server

# A megabyte there and half of one back: more than glibc keeps by itself, and less than what comes
# in chunks.
MEGABYTE = 60_000 * 8 * 2
CALLS = """
import asyncio, resource, sys
import numpy as np
from lossd.client import AsyncLossClient, LossClient
from lossd.v1 import SquaredError

address, flavour = sys.argv[1:]
given = {"predictions": np.zeros(60000), "targets": np.ones(60000)}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def called():
    with LossClient(address) as client:
        for _ in range(40):
            yield faults()
            client.compute(SquaredError(), per_example=False, **given)

async def awaited():
    found = []
    async with AsyncLossClient(address) as client:
        for _ in range(40):
            found.append(faults())
            await client.compute(SquaredError(), per_example=False, **given)
    return found

found = list(called()) if flavour == "threads" else asyncio.run(awaited())
print((found[-1] - found[-21]) // 20)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with local_server() as found:
        yield found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize("flavour", ["threads", "asyncio"])
def test_a_loop_of_large_messages_takes_no_new_memory(address: str, flavour: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS, address, flavour],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    assert int(done.stdout) * resource.getpagesize() < MEGABYTE / 4
