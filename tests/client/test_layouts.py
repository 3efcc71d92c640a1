"""Replies that are cut up: each reads as it would if no other had been read before."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd import tensors, v1
from lossd.client import LossdError, TermResult, responses
from lossd.client.layouts import Replies
from lossd.framing import Framed

VALUES = np.linspace(0, 1, 4, dtype=np.float32)
GRADIENT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def reply(
    values: Any = VALUES,
    gradients: Any = (("predictions", (GRADIENT,)),),
    outputs: Any = (("log_sum_exp", (VALUES,)),),
    **rest: Any,
) -> v1.ComputeLossResponse:
    """The reply with these arrays."""
    made = v1.ComputeLossResponse(**{"loss": 0.5, "backend": "numpy", **rest})
    if values is not None:
        tensors.fill(made.per_example, values)
    for field, given_ in ((made.gradients, gradients), (made.outputs, outputs)):
        for name, arrays in given_:
            several = field.add(name=name).tensors
            for array in arrays:
                tensors.fill(several.add(), array)
    return made


def term(values: Any) -> v1.TermResult:
    """A term with an output."""
    made = v1.TermResult(loss=1)
    tensors.fill(made.outputs.add(name="log_sum_exp").tensors.add(), values)
    return made


STATUSES = v1.ExampleStatuses()
tensors.fill(STATUSES.indices, np.array([3]))
tensors.fill(STATUSES.statuses, np.array([1], np.uint8))

# Each differs from the first in one thing.
REPLIES = (
    reply(),
    reply(loss=0.25),
    reply(loss=None),
    reply(statuses=STATUSES, nonfinite_count=1),
    reply(terms=[term(VALUES), term(VALUES > 0.5)]),
    reply(server_timing=v1.ServerTiming(compute={"nanos": 1})),
    reply(-VALUES),
    reply(None),
    reply(VALUES.astype(np.float64)),
    reply(VALUES.reshape(2, 2)),
    reply(VALUES[:0]),
    reply(VALUES.view(np.int32)),
    reply(gradients=()),
    reply(gradients=(("targets", (GRADIENT,)),)),
    reply(gradients=(("predictions", (GRADIENT.T.copy(),)),)),
    reply(gradients=(("predictions", (GRADIENT.astype(ml_dtypes.bfloat16),)),)),
    reply(gradients=(("predictions", (GRADIENT, VALUES)),)),
    reply(gradients=(("predictions", (GRADIENT,)), ("targets", (VALUES,)))),
    reply(gradients=(("predictions", (np.float64(2),)),)),
    reply(outputs=()),
    reply(outputs=(("kept", (VALUES > 0.5,)),)),
    reply(None, (), ()),
)


def read(encoded: bytes) -> Any:
    """All that a caller sees of a reply."""
    try:
        return told(responses.read_response(Framed(v1.ComputeLossResponse.FromString(encoded))))
    except (DecodeError, LossdError) as error:
        return type(error)


def read_as_others(replies: Replies, encoded: bytes) -> Any:
    """The same, if it may be cut up as the one that was learnt."""
    cut = replies.cut(encoded)
    if cut is None:
        return None
    try:
        return told(responses.read_cut(cut))
    except LossdError as error:
        return type(error)


def told(result: Any) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            assert value.flags.aligned
            assert not value.flags.writeable
            return value.dtype, value.shape, value.tobytes()
        if isinstance(value, dict):
            return [(name, plain(each)) for name, each in value.items()]
        if isinstance(value, TermResult):
            return [plain(getattr(value, name)) for name in type(value).__slots__]
        return [plain(each) for each in value] if isinstance(value, list) else repr(value)

    return [plain(getattr(result, name)) for name in type(result).__slots__]


def test_replies_that_differ_in_one_thing_are_told_apart() -> None:
    for pattern in REPLIES:
        replies = Replies()
        replies.learn(pattern.SerializeToString())
        for other in REPLIES:
            encoded = other.SerializeToString()
            assert read_as_others(replies, encoded) in (None, read(encoded)), (pattern, other)


@pytest.mark.parametrize("other", REPLIES[:7])
def test_replies_that_differ_in_their_numbers_are_cut_up(other: Any) -> None:
    replies = Replies()
    replies.learn(REPLIES[0].SerializeToString())

    assert read_as_others(replies, other.SerializeToString()) == read(other.SerializeToString())


@pytest.mark.parametrize("pattern", [REPLIES[-1], REPLIES[-2]], ids=["no array", "booleans"])
def test_what_gains_nothing_or_has_to_be_looked_at_is_not(pattern: Any) -> None:
    replies = Replies()
    replies.learn(pattern.SerializeToString())

    assert replies.cut(pattern.SerializeToString()) is None


def test_fields_in_another_order_are_read_as_protobuf_does() -> None:
    plainly = reply().SerializeToString()
    for encoded in (
        plainly + v1.ComputeLossResponse(loss=2).SerializeToString(),
        reply(outputs=()).SerializeToString() + plainly,
        plainly + plainly,
        b"\x08" + plainly,
        b"\x42\x7f" + plainly,  # all of it would be a text
    ):
        replies = Replies()
        for pattern in (plainly, encoded):
            try:
                replies.learn(pattern)
            except DecodeError:
                continue
            assert read_as_others(replies, encoded) in (None, read(encoded))


@settings(max_examples=300, deadline=None)
@given(
    pattern=st.sampled_from(REPLIES[:4]),
    at=st.integers(0, 400),
    length=st.sampled_from([0, 1, 1, 1, 2]),
    byte=st.binary(min_size=0, max_size=2),
)
def test_any_other_bytes_are_read_as_if_nothing_had_been_before(
    pattern: Any, at: int, length: int, byte: bytes
) -> None:
    encoded = pattern.SerializeToString()
    replies = Replies()
    replies.learn(encoded)
    at %= len(encoded)
    other = encoded[:at] + byte + encoded[at + length :]
    assert read_as_others(replies, other) in (None, read(other))
