"""Turns results into replies."""

import numpy as np

from lossd import tensors, v1
from lossd.engine import Arrays, Result
from lossd.framing import Framed, Payloads
from lossd.losses import Status
from lossd.serving.shared_memory_service.lease import Loan

# The number of each Status on the wire, by its number here.
_STATUS_NUMBERS = np.array(
    [v1.STATUS_UNSPECIFIED, *(v1.Status.Value(f"STATUS_{each.name}") for each in Status)],
    np.uint8,
)


# The fields of a term that are numbers.
_TERM_NUMBERS = [name for name in v1.TermResult.DESCRIPTOR.fields_by_name if name != "status"]


def response(result: Result, loan: Loan | None = None) -> Framed[v1.ComputeLossResponse]:
    """Writes a result, except for the arrays that lie in shared memory already."""
    loan = loan or Loan(None, lambda _: None)
    reply = v1.ComputeLossResponse(
        loss=result.loss,
        loss_sum=result.loss_sum,
        weight_sum=result.weight_sum,
        example_count=result.example_count,
        ignored_count=result.ignored_count,
        nonfinite_count=len(result.nonfinite_examples),
        status=None if result.status is None else f"STATUS_{result.status.name}",
        backend=result.backend,
        transport=loan.transport,
    )
    payloads = Payloads.worthwhile(_size(result) - loan.reply_bytes)

    def fill(tensor: v1.Tensor, array: tensors.Array) -> None:
        place = loan.place_of(array)
        if place is None:
            tensors.fill(tensor, array, payloads)
        else:
            tensors.refer(tensor, array, place)

    if len(result.statuses.indices):
        fill(reply.statuses.indices, result.statuses.indices.astype(np.int64))
        fill(reply.statuses.statuses, _STATUS_NUMBERS[result.statuses.numbers])
    if result.per_example is not None:
        fill(reply.per_example, result.per_example)
    for name, gradient in result.gradients.items():
        several = reply.gradients.add(name=name).tensors
        for array in _listed(gradient):
            fill(several.add(), array)
    for name, output in result.outputs.items():
        fill(reply.outputs.add(name=name).tensors.add(), output)
    for term in result.terms:
        status = None if term.status is None else f"STATUS_{term.status.name}"
        reply.terms.add(status=status, **{n: getattr(term, n) for n in _TERM_NUMBERS})
    return Framed(reply, payloads)


def _listed(gradient: Arrays) -> list[tensors.Array]:
    return gradient if isinstance(gradient, list) else [gradient]


def _size(result: Result) -> int:
    gradients = [array for g in result.gradients.values() for array in _listed(g)]
    arrays = [*gradients, *result.outputs.values(), result.statuses.indices]
    per_example = 0 if result.per_example is None else result.per_example.nbytes
    return per_example + sum(array.nbytes for array in arrays)
