"""Requests that differ in their data alone: recognised by their bytes, computed by one plan.

Two messages whose tensors have their data at the same places, and that are equal byte for byte
everywhere else, are parsed to the same request but for that data.  So what was decided for the
first holds for the second, which need not be parsed: its arrays lie where those of the first did.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

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

MOST = 256  # plans that are kept: the losses of some dozen training jobs
MOST_BYTES = 32 << 20  # that they may take
# What a plan takes beside its numbers and its header, and for each byte of that: of a list of
# numbers there are objects of Python's, and arrays.
_OWN_BYTES, _BYTES_A_BYTE = 16 << 10, 8
# Layouts of messages of one length that are tried; few callers have two.
_LAYOUTS = 8


class Sized(Protocol):
    """Anything that takes some bytes."""

    @property
    def nbytes(self) -> int:
        """The bytes of its numbers."""


Kept = TypeVar("Kept", bound=Sized)  # a plan, told apart by which object it is


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


# ------------------------------------------------------------------ which are kept


@dataclass(frozen=True, slots=True, eq=False)
class _MessageLayout:
    """Messages of one length whose data lies at the same places, and plans by all else of them."""

    between: tuple[slice, ...]  # the data
    plans: dict[bytes, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, places: Iterable[tuple[int, int]], length: int) -> "_MessageLayout":
        edges = [0, *(edge for place in places for edge in place), length]
        return cls(tuple(map(slice, edges[::2], edges[1::2])))

    def header(self, message: bytes) -> bytes:
        """Returns the bytes of a message that are no data."""
        return b"".join([message[part] for part in self.between])


class Plans(Generic[Kept]):
    """The plans of the requests that came last, by their exact bytes; for any number of threads."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._layouts: dict[int, tuple[_MessageLayout, ...]] = {}  # by the length of a message
        self._kept: OrderedDict[Kept, tuple[int, _MessageLayout, bytes]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        """Returns the number of plans."""
        return len(self._kept)

    def find(self, message: bytes) -> Kept | None:
        """Returns what is planned for a message; None if nothing is yet."""
        for layout in self._layouts.get(len(message), ()):
            planned: Kept | None = layout.plans.get(layout.header(message))
            if planned is not None:
                with self._lock:
                    if planned in self._kept:  # else it was dropped meanwhile
                        self._kept.move_to_end(planned)
                return planned
        return None

    def keep(self, message: bytes, places: Sequence[tuple[int, int]], planned: Kept) -> None:
        """Keeps what is planned for a message, and drops those that were not used for longest."""
        made = _MessageLayout.of(places, len(message))
        header = made.header(message)
        nbytes = _bytes_of(planned, header)
        if nbytes > self._most_bytes:
            return
        with self._lock:
            layout = self._layout(len(message), made)
            if header in layout.plans:  # another thread was faster
                return
            layout.plans[header] = planned
            self._kept[planned] = len(message), layout, header
            self.nbytes += nbytes
            while len(self._kept) > self._most or self.nbytes > self._most_bytes:
                self._drop(next(iter(self._kept)))

    def _layout(self, length: int, made: _MessageLayout) -> _MessageLayout:
        """Returns the layout of messages of a length that is like one, which may become it."""
        known = self._layouts.get(length, ())
        for layout in known:
            if layout.between == made.between:
                return layout
        if len(known) >= _LAYOUTS:
            for planned in [p for p, (_, layout, _) in self._kept.items() if layout is known[0]]:
                self._drop(planned)
            known = self._layouts.get(length, ())
        self._layouts[length] = (*known, made)
        return made

    def _drop(self, planned: Kept) -> None:
        length, layout, header = self._kept.pop(planned)
        self.nbytes -= _bytes_of(planned, header)
        del layout.plans[header]
        if not layout.plans:
            left = tuple(each for each in self._layouts[length] if each is not layout)
            if left:
                self._layouts[length] = left
            else:
                del self._layouts[length]


def _bytes_of(planned: Sized, header: bytes) -> int:
    return _OWN_BYTES + _BYTES_A_BYTE * len(header) + planned.nbytes
