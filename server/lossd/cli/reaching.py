"""Connects to a server and makes sure that it answers."""

import contextlib
from collections.abc import Iterator

from lossd.client import LossClient

_SECONDS = 5.0


@contextlib.contextmanager
def reached(address: str) -> Iterator[LossClient]:
    """Connects to a server, and first makes a small call.

    So a mistyped address fails soon, not after the long timeout of a large batch.

    Raises:
        LossdError: if the address is invalid, or nothing answers there.
    """
    with LossClient(address) as client:
        client.server_info(timeout=_SECONDS)
        yield client
