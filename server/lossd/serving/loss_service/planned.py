"""Requests that differ in their data alone: computed by one plan, and not parsed.

``plans`` recognises them by their bytes.  The arrays of each lie where those of the first did.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd import tensors, v1
from lossd.batch import Job
from lossd.chunks import tensors_of
from lossd.engine import Result
from lossd.framing import WORTHWHILE_BYTES, Framed, Payloads
from lossd.losses import LOSSES
from lossd.plan import Answered, Plan
from lossd.serving.loss_service.replies import arrays_of
from lossd.tensors import Array


@dataclass(frozen=True, slots=True)
class DataPlace:
    """Where the data of a tensor lies in a message."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def array(self, message: bytes) -> Array:
        """Returns the tensor of a message, over its bytes and read-only."""
        return np.ndarray(self.shape, self.dtype, message, self.start)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A plan of requests: where their tensors lie, and what replies have around their arrays.

    ``inputs`` are in the order of the plan, None for those not given; ``beside`` are weights, mask
    and cotangent.  ``booleans`` are those of both whose numbers may be wrong.
    """

    plan: Plan
    inputs: tuple[DataPlace | None, ...]
    beside: tuple[tuple[str, DataPlace], ...]
    booleans: tuple[DataPlace, ...]
    frames: tuple[bytes, ...]

    @classmethod
    def of(cls, request: Framed[v1.ComputeLossRequest], plan: Plan) -> "Planned | None":
        """Returns what is planned for a request; None if it was encoded in an unusual way."""
        message, payloads = request.message, request.payloads
        if payloads is None:
            return None
        inputs = {
            (named.name, position): _place(tensor, payloads)
            for named in message.inputs
            for position, tensor in enumerate(named.tensors)
        }
        beside = {
            name: _place(getattr(message, name), payloads)
            for name in ("weights", "mask", "cotangent")
            if message.HasField(name)
        }
        return cls(
            plan,
            tuple(None if source is None else inputs[source] for source in plan.laid.sources),
            tuple(beside.items()),
            tuple(p for p in (*inputs.values(), *beside.values()) if p.dtype == np.bool_),
            tuple(_frames(plan)),
        )

    @property
    def nbytes(self) -> int:
        """See ``Plan.nbytes``."""
        return self.plan.nbytes

    def read(self, message: bytes) -> tuple[Job, list[Array | None]] | None:
        """Returns the job of a message, and its inputs in the order of the plan.

        Returns None for a boolean that is neither 0 nor 1, of which whoever parses it tells.
        """
        for place in self.booleans:
            if place.array(message).view(np.uint8).max(initial=0) > 1:
                return None
        arrays = [None if place is None else place.array(message) for place in self.inputs]
        if not self.beside:
            return self.plan.asked, arrays
        beside: dict[str, Any] = {name: place.array(message) for name, place in self.beside}
        return replace(self.plan.asked, **beside), arrays

    def reply(self, head: v1.ComputeLossResponse, result: Result) -> bytes:
        """Returns the encoded reply; ``head`` has all of it but the arrays."""
        pieces: list[Any] = [head.SerializeToString()]
        for frame, array in zip(self.frames, arrays_of(result), strict=False):
            # Of a few bytes a copy takes less time than a view.
            is_small = array.nbytes < WORTHWHILE_BYTES
            pieces += (frame, array.tobytes() if is_small else array.reshape(-1).view(np.uint8))
        return b"".join((*pieces, self.frames[-1]))


def may_be_planned(request: v1.ComputeLossRequest, most: int) -> bool:
    """Returns whether a request asks for one loss alone, with its tensors in the message.

    Of more than ``most`` inputs or tensors none is looked at.
    """
    return (
        asks_for_one_loss(request, most)
        and not request.HasField("reply")
        and all(tensor.WhichOneof("source") == "data" for tensor in tensors_of(request))
    )


def asks_for_one_loss(request: v1.ComputeLossRequest, most: int) -> bool:
    """Returns whether a request asks for one loss alone, of ``most`` tensors, and for no device."""
    if request.loss.WhichOneof("kind") not in LOSSES or len(request.metrics):
        return False
    inputs = request.inputs
    if len(inputs) > most or sum(len(named.tensors) for named in inputs) > most:
        return False
    return not request.HasField("device")


def _place(tensor: v1.Tensor, payloads: Payloads) -> DataPlace:
    start, _ = payloads.places[payloads.index(tensor.data)]
    return DataPlace(start, tensors.dtype_of_type[tensor.dtype], tuple(tensor.shape))


def _frames(plan: Plan) -> list[bytes]:
    """Returns what a reply has before each of its arrays, and behind the last."""
    reply, payloads = v1.ComputeLossResponse(), Payloads()
    sizes = []

    def describe(tensor: v1.Tensor, answered: Answered) -> None:
        tensors.describe(tensor, answered.dtype, answered.shape)
        tensor.data = payloads.add(b"")
        sizes.append(answered.nbytes)

    if plan.values is not None:
        describe(reply.per_example, plan.values)
    by_input: dict[str, Any] = {}
    for gradient in plan.gradients:
        if gradient.input not in by_input:
            by_input[gradient.input] = reply.gradients.add(name=gradient.input).tensors
        describe(by_input[gradient.input].add(), gradient)
    for output in plan.outputs:
        describe(reply.outputs.add(name=output.name).tensors.add(), output)
    return Framed(reply, payloads).frames(sizes)
