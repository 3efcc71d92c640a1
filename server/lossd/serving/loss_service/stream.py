"""The calls of a stream: a message that announces tensors, followed by their chunks."""

from collections.abc import Iterator

from lossd import v1
from lossd.checkpoints import Checkpoint
from lossd.chunks import Assembly, ChunkError, chunk_of
from lossd.engine import Hold
from lossd.errors import InvalidRequest, InvalidTensor, TooLarge
from lossd.serving.rpc.messages import parse
from lossd.serving.wire.reader import Limits, check_tensors

OpenedCall = Assembly[v1.ComputeLossRequest]


def open_call(
    encoded: bytes, limits: Limits, max_bytes: int, collect: Hold, checkpoint: Checkpoint
) -> OpenedCall:
    """Returns the call that a message begins; ``collect`` counts what it takes beyond its bytes.

    Raises:
        InvalidRequest: if it begins no call, or announces tensors that break a rule.
        TooLarge: if it announces more than is allowed.
        Overloaded: if there is no room for it.
    """
    part = parse(v1.StreamLossRequest, encoded, collect, checkpoint)
    if part.WhichOneof("part") != "call":
        got = part.WhichOneof("part") or "no part"
        raise _broken(f"part must be a call, got {got}")
    _refuse_regions(part.call)
    check_tensors(part.call.inputs, limits.tensors)  # before they are looked at one by one
    try:
        assembly = Assembly(part.call)
    except ChunkError as error:
        raise _broken(str(error)) from error
    if assembly.size_bytes > max_bytes:
        raise TooLarge(
            f"chunks of a call must have at most {max_bytes} bytes, got {assembly.size_bytes}",
            field="part",
            details={"limit": max_bytes, "bytes": assembly.size_bytes},
        )
    return assembly


def fill(
    assembly: OpenedCall, messages: Iterator[bytes], collect: Hold, checkpoint: Checkpoint
) -> None:
    """Reads the chunks of a call; ``collect`` counts their bytes.

    Raises:
        InvalidRequest: if another message comes, or the stream ends.
        Overloaded: if there is no room left for them.
    """
    while not assembly.is_complete:
        encoded = next(messages, None)
        if encoded is None:
            raise _broken("part must be a chunk, got the end of the stream")
        chunk = chunk_of(encoded)
        if chunk is None:  # it is no chunk, or a client encoded it in an unusual way
            part = parse(v1.StreamLossRequest, encoded, collect, checkpoint)
            if part.WhichOneof("part") != "chunk":
                raise _broken(f"part must be a chunk, got {part.WhichOneof('part') or 'no part'}")
            chunk = part.chunk
        collect(len(chunk))
        try:
            assembly.take(chunk)
        except ChunkError as error:
            raise _broken(str(error)) from error


def _refuse_regions(request: v1.ComputeLossRequest) -> None:
    """Refuses places for the answer, which comes on the stream."""
    for path, is_set in (
        ("reply", request.HasField("reply")),
        ("device.reply", request.device.HasField("reply")),
    ):
        if is_set:
            raise InvalidTensor(f"{path} must be unset in StreamLoss, got a region", field=path)


def _broken(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="BROKEN_STREAM", field="part")
