"""A server that shares a directory, as far as what it answers to questions about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossd import v1
from lossd.client.call import ATTACH_SEGMENT, DETACH_SEGMENT, GET_SERVER_INFO, LIST_LOSSES, Method

METHODS: tuple[Method[Any], ...] = (GET_SERVER_INFO, LIST_LOSSES, ATTACH_SEGMENT, DETACH_SEGMENT)


class SharingServer:
    """Answers as a server does that shares a directory, and keeps what it was asked."""

    def __init__(self, directory: Path) -> None:
        (directory / "beacon").write_bytes(b"lit")
        self.directory = directory
        self.attached: list[bytes] = []
        self.detached: list[bytes] = []
        self.questions = 0

    def ask(self, method: Any, request: Any, timeout: float) -> Any:
        assert timeout > 0
        self.questions += 1
        if method is GET_SERVER_INFO:
            offer = v1.SharedMemoryOffer(
                directory=str(self.directory), beacon="beacon", beacon_content=b"lit"
            )
            return v1.GetServerInfoResponse(shared_memory=offer)
        if method is LIST_LOSSES:
            predictions = v1.InputDescription(
                name="predictions", differentiability=v1.DIFFERENTIABILITY_DEFAULT
            )
            known = v1.LossDescription(name="cross_entropy", inputs=[predictions])
            return v1.ListLossesResponse(losses=[known])
        if method is ATTACH_SEGMENT:
            self.attached.append(request.name.encode())
            return v1.AttachSegmentResponse(segment=self.attached[-1])
        assert method is DETACH_SEGMENT
        self.detached.append(request.segment)
        return v1.DetachSegmentResponse()

    def handlers(self) -> dict[str, Callable[[Any, Any], Any]]:
        """The same as methods of a server that listens, by name."""

        def handler(method: Method[Any]) -> Callable[[Any, Any], Any]:
            return lambda request, _context: self.ask(method, request, 1.0)

        return {method.path.rpartition("/")[2]: handler(method) for method in METHODS}
