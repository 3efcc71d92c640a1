"""Calls made by hand, for what the bundled client would never do."""

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np

from lossd import tensors, v1

METHOD = "/lossd.v1.LossService/ComputeLoss"
CHANNEL = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def request(rows: int = 2, classes: int = 3) -> bytes:
    """An encoded request for cross-entropy over logits of 0."""
    made = v1.ComputeLossRequest(loss=v1.LossSpec(cross_entropy=v1.CrossEntropy()))
    logits, labels = np.zeros((rows, classes), np.float32), np.zeros(rows, np.int64)
    tensors.fill(made.inputs.add(name="predictions").tensors.add(), logits)
    tensors.fill(made.inputs.add(name="targets").tensors.add(), labels)
    return made.SerializeToString()


@contextlib.contextmanager
def unary(address: str) -> Iterator[Callable[..., Any]]:
    """The method, from bytes to bytes."""
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        yield channel.unary_unary(METHOD)


class Held:
    """A call that has come in, and whose message is still to be sent."""

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._messages: queue.Queue[bytes | None] = queue.Queue()
        method: Any = channel.stream_unary(METHOD)
        self.future = method.future(iter(self._messages.get, None), 60, metadata)

    def send(self, message: bytes) -> None:
        """Sends the message and ends the request."""
        self._messages.put(message)
        self._messages.put(None)
