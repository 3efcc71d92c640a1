"""Fixtures that every folder shares: the backends there are, and the catalogue."""

from collections.abc import Iterator

import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss

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
