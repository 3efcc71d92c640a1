"""Tensors that follow their message in chunks arrive as they were, and broken streams are told."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd import chunks, tensors, v1
from lossd.chunks import Assembly, ChunkError
from lossd.framing import Framed, Payloads, encoded_varint

arrays = st.builds(
    lambda dtype, shape: np.ones(shape, dtype),
    st.sampled_from([np.bool_, np.uint8, np.int64, np.float16, np.float64]),
    st.lists(st.integers(0, 5), max_size=3),
)


def request(payloads: Payloads | None, *inputs: Any, mask: Any = None) -> v1.ComputeLossRequest:
    made = v1.ComputeLossRequest(loss=v1.LossSpec(huber=v1.Huber(delta=2)))
    if mask is not None:
        tensors.fill(made.mask, mask, payloads)
    for array in inputs:
        tensors.fill(made.inputs.add(name="some").tensors.add(), array, payloads)
    return made


def in_chunks(*inputs: Any, mask: Any = None) -> tuple[v1.ComputeLossRequest, list[Any]]:
    payloads = Payloads()
    return chunks.split(Framed(request(payloads, *inputs, mask=mask), payloads))


def cut(data: Any, size: int) -> list[Any]:
    view = memoryview(data)
    return [view[start : start + size] for start in range(0, len(view), size)]


@given(st.lists(arrays, max_size=4), arrays, st.integers(1, 50))
def test_what_arrives_is_what_was_cut(inputs: list[Any], mask: Any, size: int) -> None:
    header, following = in_chunks(*inputs, mask=mask)
    assembly = Assembly(v1.ComputeLossRequest.FromString(header.SerializeToString()))
    for data in following:
        for chunk in cut(data, size):
            assert not assembly.is_complete
            assembly.take(bytes(chunk))
    assert assembly.is_complete
    assert assembly.framed().serialise() == request(None, *inputs, mask=mask).SerializeToString()


def test_tensors_in_the_message_stay_beside_those_in_chunks() -> None:
    header, following = in_chunks(np.arange(3.0))
    tensors.fill(header.inputs.add(name="small").tensors.add(), np.arange(2))
    assembly = Assembly(header)
    assembly.take(following[0])
    framed = assembly.framed()
    found = [tensors.read(t, framed.payloads).tolist() for t in chunks.tensors_of(framed.message)]
    assert found == [[0.0, 1.0, 2.0], [0, 1]]


def test_arrays_are_read_only_and_aligned() -> None:
    header, following = in_chunks(np.ones(1, np.uint8), np.arange(3.0))
    assembly = Assembly(header)
    for data in following:
        assembly.take(data)
    framed = assembly.framed()
    for tensor in chunks.tensors_of(framed.message):
        array = tensors.read(tensor, framed.payloads)
        assert array.flags.aligned
        assert not array.flags.writeable


def test_a_message_without_bulk_data_has_no_chunks() -> None:
    whole = request(None, np.arange(3.0))
    message, following = chunks.split(Framed(whole))
    assert (message, following) == (whole, [])
    assembly = Assembly(message)
    assert assembly.is_complete
    assert assembly.framed().serialise() == whole.SerializeToString()


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, chunks.CHUNK_BYTES])
def test_chunks_have_the_bytes_of_protobuf(size: int) -> None:
    data = np.arange(size, dtype=np.uint32).astype(np.uint8)
    (encoded,) = chunks.encoded_chunks([data.data])
    assert encoded == v1.StreamLossRequest(chunk=data.tobytes()).SerializeToString()
    assert encoded == v1.StreamLossResponse(chunk=data.tobytes()).SerializeToString()
    found = chunks.chunk_of(encoded)
    assert found is not None
    assert bytes(found) == data.tobytes()


def test_large_data_goes_in_chunks_of_one_size() -> None:
    data = bytes(2 * chunks.CHUNK_BYTES + 5)
    sizes = [len(chunks.chunk_of(e) or b"") for e in chunks.encoded_chunks([data, b"", b"ab"])]
    assert sizes == [chunks.CHUNK_BYTES, chunks.CHUNK_BYTES, 5, 2]


@given(st.integers(0, 50), st.binary(max_size=40))
def test_no_bytes_are_taken_for_a_chunk_that_protobuf_would_not(size: int, data: bytes) -> None:
    encoded = chunks._CHUNK_TAG + encoded_varint(size) + data
    found = chunks.chunk_of(encoded)
    if found is not None:
        assert v1.StreamLossRequest.FromString(encoded).chunk == bytes(found)


@pytest.mark.parametrize("tail", [b"", b"\x0a\x00", b"\x7a"])
def test_more_than_a_chunk_is_left_to_the_generated_code(tail: bytes) -> None:
    encoded = v1.StreamLossRequest(chunk=b"abc").SerializeToString()
    assert (chunks.chunk_of(encoded + tail) is None) == bool(tail)


def announced(*sizes: int, first: int = 0) -> v1.ComputeLossRequest:
    made = v1.ComputeLossRequest()
    for index, size in enumerate(sizes):
        tensor = made.inputs.add(name="x").tensors.add()
        tensor.chunks.position = index + first
        tensor.chunks.size_bytes = size
    return made


def test_lengths_that_break_a_rule_are_refused() -> None:
    with pytest.raises(ChunkError, match=r"chunks.size_bytes must be at least 0, got -1"):
        Assembly(announced(4, -1))
    with pytest.raises(ChunkError, match=r"chunks.position must be 0, got 1"):
        Assembly(announced(4, first=1))


@pytest.mark.parametrize("chunk", [b"", b"12345"])
def test_a_chunk_is_of_one_tensor_and_of_something(chunk: bytes) -> None:
    assembly = Assembly(announced(4, 4))
    with pytest.raises(ChunkError, match=f"at most the 4 that are left .*, got {len(chunk)}"):
        assembly.take(chunk)


def test_a_chunk_behind_the_last_is_refused() -> None:
    assembly = Assembly(announced(2, 0))
    assembly.take(b"12")
    assert assembly.is_complete
    with pytest.raises(ChunkError, match="at most the 0 that are left"):
        assembly.take(b"1")


def test_nothing_is_held_for_a_tensor_before_its_turn() -> None:
    """Announcing is free: memory is taken when the bytes come."""
    assembly = Assembly(announced(8, 1 << 60))
    assembly.take(b"12345678")
    assert not assembly.is_complete
