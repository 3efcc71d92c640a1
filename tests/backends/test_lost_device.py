"""A fault that leaves the device useless, against one of a single call."""

import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGUSR1
from typing import Any

import numpy as np
import pytest

from lossd.backends import cupy as backend
from lossd.client import LossClient, LossResult, UnavailableError
from lossd.engine import Engine
from lossd.errors import DeviceLost
from lossd.losses import LOSSES
from lossd.v1 import SquaredError
from tests import fragile_server
from tests.end_to_end.conftest import serve
from tests.sampling import plain

pytestmark = pytest.mark.gpu


@pytest.fixture
def engine(fake: Any) -> Iterator[Engine]:
    made = Engine(backend.CupyBackend())
    yield made
    fake.reset()
    made.close()


def test_a_fault_of_one_call_is_that_calls_alone(fake: Any, engine: Engine) -> None:
    job = plain(LOSSES["huber"]).job()
    engine.run(job)
    fake.fault("cuLaunchKernel", error=fake.LAUNCH_OUT_OF_RESOURCES)
    with pytest.raises(Exception, match="LAUNCH_OUT_OF_RESOURCES"):
        engine.run(job)

    assert engine.run(job).example_count == plain(LOSSES["huber"]).count


def test_a_lost_device_is_called_lost(engine: Engine) -> None:
    fragile_server.break_device()
    with pytest.raises(DeviceLost, match="device must answer, got: cuda"):
        engine.run(plain(LOSSES["huber"]).job())


def test_a_lost_device_can_be_closed(engine: Engine) -> None:
    fragile_server.break_device()

    engine.close()


def test_a_server_whose_device_is_lost_says_so_and_ends(fake: Any) -> None:
    del fake  # skips without it
    script = Path(fragile_server.__file__)
    inside = (sys.executable, str(script))
    arguments = ("--backend", "cupy", "--no-check-device", "--drain-seconds", "1")
    with serve(*arguments, inside=inside) as server, LossClient(server.address) as client:
        assert compute(client).backend == "cupy"
        server.process.send_signal(SIGUSR1)
        with pytest.raises(UnavailableError):
            until_it_fails(client)

        assert server.process.wait(timeout=20) == 1
        assert "device must answer, got nothing from it" in "".join(server.log())


def compute(client: LossClient) -> LossResult:
    return client.compute(
        SquaredError(), predictions=np.ones((2, 3)), targets=np.zeros((2, 3)), timeout=5
    )


def until_it_fails(client: LossClient) -> None:
    """A signal is heard when it is heard."""
    while True:
        compute(client)
