"""Turns responses into results: pure, shared by all clients; ``requests`` is the way there.

Nothing here does any input or output.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lossd import tensors, v1
from lossd.client.arrays import Array, is_several
from lossd.client.errors import ServerError
from lossd.client.layouts import CutReply, Named
from lossd.client.result import LossResult, MetricResult, ServerTiming, TermResult
from lossd.framing import Framed, Payloads

# Of the bytes of gradients; what is smaller is soon copied, beside what was computed.
_SMALL_PART = 16


def read_response(
    framed: Framed[v1.ComputeLossResponse],
    shared: tensors.Shared | None = None,
    on_device: Callable[[v1.Tensor], Any] | None = None,
) -> LossResult[Any]:
    """Returns the result that a response holds; its arrays are read-only.

    ``shared`` gives the bytes of arrays in shared memory, ``on_device`` arrays in device memory.

    Raises:
        ServerError: if a tensor in it breaks the contract.
    """
    response, read = framed.message, ResponseReader(framed.payloads, shared, on_device)
    try:
        gradients = read.named(response.gradients)
        beside = replace(read, large_bytes=_bytes_of(gradients))
        cut = CutReply(
            response, beside.per_example(response), gradients, beside.named(response.outputs)
        )
        return _result(cut, beside)
    except tensors.TensorError as error:
        raise _broken(error) from error


def read_cut(cut: CutReply) -> LossResult[Any]:
    """Returns the result that a response holds whose arrays were cut off.

    Raises:
        ServerError: as ``read_response``.
    """
    try:
        return _result(cut, _WITHIN)
    except tensors.TensorError as error:
        raise _broken(error) from error


def _result(cut: CutReply, read: "ResponseReader") -> LossResult[Any]:
    head = cut.head
    return LossResult(
        loss=head.loss if head.HasField("loss") else None,
        per_example=cut.per_example,
        gradients=cut.gradients,
        loss_sum=head.loss_sum,
        weight_sum=head.weight_sum,
        example_count=head.example_count,
        ignored_count=head.ignored_count,
        nonfinite_count=head.nonfinite_count,
        statuses=read.statuses(head.statuses) if head.HasField("statuses") else {},
        status=status_name(head.status) if head.status else None,
        outputs=cut.outputs,
        metrics=list(map(read.metric, head.metrics)),
        terms=list(map(read.term, head.terms)),
        backend=head.backend,
        transport=head.transport or "grpc",
        server_timing=_read_timing(head.server_timing),
    )


def read_input_names(response: v1.ListLossesResponse) -> dict[str, tuple[str, ...]]:
    """Returns the names of the inputs of each loss, in the order that it declares."""
    return {
        loss.name: tuple(described.name for described in loss.inputs) for loss in response.losses
    }


def read_required_names(response: v1.ListLossesResponse) -> dict[str, tuple[str, ...]]:
    """Returns the names of the inputs that each loss cannot do without, in their order."""
    return {
        loss.name: tuple(described.name for described in loss.inputs if not described.optional)
        for loss in response.losses
    }


def read_differentiable_names(response: v1.ListLossesResponse) -> dict[str, tuple[str, ...]]:
    """Returns the names of the inputs that each loss is differentiable in, in their order."""
    return {
        loss.name: tuple(
            described.name
            for described in loss.inputs
            if described.differentiability != v1.DIFFERENTIABILITY_NONE
        )
        for loss in response.losses
    }


def status_name(number: int) -> str:
    """Returns the name of a status, for example ``"NONFINITE"``; of a newer one its number."""
    value = v1.Status.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix("STATUS_")


def as_given(result: LossResult[Any], inputs: Mapping[str, Any]) -> LossResult[Any]:
    """Returns the result with a list of gradients for each input that was a list, even of one."""
    bare = {
        name: [gradient]
        for name, gradient in result.gradients.items()
        if not isinstance(gradient, list) and is_several(inputs.get(name))
    }
    return replace(result, gradients={**result.gradients, **bare}) if bare else result


@dataclass(frozen=True, slots=True)
class ResponseReader:
    """Reads the tensors of one response.

    ``large_bytes`` are those of arrays in the same memory, which a small one would keep for as long
    as anybody has it: of such a one there is a copy.
    """

    payloads: Payloads | None
    shared: tensors.Shared | None = None
    on_device: Callable[[v1.Tensor], Any] | None = None
    large_bytes: int = 0

    def tensor(self, tensor: v1.Tensor) -> Array:
        """Returns an aligned array, since other libraries may not accept unaligned ones."""
        if self.on_device is not None and tensor.WhichOneof("source") == "device_memory":
            found: Array = self.on_device(tensor)
            return found
        array = tensors.read(tensor, self.payloads, self.shared)
        if array.flags.aligned and array.nbytes * _SMALL_PART > self.large_bytes:
            return array
        copied = array.copy()
        copied.flags.writeable = False
        return copied

    def per_example(self, response: v1.ComputeLossResponse) -> Array | None:
        """Returns the loss of each example, where it was asked for."""
        return self.tensor(response.per_example) if response.HasField("per_example") else None

    def named(self, fields: Collection[v1.NamedTensors]) -> Named:
        """Returns tensors by name, each an array or a list of several."""
        found = {named.name: list(map(self.tensor, named.tensors)) for named in fields}
        return {name: arrays[0] if len(arrays) == 1 else arrays for name, arrays in found.items()}

    def statuses(self, told: v1.ExampleStatuses) -> dict[int, str]:
        """Returns statuses by the flat index of their example."""
        indices = self.tensor(told.indices).ravel().tolist()
        numbers = self.tensor(told.statuses).ravel().tolist()
        if len(indices) != len(numbers):
            raise tensors.TensorError(
                "statuses", f"statuses must be one an index of {len(indices)}, got {len(numbers)}"
            )
        names = {number: status_name(number) for number in set(numbers)}
        return {index: names[number] for index, number in zip(indices, numbers, strict=True)}

    def metric(self, result: v1.MetricResult) -> MetricResult:
        """Returns the result of one metric."""
        return MetricResult(
            metric=result.metric,
            value=result.value if result.HasField("value") else None,
            values=self.tensor(result.values) if result.HasField("values") else None,
            status=status_name(result.status) if result.status else None,
            reason=result.reason,
            outputs=self.named(result.outputs),
            example_count=result.example_count,
            ignored_count=result.ignored_count,
            signature=result.signature,
        )

    def term(self, result: v1.TermResult) -> TermResult:
        """Returns the result of one term of a sum."""
        return TermResult(
            loss=result.loss,
            loss_sum=result.loss_sum,
            weight_sum=result.weight_sum,
            example_count=result.example_count,
            ignored_count=result.ignored_count,
            nonfinite_count=result.nonfinite_count,
            status=status_name(result.status) if result.status else None,
            gradient_norm=result.gradient_norm,
            outputs=self.named(result.outputs),
        )


def _bytes_of(named: Named) -> int:
    """Returns the bytes of all arrays."""
    several = (arrays if isinstance(arrays, list) else [arrays] for arrays in named.values())
    return sum(array.nbytes for arrays in several for array in arrays)


# Reads the tensors of a response that has all of them in itself.
_WITHIN = ResponseReader(None)


@contextlib.contextmanager
def reading(payloads: Payloads | None) -> Iterator[ResponseReader]:
    """Yields the reader of one response.

    Raises:
        ServerError: if a tensor in it breaks the contract.
    """
    try:
        yield ResponseReader(payloads)
    except tensors.TensorError as error:
        raise _broken(error) from error


def _broken(error: tensors.TensorError) -> ServerError:
    return ServerError(f"response must hold valid tensors, got one where {error}")


def _read_timing(timing: v1.ServerTiming) -> ServerTiming:
    phases = timing.receive, timing.decode, timing.queue, timing.compute, timing.evaluate
    return ServerTiming(*[phase.seconds + phase.nanos / 1e9 for phase in phases])
