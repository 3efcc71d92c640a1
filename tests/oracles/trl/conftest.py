"""Fixtures that the comparisons with TRL share."""

import os
from collections.abc import Iterator

import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """NumPy's alone: who computes what does not depend on the backend."""
    made = Engine(NumpyBackend(1))
    yield made
    made.close()
