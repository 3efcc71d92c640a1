"""The methods of ``DeviceMemoryService``."""

from collections.abc import Mapping

from lossd import v1
from lossd.serving.call import Call, Received
from lossd.serving.device_memory_service.memory import DeviceMemory
from lossd.serving.rpc.handlers import Handler
from lossd.serving.rpc.messages import parse
from lossd.v1 import device_memory_service_pb2

_services = device_memory_service_pb2.DESCRIPTOR.services_by_name
SERVICE = _services["DeviceMemoryService"].full_name


class DeviceMemoryServicer:
    """Serves ``DeviceMemoryService``."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory

    def methods(self) -> Mapping[str, Handler]:
        """Returns the methods by full name."""
        handlers = {"AllocateDevice": self.allocate_device, "ReleaseDevice": self.release_device}
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    def allocate_device(self, received: Received, call: Call) -> bytes:
        """Allocates memory under a lease."""
        request, caller = parse(v1.AllocateDeviceRequest, received.take()), call.caller
        token, made = self._memory.allocate(
            request.size,
            request.device_uuid,
            request.lease,
            caller.name,
            owned_bytes=caller.quotas.device_bytes,
        )
        return v1.AllocateDeviceResponse(
            segment=token,
            size=made.size,
            cuda_ipc=made.handle,
            offset=made.offset,
            done_event=made.done_handle,
        ).SerializeToString()

    def release_device(self, received: Received, call: Call) -> bytes:
        """Frees memory."""
        request = parse(v1.ReleaseDeviceRequest, received.take())
        self._memory.release(request.segment, call.caller.name)
        return v1.ReleaseDeviceResponse().SerializeToString()


def offer(memory: DeviceMemory) -> v1.DeviceMemoryOffer:
    """Returns the offer of device memory that clients are sent."""
    return v1.DeviceMemoryOffer(device_uuids=memory.exports.uuids, bytes=memory.max_bytes)
