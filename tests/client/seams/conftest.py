"""A server that the seams call."""

from collections.abc import Iterator

import pytest

from lossd.client import LossClient
from tests.end_to_end.conftest import serve


@pytest.fixture(scope="session")
def client() -> Iterator[LossClient]:
    """A client of a server of its own."""
    with serve() as server, LossClient(server.address) as made:
        yield made
