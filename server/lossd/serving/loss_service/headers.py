"""All that a request says beside its data and where that lies, by which its plan is found.

For requests whose tensors lie in shared memory or came in chunks: they are parsed at each call,
since the places of their tensors are others each time, and say who may read what.
"""

from lossd import v1
from lossd.chunks import tensors_of
from lossd.serving.loss_service.planned import asks_for_one_loss

_MOST_BYTES = 1 << 20  # of a message that is copied to take its data out


def header_of(request: v1.ComputeLossRequest, most: int) -> bytes | None:
    """Returns all of a request but the data and the places of its tensors, and of its reply.

    Two requests that have the same are planned alike.  Returns None for one that no plan is kept
    for: it asks for more than one loss, or for a device, has more than ``most`` tensors, or is
    large itself, as the first message on a stream may be that holds data.
    """
    if not asks_for_one_loss(request, most) or request.ByteSize() > _MOST_BYTES:
        return None
    header = v1.ComputeLossRequest()
    header.CopyFrom(request)
    header.ClearField("reply")
    for tensor in tensors_of(header):
        source = tensor.WhichOneof("source")
        if source == "shared_memory":
            tensor.shared_memory.Clear()
        elif source == "data":
            tensor.data = b""
        else:
            return None
    return header.SerializeToString(deterministic=True)
