"""Messages put together by hand have protobuf's bytes, and are taken apart as protobuf would."""

import time
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from lossd import framing, tensors, v1
from lossd.framing import Framed, Payloads

LARGE = np.arange(framing.WORTHWHILE_BYTES, dtype=np.uint8)
DTYPES = [np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64]

arrays = st.builds(
    lambda dtype, shape: np.ones(shape, dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=3),
)
named = st.dictionaries(st.text(max_size=5), st.lists(arrays, max_size=3), max_size=3)


def request(
    inputs: dict[str, list[Any]], payloads: Payloads | None, **single: Any
) -> v1.ComputeLossRequest:
    made = v1.ComputeLossRequest(loss=v1.LossSpec(huber=v1.Huber(delta=2)), normalizer=3)
    for name, array in single.items():
        tensors.fill(getattr(made, name), array, payloads)
    for name, several in inputs.items():
        entry = made.inputs.add(name=name)
        for array in several:
            tensors.fill(entry.tensors.add(), array, payloads)
    return made


def read_all(framed: Framed[v1.ComputeLossRequest]) -> list[np.ndarray[Any, Any]]:
    message = framed.message
    found = [t for entry in message.inputs for t in entry.tensors]
    found += [getattr(message, name) for name in ("weights", "mask") if message.HasField(name)]
    return [tensors.read(tensor, framed.payloads) for tensor in found]


@given(named, arrays)
def test_a_message_put_together_has_the_bytes_of_protobuf(inputs: Any, weights: Any) -> None:
    payloads = Payloads()
    framed = Framed(request(inputs, payloads, weights=weights), payloads)

    assert framed.serialise() == request(inputs, None, weights=weights).SerializeToString()


@given(named, arrays)
def test_a_message_taken_apart_has_the_arrays_of_protobuf(inputs: Any, weights: Any) -> None:
    encoded = request(inputs, None, weights=weights, mask=LARGE).SerializeToString()
    by_hand = Framed.parse(v1.ComputeLossRequest, encoded)
    generated = Framed(v1.ComputeLossRequest.FromString(encoded))

    assert by_hand.payloads is not None
    for found, wanted in zip(read_all(by_hand), read_all(generated), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def outcome(parse: Any) -> Any:
    try:
        framed = parse()
    except DecodeError:
        return "refused"
    try:
        return [array.tolist() for array in read_all(framed)], len(framed.message.inputs)
    except tensors.TensorError as error:
        return str(error)


@given(st.data())
def test_damaged_bytes_are_judged_as_protobuf_judges_them(data: st.DataObject) -> None:
    whole = request({"predictions": [np.ones((2, 3), np.float32)], "targets": []}, None)
    encoded = bytearray(whole.SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    # Data that makes hand framing worthwhile goes before and after what is damaged.
    large = request({"large": [LARGE]}, None).SerializeToString()
    damaged = large + bytes(encoded[:cut]) if data.draw(st.booleans()) else bytes(encoded) + large

    assert outcome(lambda: Framed.parse(v1.ComputeLossRequest, damaged)) == outcome(
        lambda: Framed(v1.ComputeLossRequest.FromString(damaged))
    )


@pytest.mark.parametrize("length", range(3, 12))
@pytest.mark.parametrize("which", ["tag", "size"])
def test_a_number_of_more_bytes_than_it_needs_is_judged_as_protobuf_judges_it(
    which: str, length: int
) -> None:
    encoded = v1.ComputeLossRequest(weights=array_of(LARGE)).SerializeToString()
    tag, at = framing.varint(memoryview(encoded), 0)
    size, at = framing.varint(memoryview(encoded), at)
    lengths = {"tag": 2, "size": 3, which: length}
    head = lengthened(tag, lengths["tag"]) + lengthened(size, lengths["size"])
    changed = head + encoded[at:]

    assert outcome(lambda: Framed.parse(v1.ComputeLossRequest, changed)) == outcome(
        lambda: Framed(v1.ComputeLossRequest.FromString(changed))
    )


def array_of(array: Any) -> v1.Tensor:
    tensor = v1.Tensor()
    tensors.fill(tensor, array)
    return tensor


def lengthened(number: int, length: int) -> bytes:
    """A number in so many bytes, the last ones of which add nothing."""
    parts = [number >> 7 * place & 0x7F for place in range(length)]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def test_a_field_given_twice_merges_as_in_protobuf() -> None:
    first = request({}, None, weights=LARGE).SerializeToString()
    second = request({}, None, weights=np.zeros(3, np.uint8)).SerializeToString()

    assert outcome(lambda: Framed.parse(v1.ComputeLossRequest, first + second)) == outcome(
        lambda: Framed(v1.ComputeLossRequest.FromString(first + second))
    )


def test_data_is_neither_copied_in_nor_out() -> None:
    payloads = Payloads()
    array = np.zeros(1 << 20, np.float32)
    made = request({"predictions": [array]}, payloads)
    encoded = Framed(made, payloads).serialise()
    read = read_all(Framed.parse(v1.ComputeLossRequest, encoded))[0]

    assert made.ByteSize() < 100
    assert np.shares_memory(np.frombuffer(payloads.views[0], np.uint8), array)
    assert np.shares_memory(read, np.frombuffer(encoded, np.uint8))


def test_a_small_message_is_left_to_the_generated_code() -> None:
    encoded = request({"predictions": [np.zeros(3)]}, None).SerializeToString()

    assert Framed.parse(v1.ComputeLossRequest, encoded).payloads is None


@pytest.mark.parametrize(
    "field", [b"\xa2\x01\x00", b"\x80\x7d\x00"]
)  # empty inputs; unknown numbers
def test_millions_of_fields_are_not_walked_in_python(field: bytes) -> None:
    encoded = field * (2 << 20)
    started = time.process_time()
    framed = Framed.parse(v1.ComputeLossRequest, encoded)

    assert framed.payloads is None
    assert time.process_time() - started < 5  # walking them takes tens of seconds


def test_messages_that_hold_themselves_are_not_walked_for_ever() -> None:
    def kinds(message: type[Message]) -> list[Any]:
        return [field.message_type for field in message.DESCRIPTOR.fields]

    assert kinds(v1.ComputeLossRequest)
    assert framing.route(v1.LossSpec.DESCRIPTOR) == {}
