"""Messages on their way that do not fit are ended: the late first, then those that came last."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lossd.serving.rounds import Rounds
from lossd.serving.rpc import arrivals
from lossd.serving.rpc.arrivals import Arrivals
from lossd.serving.rpc.watchdog import Watchdog, Watchdogs

LIMIT = 1000


class Waiting:
    """Calls that wait for a message, by name, and which of them were ended."""

    def __init__(self) -> None:
        self.watchdogs = Watchdogs.ending_after(call=36000, first_message=36000, idle=36000)
        self.first, self.chunk, self.idle = (
            self.watchdogs.first_message, self.watchdogs.chunk, self.watchdogs.idle,
        )  # fmt: skip
        self.brief = Watchdog(lambda: 3600, every=3600)
        self.ended: list[str] = []

    def wait(self, *names: str, by: Watchdog | None = None) -> None:
        for name in names:
            watchdog = self.first if by is None else by
            watchdog.watch(lambda name=name: self.ended.append(name))  # type: ignore[misc]

    def arrivals(self, beyond: Callable[[], int]) -> Arrivals:
        made = Arrivals(beyond, lambda: LIMIT, self.watchdogs, self.brief, every=3600)
        made.close()
        return made


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    clock = [0.0]
    monkeypatch.setattr("lossd.serving.rpc.watchdog.time.monotonic", lambda: clock[0])

    def set_to(seconds: float) -> None:
        clock[0] = seconds

    return set_to


def test_nobody_is_ended_while_there_is_room(waiting: Waiting) -> None:
    waiting.wait("a", "b")
    assert waiting.arrivals(lambda: LIMIT).look() == 0


def test_memory_is_not_looked_at_while_nobody_waits(waiting: Waiting) -> None:
    def fail() -> int:
        raise AssertionError

    assert waiting.arrivals(fail).look() == 0


def test_whoever_begins_to_wait_wakes_the_one_who_rests(
    waiting: Waiting, now: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "Rounds", partial(Rounds, resting=3600))
    ended = threading.Event()
    looking = Arrivals(
        lambda: 2 * LIMIT,
        lambda: LIMIT,
        waiting.watchdogs,
        waiting.brief,
        ended=lambda _: ended.set(),
        every=0.001,
    )
    now(3600)
    time.sleep(0.1)  # it rests for an hour from now on
    waiting.wait("a", "b", "c", "d")
    assert ended.wait(10)
    looking.close()


def test_who_came_last_goes_first_and_half_of_the_room_is_left(waiting: Waiting) -> None:
    waiting.wait("a", "b", "c", "d")
    assert waiting.arrivals(lambda: 2 * LIMIT).look() == 3  # of 2000 bytes 500 stay
    assert waiting.ended == ["d", "c", "b"]


def test_one_message_is_taken_however_large_it_is(waiting: Waiting) -> None:
    waiting.wait("a")
    assert waiting.arrivals(lambda: 100 * LIMIT).look() == 0


def test_who_is_late_goes_before_the_others(waiting: Waiting, now: Callable[[float], None]) -> None:
    waiting.wait("stalled")
    now(arrivals._LARGE_SECONDS)
    waiting.wait("a", "b", "c")
    waiting.arrivals(lambda: LIMIT + 1).look()
    assert waiting.ended == ["stalled", "c", "b"]


def test_the_late_of_several_kinds_are_no_more_than_have_to_go(
    waiting: Waiting, now: Callable[[float], None]
) -> None:
    waiting.wait("rests", "rests", by=waiting.idle)
    waiting.wait("stalled", "stalled")
    now(arrivals._LARGE_SECONDS)
    assert waiting.arrivals(lambda: LIMIT + 1).look() == 3  # of 1001 bytes 500 stay
    assert waiting.ended.count("stalled") == 1


def test_even_the_only_one_if_it_is_late(waiting: Waiting, now: Any) -> None:
    waiting.wait("stalled")
    now(arrivals._LARGE_SECONDS)
    assert waiting.arrivals(lambda: LIMIT + 1).look() == 1


def test_a_stream_that_goes_on_is_left_alone(waiting: Waiting, now: Any) -> None:
    waiting.wait("stalled", by=waiting.chunk)
    now(arrivals._CHUNK_SECONDS)
    waiting.wait("goes on", by=waiting.chunk)
    waiting.arrivals(lambda: 100 * LIMIT).look()
    assert waiting.ended == ["stalled"]


def test_a_stream_between_two_batches_may_rest_as_long_as_a_large_message_takes(
    waiting: Waiting, now: Any
) -> None:
    waiting.wait("rests", by=waiting.idle)
    now(arrivals._LARGE_SECONDS - 0.1)
    assert waiting.arrivals(lambda: 100 * LIMIT).look() == 0
    now(arrivals._LARGE_SECONDS)
    assert waiting.arrivals(lambda: 100 * LIMIT).look() == 1


def test_health_checks_that_are_large_are_ended_and_for_them_nobody_else(
    waiting: Waiting, now: Any
) -> None:
    waiting.wait("stalled")
    now(arrivals._LARGE_SECONDS)
    waiting.wait("large", "large", by=waiting.brief)
    now(arrivals._LARGE_SECONDS + arrivals._BRIEF_SECONDS)
    waiting.wait("small", by=waiting.brief)
    looking = waiting.arrivals(lambda: 100 * LIMIT)
    assert looking.look() == 2
    assert looking.look() == 0
    assert waiting.ended == ["large", "large"]
    now(arrivals._LARGE_SECONDS + arrivals._BRIEF_SECONDS + arrivals._REST_SECONDS)
    looking.look()
    assert waiting.ended == ["large", "large", "small", "stalled"]


def test_small_messages_that_come_late_all_the_time_shelter_no_large_ones(
    waiting: Waiting, now: Callable[[float], None]
) -> None:
    arriving = waiting.arrivals(lambda: 2 * LIMIT)
    waiting.wait("large", "larger")
    for step in range(30):
        now(step * arrivals._REST_SECONDS / 10)
        waiting.wait("small", by=waiting.brief)
        now((step + 1) * arrivals._REST_SECONDS / 10)
        arriving.look()
    assert "larger" in waiting.ended


def test_small_messages_beside_large_ones_have_no_more_of_these_ended(
    waiting: Waiting, now: Callable[[float], None]
) -> None:
    arriving = waiting.arrivals(lambda: LIMIT + 1)
    waiting.wait("late", by=waiting.brief)
    waiting.wait(*"abcdefgh")
    now(arrivals._REST_SECONDS)
    arriving.look()
    now(2 * arrivals._REST_SECONDS)
    waiting.wait(*(["early"] * 16), by=waiting.brief)
    arriving.look()
    assert waiting.ended == ["late", *"hgfed"]


def test_what_seems_late_after_a_pause_is_left_until_it_was_read(
    waiting: Waiting, now: Callable[[float], None]
) -> None:
    """Some steps of losses and metrics keep the interpreter's lock: nobody reads meanwhile."""
    arriving = waiting.arrivals(lambda: LIMIT + 1)
    arriving._every = 0.025
    now(100)
    waiting.wait("check", by=waiting.brief)
    now(101)
    arriving._look_and_tell()
    assert waiting.ended == []
    now(101.025)
    arriving._look_and_tell()
    assert waiting.ended == ["check"]


def test_rounds_that_are_late_again_and_again_end_whoever_is(
    waiting: Waiting, now: Callable[[float], None]
) -> None:
    arriving = waiting.arrivals(lambda: LIMIT + 1)
    arriving._every = 0.025
    waiting.wait("large", by=waiting.brief)
    for second in range(1, 5):
        assert waiting.ended == []
        now(second)
        arriving._look_and_tell()
    assert waiting.ended == ["large"]
