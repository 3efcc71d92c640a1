"""A connection that says nothing leaves places for others."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from lossd.errors import Overloaded
from lossd.serving.rpc.admission import Admission, AdmissionTicket
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.giving_way import Prospect
from lossd.serving.rpc.watchdog import Watchdog

PLACES = 8


@dataclass
class Room:
    """Places, and calls that take them and say nothing."""

    silent: Watchdog = field(default_factory=lambda: Watchdog(lambda: 3600, every=3600))
    unread: Watchdog = field(default_factory=lambda: Watchdog(lambda: 3600, every=3600))
    admission: Admission = field(default_factory=lambda: Admission(calls=PLACES, request_bytes=100))
    now: float = 0.0

    def __post_init__(self) -> None:
        self.crowd = Crowd(PLACES, (self.silent,), self.unread, clock=lambda: self.now)
        self.ended: list[str] = []

    def take(self, peer: str, caller: str = "") -> AdmissionTicket:
        """Lets in a call that has its message."""
        ticket = self.admission.enter()
        try:
            self.crowd.take(lambda: peer, ticket).caller = caller
        except Overloaded:
            end(ticket)
            raise
        return ticket

    def keep_silent(self, peer: str, caller: str = "") -> None:
        """Lets in a call that waits for its message."""
        self._let_in(peer, self.silent, caller)

    def leave_unread(self, peer: str) -> None:
        """Lets in a call whose answer nobody reads."""
        self._let_in(peer, self.unread)

    def _let_in(self, peer: str, watchdog: Watchdog, caller: str = "") -> None:
        ticket = self.take(peer, caller)

        def cancel() -> None:
            self.ended.append(peer)
            end(ticket)

        watchdog.watch(cancel, lambda: peer)


def left(room: Room, peer: str, own: str | None = None) -> bool:
    """Asks for room for a connection that found none; returns whether a call gave way."""
    return room.crowd.turned_away(peer, own) is Prospect.LEFT


def end(ticket: AdmissionTicket) -> None:
    ticket.finish()
    ticket.leave()


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.silent.close()
    made.unread.close()


def test_a_connection_may_have_all_places_that_nobody_wants(room: Room) -> None:
    for _ in range(PLACES):
        room.take("one")
    assert room.admission.calls == PLACES
    assert not left(room, "one")


def test_a_silent_call_gives_way_to_one_of_another_connection(room: Room) -> None:
    for _ in range(PLACES):
        room.keep_silent("one")
    assert left(room, "other")
    assert room.ended == ["one"]
    room.take("other")


def test_the_connection_with_the_most_silent_calls_gives_way(room: Room) -> None:
    for peer in ("few", "few", "many", "many", "many", "many", "busy"):
        room.keep_silent(peer)
    assert left(room, "other")
    assert room.ended == ["many"]


def test_a_call_gives_way_neither_to_its_own_connection_nor_alone(room: Room) -> None:
    for _ in range(PLACES):
        room.keep_silent("one")
    assert not left(room, "one")
    lonely = Room()
    for number in range(PLACES):
        lonely.keep_silent(f"connection {number}")
    assert not left(lonely, "other")
    assert room.ended == lonely.ended == []


def test_a_call_whose_answer_nobody_reads_gives_way_even_alone(room: Room) -> None:
    for number in range(PLACES):
        room.leave_unread(f"connection {number}")
    assert left(room, "connection 0")
    assert room.ended == ["connection 1"]


@pytest.mark.parametrize("kind", ["keep_silent", "leave_unread"])
def test_none_gives_way_to_a_connection_that_has_half_of_the_places(room: Room, kind: str) -> None:
    for _ in range(PLACES // 2 - 1):
        room.take("much")
    for _ in range(PLACES // 2 + 1):
        getattr(room, kind)("little")
    assert left(room, "much")
    room.take("much")
    assert not left(room, "much")
    assert room.ended == ["little"]
    assert left(room, "other")


def test_only_its_own_give_way_to_a_caller_that_has_its_share(room: Room) -> None:
    for peer, caller in [("own", "a")] * 2 + [("both", "a"), ("both", "b")] + [("other", "b")] * 4:
        room.keep_silent(peer, caller)
    assert left(room, "new", own="a")
    assert room.ended == ["own"]
    room.take("other", "b")  # which has more than half: nor need others leave it room
    assert not left(room, "new", own="a")
    assert left(room, "new")
    assert room.ended == ["own", "other"]


def test_what_computes_does_not_give_way(room: Room) -> None:
    for _ in range(PLACES):
        room.take("one")
    assert not left(room, "other")


def test_who_has_little_may_hope_for_what_one_has_who_has_half(room: Room) -> None:
    for _ in range(PLACES // 2):
        room.take("much")
    for number in range(PLACES // 2 - 1):
        room.take(f"connection {number}")
    assert room.crowd.turned_away("other") is Prospect.SOON
    assert room.crowd.turned_away("much") is Prospect.NONE
    assert room.crowd.turned_away("other", own="a") is Prospect.NONE
    room.leave_unread("much")
    assert room.crowd.turned_away("other") is Prospect.LEFT


def test_there_is_no_hope_where_all_have_little(room: Room) -> None:
    for number in range(PLACES):
        room.take(f"connection {number}")
    assert room.crowd.turned_away("other") is Prospect.NONE


def test_a_call_that_its_watchdog_tells_of_nobody_does_not_give_way(room: Room) -> None:
    for _ in range(PLACES):
        room.keep_silent("")
    assert not left(room, "other")


def test_while_others_want_places_a_connection_has_half(room: Room) -> None:
    for _ in range(PLACES):
        room.keep_silent("one")
    assert left(room, "other")
    with pytest.raises(Overloaded, match="of one connection must be at most 4 while others want"):
        room.take("one")
    room.silent.end_newest(PLACES // 2, "one")
    room.take("one")  # which makes half of them
    with pytest.raises(Overloaded):
        room.take("one")
    end(room.take("other"))

    room.now = 60.0  # nobody has wanted one for long
    room.take("one")


def test_places_are_given_back(room: Room) -> None:
    for _ in range(10 * PLACES):
        end(room.take("one"))
    assert room.admission.calls == 0


def test_no_call_is_asked_for_its_connection_while_all_find_a_slot(room: Room) -> None:
    def name() -> str:
        pytest.fail("gRPC must be asked only where it counts")

    for _ in range(PLACES):
        room.crowd.take(name, room.admission.enter())


def test_a_connection_is_asked_for_once_however_often_its_slots_are_counted(room: Room) -> None:
    asked = list[str]()

    def name() -> str:
        asked.append("one")
        return "one"

    slots = [room.admission.enter() for _ in range(PLACES)]
    for slot in slots:
        room.crowd.take(name, slot)
    for count in range(PLACES, 0, -1):
        assert (room.crowd.refusal("one", Overloaded("late")) is None) == (2 * count < PLACES)
        end(slots[count - 1])
    assert len(asked) == PLACES
    assert not room.crowd._taken._counts


def test_only_connections_that_call_are_remembered(room: Room) -> None:
    kept = room.take("first")
    for number in range(3000):
        end(room.take(f"connection {number}"))
    assert [slot.peer for slot in room.crowd._taken] == ["first"]
    end(kept)
    assert not [*room.crowd._taken]


def test_nobody_waits_for_a_lock_while_calls_are_asked_whose_they_are() -> None:
    """To say it, gRPC lets go of the interpreter; its own thread releases calls meanwhile."""
    watchdog = Watchdog(lambda: 3600, every=3600)
    ended, releases = list[str](), list[Callable[[], None]]()

    def owner() -> str:
        with ThreadPoolExecutor(1) as grpcs:
            grpcs.submit(releases[1]).result(timeout=20)
        return "late"

    releases += [watchdog.watch(partial(ended.append, name), owner) for name in "abc"]
    assert watchdog.end_newest(2, "late") == 2
    assert ended == ["c", "a"]  # b was released meanwhile
