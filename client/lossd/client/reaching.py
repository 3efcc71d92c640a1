"""The client of an adapter, which is given an address or a client."""

from lossd.client.errors import InvalidRequestError
from lossd.client.sync import LossClient


def client_of(given: str | LossClient, timeout: float | None) -> LossClient:
    """Returns a client that was given, or one for an address, all of whose calls have the timeout.

    Raises:
        InvalidRequestError: if it is neither, the address is none, or the timeout is not in
            (0, inf).
    """
    if isinstance(given, LossClient):
        return given
    if not isinstance(given, str):
        raise InvalidRequestError(
            f"client must be an address or a LossClient, got {type(given).__name__}",
            field="client",
        )
    return LossClient(given) if timeout is None else LossClient(given, timeout=timeout)
