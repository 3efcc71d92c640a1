"""Where losses are computed, where there is a GPU beside the CPU."""

from typing import Any

import numpy as np
import pytest

from lossd import routing
from lossd.backends import Rates
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss
from lossd.plan import HOST
from lossd.routing import DEVICE, HostRun, Route

GIGA = 10**9
# PCIe 5 and a card's memory: what a batch takes is what its copies take.
RATES = Rates(staging=20e9, up=50e9, down=40e9, on_device=2000e9)


def on_a_cpu_of(rate: float) -> Any:
    """A CPU that takes so many bytes a second, read and written."""
    return lambda _: HostRun(seconds=2 * GIGA / rate, sent=GIGA, returned=GIGA)


def routes(rate: float, **asked: str) -> dict[str, Route]:
    found = routing.routes(RATES, on_a_cpu_of(rate), asked)
    return {route.shape: route for route in found}


@pytest.mark.parametrize(("rate", "backend"), [(5e9, DEVICE), (15e9, DEVICE), (30e9, HOST)])
def test_losses_of_single_numbers_go_where_they_are_done_sooner(rate: float, backend: str) -> None:
    """By way of the host's own memory a batch takes as long as staging it: 20 GB/s."""
    found = routes(rate)
    for shape in ("pointwise", "rowwise", "regionwise", "vectors"):
        assert found[shape].backend == backend
        assert found[shape].on_device == DEVICE
        said = f"the CPU takes {rate / 1e9:g} GB/s, the GPU 20 with its copies"
        assert said in found[shape].reason


@pytest.mark.parametrize("rate", [5e9, 30e9])
def test_what_computes_much_for_each_number_goes_to_the_gpu(rate: float) -> None:
    found = routes(rate)
    for shape in ("coupled", "sequence", "setwise", "images"):
        assert found[shape].backend == DEVICE
    assert found["tokens"].backend == found["tokens"].on_device == HOST


def test_the_operator_decides_by_shape() -> None:
    found = routes(30e9, rowwise=DEVICE, coupled=HOST)
    assert (found["rowwise"].backend, found["rowwise"].reason) == (DEVICE, "asked for")
    assert (found["coupled"].backend, found["coupled"].on_device) == (HOST, DEVICE)
    assert found["pointwise"].backend == HOST


def test_every_loss_has_one_route() -> None:
    names = [name for route in routes(1e9).values() for name in route.losses]
    assert sorted(names) == sorted(LOSSES)


@pytest.mark.parametrize(
    ("rates", "resident", "seconds"),
    [
        (Rates(1e15, 1e9, 2e9, 1e15), False, 1),
        (Rates(1e15, 1e12, 0.5e9, 1e15), False, 2),
        (Rates(0.5e9, 1e12, 1e12, 1e15), False, 4),
        (Rates(1e15, 1e12, 1e12, 1e9), False, 2),
        (Rates(0.5e9, 1e9, 1e9, 1e9), True, 2),
    ],
)
def test_the_slowest_part_decides(rates: Rates, *, resident: bool, seconds: float) -> None:
    assert rates.seconds(GIGA, GIGA, resident=resident) == pytest.approx(seconds)


@pytest.mark.parametrize("name", routing.STREAMING.values())
def test_losses_that_stand_for_others_are_measured(name: str) -> None:
    backend = NumpyBackend(1)
    run = routing.measured_on(Engine(backend))(LOSSES[name])
    backend.close()
    assert run.seconds > 0
    assert run.sent >= run.returned == routing._ROWS * routing._COLUMNS * 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("rowwise=cupy", {"rowwise": DEVICE}),
        (" rowwise=cupy , coupled=numpy,", {"rowwise": DEVICE, "coupled": HOST}),
    ],
)
def test_wishes_are_read(text: str, found: dict[str, str]) -> None:
    assert routing.parsed(text) == found


@pytest.mark.parametrize(
    "text", ["rowwise", "rowwise=gpu", "huber=cupy", "=cupy", "rowwise=cupy=1"]
)
def test_wishes_for_what_there_is_not_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be SHAPE=BACKEND"):
        routing.parsed(text)


def test_losses_that_the_host_computes_are_not_wished_elsewhere() -> None:
    assert routing.parsed("tokens=numpy") == {"tokens": "numpy"}
    with pytest.raises(ValueError, match="must leave tokens to numpy, which alone computes them"):
        routing.parsed("rowwise=cupy,tokens=cupy")


class Named(NumpyBackend):
    """NumPy under another name."""

    def __init__(self, name: str) -> None:
        super().__init__(1)
        self.name = name


def job(loss: Loss) -> Job:
    inputs: dict[str, Any] = {n: [np.ones((2, 3), np.float32)] for n in ("predictions", "targets")}
    return Job(loss=loss, parameters={}, inputs=inputs)


def test_losses_are_computed_where_their_route_says() -> None:
    device, cpu = Named("device"), Named("cpu")
    engine = Engine(
        device,
        overrides={"huber": Named("faulty"), "log_cosh": Named("faulty")},
        routes={"huber": cpu, "squared_error": cpu},
    )
    names = ("squared_error", "absolute_error", "huber", "log_cosh")
    found = {name: engine.run(job(LOSSES[name])).backend for name in names}
    assert found == {
        "squared_error": "cpu",
        "absolute_error": "device",
        "huber": "faulty",
        "log_cosh": "faulty",
    }
    engine.close()
