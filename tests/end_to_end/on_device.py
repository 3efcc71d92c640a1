"""Servers that share memory of their device, and arrays there, on gpulab's fake device."""

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.device import is_fake
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until

ROWS, CLASSES = 200, 300
MEBIBYTE = 1 << 20
CUPY = ("--backend", "cupy", "--no-check-device")


@pytest.fixture(autouse=True)
def fake() -> Iterator[Any]:
    """The fake device of this process, without faults and violations before and after."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    found = importlib.import_module("gpulab.fake")
    yield found
    assert not found.violations()


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that shares memory of its device."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    directory = str(tmp_path_factory.mktemp("shm"))
    room = str(512 * MEBIBYTE)
    with serve(*CUPY, "--shm-dir", directory, "--max-device-bytes", room) as process:
        yield process


@pytest.fixture
def cupy() -> Any:
    return importlib.import_module("cupy")


def logits(rows: int = ROWS, columns: int = CLASSES) -> Any:
    return np.random.default_rng(2).normal(size=(rows, columns)).astype(np.float32)


def classes(rows: int = ROWS, columns: int = CLASSES) -> Any:
    return np.random.default_rng(3).integers(0, columns, rows)


def filled(client: Any, array: Any) -> Any:
    """An array in device memory with the numbers of one on the host."""
    found = held(client, array.shape, array.dtype)
    found.set(array)
    return found


def held(client: Any, shape: tuple[int, ...] = (ROWS, CLASSES), dtype: Any = np.float32) -> Any:
    """An array in device memory; on a machine that is busy a question may take too long once."""
    made: list[Any] = []

    def is_made() -> bool:
        made.append(client.device_empty(shape, dtype))
        return hasattr(made[-1], "set")

    until(is_made)
    return made[-1]


def in_use(process: Process) -> float:
    return metric(process, "lossd_device_memory_bytes")


def idle(process: Process) -> None:
    """Waits until no client of the tests before has memory."""
    gc.collect()
    until(lambda: not in_use(process))


def assert_same(found: Any, expected: Any) -> None:
    host = found.get() if hasattr(found, "get") else found
    assert host.dtype == expected.dtype
    assert host.tobytes() == expected.tobytes()


HOLDER = """
import sys
from lossd.client import LossClient
client = LossClient(sys.argv[1])
array = client.device_empty((1000, 1000))
print(type(array).__module__, flush=True)
sys.stdin.read()
"""


def holder(process: Process, **environment: str) -> "subprocess.Popen[str]":
    """Another process that holds an array in device memory."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, process.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
