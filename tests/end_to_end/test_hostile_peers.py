"""One peer that means ill beside ten that do not: these see no error within their deadlines."""

import pytest

from tests.end_to_end.hostile import (
    ATTACKS,
    MIB,
    Attack,
    attacked,
    half_messages,
    headers,
    honest,
    served,
    slow_pages,
)

QUICK = (headers, half_messages, slow_pages)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_honest_are_answered_beside_one_that_is_not(
    request: pytest.FixtureRequest, attack: Attack
) -> None:
    is_whole = request.config.getoption("--whole")
    if not is_whole and attack not in QUICK:
        pytest.skip("takes ten seconds: run with --whole")
    limit = ("--max-inflight-bytes", str(256 * MIB))
    with served("--threads", "1", *limit) as (process, target), attacked(target, attack):
        calls = honest(process, 10.0 if is_whole else 0.5)
    assert all(calls)
