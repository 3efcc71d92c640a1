"""Others give way to late calls where one can be served, and threads are left to refuse more."""

from contextlib import ExitStack
from typing import Any

import pytest

from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.giving_way import Ask, GivingWay, Prospect, refusing_threads

METHOD = "/lossd.v1.LossService/ComputeLoss"


class Caller:
    """Stands for gRPC's context of a call that came late."""

    def __init__(self, *, is_active: bool = True) -> None:
        self._is_active = is_active

    def is_active(self) -> bool:
        return self._is_active


class Others:
    """Calls that give way, and what they were asked."""

    def __init__(self, *prospects: Prospect) -> None:
        self.late = 0
        self.asked: list[str] = []
        self._prospects = prospects

    def turned_away(self, method: str, _context: Any) -> Ask:
        self.late += 1

        def ask() -> Prospect:
            self.asked.append(method)
            return self._prospects[min(len(self.asked), len(self._prospects)) - 1]

        return ask


def test_every_slot_may_be_of_a_late_call_and_some_threads_never_serve() -> None:
    others, admission, caller = (
        Others(Prospect.LEFT),
        Admission(calls=10, request_bytes=1),
        Caller(),
    )
    late: Any = GivingWay(admission, others.turned_away)
    with ExitStack() as served:
        tickets = [
            served.enter_context(late.entered(METHOD, caller))
            for _ in range(refusing_threads(admission.max_calls))
        ]
        assert sum(ticket is not None for ticket in tickets) == admission.max_calls
        assert others.asked == [METHOD] * admission.max_calls
        assert len(tickets) > admission.max_calls
        for ticket in filter(None, tickets):
            ticket.leave()
            ticket.finish()
    with late.entered(METHOD, caller) as ticket:
        assert ticket is not None


@pytest.mark.parametrize("is_active", [True, False])
def test_nobody_is_let_in_where_no_other_gives_way(*, is_active: bool) -> None:
    others, admission = Others(Prospect.NONE), Admission(calls=1, request_bytes=1)
    late: Any = GivingWay(admission, others.turned_away)
    with late.entered(METHOD, Caller(is_active=is_active)) as ticket:
        assert ticket is None
    assert len(others.asked) == is_active
    assert admission.calls == 0


class Clock:
    """The time, which passes in a sleep alone: an hour of it where the machine is busy."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.is_busy = False
        self.meanwhile = ExitStack()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 3600 if self.is_busy else seconds
        self.meanwhile.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lossd.serving.rpc.giving_way.time", made)
    return made


def test_who_made_another_give_way_looks_again_however_long_it_slept(clock: Clock) -> None:
    admission = Admission(calls=1, request_bytes=1)
    taken, others = admission.enter(), Others(Prospect.LEFT)
    late: Any = GivingWay(admission, others.turned_away)
    clock.is_busy = True
    for end in (taken.finish, taken.leave):
        clock.meanwhile.callback(end)
    with late.entered(METHOD, Caller()) as ticket:
        assert ticket is not None


@pytest.mark.usefixtures("clock")
def test_a_late_call_waits_for_a_moment_where_one_may_give_way_soon() -> None:
    admission = Admission(calls=1, request_bytes=1)
    others = Others(Prospect.SOON, Prospect.SOON, Prospect.LEFT)
    late: Any = GivingWay(admission, others.turned_away)
    taken = admission.enter()
    with late.entered(METHOD, Caller()) as ticket:
        assert ticket is None
    assert (others.late, len(others.asked)) == (1, 3)  # who it is was found out once
    others = Others(Prospect.SOON)
    late = GivingWay(admission, others.turned_away)
    with late.entered(METHOD, Caller()) as ticket:
        assert ticket is None
    assert len(others.asked) > 1
    taken.leave()
    taken.finish()
    with late.entered(METHOD, Caller()) as ticket:
        assert ticket is not None
