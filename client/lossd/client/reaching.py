"""The client of an adapter, which is given an address or a client, and what it asks beside."""

import inspect
import time
from collections.abc import Mapping
from typing import Any

from lossd.client import arguments
from lossd.client.call import left_until
from lossd.client.errors import InvalidRequestError
from lossd.client.sync import LossClient


def client_of(given: str | LossClient, timeout: float | None) -> LossClient:
    """Returns a client that was given, or one for an address, all of whose calls have the timeout.

    Raises:
        InvalidRequestError: if it is neither, the address is none, or the timeout is not in
            (0, inf).
    """
    if isinstance(given, str):
        return LossClient(given) if timeout is None else LossClient(given, timeout=timeout)
    if not _is_client(given):
        raise InvalidRequestError(
            f"client must be an address or a LossClient, got {type(given).__name__}",
            field="client",
        )
    return given


class Allowance:
    """The time that an adapter has for one batch, what it asks about the loss included.

    Args:
        timeout: The seconds; None where each call has those of its client.
    """

    def __init__(self, timeout: float | None) -> None:
        self._until = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Returns the seconds that are left; None where each call has those of its client.

        Raises:
            DeadlineExceededError: if there are none.
        """
        return None if self._until is None else left_until(self._until)

    def names_of(
        self, client: Any, loss: Any, count: int = 0, named: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """Returns the names of a loss's inputs, asked for once more where not all inputs have one.

        Args:
            client: The client that asks.
            loss: The loss.
            count: How many inputs are given by their order.
            named: Those that are given by name.

        Raises:
            LossdError: as ``LossClient.input_names``.
        """
        names: tuple[str, ...] = client.input_names(loss, **self.within())
        if not arguments.have_places(names, count, named or {}):
            names = client.input_names(loss, again=True, **self.within())
        return names

    def within(self) -> dict[str, float]:
        """Returns the argument of a call that is to end in time.

        Raises:
            DeadlineExceededError: as ``left``.
        """
        left = self.left()
        return {} if left is None else {"timeout": left}


def _is_client(given: object) -> bool:
    """Returns whether something computes as a client does: it may be what wraps one."""
    compute = None if isinstance(given, type) else getattr(given, "compute", None)
    return callable(compute) and not inspect.iscoroutinefunction(compute)
