"""Requests become jobs and results become replies.

Counts are looked at with ``len`` before a repeated field is iterated: a few MiB of empty
submessages take minutes to walk.
"""

import enum
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from lossd import tensors, v1
from lossd.batch import Job
from lossd.engine import Arrays, Result
from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor, TooLarge, UnknownLoss
from lossd.framing import Framed, Payloads
from lossd.losses import LOSSES, Loss, Parameter, Shape, Status
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.serving.loan import Loan
from lossd.sums import MAX_TERMS, SumJob, Term

MAX_CHOICES = 64  # members of an enum in a list: none has so many
FLOATS = (v1.D_TYPE_FLOAT16, v1.D_TYPE_BFLOAT16, v1.D_TYPE_FLOAT32, v1.D_TYPE_FLOAT64)
MAX_NAMES = 256  # texts in a list: more layers than any network has
MAX_VECTOR = 1 << 20  # numbers of one parameter: more classes than any vocabulary has


WEIGHTED_SUM = "weighted_sum"  # the one member of a spec that is no loss of the catalogue


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold."""

    axes: int = tensors.MAX_AXES
    tensors: int = 64


M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=enum.Enum)


class Declared(Protocol):
    """A loss or a metric, as far as its parameters go."""

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """What it can be told."""


def parse(message: type[M], data: bytes) -> M:
    """Reads a message.

    Raises:
        InvalidRequest: if the bytes are not one.
    """
    with _refusing(message, data):
        return message.FromString(data)


def parse_framed(message: type[M], data: bytes) -> Framed[M]:
    """Reads a message, and leaves the data of its tensors where it is.

    Raises:
        InvalidRequest: if the bytes are not one.
    """
    with _refusing(message, data):
        return Framed.parse(message, data)


@contextmanager
def _refusing(message: type[Message], data: bytes) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise InvalidRequest(
            f"request must be an encoded {name}, got {len(data)} bytes that are not",
            reason="MALFORMED_REQUEST",
        ) from error


# ------------------------------------------------------------------ request to job


def work(
    framed: Framed[v1.ComputeLossRequest], limits: Limits, loan: Loan | None = None
) -> Job | SumJob:
    """Reads a request; what it says of shapes and values is checked by the engine.

    ``loan`` gives what lies in shared memory; without one there is none.

    Raises:
        UnknownLoss: if it names no loss, or one that is not served.
        InvalidRequest: if a field breaks its rule.
        TooLarge: if it has too many tensors or numbers.
    """
    if framed.message.loss.WhichOneof("kind") != WEIGHTED_SUM:
        return job(framed, limits, loan)
    request = framed.message
    if len(request.metrics):
        raise InvalidRequest(
            f"metrics must go with a single loss, got {len(request.metrics)} with a sum of losses",
            field="metrics",
        )
    loan = loan or Loan(None, lambda _: None)
    read = Reader(framed.payloads, limits, loan)
    if request.HasField("reply"):
        loan.take_region(request.reply)
    given = request.loss.weighted_sum.terms
    if not 1 <= len(given) <= MAX_TERMS:
        raise InvalidParameter(
            f"terms must be 1 to {MAX_TERMS}, got {len(given)}", field=f"loss.{WEIGHTED_SUM}.terms"
        )
    terms = [
        _term(position, term, _term_job(request, term.loss, read, limits))
        for position, term in enumerate(given)
    ]
    return SumJob(
        terms=tuple(terms),
        inputs=read.inputs(request.inputs),
        gradients=_gradients(request, limits),
        per_example=terms[0].job.per_example,
    )


def job(framed: Framed[v1.ComputeLossRequest], limits: Limits, loan: Loan | None = None) -> Job:
    """Reads a request for one loss; raises as ``work`` does."""
    request = framed.message
    loss = _loss(request.loss)
    given = parameters(loss, getattr(request.loss, loss.name))
    loan = loan or Loan(None, lambda _: None)
    read = Reader(framed.payloads, limits, loan, _row_axis(loss, given))
    if request.HasField("reply"):
        loan.take_region(request.reply)
    return _job(request, loss, given, read.inputs(request.inputs), read, limits)


def _term(position: int, term: v1.WeightedTerm, found: Job) -> Term:
    """A term of a sum; the inputs of its loss go by the request's names."""
    path = f"terms[{position}]"
    weight = term.weight if term.HasField("weight") else 1.0
    if not math.isfinite(weight):
        raise InvalidParameter(
            f"{path}.weight must be in (-inf, inf), got {weight:g}",
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


def _term_job(
    request: v1.ComputeLossRequest, spec: v1.LossSpec, read: "Reader", limits: Limits
) -> Job:
    """A job for one term, without its inputs."""
    loss = _loss(spec)
    return _job(request, loss, parameters(loss, getattr(spec, loss.name)), {}, read, limits)


def _job(  # noqa: PLR0917 - all that a request says
    request: v1.ComputeLossRequest,
    loss: Loss,
    given: Mapping[str, Any],
    inputs: Mapping[str, list[tensors.Array]],
    read: "Reader",
    limits: Limits,
) -> Job:
    return Job(
        loss=loss,
        parameters=given,
        inputs=inputs,
        weights=read.optional(request, "weights"),
        mask=read.optional(request, "mask"),
        cotangent=read.optional(request, "cotangent"),
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


def _row_axis(loss: Loss, parameters: Mapping[str, Any]) -> int | None:
    """The axis that rows are along, where the loss takes its inputs row by row; None elsewhere."""
    if loss.shape is Shape.ROWWISE:
        return int(parameters.get("class_axis", -1))
    return -1 if loss.shape is Shape.POINTWISE else None


def parameters(declared: Declared, message: Message) -> dict[str, Any]:
    """The parameters of a loss or a metric that were set."""
    found: dict[str, Any] = {}
    were_set = message.ListFields()
    if not were_set:
        return found
    known = {parameter.name: parameter for parameter in declared.all_parameters}
    for descriptor, value in were_set:
        name, parameter = descriptor.name, known[descriptor.name]
        if parameter.is_vector:
            check_count(name, len(value), MAX_VECTOR)
            found[name] = tuple(value)
        elif parameter.choices is None and parameter.is_list:
            check_count(name, len(value), MAX_NAMES)
            found[name] = tuple(value)
        elif parameter.choices is None:
            found[name] = value
        elif parameter.is_list:
            found[name] = _choices(descriptor.enum_type, name, value, parameter.choices)
        else:
            found[name] = _choice(descriptor.enum_type, name, value, parameter.choices)
    return found


def _choice(kind: Any, name: str, number: int, members: type[E]) -> E:
    found: E | None = _by_number(kind, members).get(number)
    if found is None:
        names = ", ".join(member.name for member in members)
        raise InvalidParameter(f"{name} must be one of {names}, got {number}", field=name)
    return found


def _choices(kind: Any, name: str, numbers: Sequence[int], members: type[E]) -> tuple[E, ...]:
    check_count(name, len(numbers), MAX_CHOICES)
    return tuple(
        _choice(kind, f"{name}[{position}]", number, members)
        for position, number in enumerate(numbers)
    )


@functools.cache
def _by_number(descriptor: Any, members: type[E]) -> Mapping[int, E]:
    """The members by number: MEAN by that of REDUCTION_MEAN, whose name ends so."""
    found = {}
    for number, value in descriptor.values_by_number.items():
        names = (name for name in members.__members__ if value.name.endswith(f"_{name}"))
        longest = max(names, key=len, default=None)  # BATCH_MEAN, not MEAN
        if longest is not None:
            found[number] = members[longest]
    return found


def _member(request: v1.ComputeLossRequest, name: str, members: type[E], default: E) -> E:
    number = getattr(request, name)
    if number == 0:
        return default
    kind = request.DESCRIPTOR.fields_by_name[name].enum_type
    found: E | None = _by_number(kind, members).get(number)
    if found is None:
        names = ", ".join(member.name for member in members)
        raise InvalidRequest(f"{name} must be one of {names}, got {number}", field=name)
    return found


def check_count(thing: str, count: int, limit: int) -> None:
    """Raises TooLarge if there are more entries than may be."""
    if count > limit:
        raise TooLarge(
            f"{thing} must have at most {limit} entries, got {count}",
            field=thing,
            details={"limit": limit, "count": count},
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the tensors of one request."""

    payloads: Payloads | None
    limits: Limits
    loan: Loan = field(default_factory=lambda: Loan(None, lambda _: None))
    row_axis: int | None = None

    def inputs(self, inputs: Sequence[v1.NamedTensors]) -> dict[str, list[tensors.Array]]:
        """Reads the inputs, by name."""
        check_count("inputs", len(inputs), self.limits.tensors)
        check_count("inputs", sum(len(named.tensors) for named in inputs), self.limits.tensors)
        found: dict[str, list[tensors.Array]] = {}
        for position, named in enumerate(inputs):
            if named.name in found:
                raise InvalidTensor(
                    f"inputs must each be given once, got {named.name[:64]!r} twice",
                    field=f"inputs[{position}].name",
                )
            path = f"inputs[{position}].tensors"
            found[named.name] = [
                self.tensor(tensor, named.name, f"{path}[{i}]", may_stay=self._may_stay(tensor))
                for i, tensor in enumerate(named.tensors)
            ]
        return found

    def optional(self, request: Message, name: str) -> tensors.Array | None:
        """Reads a tensor of the request; None where it is unset."""
        return self.tensor(getattr(request, name), name, name) if request.HasField(name) else None

    def _may_stay(self, tensor: v1.Tensor) -> bool:
        """Whether an input is used where it lies: rows of floating-point numbers, one by one."""
        return tensor.dtype in FLOATS and self.row_axis in (-1, len(tensor.shape) - 1)

    def tensor(
        self, tensor: v1.Tensor, name: str, path: str, *, may_stay: bool = False
    ) -> tensors.Array:
        """Reads a tensor, whose name and path errors tell."""
        axes = len(tensor.shape)
        if axes > self.limits.axes:
            raise InvalidTensor(
                f"{name[:64]}.shape must have at most {self.limits.axes} axes, got {axes}",
                field=f"{path}.shape",
            )
        lent = self.loan.view if may_stay else self.loan.copy
        try:
            return tensors.read(tensor, self.payloads, lambda place, size: lent(place, size, path))
        except tensors.TensorError as error:
            raise InvalidTensor(f"{name[:64]}.{error}", field=f"{path}.{error.field}") from error


def _gradients(request: v1.ComputeLossRequest, limits: Limits) -> tuple[str, ...] | None:
    if not request.HasField("gradients"):
        return None
    check_count("gradients.inputs", len(request.gradients.inputs), limits.tensors)
    return tuple(request.gradients.inputs)


# ------------------------------------------------------------------ result to reply

# By the number that a Status has here, the one that it has on the wire.
_STATUS_NUMBERS = np.array(
    [v1.STATUS_UNSPECIFIED, *(v1.Status.Value(f"STATUS_{each.name}") for each in Status)],
    np.uint8,
)


# What a term says in numbers.
_TERM_NUMBERS = [name for name in v1.TermResult.DESCRIPTOR.fields_by_name if name != "status"]


def response(result: Result, loan: Loan | None = None) -> Framed[v1.ComputeLossResponse]:
    """Writes a result, without the arrays that lie in shared memory already."""
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


def write_timing(timing: v1.ServerTiming, seconds: Mapping[str, float]) -> None:
    """Writes the phases that are over."""
    for name in timing.DESCRIPTOR.fields_by_name:
        if name in seconds:
            duration = getattr(timing, name)
            duration.seconds, duration.nanos = divmod(round(seconds[name] * 1e9), 10**9)
