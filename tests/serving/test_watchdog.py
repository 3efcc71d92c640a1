"""Calls that are ended are ended each by itself, and no more of them than were asked for."""

from collections.abc import Iterator
from functools import partial

import pytest

from lossd.serving.rpc.watchdog import Watchdog


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    made = Watchdog(lambda: 3600, every=3600)
    yield made
    made.close()


def test_one_that_cannot_be_ended_keeps_no_other_from_it(watchdog: Watchdog) -> None:
    ended = list[str]()

    def fail() -> None:
        raise OSError

    for cancel in (partial(ended.append, "a"), fail, partial(ended.append, "b")):
        watchdog.watch(cancel)
    with pytest.raises(OSError):
        watchdog.end_newest(3)
    assert sorted(ended) == ["a", "b"]


@pytest.mark.parametrize("count", [-1, 0])
def test_where_none_has_to_go_none_is_ended(watchdog: Watchdog, count: int) -> None:
    for _ in range(3):
        watchdog.watch(pytest.fail)
    assert watchdog.end_late(count, 0) == watchdog.end_newest(count) == 0
    assert len(watchdog) == 3
