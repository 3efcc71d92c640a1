"""Turns results into replies."""

from collections.abc import Callable

import numpy as np

from lossd import tensors, v1
from lossd.engine import Result
from lossd.framing import Framed, Payloads
from lossd.losses import Status
from lossd.serving.call import DEVICE_MEMORY
from lossd.serving.device_memory_service.lease import NO_DEVICE, DeviceLease
from lossd.serving.shared_memory_service.lease import Lease

# The number of each Status on the wire, by its number here.
_STATUS_NUMBERS = np.array(
    [v1.STATUS_UNSPECIFIED, *(v1.Status.Value(f"STATUS_{each.name}") for each in Status)],
    np.uint8,
)


Fill = Callable[[v1.Tensor, tensors.Array], None]

# The fields of a term that are numbers.
_TERM_NUMBERS = set(v1.TermResult.DESCRIPTOR.fields_by_name) - {"status", "outputs"}


def head(result: Result, transport: str) -> v1.ComputeLossResponse:
    """Writes a result, except for its arrays."""
    return v1.ComputeLossResponse(
        loss=result.loss,
        loss_sum=result.loss_sum,
        weight_sum=result.weight_sum,
        example_count=result.example_count,
        ignored_count=result.ignored_count,
        nonfinite_count=len(result.nonfinite_examples),
        status=None if result.status is None else f"STATUS_{result.status.name}",
        backend=result.backend,
        transport=transport,
    )


def fill_statuses(reply: v1.ComputeLossResponse, result: Result, fill: Fill = tensors.fill) -> None:
    """Writes the statuses of examples, where there are any."""
    if len(result.statuses.indices):
        fill(reply.statuses.indices, result.statuses.indices.astype(np.int64))
        fill(reply.statuses.statuses, _STATUS_NUMBERS[result.statuses.numbers])


def response(
    result: Result, lease: Lease | None = None, device: DeviceLease = NO_DEVICE
) -> Framed[v1.ComputeLossResponse]:
    """Writes a result, except for the arrays that lie in memory that is shared already."""
    lease = lease or Lease(None, lambda _: None)
    reply = head(result, DEVICE_MEMORY if device.is_used else lease.transport)
    payloads = Payloads.worthwhile(_size(result) - lease.reply_bytes - device.reply_bytes)

    def fill(tensor: v1.Tensor, array: tensors.Array) -> None:
        position = device.position_of(array) or lease.position_of(array)
        if position is None:
            tensors.fill(tensor, array, payloads)
        else:
            tensors.refer(tensor, array, position)

    fill_statuses(reply, result, fill)
    if result.per_example is not None:
        fill(reply.per_example, result.per_example)
    for name, gradient in result.gradients.items():
        several = reply.gradients.add(name=name).tensors
        for array in gradient if isinstance(gradient, list) else (gradient,):
            fill(several.add(), array)
    for name, output in result.outputs.items():
        fill(reply.outputs.add(name=name).tensors.add(), output)
    for term in result.terms:
        status = None if term.status is None else f"STATUS_{term.status.name}"
        told = reply.terms.add(status=status, **{n: getattr(term, n) for n in _TERM_NUMBERS})
        for name, output in term.outputs.items():
            fill(told.outputs.add(name=name).tensors.add(), output)
    return Framed(reply, payloads)


def arrays_of(result: Result) -> list[tensors.Array]:
    """Returns the arrays of the result of a loss in the order of a reply, but for its statuses."""
    arrays = [] if result.per_example is None else [result.per_example]
    for gradient in result.gradients.values():
        arrays += gradient if isinstance(gradient, list) else (gradient,)
    return [*arrays, *result.outputs.values()]


def _size(result: Result) -> int:
    of_terms = (output for term in result.terms for output in term.outputs.values())
    arrays = (*arrays_of(result), *of_terms, result.statuses.indices)
    return sum(array.nbytes for array in arrays)
