"""Fixtures that every folder shares: the backends there are, the catalogue, and the clients."""

from collections.abc import Iterator
from typing import Any

import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss
from tests import flavours
from tests.flavours import Flavour

ENGINES = ["numpy-1", "numpy-2", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on each backend that this machine has."""
    name, _, threads = request.param.partition("-")
    made = Engine(NumpyBackend(int(threads))) if name == "numpy" else _cupy_engine()
    yield made
    made.backend.close()


def _cupy_engine() -> Engine:
    cupy = pytest.importorskip("lossd.backends.cupy", exc_type=ImportError)
    if not (available := cupy.probe()):
        pytest.skip(available.reason)
    return Engine(cupy.CupyBackend())


@pytest.fixture(params=list(LOSSES.values()), ids=list(LOSSES))
def loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss of the catalogue."""
    found: Loss = request.param
    return found


@pytest.fixture(scope="session", params=["threads", "asyncio"])
def flavour(request: pytest.FixtureRequest) -> Iterator[Flavour]:
    """Each of the two clients."""
    with flavours.flavour(request.param) as given:
        yield given


@pytest.fixture
def connect(flavour: Flavour) -> Any:
    """Makes a client."""
    return flavour.connect
