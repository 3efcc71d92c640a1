"""Reads the tensors of a request within limits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from lossd import tensors, v1
from lossd.backends import Resident
from lossd.errors import InvalidTensor
from lossd.framing import Payloads
from lossd.serving.device_memory_service.lease import NO_DEVICE, DeviceLease
from lossd.serving.rpc.messages import check_count
from lossd.serving.shared_memory_service.lease import Lease

FLOATS = (v1.D_TYPE_FLOAT16, v1.D_TYPE_BFLOAT16, v1.D_TYPE_FLOAT32, v1.D_TYPE_FLOAT64)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a request."""

    axes: int = tensors.MAX_AXES
    tensors: int = 64


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the tensors of one request.

    ``row_axis`` is that of a loss whose inputs are read row by row, and ``in_place`` are inputs
    that may be used where they lie in shared memory, whatever their axes.
    """

    payloads: Payloads | None
    limits: Limits
    lease: Lease = field(default_factory=lambda: Lease(None, lambda _: None, is_taken=False))
    row_axis: int | None = None
    device: DeviceLease = NO_DEVICE
    in_place: frozenset[str] = frozenset()

    def inputs(self, inputs: Sequence[v1.NamedTensors]) -> dict[str, list[tensors.Array]]:
        """Reads the inputs, by name."""
        check_tensors(inputs, self.limits.tensors)
        found: dict[str, list[tensors.Array]] = {}
        for position, named in enumerate(inputs):
            if named.name in found:
                raise InvalidTensor(
                    f"inputs must each be given once, got {named.name[:64]!r} twice",
                    field=f"inputs[{position}].name",
                )
            path = f"inputs[{position}].tensors"
            found[named.name] = [
                self.tensor(
                    tensor, named.name, f"{path}[{i}]", may_stay=self._may_stay(named.name, tensor)
                )
                for i, tensor in enumerate(named.tensors)
            ]
        return found

    def optional(self, request: Message, name: str) -> tensors.Array | None:
        """Reads a tensor of the request; None where it is unset."""
        return self.tensor(getattr(request, name), name, name) if request.HasField(name) else None

    def _may_stay(self, name: str, tensor: v1.Tensor) -> bool:
        """Returns whether an input may be used where it lies: floating-point numbers, as rows."""
        if tensor.dtype not in FLOATS:
            return False
        if self.row_axis in (-1, len(tensor.shape) - 1):
            return True
        return name in self.in_place and tensor.WhichOneof("source") == "shared_memory"

    def tensor(
        self, tensor: v1.Tensor, name: str, path: str, *, may_stay: bool = False
    ) -> tensors.Array:
        """Reads a tensor; errors give its name and path."""
        axes = len(tensor.shape)
        if axes > self.limits.axes:
            raise InvalidTensor(
                f"{name[:64]}.shape must have at most {self.limits.axes} axes, got {axes}",
                field=f"{path}.shape",
            )
        may_stay = may_stay and not _is_between_numbers(tensor)
        lent = self.lease.view if may_stay else self.lease.copy
        there = self.device.view if may_stay else self.device.copy
        try:
            found = tensors.read(
                tensor,
                self.payloads,
                lambda position, size: lent(position, size, path),
                lambda position, size: there(position, size, path),
            )
            stays = may_stay and tensor.WhichOneof("source") == "device_memory"
            return found.view(Resident) if stays else found
        except tensors.TensorError as error:
            raise InvalidTensor(f"{name[:64]}.{error}", field=f"{path}.{error.field}") from error


def _is_between_numbers(tensor: v1.Tensor) -> bool:
    """Returns whether a tensor lies where a device cannot read its numbers, but a copy has them."""
    if tensor.WhichOneof("source") != "device_memory" or tensor.dtype not in FLOATS:
        return False
    return bool(tensor.device_memory.offset % tensors.dtype_of_type[tensor.dtype].itemsize)


def check_tensors(inputs: Sequence[v1.NamedTensors], limit: int) -> None:
    """Refuses more inputs, or tensors of all inputs, than a request may have.

    A list of too many, such as rows one by one, is a mistake and no lack of room.

    Raises:
        InvalidTensor: for such a list.
        TooLarge: if they are too many in all.
    """
    check_count("inputs", len(inputs), limit)  # what has no tensor counts too
    for position, named in enumerate(inputs):
        if len(named.tensors) > limit:
            raise InvalidTensor(
                f"{named.name[:64]} must be at most {limit} tensors, got {len(named.tensors)}: "
                "stack the rows of one",
                field=f"inputs[{position}].tensors",
            )
    count = sum(len(named.tensors) for named in inputs)
    check_count("tensors of inputs", count, limit, "inputs")
