"""Others give way to late calls where one can be served, and threads are left to refuse more."""

from contextlib import ExitStack
from typing import Any

import pytest

from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.giving_way import GivingWay, refusing_threads

METHOD = "/lossd.v1.LossService/ComputeLoss"


class Caller:
    """Stands for gRPC's context of a call that came late."""

    def __init__(self, *, is_active: bool = True) -> None:
        self._is_active = is_active

    def is_active(self) -> bool:
        return self._is_active


class Others:
    """Calls that give way, and what they were asked."""

    def __init__(self, *, give_way: bool = True) -> None:
        self.asked: list[str] = []
        self._give_way = give_way

    def turned_away(self, method: str, _context: Any) -> bool:
        self.asked.append(method)
        return self._give_way


def test_every_slot_may_be_of_a_late_call_and_some_threads_never_serve() -> None:
    others, admission, caller = Others(), Admission(calls=10, request_bytes=1), Caller()
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
    others, admission = Others(give_way=False), Admission(calls=1, request_bytes=1)
    late: Any = GivingWay(admission, others.turned_away)
    with late.entered(METHOD, Caller(is_active=is_active)) as ticket:
        assert ticket is None
    assert len(others.asked) == is_active
    assert admission.calls == 0
