"""Who begins calls and drops them loses its connection, then waits for another."""

import itertools
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from lossd.serving.rpc import doors
from lossd.serving.rpc.doors import Address, Outcome
from lossd.serving.rpc.resets import SEEN, UNSEEN, Resets

LIMIT = 100  # a second
HERE, THERE = ip_address("192.0.2.1"), ip_address("2001:db8::1")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="sockets are found there only")


@dataclass
class Watched:
    """Counts by a clock that stands still, and what came of it."""

    limit: int = LIMIT
    outcome: Outcome = Outcome.ENDED
    now: float = 0.0
    ended: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    waiting: Sequence[Address] = ()

    def __post_init__(self) -> None:
        def end(peer: str) -> Outcome:
            self.ended.append(peer)
            return self.outcome

        self.resets = Resets(self.limit, end=end, told=self.told.append, clock=lambda: self.now)
        self.resets.start(self.let_wait)
        self.resets.close()  # the thread would look too

    def let_wait(self, addresses: Sequence[Address]) -> bool:
        self.waiting = addresses
        return True

    def rest(self, seconds: float) -> None:
        """Lets time pass in which nobody drops a call."""
        self.now += seconds
        self.resets.look()

    def drop(self, peer: str, count: int, amount: int = SEEN) -> None:
        for _ in range(count):
            self.resets.note(peer, amount)
        self.resets.look()


def test_who_cannot_be_told_to_wait_now_is_told_later() -> None:
    answers, asked = [False, False, True], list[Sequence[Address]]()

    def let_wait(addresses: Sequence[Address]) -> bool:
        asked.append(addresses)
        return answers[len(asked) - 1]

    watched = Watched()
    watched.resets.start(let_wait)
    watched.resets.close()
    watched.drop("ipv4:192.0.2.1:5", 2 * LIMIT + 1)
    for _ in range(3):
        watched.resets.look()
    assert asked == [(HERE,)] * 3


def test_a_connection_is_ended_that_drops_more_than_it_may() -> None:
    watched = Watched()
    watched.drop("ipv4:192.0.2.1:5", LIMIT)
    assert watched.ended == []
    watched.drop("ipv4:192.0.2.1:5", 1)
    assert watched.ended == ["ipv4:192.0.2.1:5"]
    assert watched.told == ["TOO_MANY_RESETS"]
    assert not watched.waiting


def test_as_many_as_it_may_are_dropped_for_ever() -> None:
    watched = Watched()
    for _ in range(100):
        watched.drop("ipv4:192.0.2.1:5", LIMIT // 2)
        watched.now += 0.5
    assert watched.ended == []
    assert not watched.waiting


@pytest.mark.parametrize(("limit", "rate", "late"), [(10_000, 6_000, 0.05), (500, 400, 0.7)])
def test_what_was_earned_since_the_last_look_may_be_spent_however_late_the_next_one_is(
    limit: int, rate: int, late: float
) -> None:
    watched = Watched(limit)
    for _ in range(20):
        watched.now += late
        watched.drop("ipv4:192.0.2.1:5", round(late * rate))
    assert watched.ended == []


def test_an_address_waits_that_drops_more_on_one_connection_after_the_other() -> None:
    watched = Watched()
    ports = itertools.count(1000)
    for _ in range(4):
        watched.drop(f"ipv4:{HERE}:{next(ports)}", LIMIT // 2)
    assert not watched.waiting
    watched.drop(f"ipv4:{HERE}:{next(ports)}", LIMIT // 2)
    assert list(watched.waiting) == [HERE]
    watched.now = 5.1
    watched.resets.look()
    assert not watched.waiting


@pytest.mark.parametrize("address", [HERE, THERE])
def test_it_waits_twice_as_long_each_time_and_as_before_once_it_kept_quiet(
    address: Address,
) -> None:
    watched = Watched()
    peer = f"ipv6:[{address}]:1" if address.version == 6 else f"ipv4:{address}:1"

    def wait() -> float:
        watched.drop(peer, 2 * LIMIT + 1)
        assert list(watched.waiting) == [address]
        began = watched.now
        while watched.waiting:
            watched.now += 0.5
            watched.resets.look()
        return watched.now - began

    assert [wait() for _ in range(5)] == [5, 10, 20, 40, 60]
    watched.rest(301)
    assert wait() == 5


def test_an_address_that_had_to_wait_may_drop_an_eighth_until_it_is_forgiven() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:1", 2 * LIMIT + 1)
    watched.rest(6)
    watched.drop(f"ipv4:{HERE}:2", 2 * LIMIT // 8)
    assert not watched.waiting
    watched.drop(f"ipv4:{HERE}:2", 1)
    assert list(watched.waiting) == [HERE]


def test_who_drops_calls_on_another_connection_after_one_was_ended_waits_for_the_next() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    assert not watched.waiting
    watched.drop(f"ipv4:{HERE}:2", LIMIT // 8)
    assert not watched.waiting
    watched.drop(f"ipv4:{HERE}:2", 1)
    assert list(watched.waiting) == [HERE]


def test_an_address_is_no_longer_suspected_a_minute_after_one_was_ended() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    watched.rest(61)
    watched.drop(f"ipv4:{HERE}:2", LIMIT)
    assert not watched.waiting


def test_connections_that_were_ended_are_known_for_two_seconds() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    watched.drop(f"ipv4:{THERE}:1", 1)
    assert [*watched.resets.ended] == [f"ipv4:{HERE}:1"]
    watched.rest(1.9)
    assert watched.resets.ended
    watched.rest(0.2)
    assert not watched.resets.ended


def test_a_connection_that_was_ended_is_not_looked_for_again_at_once() -> None:
    watched = Watched()
    for _ in range(3):
        watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    assert watched.ended == [f"ipv4:{HERE}:1"]


def test_calls_of_a_connection_that_ended_by_itself_are_known_too_and_nobody_is_told() -> None:
    watched = Watched(outcome=Outcome.GONE)
    watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    assert watched.resets.ended
    assert watched.told == []


def test_a_connection_that_could_not_be_ended_goes_on_and_is_tried_again() -> None:
    watched = Watched(outcome=Outcome.UNKNOWN)
    for _ in range(2):
        watched.drop(f"ipv4:{HERE}:1", LIMIT + 1)
    assert watched.ended == [f"ipv4:{HERE}:1"] * 2
    assert not watched.resets.ended


@pytest.mark.parametrize("peer", ["unix:", "unix:/run/lossd.sock", "unix-abstract:lossd"])
def test_callers_by_a_socket_file_have_one_name_and_none_of_them_is_ended(peer: str) -> None:
    assert doors.end(peer) is Outcome.UNKNOWN


@LINUX
def test_what_cannot_be_looked_for_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doors, "_OPEN_FILES", tmp_path / "none")
    assert doors.end("ipv4:192.0.2.1:5") is Outcome.UNKNOWN
    assert not doors.let_wait(1, [])


def test_an_address_waits_alone() -> None:
    watched = Watched()
    watched.drop(f"ipv6:%5B{THERE}%5D:1", 2 * LIMIT + 1)
    watched.drop(f"ipv4:{HERE}:1", LIMIT)
    assert list(watched.waiting) == [THERE]


def test_as_many_as_a_connection_has_open_may_be_dropped_at_once() -> None:
    watched = Watched(limit=1000)
    watched.drop("ipv4:192.0.2.1:5", 256)
    assert watched.ended == []
    watched.now += 0.001
    watched.drop("ipv4:192.0.2.1:5", 3)
    assert watched.ended == ["ipv4:192.0.2.1:5"]


def test_what_an_address_that_waits_has_open_is_ended_where_it_goes_on() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:1", 2 * LIMIT + 1)
    watched.ended.clear()
    watched.drop(f"ipv4:{HERE}:2", 1)
    watched.drop(f"ipv4:{THERE}:3", 32)
    assert watched.ended == []
    told = len(watched.told)
    watched.drop(f"ipv4:{HERE}:2", 32)
    assert watched.ended == [f"ipv4:{HERE}:2"]
    assert len(watched.told) == told + 1


def test_calls_that_nobody_saw_count_for_as_many_as_grpc_forgot_beside_them() -> None:
    watched = Watched()
    watched.drop(f"ipv4:{HERE}:5", LIMIT // UNSEEN, UNSEEN)
    assert watched.ended == []
    watched.drop(f"ipv4:{HERE}:5", 1, UNSEEN)
    assert watched.ended == [f"ipv4:{HERE}:5"]
    assert not watched.waiting
    for port in range(2):
        watched.drop(f"ipv4:{HERE}:{6 + port}", LIMIT // UNSEEN, UNSEEN)
    assert list(watched.waiting) == [HERE]


def test_callers_without_an_address_lose_nothing_but_their_connection() -> None:
    watched = Watched()
    watched.drop("unix:/run/lossd.sock", 10 * LIMIT)
    assert not watched.waiting


def test_any_number_may_be_dropped_where_there_is_no_limit() -> None:
    watched = Watched(limit=0)
    watched.drop(f"ipv4:{HERE}:1", 10 * LIMIT)
    assert watched.ended == []
    assert not watched.waiting


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("ipv4:192.0.2.1:80", (HERE, 80)),
        ("ipv6:%5B2001:db8::1%5D:80", (THERE, 80)),
        ("ipv6:[::ffff:192.0.2.1]:80", (HERE, 80)),
        ("ipv6:[fe80::1%25eth0]:80", (ip_address("fe80::1"), 80)),
        ("unix:/a:80", None),
        ("unix-abstract:lossd:80", None),
        ("ipv4:nobody:80", None),
        ("ipv4:192.0.2.1", None),
        ("", None),
    ],
)
def test_a_peer_is_read_as_grpc_writes_it(peer: str, found: doors.Endpoint | None) -> None:
    assert doors.endpoint(peer) == found


def listening(host: str, family: socket.AddressFamily) -> socket.socket:
    found = socket.socket(family)
    if family == socket.AF_INET6 and host == "::":
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    found.bind((host, 0))
    found.listen()
    return found


def connects(port: int, source: str) -> bool:
    """Whether a connection is taken at once."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family) as caller:
        caller.settimeout(0.2)
        caller.bind((source, 0))
        try:
            caller.connect((source if family == socket.AF_INET6 else "127.0.0.1", port))
        except TimeoutError:
            return False
    return True


@LINUX
@pytest.mark.parametrize(
    ("host", "family", "kept_out", "let_in"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.2", "127.0.0.1"),
        ("::", socket.AF_INET6, "127.0.0.2", "::1"),
        ("::", socket.AF_INET6, "::1", "127.0.0.2"),
    ],
)
def test_new_connections_of_an_address_wait_and_no_others(
    host: str, family: socket.AddressFamily, kept_out: str, let_in: str
) -> None:
    with closing(listening(host, family)) as server:
        port = server.getsockname()[1]
        assert connects(port, kept_out)
        more = [ip_address(f"198.51.100.{number}") for number in range(60)]
        assert doors.let_wait(port, [*more, ip_address("2001:db8::2"), ip_address(kept_out)])
        assert not connects(port, kept_out)
        assert connects(port, let_in)
        assert doors.let_wait(port, [])
        assert connects(port, kept_out)


@LINUX
def test_a_connection_that_is_there_goes_on_while_others_wait() -> None:
    with closing(listening("127.0.0.1", socket.AF_INET)) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as caller:
            taken, _ = server.accept()
            with closing(taken):
                doors.let_wait(port, [ip_address("127.0.0.1")])
                taken.sendall(b"word")
                assert caller.recv(4) == b"word"


@LINUX
def test_the_connection_of_a_peer_is_ended_and_no_other() -> None:
    with closing(listening("127.0.0.1", socket.AF_INET)) as server:
        port = server.getsockname()[1]
        callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        taken = [server.accept()[0] for _ in callers]
        host, number = callers[0].getsockname()
        assert doors.end(f"ipv4:{host}:{number}") is Outcome.ENDED
        assert callers[0].recv(1) == b""
        taken[1].sendall(b"!")
        assert callers[1].recv(1) == b"!"
        for each in (*callers, *taken):
            each.close()
        assert doors.end(f"ipv4:{host}:{number}") is Outcome.GONE


@LINUX
def test_what_has_come_on_a_connection_that_is_ended_is_thrown_away() -> None:
    with (
        closing(listening("127.0.0.1", socket.AF_INET)) as server,
        closing(socket.create_connection(server.getsockname())) as caller,
    ):
        taken, _ = server.accept()
        with closing(taken):
            caller.sendall(bytes(100_000))
            host, number = caller.getsockname()
            assert doors.end(f"ipv4:{host}:{number}") is Outcome.ENDED
            assert taken.recv(1) == b""
