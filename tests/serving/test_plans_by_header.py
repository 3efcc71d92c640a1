"""Plans of requests whose tensors lie in shared memory: found by all but data and places."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd import v1
from lossd.backends.choose import Chosen, cpu_backend
from lossd.chunks import tensors_of
from lossd.engine import Engine
from lossd.errors import ServiceError
from lossd.losses import LOSSES, Loss
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.loss_service.headers import header_of
from lossd.serving.loss_service.servicer import LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.telemetry import Telemetry
from tests.drawn_networks import NETWORKS
from tests.losses.case import Case
from tests.messages import request_of
from tests.sampling import forms, plain
from tests.serving.test_lease import CLIENT
from tests.serving.test_planned import CHANGES, Context

SIZE, REPLY = 1 << 18, 1 << 17  # of a segment, and where replies begin in it


@dataclass(frozen=True)
class Place:
    """Where a request has its tensors: the first at ``start``, all so many bytes apart."""

    token: bytes
    start: int = 0
    apart: int = 1 << 12
    reply: int = REPLY
    in_message: tuple[int, ...] = ()  # tensors that are not shared


@dataclass(frozen=True)
class Host:
    """A server's memory, two segments of a client, and servicers that nobody has asked yet."""

    shared: SharedMemory
    tokens: Sequence[bytes]
    serve: Callable[[], LossServicer]

    def put(self, request: v1.ComputeLossRequest, place: Place) -> bytes:
        """Moves the tensors of a request into shared memory, and returns it encoded."""
        made = v1.ComputeLossRequest.FromString(request.SerializeToString())
        for number, tensor in enumerate(list(tensors_of(made))):
            if number in place.in_message:
                continue
            data, offset = tensor.data, place.start + number * place.apart
            if place.token in self.tokens:
                memory = self.shared.find(place.token).mapping.bytes
                memory[offset : offset + len(data)] = np.frombuffer(data, np.uint8)[: SIZE - offset]
            tensor.shared_memory.segment, tensor.shared_memory.offset = place.token, offset
        if place.reply and not made.HasField("reply"):
            made.reply.start.segment, made.reply.start.offset = place.token, place.reply
            made.reply.size = SIZE - place.reply
        return made.SerializeToString()

    def answer(self, servicer: LossServicer, message: bytes) -> Any:
        """Returns the reply and all that was written; of a refusal all that a caller is told."""
        memories = [self.shared.find(token).mapping.bytes for token in self.tokens]
        for memory in memories:
            memory[REPLY:] = 0
        try:
            encoded = servicer.compute_loss(Received(message), Call(Context(), "id"))
        except ServiceError as error:
            return type(error), str(error), error.field, error.reason, error.details
        reply = v1.ComputeLossResponse.FromString(encoded)
        reply.ClearField("server_timing")
        return reply.SerializeToString(), [memory[REPLY:].tobytes() for memory in memories]

    def agrees_on(self, servicer: LossServicer, message: bytes) -> bool:
        """Returns whether a servicer answers as one that was never asked anything."""
        return bool(self.answer(servicer, message) == self.answer(self.serve(), message))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("shared")
    backend = cpu_backend(2)
    tried = CheckedDevice(Chosen(backend, "it is there"), Engine(backend, NETWORKS), {})
    telemetry = Telemetry(CollectorRegistry(), losses=LOSSES)
    with (
        SharedMemory(str(folder), segments=2, segment_bytes=2 * SIZE) as shared,
        contextlib.ExitStack() as clients,
    ):
        tokens = []
        for name in ("one", "other"):
            command = [sys.executable, "-c", CLIENT, str(folder / name), str(SIZE)]
            client = clients.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            assert client.stdout is not None
            client.stdout.readline()
            tokens.append(shared.attach(name, SIZE))

        def made() -> LossServicer:
            return LossServicer(
                Config(), tried, ComputeSlots(2), telemetry, shared, installed=versions()
            )

        yield Host(shared, tokens, made)
    tried.engine.close()


def _small(loss: Loss) -> Case:
    return plain(loss, rows=4, length=4, form=forms(loss)[-1]).astype(np.float32)


def test_options_types_and_shapes_are_told_apart(host: Host, any_loss: Loss) -> None:
    servicer, place = host.serve(), Place(host.tokens[0])
    request = request_of(_small(any_loss))
    plainly = host.put(request, place)
    for change in (lambda _: None, *CHANGES.values()):
        changed = v1.ComputeLossRequest.FromString(request.SerializeToString())
        change(changed)
        for _ in range(2):
            assert host.agrees_on(servicer, host.put(changed, place)), changed
        host.put(request, place)
        assert host.agrees_on(servicer, plainly)
    assert len(servicer._plans_by_header) > 1


@pytest.mark.parametrize("loss", ["cross_entropy", "huber", "info_nce", "dice", "policy_gradient"])
def test_tensors_are_read_where_each_request_says(host: Host, loss: str) -> None:
    servicer, (one, other) = host.serve(), host.tokens
    place = Place(one)
    mask = np.array([True, False, True, True])
    first = _small(LOSSES[loss])
    second = first.with_inputs(**{n: a[::-1].copy() for n, a in first.inputs.items()})
    for case in (first, second):
        request = request_of(case, mask=mask)
        for there in (
            place,
            replace(place, start=1 << 14),
            replace(place, start=3, apart=1001),
            replace(place, token=other),
            replace(place, reply=REPLY + 4096),
            replace(place, reply=REPLY + 5),
            replace(place, reply=SIZE - 8),  # which has no room
            replace(place, reply=0),
            replace(place, in_message=(0,)),
            replace(place, in_message=(1,)),
            replace(place, start=SIZE - 8),
            replace(place, token=b"of nobody"),
        ):
            for _ in range(2):
                assert host.agrees_on(servicer, host.put(request, there)), there
    # With all tensors in shared memory, and with each of two in the message.
    assert len(servicer._plans_by_header) == 3


def test_wrong_data_is_refused_by_a_known_plan_too(host: Host) -> None:
    servicer, place = host.serve(), Place(host.tokens[0])
    loss = LOSSES["cross_entropy"]
    case = plain(loss, rows=4, length=4, form=forms(loss)[0]).astype(np.float32)
    right = host.put(request_of(case, mask=np.ones(4, np.bool_)), place)
    host.answer(servicer, right)
    memory = host.shared.find(place.token).mapping.bytes
    for number, wrong in ((0, 2), (2, 99)):  # a boolean, and a label of four classes
        kept = memory[number * place.apart]
        memory[number * place.apart] = wrong
        found = host.answer(servicer, right)
        assert found == host.answer(host.serve(), right)
        assert issubclass(found[0], ServiceError)
        memory[number * place.apart] = kept
    assert host.agrees_on(servicer, right)
    assert len(servicer._plans_by_header) == 1


def test_a_plan_by_header_holds_nothing_of_the_data(host: Host) -> None:
    servicer = host.serve()
    host.answer(servicer, host.put(request_of(_small(LOSSES["huber"])), Place(host.tokens[0])))
    (plan,) = servicer._plans_by_header._kept
    assert not plan.asked.inputs
    assert all(operand.rows.size == 0 for operand in plan.laid.template.operands)


@pytest.mark.parametrize(("size", "has_header"), [(1_000_000, True), (1_100_000, False)])
def test_no_header_is_made_of_a_message_that_is_large_itself(
    size: int, *, has_header: bool
) -> None:
    """Its data would be copied to be taken out."""
    message = v1.ComputeLossRequest(loss=v1.LossSpec(huber=v1.Huber()))
    message.inputs.add(name="predictions").tensors.add(data=bytes(size))
    assert (header_of(message, most=9) is not None) == has_header
