"""How much room the reply to a batch takes, so that it can be given some in shared memory."""

import math
from collections.abc import Callable
from typing import Any

from lossd import tensors, v1
from lossd.client.segments import ALIGNMENT


def wanted_gradients(
    request: v1.ComputeLossRequest, default_gradients: Callable[[str], set[str]]
) -> set[str]:
    """Returns the inputs whose gradients a request asks for."""
    if request.HasField("gradients"):
        return set(request.gradients.inputs)
    kind = request.loss.WhichOneof("kind") or ""
    if kind != "weighted_sum":
        return default_gradients(kind)
    return {
        term.input_names.get(name, name)
        for term in request.loss.weighted_sum.terms
        for name in default_gradients(term.loss.WhichOneof("kind") or "")
    }


def reply_size(request: v1.ComputeLossRequest, wanted: set[str]) -> int:
    """Returns the size of the reply's arrays, or a guess; arrays that do not fit are sent."""
    kind = request.loss.WhichOneof("kind")
    given = [(named.name, tensor) for named in request.inputs for tensor in named.tensors]
    size = sum(
        aligned(tensor_bytes(tensor), ALIGNMENT)
        for name, tensor in given
        if name in wanted and tensor.WhichOneof("source") != "device_memory"
    )
    largest = max((tensor for _, tensor in given), key=tensor_bytes)
    arrays = int(request.per_example) + len(getattr(getattr(request.loss, kind), "outputs", ()))
    examples = _examples(getattr(request.loss, kind), tuple(largest.shape))
    return size + arrays * aligned(8 * examples, ALIGNMENT)


def _examples(loss: Any, shape: tuple[int, ...]) -> int:
    """Returns the number of examples, for losses whose parameters tell."""
    if "batch_dims" in loss.DESCRIPTOR.fields_by_name:
        return math.prod(shape[: loss.batch_dims if loss.HasField("batch_dims") else 1])
    axis = getattr(loss, "class_axis", -1) if _has(loss, "class_axis") else -1
    classes = shape[axis] if -len(shape) <= axis < len(shape) else 1
    return math.prod(shape) // max(classes, 1)


def _has(loss: Any, name: str) -> bool:
    return name in loss.DESCRIPTOR.fields_by_name and bool(loss.HasField(name))


def tensor_bytes(tensor: v1.Tensor) -> int:
    """Returns the bytes of a tensor's array."""
    size: int = math.prod(tensor.shape) * tensors.dtype_of_type[tensor.dtype].itemsize
    return size


def aligned(size: int, alignment: int) -> int:
    """Returns a size rounded up, so that another array may begin there."""
    return -(-size // alignment) * alignment
