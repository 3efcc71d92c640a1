"""A real server for the adapters of the frameworks."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Process, serve


@pytest.fixture(scope="session")
def server() -> Iterator[Process]:
    with serve("--backend", "numpy", "--threads", "2") as process:
        yield process


@pytest.fixture
def address(server: Process) -> str:
    return server.address


@pytest.fixture
def double_precision() -> Iterator[None]:
    """JAX with 64 bits, by the switch that every release has."""
    config = pytest.importorskip("jax").config
    config.update("jax_enable_x64", val=True)
    yield
    config.update("jax_enable_x64", val=False)


@pytest.fixture
def strict_promotion() -> Iterator[None]:
    """JAX that finds no common type by itself."""
    config = pytest.importorskip("jax").config
    config.update("jax_numpy_dtype_promotion", "strict")
    yield
    config.update("jax_numpy_dtype_promotion", "standard")
