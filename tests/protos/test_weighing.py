"""Messages are weighed, and those that take too much refused, before they are parsed."""

import importlib
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from lossd import v1
from lossd.checkpoints import never_stop
from lossd.framing import encoded_varint
from lossd.weighing import MAX_DEPTH, TextTooLongError, weigh

MODULES = ("evaluation_service", "loss_service", "shared_memory_service", "device_memory_service")


def requests() -> list[Descriptor]:
    """The messages that callers send."""
    files = [importlib.import_module(f"lossd.v1.{name}_pb2").DESCRIPTOR for name in MODULES]
    services = [one for file in files for one in file.services_by_name.values()]
    return [method.input_type for service in services for method in service.methods]


def places(kind: Descriptor, route: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The texts in a message and in those inside it, each as the fields that lead there."""
    found = []
    for field in kind.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            found.append((*route, field))
        elif field.message_type is not None and field.message_type not in {
            one.containing_type for one in route
        }:
            found += places(field.message_type, (*route, field))
    return found


def encoded(route: tuple[Any, ...], body: bytes) -> bytes:
    for field in reversed(route):
        body = encoded_varint(field.number << 3 | 2) + encoded_varint(len(body)) + body
    return body


def test_no_text_of_a_request_is_longer_than_it_may_be() -> None:
    looked_at = 0
    for kind in requests():
        for route in places(kind):
            weigh(kind, encoded(route, b"1234"), most=100, longest=4, checkpoint=never_stop)
            with pytest.raises(TextTooLongError) as caught:
                weigh(kind, encoded(route, b"12345"), most=100, longest=4, checkpoint=never_stop)
            assert caught.value.size == 5
            looked_at += 1
    assert looked_at > 10


def test_what_is_nested_deeper_than_protobuf_allows_is_not_followed() -> None:
    kinds: Any = (v1.LossSpec, v1.WeightedSum, v1.WeightedTerm)
    spec, several, term = (kind.DESCRIPTOR for kind in kinds)
    route = [
        spec.fields_by_name["weighted_sum"],
        several.fields_by_name["terms"],
        term.fields_by_name["loss"],
    ]
    deep = encoded((*route * 1000,), b"")
    found = weigh(spec, deep, most=10_000, longest=4, checkpoint=never_stop)
    assert found.fields == MAX_DEPTH + 1
    with pytest.raises(DecodeError):
        v1.LossSpec.FromString(deep)


@pytest.mark.parametrize(
    "message", [v1.Tensor(shape=[1] * 1000), v1.CrossEntropy(class_weights=[1] * 1000)]
)
def test_packed_numbers_weigh_as_many_in_a_list(message: Any) -> None:
    """It has room for twice as many of them, of 8 bytes each."""
    data = message.SerializeToString()
    found = weigh(message.DESCRIPTOR, data, most=9, longest=4, checkpoint=never_stop)
    assert found.fields == 1
    assert found.nbytes >= 1000 * 2 * 8


def test_bytes_may_be_longer_than_texts() -> None:
    tensor = v1.Tensor(data=b"12345", dtype=v1.D_TYPE_UINT8, shape=[5])
    kind: Any = v1.Tensor.DESCRIPTOR
    assert (
        weigh(kind, tensor.SerializeToString(), most=9, longest=4, checkpoint=never_stop).fields
        == 3
    )
