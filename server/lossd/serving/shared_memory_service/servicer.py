"""The methods of ``SharedMemoryService``."""

from collections.abc import Mapping

from lossd import v1
from lossd.serving.call import Call, Received
from lossd.serving.rpc.handlers import Handler
from lossd.serving.rpc.messages import parse
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.v1 import shared_memory_service_pb2

_services = shared_memory_service_pb2.DESCRIPTOR.services_by_name
SERVICE = _services["SharedMemoryService"].full_name


class SharedMemoryServicer:
    """Serves ``SharedMemoryService``."""

    def __init__(self, shared: SharedMemory) -> None:
        self._shared = shared

    def methods(self) -> Mapping[str, Handler]:
        """Returns the methods by full name."""
        handlers = {"AttachSegment": self.attach_segment, "DetachSegment": self.detach_segment}
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    def attach_segment(self, received: Received, call: Call) -> bytes:
        """Takes a file as a segment."""
        request = parse(v1.AttachSegmentRequest, received.take())
        caller = call.caller
        token = self._shared.attach(
            request.name, request.size, caller.name, caller.quotas.shm_segments
        )
        return v1.AttachSegmentResponse(segment=token).SerializeToString()

    def detach_segment(self, received: Received, call: Call) -> bytes:
        """Detaches a segment."""
        del call
        self._shared.detach(parse(v1.DetachSegmentRequest, received.take()).segment)
        return v1.DetachSegmentResponse().SerializeToString()


def offer(shared: SharedMemory) -> v1.SharedMemoryOffer:
    """Returns the offer of shared memory that clients are sent."""
    place = shared.place
    return v1.SharedMemoryOffer(
        directory=shared.directory,
        beacon=place.beacon,
        beacon_content=place.content,
        segment_bytes=shared.max_bytes,
        segments=shared.max_segments,
    )
