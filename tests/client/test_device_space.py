"""Parts of device memory go to who used them before, or are said to be still used by others."""

from typing import Any

import pytest

from lossd.client.device_space import DeviceSpace, UsedPart
from lossd.client.device_streams import Stream

A, B, C = Stream(0xA0), Stream(0xB0), Stream(0xC0)
ROOM = 1024


@pytest.fixture
def space() -> DeviceSpace:
    return DeviceSpace(ROOM, 256)


def take(space: DeviceSpace, size: int, *streams: Stream) -> UsedPart | None:
    """Takes a part, if need be one that others use too."""
    users = set(streams)
    return space.take(size, users, may_wait=False) or space.take(size, users, may_wait=True)


def used(space: DeviceSpace, size: int, *streams: Stream) -> UsedPart:
    """Takes a part that belongs to streams when it is given back."""
    part = take(space, size, *streams)
    assert part is not None
    return part._replace(streams=set(streams))


def test_a_stream_gets_its_own_memory_again(space: DeviceSpace) -> None:
    space.give_back(used(space, 200, A))
    assert take(space, 256, A) == (0, 256, {A})


def test_another_stream_gets_what_nobody_used(space: DeviceSpace) -> None:
    space.give_back(used(space, 256, A))
    assert take(space, 256, B) == (256, 512, set())


def test_each_of_two_streams_gets_its_own(space: DeviceSpace) -> None:
    parts = [used(space, 256, A), used(space, 256, B), used(space, 512, C)]
    for part in parts:
        space.give_back(part)
    assert take(space, 512, C) == (512, 1024, {C})
    assert take(space, 256, B) == (256, 512, {B})
    assert take(space, 256, A) == (0, 256, {A})


def test_where_all_was_used_it_is_told_who_is_to_be_waited_for(space: DeviceSpace) -> None:
    for part in [used(space, 512, A), used(space, 512, B, C)]:
        space.give_back(part)
    assert space.take(768, {A}, may_wait=False) is None
    assert space.take(768, {A}, may_wait=True) == (0, 768, {A, B, C})
    assert space.take(256, {A}, may_wait=True) == (768, 1024, {B, C})  # they are remembered


def test_streams_of_one_call_may_share_what_one_of_them_used(space: DeviceSpace) -> None:
    space.give_back(used(space, ROOM, A))
    assert space.take(ROOM, {A, B}, may_wait=False) == (0, ROOM, {A})


def test_what_several_used_is_no_ones_own(space: DeviceSpace) -> None:
    space.give_back(used(space, ROOM, A, B))
    assert space.take(ROOM, {A}, may_wait=False) is None


def test_parts_in_use_are_given_to_nobody(space: DeviceSpace) -> None:
    first, second, third = (used(space, 256, A) for _ in range(3))
    space.give_back(first)
    space.give_back(third)
    assert take(space, 768, A) is None
    assert take(space, 512, A) == (512, 1024, {A})
    space.give_back(second)
    assert take(space, 512, A) == (0, 512, {A})


def test_it_is_free_when_all_parts_are_back(space: DeviceSpace) -> None:
    parts = [used(space, 512, A), used(space, 512, B)]
    for part in parts:
        assert not space.is_free()
        space.give_back(part)
    assert space.is_free()


@pytest.mark.parametrize("size", [1, 255, 256])
def test_parts_are_aligned(space: DeviceSpace, size: int) -> None:
    starts: list[Any] = [used(space, size, A).start for _ in range(4)]
    assert starts == [0, 256, 512, 768]
    assert take(space, 1, A) is None


def test_streams_of_two_threads_are_two_though_they_have_one_name() -> None:
    one, other = Stream(2, thread=object()), Stream(2, thread=object())  # type: ignore[arg-type]
    assert one != other
