"""A client of a server that answers."""

import contextlib
from collections.abc import Iterator

from lossd.client import LossClient

_SECONDS = 5.0


@contextlib.contextmanager
def reached(address: str) -> Iterator[LossClient]:
    """Connects to a server, and asks it something small first.

    Who mistyped an address hears of it soon, not when the patience for a large batch is over.

    Raises:
        LossdError: if the address is none, or nothing there answers.
    """
    with LossClient(address) as client:
        client.server_info(timeout=_SECONDS)
        yield client
