"""All that came in before the end is answered, however much it is."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lossd.serving.server import Server


def refused(boundary: Any, check: Callable[[], bool]) -> None:
    """Refuses what waits, of a server that asks itself by ``check``."""
    parts = SimpleNamespace(_boundary=boundary, _pulse=SimpleNamespace(check=check))
    Server._refuse_what_waits(cast("Server", parts), 10.0)


@pytest.mark.parametrize("answers", [[True], [False, True], [False] * 20 + [True]])
def test_it_waits_until_grpc_answers_its_own_call_after_all_others(answers: list[bool]) -> None:
    """Where too many wait, gRPC refuses its own call at once, which says nothing of the others."""
    boundary, left = SimpleNamespace(refused=0, is_closed=False), [*answers]

    def close() -> None:
        boundary.is_closed = True

    boundary.close = close

    def check() -> bool:
        assert boundary.is_closed
        return left.pop(0)

    refused(boundary, check)
    assert not left


def test_it_goes_on_while_there_are_more_to_refuse() -> None:
    boundary = SimpleNamespace(refused=0, close=lambda: None)

    def check() -> bool:
        boundary.refused = min(boundary.refused + 1, 5)
        return True

    refused(boundary, check)
    assert boundary.refused == 5
