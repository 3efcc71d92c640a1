"""The channel of one process, opened at first use, and calls on it.

Why one a process: a channel does not survive a fork, its threads stay behind. A data loader that
forks workers after the client was used gets a new channel in each of them.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from lossd.client.errors import InvalidRequestError, from_rpc_error
from lossd.client.options import SERVICE, channel_options
from lossd.client.retry import Retrier

Answer = TypeVar("Answer", bound=Message)


class Connection:
    """A channel to a target, or the one that was passed in, which is then never closed."""

    def __init__(self, target: str, channel: grpc.Channel | None) -> None:
        self._target = target
        self._channel = channel
        self._owned = channel is None
        self._closed = False
        self._lock = threading.Lock()
        self._retrier = Retrier()

    def channel(self) -> grpc.Channel:
        """Returns the channel, the same to all threads.

        Raises:
            InvalidRequestError: if the connection was closed.
        """
        with self._lock:
            if self._closed:
                raise _closed_error()
            if self._channel is None:
                self._channel = grpc.insecure_channel(self._target, channel_options())
            return self._channel

    def close(self) -> None:
        """Closes the channel; calls under way end as cancelled."""
        with self._lock:
            self._closed = True
            if self._owned and self._channel is not None:
                self._channel.close()

    def call(self, method: str, request: Message, answer: type[Answer], timeout: float) -> Answer:
        """Returns the answer of a method, after retries where they help.

        Raises:
            LossdError: what the last attempt failed with.
        """
        invoke: Callable[..., Answer] = self.channel().unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return self._retrier.call(lambda left: _attempt(invoke, request, left), timeout)


def _attempt(invoke: Callable[..., Answer], request: Message, timeout: float) -> Answer:
    try:
        return invoke(request, timeout=timeout)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
    except ValueError as error:  # gRPC's word for a channel that was closed meanwhile
        raise _closed_error() from error


def _closed_error() -> InvalidRequestError:
    return InvalidRequestError("client must be open, got a closed one")
