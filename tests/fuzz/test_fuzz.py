"""Whatever is changed in a message, the answer is ours and nothing stays behind."""

import grpc
import pytest

from tests.end_to_end.conftest import serve
from tests.end_to_end.raw import CHANNEL
from tests.fuzz.inside import inside
from tests.fuzz.mutations import mutated
from tests.fuzz.run import Found, changed, draws, over, run, with_states
from tests.fuzz.seeds import seeds


def test_a_changed_message_is_answered_or_refused_and_leaves_nothing(
    request: pytest.FixtureRequest,
) -> None:
    number = 200_000 if request.config.getoption("--whole") else 2_000
    found = Found()
    with inside() as server:
        known = with_states(seeds(), server.call)
        run(server.call, changed(number, known, draws(5)), found)
        assert server.left() == {"calls": 0, "bytes": 0}
    assert found.faults == []
    assert found.codes["OK"] > number // 20  # not all of it is refused at the first look
    assert found.codes["INVALID_ARGUMENT"] > number // 4


def test_so_it_is_through_a_socket() -> None:
    found = Found()
    known = seeds()
    with (
        serve("--backend", "numpy", "--threads", "1") as process,
        grpc.insecure_channel(process.address, options=CHANNEL) as channel,
    ):
        run(over(channel), changed(300, known, draws(6)), found)
    assert found.faults == []


def test_what_is_unchanged_is_served() -> None:
    with inside() as server:
        codes = [server.call(seed)[0] for seed in with_states(seeds(), server.call)]
    assert codes.count("OK") > 0.8 * len(codes)
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}


def test_a_change_depends_on_nothing_but_its_seed() -> None:
    (first, *_), every = seeds(), [seed.messages[0] for seed in seeds()]
    made = [mutated(draws(7), first.messages[0], every) for _ in range(2)]
    assert made[0] == made[1] != first.messages[0]
