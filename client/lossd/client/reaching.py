"""The client of an adapter, which is given an address or a client."""

import inspect

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


def _is_client(given: object) -> bool:
    """Returns whether something computes as a client does: it may be what wraps one."""
    compute = None if isinstance(given, type) else getattr(given, "compute", None)
    return callable(compute) and not inspect.iscoroutinefunction(compute)
