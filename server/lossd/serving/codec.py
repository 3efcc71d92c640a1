"""Requests become jobs and results become replies.

Counts are looked at with ``len`` before a repeated field is iterated: a few MiB of empty
submessages take minutes to walk.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from lossd import tensors, v1
from lossd.batch import Job
from lossd.engine import Result
from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor, TooLarge, UnknownLoss
from lossd.losses import LOSSES, Loss
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction

MAX_VECTOR = 1 << 20  # numbers of one parameter: more classes than any vocabulary has


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold."""

    axes: int = tensors.MAX_AXES
    tensors: int = 64


M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=enum.Enum)


def parse(message: type[M], data: bytes) -> M:
    """Reads a message.

    Raises:
        InvalidRequest: if the bytes are not one.
    """
    try:
        return message.FromString(data)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise InvalidRequest(
            f"request must be an encoded {name}, got {len(data)} bytes that are not",
            reason="MALFORMED_REQUEST",
        ) from error


# ------------------------------------------------------------------ request to job


def job(request: v1.ComputeLossRequest, limits: Limits) -> Job:
    """Reads a request; what it says of shapes and values is checked by the engine.

    Raises:
        UnknownLoss: if it names no loss, or one that is not served.
        InvalidRequest: if a field breaks its rule.
        TooLarge: if it has too many tensors or numbers.
    """
    loss = _loss(request.loss)
    return Job(
        loss=loss,
        parameters=_parameters(loss, getattr(request.loss, loss.name)),
        inputs=_inputs(request.inputs, limits),
        weights=_optional_tensor(request, "weights", limits),
        mask=_optional_tensor(request, "mask", limits),
        cotangent=_optional_tensor(request, "cotangent", limits),
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


def _parameters(loss: Loss, message: Message) -> dict[str, Any]:
    """The parameters that were set."""
    found: dict[str, Any] = {}
    for parameter in loss.all_parameters:
        name = parameter.name
        value = getattr(message, name)
        if parameter.is_vector:
            _check_count(name, len(value), MAX_VECTOR)
            found[name] = tuple(value)
        elif issubclass(parameter.type, enum.Enum):
            if value:
                found[name] = _enum_parameter(message, name, value, parameter.type)
        elif message.HasField(name):
            found[name] = value
    return found


def _enum_parameter(message: Message, name: str, number: int, members: type[E]) -> E:
    found = _by_number(message.DESCRIPTOR.fields_by_name[name].enum_type, number, members)
    if found is None:
        names = ", ".join(member.name for member in members)
        raise InvalidParameter(f"{name} must be one of {names}, got {number}", field=name)
    return found


def _by_number(descriptor: Any, number: int, members: type[E]) -> E | None:
    """The member whose name ends the name of the enum's value: MEAN for REDUCTION_MEAN."""
    value = descriptor.values_by_number.get(number)
    if value is None:
        return None
    names = (name for name in members.__members__ if value.name.endswith(f"_{name}"))
    longest = max(names, key=len, default=None)  # BATCH_MEAN, not MEAN
    return None if longest is None else members[longest]


def _member(request: v1.ComputeLossRequest, name: str, members: type[E], default: E) -> E:
    number = getattr(request, name)
    if number == 0:
        return default
    found = _by_number(request.DESCRIPTOR.fields_by_name[name].enum_type, number, members)
    if found is None:
        names = ", ".join(member.name for member in members)
        raise InvalidRequest(f"{name} must be one of {names}, got {number}", field=name)
    return found


def _check_count(thing: str, count: int, limit: int) -> None:
    if count > limit:
        raise TooLarge(
            f"{thing} must have at most {limit} entries, got {count}",
            field=thing,
            details={"limit": limit, "count": count},
        )


def _inputs(inputs: Sequence[v1.NamedTensors], limits: Limits) -> dict[str, list[tensors.Array]]:
    _check_count("inputs", len(inputs), limits.tensors)
    _check_count("inputs", sum(len(named.tensors) for named in inputs), limits.tensors)
    found: dict[str, list[tensors.Array]] = {}
    for position, named in enumerate(inputs):
        if named.name in found:
            raise InvalidTensor(
                f"inputs must each be given once, got {named.name[:64]!r} twice",
                field=f"inputs[{position}].name",
            )
        path = f"inputs[{position}].tensors"
        found[named.name] = [
            _tensor(tensor, named.name, f"{path}[{i}]", limits)
            for i, tensor in enumerate(named.tensors)
        ]
    return found


def _optional_tensor(
    request: v1.ComputeLossRequest, name: str, limits: Limits
) -> tensors.Array | None:
    return _tensor(getattr(request, name), name, name, limits) if request.HasField(name) else None


def _tensor(tensor: v1.Tensor, name: str, path: str, limits: Limits) -> tensors.Array:
    if len(tensor.shape) > limits.axes:
        raise InvalidTensor(
            f"{name[:64]}.shape must have at most {limits.axes} axes, got {len(tensor.shape)}",
            field=f"{path}.shape",
        )
    try:
        return tensors.read(tensor)
    except tensors.TensorError as error:
        raise InvalidTensor(f"{name[:64]}.{error}", field=f"{path}.{error.field}") from error


def _gradients(request: v1.ComputeLossRequest, limits: Limits) -> tuple[str, ...] | None:
    if not request.HasField("gradients"):
        return None
    _check_count("gradients.inputs", len(request.gradients.inputs), limits.tensors)
    return tuple(request.gradients.inputs)


# ------------------------------------------------------------------ result to reply


def response(result: Result) -> v1.ComputeLossResponse:
    """Writes a result."""
    reply = v1.ComputeLossResponse(
        loss=result.loss,
        loss_sum=result.loss_sum,
        weight_sum=result.weight_sum,
        example_count=result.example_count,
        ignored_count=result.ignored_count,
        nonfinite_count=len(result.nonfinite_examples),
        backend=result.backend,
    )
    if len(result.nonfinite_examples):
        statuses = np.full(len(result.nonfinite_examples), v1.STATUS_NONFINITE, np.uint8)
        tensors.fill(reply.statuses.indices, result.nonfinite_examples.astype(np.int64))
        tensors.fill(reply.statuses.statuses, statuses)
    if result.per_example is not None:
        tensors.fill(reply.per_example, result.per_example)
    for name, gradient in result.gradients.items():
        tensors.fill(reply.gradients.add(name=name).tensors.add(), gradient)
    return reply


def write_timing(timing: v1.ServerTiming, seconds: Mapping[str, float]) -> None:
    """Writes the phases that are over."""
    for name in timing.DESCRIPTOR.fields_by_name:
        if name in seconds:
            getattr(timing, name).FromNanoseconds(round(seconds[name] * 1e9))
