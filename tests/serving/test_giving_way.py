"""Others give way to few late calls at a time, and only where one can be served."""

from contextlib import ExitStack
from typing import Any

import pytest

from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.giving_way import REFUSING_THREADS, GivingWay


class Caller:
    """Stands for gRPC's context of a call that came late."""

    def __init__(self, *, is_active: bool = True) -> None:
        self._is_active = is_active

    def is_active(self) -> bool:
        return self._is_active

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class Others:
    """Calls that give way, and what they were asked."""

    def __init__(self, *, give_way: bool = True) -> None:
        self.asked: list[str] = []
        self._give_way = give_way

    def turned_away(self, peer: str) -> bool:
        self.asked.append(peer)
        return self._give_way


def test_of_the_threads_that_refuse_some_never_serve() -> None:
    others, admission, caller = Others(), Admission(calls=100, request_bytes=1), Caller()
    late: Any = GivingWay(admission, others.turned_away)
    with ExitStack() as served:
        tickets = [served.enter_context(late.entered(caller)) for _ in range(REFUSING_THREADS)]
        at_once = len(others.asked)
        assert sum(ticket is not None for ticket in tickets) == at_once
        assert 0 < at_once < REFUSING_THREADS
    with late.entered(caller) as ticket:
        assert ticket is not None
    assert len(others.asked) == at_once + 1


@pytest.mark.parametrize("is_active", [True, False])
def test_nobody_is_let_in_where_no_other_gives_way(*, is_active: bool) -> None:
    others, admission = Others(give_way=False), Admission(calls=1, request_bytes=1)
    late: Any = GivingWay(admission, others.turned_away)
    with late.entered(Caller(is_active=is_active)) as ticket:
        assert ticket is None
    assert len(others.asked) == is_active
    assert admission.calls == 0
