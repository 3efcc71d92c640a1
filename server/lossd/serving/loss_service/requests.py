"""Turns requests into jobs."""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lossd import tensors, v1
from lossd.batch import Job
from lossd.errors import InvalidParameter, InvalidRequest, ServiceError, UnknownLoss
from lossd.framing import Framed
from lossd.losses import LOSSES, Loss
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.schema import exactly
from lossd.serving.device_memory_service.lease import NO_DEVICE, DeviceLease
from lossd.serving.rpc.messages import check_count
from lossd.serving.shared_memory_service.lease import Lease
from lossd.serving.wire.parameters import read_member, read_parameters
from lossd.serving.wire.reader import Limits, RequestReader
from lossd.shapes import rules_of
from lossd.sums import MAX_TERMS, SumJob, Term, of_term

WEIGHTED_SUM = "weighted_sum"  # the only member of a spec that is no loss of the catalogue
_FEW_NUMBERS = 1 << 12  # of a list, which may be looked at first

E = TypeVar("E", bound=enum.Enum)


def read_request(
    framed: Framed[v1.ComputeLossRequest],
    limits: Limits,
    lease: Lease | None = None,
    device: DeviceLease = NO_DEVICE,
) -> Job | SumJob:
    """Reads a request; the engine checks its shapes and values.

    ``lease`` gives access to tensors in shared memory, ``device`` to those in device memory;
    without one there are none.

    Raises:
        UnknownLoss: if it names no loss, or one that is not served.
        InvalidRequest: if a field breaks its rule.
        TooLarge: if it has too many tensors or numbers.
    """
    if framed.message.loss.WhichOneof("kind") == WEIGHTED_SUM:
        return _sum_job(framed, limits, lease or Lease(None, lambda _: None), device)
    return read_job(framed, limits, lease, device)


def names_on_device(request: v1.ComputeLossRequest) -> frozenset[str]:
    """Returns the inputs of a request that have a tensor in device memory."""
    return frozenset(
        named.name
        for named in request.inputs
        if any(tensor.WhichOneof("source") == "device_memory" for tensor in named.tensors)
    )


def read_job(
    framed: Framed[v1.ComputeLossRequest],
    limits: Limits,
    lease: Lease | None = None,
    device: DeviceLease = NO_DEVICE,
) -> Job:
    """Reads a request for one loss; raises as ``read_request`` does."""
    request = framed.message
    loss = _loss(request.loss)
    given = _read_parameters(request, loss, request.loss)
    read = _reader(framed, loss, given, limits, lease, device)
    return _job(request, loss, given, read.inputs(request.inputs), read, limits)


def read_job_like(
    asked: Job, framed: Framed[v1.ComputeLossRequest], limits: Limits, lease: Lease
) -> Job:
    """Reads the tensors of a request that asks for the same as a job; raises as ``read_request``.

    ``asked`` has none; what the request says of anything but tensors is not looked at.
    """
    request = framed.message
    read = _reader(framed, asked.loss, asked.parameters, limits, lease, NO_DEVICE)
    return replace(asked, inputs=read.inputs(request.inputs), **_beside(request, read))


def _reader(  # noqa: PLR0917 - all that tensors follow from
    framed: Framed[v1.ComputeLossRequest],
    loss: Loss,
    given: Mapping[str, Any],
    limits: Limits,
    lease: Lease | None,
    device: DeviceLease,
) -> RequestReader:
    """Returns what reads the tensors of a request for one loss, and takes room for the reply."""
    lease = lease or Lease(None, lambda _: None)
    rules = rules_of(loss)
    _take_regions(framed.message, lease, device)
    row_axis, in_place = rules.row_axis(loss, given), rules.in_place(loss)
    return RequestReader(framed.payloads, limits, lease, row_axis, device, in_place)


def _beside(request: v1.ComputeLossRequest, read: RequestReader) -> dict[str, Any]:
    """Reads the tensors of a request that are no inputs."""
    return {name: read.optional(request, name) for name in ("weights", "mask", "cotangent")}


def _take_regions(request: v1.ComputeLossRequest, lease: Lease, device: DeviceLease) -> None:
    """Takes the regions for the reply before any tensor is read."""
    if request.HasField("reply"):
        lease.take_region(request.reply)
    device.take_region()


def _term(position: int, term: v1.WeightedTerm, found: Job) -> Term:
    """Returns a term of a sum; the inputs of its loss have the request's names."""
    path = f"terms[{position}]"
    weight = term.weight if term.HasField("weight") else 1.0
    if not math.isfinite(weight):
        raise InvalidParameter(
            f"{path}.weight must be in (-inf, inf), got {exactly(weight)}",
            field=f"loss.{WEIGHTED_SUM}.{path}.weight",
        )
    own = [declared.name for declared in found.loss.inputs]
    for name in term.input_names:
        if name not in own:
            raise InvalidParameter(
                f"{path}.input_names must be of {', '.join(own)}, got {name[:64]!r}",
                field=f"loss.{WEIGHTED_SUM}.{path}.input_names",
            )
    names = {name: term.input_names.get(name, name) for name in own}
    return Term(weight=weight, job=found, names=names)


def _sum_job(
    framed: Framed[v1.ComputeLossRequest], limits: Limits, lease: Lease, device: DeviceLease
) -> SumJob:
    request = framed.message
    if len(request.metrics):
        raise InvalidRequest(
            f"metrics must go with a single loss, got {len(request.metrics)} with a sum of losses",
            field="metrics",
        )
    read = RequestReader(framed.payloads, limits, lease, device=device)
    _take_regions(request, lease, device)
    given = request.loss.weighted_sum.terms
    _check_terms(given)
    terms = [
        _term(position, term, _term_job(position, request, term.loss, read, limits))
        for position, term in enumerate(given)
    ]
    return SumJob(
        terms=tuple(terms),
        inputs=read.inputs(request.inputs),
        gradients=_gradients(request, limits),
        per_example=terms[0].job.per_example,
    )


def _check_terms(terms: Sequence[v1.WeightedTerm]) -> None:
    """Checks that a sum has some terms, and none that is a sum itself."""
    if not 1 <= len(terms) <= MAX_TERMS:
        raise InvalidParameter(
            f"terms must be 1 to {MAX_TERMS}, got {len(terms)}", field=f"loss.{WEIGHTED_SUM}.terms"
        )
    for position, term in enumerate(terms):
        if term.loss.WhichOneof("kind") == WEIGHTED_SUM:
            raise UnknownLoss(
                f"terms[{position}].loss must be a single loss, got a sum of losses",
                field=f"loss.{WEIGHTED_SUM}.terms[{position}].loss",
            )


def _term_job(
    position: int,
    request: v1.ComputeLossRequest,
    spec: v1.LossSpec,
    read: RequestReader,
    limits: Limits,
) -> Job:
    """Returns the job of one term, without its inputs."""
    try:
        loss = _loss(spec)
        given = _read_parameters(request, loss, spec)
    except ServiceError as error:
        raise of_term(position, error) from error
    return _job(request, loss, given, {}, read, limits)


def _read_parameters(
    request: v1.ComputeLossRequest, loss: Loss, spec: v1.LossSpec
) -> dict[str, Any]:
    """Reads the parameters of a loss.

    Before each of many numbers is looked at, they must be no more than an axis of an input is long.
    """
    given = read_parameters(loss, getattr(spec, loss.name), f"loss.{loss.name}")
    for parameter in loss.all_parameters:
        count = len(given.get(parameter.name, ())) if parameter.is_vector else 0
        if count > _FEW_NUMBERS and count > (longest := _longest_axis(request)):
            raise InvalidParameter(
                f"{parameter.name} must have at most {longest} numbers for inputs of this shape, "
                f"got {count}",
                field=f"loss.{loss.name}.{parameter.name}",
            )
    return given


def _longest_axis(request: v1.ComputeLossRequest) -> int:
    given = (tensor for named in request.inputs for tensor in named.tensors)
    return max((size for tensor in given for size in tensor.shape), default=0)


def _job(  # noqa: PLR0917 - all that a request says
    request: v1.ComputeLossRequest,
    loss: Loss,
    given: Mapping[str, Any],
    inputs: Mapping[str, list[tensors.Array]],
    read: RequestReader,
    limits: Limits,
) -> Job:
    return Job(
        loss=loss,
        parameters=given,
        inputs=inputs,
        **_beside(request, read),
        reduction=_member(request, "reduction", Reduction, Reduction.MEAN),
        normalizer=request.normalizer if request.HasField("normalizer") else None,
        gradients=_gradients(request, limits),
        per_example=request.per_example if request.HasField("per_example") else True,
        empty=_member(request, "empty", EmptyPolicy, EmptyPolicy.ZERO),
        nonfinite=_member(request, "nonfinite", NonfinitePolicy, NonfinitePolicy.PROPAGATE),
    )


def _loss(spec: v1.LossSpec) -> Loss:
    kind = spec.WhichOneof("kind")
    if kind is None or kind not in LOSSES:
        raise UnknownLoss(
            f"loss must be one of {', '.join(LOSSES)}, got {kind or 'none that is known here'}",
            field="loss",
        )
    return LOSSES[kind]


def _member(request: v1.ComputeLossRequest, name: str, members: type[E], default: E) -> E:
    number = getattr(request, name)
    if number == 0:
        return default
    kind = request.DESCRIPTOR.fields_by_name[name].enum_type
    return read_member(kind, name, number, members, InvalidRequest)


def _gradients(request: v1.ComputeLossRequest, limits: Limits) -> tuple[str, ...] | None:
    if not request.HasField("gradients"):
        return None
    check_count("gradients.inputs", len(request.gradients.inputs), limits.tensors)
    return tuple(request.gradients.inputs)
