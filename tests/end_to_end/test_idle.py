"""A server that nobody calls takes next to nothing, and is there at once when somebody does."""

import sys
import time
from pathlib import Path

import pytest

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests.end_to_end.conftest import Process, serve

SECONDS = 4


def times_awake(process: Process) -> int:
    """Returns how often its threads have stopped to wait for something."""
    told = Path(f"/proc/{process.process.pid}/task").glob("*/status")
    lines = [line for status in told for line in status.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can tell")
def test_a_server_that_nobody_calls_rests() -> None:
    with serve("--backend", "numpy") as process:
        with LossClient(process.address) as client:
            client.compute(SquaredError(), [1.0], [0.0])
        time.sleep(2.5)  # it looks on for a while: there may be more calls
        before = times_awake(process)
        time.sleep(SECONDS)
        assert (times_awake(process) - before) / SECONDS < 60
        with LossClient(process.address) as client:
            assert client.compute(SquaredError(), [1.0], [0.0]).loss == 1
