"""Fields of a newer contract: whoever sets one is refused by its name, and never misunderstood."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from lossd import v1
from lossd.checkpoints import never_stop
from lossd.client.requests import build_request
from lossd.client.responses import read_response
from lossd.engine import hold_nothing
from lossd.errors import InvalidRequest, UnknownField
from lossd.evaluation import State
from lossd.forms import is_repeated
from lossd.framing import Framed
from lossd.serving.evaluation_service import codec, state
from lossd.serving.rpc.messages import parse, parse_framed
from lossd.serving.rpc.unknown_fields import refuse_unknown_fields
from lossd.v1 import (
    device_memory_service_pb2,
    evaluation_service_pb2,
    loss_service_pb2,
    shared_memory_service_pb2,
)
from tests.fuzz.inside import inside
from tests.fuzz.seeds import COMPUTE, EVALUATE, EVALUATE_STREAM, STREAM, Seed

UNKNOWN = 2000
VARINT, DELIMITED = 0, 2
SMALL, LARGE = 0, 1 << 30

FILES = (
    device_memory_service_pb2, evaluation_service_pb2, loss_service_pb2, shared_memory_service_pb2,
)  # fmt: skip
METHODS = {
    f"/{service.full_name}/{method.name}": method.input_type
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# Each once, and in an order that every process has: else workers would not agree on the tests.
KINDS = list(dict.fromkeys([*METHODS.values(), v1.EvaluationState.DESCRIPTOR]))


def number(value: int) -> bytes:
    """A number as protobuf writes it."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(rest) if rest else bytes([low])


def submessage(of: int, content: bytes) -> bytes:
    return number(of << 3 | DELIMITED) + number(len(content)) + content


def unknown(of: int = UNKNOWN) -> bytes:
    return number(of << 3 | VARINT) + number(7)


def places(kind: Descriptor, outer: tuple[Descriptor, ...] = ()) -> Iterator[tuple[str, bytes]]:
    """The paths of an unknown field everywhere in a kind of message, and messages that have it."""
    yield f"#{UNKNOWN}", unknown()
    for field in kind.fields:
        inner = field.message_type
        if inner is None or inner in outer:
            continue
        if inner.GetOptions().map_entry:
            assert inner.fields_by_name["value"].message_type is None
            continue
        name = f"{field.name}[0]" if is_repeated(field) else field.name
        for path, content in places(inner, (*outer, kind)):
            yield f"{name}.{path}", submessage(field.number, content)


def told(path: str) -> str:
    """The path as callers are told it: of a stream, within its call or its part."""
    return path.removeprefix("call.").removeprefix("part.")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_unknown_field_is_refused_wherever_it_is(kind: Descriptor) -> None:
    message: Any = GetMessageClass(kind)
    for path, encoded in places(kind):
        if path.endswith((f"loss.#{UNKNOWN}", f"metric.#{UNKNOWN}", f"metrics[0].#{UNKNOWN}")):
            continue  # perhaps a kind of loss or of metric
        for nbytes in (SMALL, LARGE):
            with pytest.raises(UnknownField, match=f"got number {UNKNOWN}") as caught:
                refuse_unknown_fields(message.FromString(encoded), nbytes)
            assert caught.value.field == told(path)
        for read in (parse, parse_framed):
            with pytest.raises(UnknownField):
                read(message, encoded, hold_nothing, never_stop)


def request() -> v1.ComputeLossRequest:
    inputs = {"predictions": np.eye(4, 3, dtype=np.float32), "targets": np.array([0, 1, 2, 1])}
    made: v1.ComputeLossRequest = build_request(v1.CrossEntropy(), inputs).message
    return made


def evaluation() -> v1.EvaluateRequest:
    made = v1.EvaluateRequest(metrics=[v1.MetricSpec(accuracy=v1.Accuracy())])
    made.batch.inputs.extend(request().inputs)
    return made


def part(encoded: bytes) -> bytes:
    """The message of a stream: both streams have a call or a part as their first field."""
    return submessage(1, encoded)


CALLS = {
    COMPUTE: request().SerializeToString(),
    STREAM: part(request().SerializeToString()),
    EVALUATE: evaluation().SerializeToString(),
    EVALUATE_STREAM: part(evaluation().SerializeToString()),
}


def test_no_method_takes_one() -> None:
    with inside() as server:
        for method in METHODS:
            if "DeviceMemory" not in method:  # there is none here
                whole = CALLS.get(method, b"")
                assert server.call(Seed(method, (whole + unknown(),)))[0] == "UNIMPLEMENTED"
            if method in CALLS:
                assert server.call(Seed(method, (whole,)))[0] == "OK"


def test_a_call_that_is_planned_already_is_refused_all_the_same() -> None:
    whole = CALLS[COMPUTE]
    newer = whole + submessage(1, submessage(v1.LossSpec.CROSS_ENTROPY_FIELD_NUMBER, unknown(99)))
    with inside() as server:
        calls = [whole, whole, newer, newer, whole, whole + unknown()]
        codes = [server.call(Seed(COMPUTE, (one,)))[0] for one in calls]
    assert codes == ["OK", "OK", "UNIMPLEMENTED", "UNIMPLEMENTED", "OK", "UNIMPLEMENTED"]


def test_a_known_number_of_another_type_is_unknown_too() -> None:
    with pytest.raises(UnknownField, match=r"request must have fields .* got number 1: ask"):
        parse(v1.ComputeLossRequest, CALLS[COMPUTE] + unknown(1))


@pytest.mark.parametrize("nbytes", [SMALL, LARGE])
def test_a_kind_of_loss_that_is_unknown_is_refused_as_one(nbytes: int) -> None:
    newer = submessage(1, submessage(UNKNOWN, b""))
    refuse_unknown_fields(v1.ComputeLossRequest.FromString(newer), nbytes)
    known = submessage(1, submessage(v1.LossSpec.HUBER_FIELD_NUMBER, b"") + unknown())
    with pytest.raises(UnknownField) as caught:
        refuse_unknown_fields(v1.ComputeLossRequest.FromString(known), nbytes)
    assert caught.value.field == f"loss.#{UNKNOWN}"


def test_a_state_of_a_newer_metric_is_refused() -> None:
    one = codec.read_spec(v1.MetricSpec(accuracy=v1.Accuracy()), "metric")
    written = state.write([one], [State()])
    spec = submessage(v1.MetricSpec.ACCURACY_FIELD_NUMBER, unknown())
    newer = submessage(1, number(1 << 3) + number(state.VERSION) + submessage(2, spec))
    state.read([written], [one])
    told = rf"fields that this server knows, got metrics\[0\].metric.accuracy.#{UNKNOWN}"
    with pytest.raises(InvalidRequest, match=told) as caught:
        state.read([written, newer], [one])
    assert caught.value.field == "states[1]"


def test_of_very_many_messages_it_is_not_told_which_has_one() -> None:
    """To look at each would take seconds, for a message of a few megabytes."""
    many = submessage(v1.ComputeLossRequest.INPUTS_FIELD_NUMBER, b"") * 100_000
    refuse_unknown_fields(v1.ComputeLossRequest.FromString(many), LARGE)
    newer = many + submessage(v1.ComputeLossRequest.INPUTS_FIELD_NUMBER, unknown())
    with pytest.raises(UnknownField, match="request must have fields that this server knows: ask"):
        refuse_unknown_fields(v1.ComputeLossRequest.FromString(newer), LARGE)


def test_a_client_takes_an_answer_with_more_than_it_knows() -> None:
    answer = v1.ComputeLossResponse(loss=2.5).SerializeToString() + unknown()
    assert read_response(Framed.parse(v1.ComputeLossResponse, answer)).loss == 2.5
