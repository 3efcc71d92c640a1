"""The device memory of one call: its inputs, the region for its gradients, and their order."""

import contextlib
from typing import Any

from lossd import tensors, v1
from lossd.client.device import DeviceSharing
from lossd.client.device_arrays import OnDevice
from lossd.client.device_segments import ALIGNMENT, DeviceBlock
from lossd.client.device_streams import Stream
from lossd.client.reply_room import aligned, tensor_bytes


class DeviceCall:
    """The device memory of one call, until ``end``; some is set up until a time on the clock."""

    def __init__(self, sharing: DeviceSharing, until: float) -> None:
        self._sharing = sharing
        self._until = until
        self._blocks: list[DeviceBlock] = []
        self._segments: set[bytes] = set()  # tokens of those with an input, or the reply
        self._device: int | None = None  # of all arrays of the call
        self._streams: dict[int, Stream] = {}
        self._reply: DeviceBlock | None = None
        self._stack = contextlib.ExitStack()

    def place(self, array: OnDevice) -> v1.DeviceMemory | None:
        """Returns where an array lies in memory of the server; None for what has to go another way.

        One that lies elsewhere on the device is copied there.  A call takes those of one device.
        """
        device = self._sharing.device_of_array(array, self._until)
        if device is None or self._device not in {None, device}:
            return None
        stream = self._sharing.stream(array, device)
        place = self._sharing.place(array, stream)
        if place is None:
            place = self._copied(array, device, stream)
        if place is None:
            return None
        self._device = device
        self._segments.add(place.segment)
        self._streams[stream.address] = stream
        return place

    def _copied(self, array: OnDevice, device: int, stream: Stream) -> v1.DeviceMemory | None:
        copied = self._sharing.copied(array, device, stream, self._until)
        if copied is None:
            return None
        place, block = copied
        self._blocks.append(block)
        return place

    def prepare(self, request: v1.ComputeLossRequest, gradients: set[str]) -> None:
        """Writes how a request with tensors in device memory uses it."""
        device = self._device
        if device is None:
            return
        wanted = [
            tensor
            for named in request.inputs
            for tensor in named.tensors
            if named.name in gradients and tensor.WhichOneof("source") == "device_memory"
        ]
        size = sum(aligned(tensor_bytes(tensor), ALIGNMENT) for tensor in wanted)
        streams = set(self._streams.values())
        reply = self._sharing.block(size, device, self._until, streams) if size else None
        self._reply = reply
        if reply is not None:
            self._segments.add(reply.segment.token)
            request.device.reply.segment = reply.segment.token
            request.device.reply.offset = reply.start
            request.device.reply_size = reply.size
        recorded = self._sharing.recorded(device, self._streams)
        request.device.ready_event = self._stack.enter_context(recorded)

    def array(self, tensor: v1.Tensor) -> Any:
        """Returns an array of the reply.

        Raises:
            TensorError: if it does not lie where the reply should.
        """
        if self._reply is None:
            raise tensors.TensorError("device_memory", "it must lie in the reply's region")
        return self._sharing.array(self._reply, tensor)

    def is_left(self) -> bool:
        """Returns whether memory that it uses was forgotten with its server."""
        return any(map(self._sharing.is_left, self._segments))

    def end(self, *, was_answered: bool) -> None:
        """Ends it; blocks of inputs are returned, that of the reply when no array is over it."""
        if self._reply is not None and was_answered:
            self._sharing.follow(self._reply.segment, self._streams)
        if self._reply is not None and not was_answered:
            self._reply.segment.retire()  # a call that was given up may still write to it
        self._stack.close()
        self._blocks.clear()
        self._reply = None
