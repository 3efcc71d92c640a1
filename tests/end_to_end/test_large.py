"""More and larger calls than may be, however they come and go, take no more memory than may be."""

import pytest

from tests.end_to_end.large import FEW_BYTES, MIB, WAYS, crowd

QUICK = ("unary, unfinished", "stream, cancelled")


@pytest.mark.parametrize("way", WAYS)
def test_a_crowd_of_large_calls_stays_below_the_limit(
    request: pytest.FixtureRequest, way: str
) -> None:
    is_whole = request.config.getoption("--whole")
    if not is_whole and way not in QUICK:
        pytest.skip("takes some seconds: run with --whole")
    limit, callers, size = (512, 32, 64) if is_whole else (256, 32, 32)
    found = crowd(way, limit=limit * MIB, callers=callers, size=size * MIB)
    few = FEW_BYTES // MIB
    # What comes while nobody looks is more where other work keeps the server from looking.
    assert found.peak <= (800 if is_whole else 2 * limit)
    assert found.left <= max(limit // 5, few)
    assert found.answered == (callers if "complete" in way else 0)
