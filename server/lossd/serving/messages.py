"""Messages of any service: read within limits, with their tensors, and the timing of answers.

Counts are looked at with ``len`` before a repeated field is iterated: a few MiB of empty
submessages take minutes to walk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lossd import tensors, v1
from lossd.errors import InvalidRequest, InvalidTensor, TooLarge
from lossd.framing import Framed, Payloads
from lossd.serving.loan import Loan

_FLOATS = (v1.D_TYPE_FLOAT16, v1.D_TYPE_BFLOAT16, v1.D_TYPE_FLOAT32, v1.D_TYPE_FLOAT64)

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold."""

    axes: int = tensors.MAX_AXES
    tensors: int = 64


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
        for named in inputs:
            _check_list(named, self.limits.tensors)
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
        return tensor.dtype in _FLOATS and self.row_axis in (-1, len(tensor.shape) - 1)

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


def _check_list(named: v1.NamedTensors, limit: int) -> None:
    """Rows one by one are a mistake, which no room on the server would mend."""
    if len(named.tensors) > limit:
        raise InvalidTensor(
            f"{named.name[:64]} must be at most {limit} tensors, got {len(named.tensors)}: "
            "stack the rows of one",
            field="inputs",
        )


def write_timing(timing: v1.ServerTiming, seconds: Mapping[str, float]) -> None:
    """Writes the phases that are over."""
    for name in timing.DESCRIPTOR.fields_by_name:
        if name in seconds:
            duration = getattr(timing, name)
            duration.seconds, duration.nanos = divmod(round(seconds[name] * 1e9), 10**9)
