"""One caller takes its share, and the others have the rest."""

import pytest

from lossd.errors import Overloaded, TooLarge
from lossd.serving.access.gate import host_of
from lossd.serving.caller import HERE, Caller, Quotas
from lossd.serving.config import Config
from lossd.serving.rpc.admission import Admission, AdmissionTicket
from lossd.serving.rpc.shares import Rate, Shares, three_quarters

ONE, OTHER = Caller(name="one"), Caller(host="192.0.2.7")


def end(ticket: AdmissionTicket) -> None:
    """Its caller has the answer, and nothing is computed for it any more."""
    ticket.finish()
    ticket.leave()


def test_a_share_is_given_back_with_the_place() -> None:
    admission, shares = Admission(calls=4, request_bytes=100), Shares(Config(max_calls=4))
    for _ in range(20):
        places = [admission.enter() for _ in range(3)]
        for ticket in places:
            shares.take(ONE, ticket)
        fourth = admission.enter()
        with pytest.raises(Overloaded, match="calls in flight of one caller must be at most 3"):
            shares.take(ONE, fourth)
        shares.take(OTHER, fourth)
        for ticket in (*places, fourth):
            end(ticket)
    assert admission.calls == 0


def test_a_caller_has_room_while_it_has_less_than_its_share() -> None:
    admission, shares = Admission(calls=9, request_bytes=100), Shares(Config(caller_calls=2))
    tickets = [admission.enter() for _ in range(2)]
    for ticket in tickets:
        assert shares.has_room(ONE)
        shares.take(ONE, ticket)
    assert not shares.has_room(ONE)
    assert shares.has_room(OTHER)
    end(tickets[0])
    assert shares.has_room(ONE)


def test_a_caller_has_turns_at_its_rate_and_asking_takes_none() -> None:
    admission, shares = Admission(calls=9, request_bytes=100), Shares(Config())
    rated = Caller(name="rated", quotas=Quotas(calls_per_second=1e-3))
    assert all(shares.has_turn(rated) for _ in range(3))
    shares.take(rated, admission.enter())
    assert not shares.has_turn(rated)
    assert shares.has_turn(ONE)


def test_what_a_rule_says_of_callers_without_a_name_is_so_on_this_host_too() -> None:
    admission = Admission(calls=9, request_bytes=100)
    shares = Shares(Config(max_calls=9, max_inflight_bytes=100, caller_calls=1))
    rated = Caller(quotas=Quotas(calls_per_second=1e-3))
    shares.take(rated, admission.enter())
    assert not shares.has_turn(rated)
    with pytest.raises(Overloaded, match=r"calls a second of one caller must be at most 0\.001"):
        shares.take(rated, admission.enter())

    few = Caller(quotas=Quotas(inflight_bytes=10))
    tickets = [admission.enter() for _ in range(5)]
    for ticket in tickets:  # of the calls nothing was said, so they may be all
        shares.take(few, ticket)
    tickets[0].hold(10)
    with pytest.raises(Overloaded, match="bytes in flight of one caller must be at most 10"):
        tickets[1].hold(1)


def test_callers_of_this_host_without_a_name_always_have_room() -> None:
    shares = Shares(Config(caller_calls=1))
    assert shares.has_room(HERE)
    assert shares.has_turn(HERE)


def test_bytes_are_counted_by_caller_and_all_together() -> None:
    admission = Admission(calls=4, request_bytes=100)
    shares = Shares(Config(caller_inflight_bytes=60))
    one, again, other = (admission.enter() for _ in range(3))
    for caller, ticket in ((ONE, one), (ONE, again), (OTHER, other)):
        shares.take(caller, ticket)
    one.hold(50)
    with pytest.raises(Overloaded, match="bytes in flight of one caller must be at most 60"):
        again.hold(11)
    with pytest.raises(TooLarge, match="must be at most 60, got 61") as never:
        again.hold(61)
    assert never.value.reason == "TOO_LARGE"
    other.hold(50)
    with pytest.raises(Overloaded, match="bytes in flight must be at most 100"):
        again.hold(1)
    for ticket in (one, again, other):
        end(ticket)
    assert admission.request_bytes == 0
    fresh = admission.enter()
    shares.take(ONE, fresh)
    fresh.hold(60)  # nothing was left behind in its share


def test_who_has_left_takes_no_share() -> None:
    admission, shares = Admission(calls=4, request_bytes=100), Shares(Config(caller_calls=1))
    for _ in range(3):
        ticket = admission.enter()
        end(ticket)
        shares.take(ONE, ticket)
    shares.take(ONE, admission.enter())


def test_callers_of_this_host_without_a_name_share_everything() -> None:
    admission = Admission(calls=4, request_bytes=100)
    shares = Shares(Config(max_calls=4, caller_calls_per_second=1))
    for _ in range(4):
        shares.take(HERE, admission.enter())


def test_quotas_of_a_rule_come_before_the_settings() -> None:
    admission, shares = Admission(calls=9, request_bytes=100), Shares(Config(caller_calls=1))
    two = Caller(name="two", quotas=Quotas(calls=2))
    shares.take(two, admission.enter())
    shares.take(two, admission.enter())
    with pytest.raises(Overloaded):
        shares.take(two, admission.enter())


def test_limits_that_change_hold_for_what_a_caller_has_taken_too() -> None:
    admission = Admission(calls=9, request_bytes=100)
    shares = Shares(Config(max_calls=9, max_inflight_bytes=100))

    def limited(calls: int, request_bytes: int = 50) -> Caller:
        return Caller(name="one", quotas=Quotas(calls=calls, inflight_bytes=request_bytes))

    tickets = [admission.enter() for _ in range(4)]
    for ticket in tickets:
        shares.take(limited(4), ticket)
    tickets[0].hold(40)
    for calls in (3, 2, 1, 4):
        assert not shares.has_room(limited(calls))
        with pytest.raises(Overloaded, match=f"of one caller must be at most {calls}, got 5"):
            shares.take(limited(calls), admission.enter())
    shares.has_room(limited(4, 60))
    tickets[1].hold(20)
    with pytest.raises(Overloaded, match="bytes in flight of one caller must be at most 60"):
        tickets[1].hold(1)
    for ticket in tickets:
        end(ticket)
    assert shares.has_room(limited(1))


def test_a_rate_that_changes_is_not_begun_anew() -> None:
    admission, shares = Admission(calls=99, request_bytes=100), Shares(Config())

    def rated(per_second: float) -> Caller:
        return Caller(name="one", quotas=Quotas(calls_per_second=per_second))

    for _ in range(2):
        shares.take(rated(2.0), admission.enter())
    assert not shares.has_turn(rated(2.0))
    assert not shares.has_turn(rated(1e-3))
    assert shares.has_turn(rated(0.0))  # no limit, unless the settings have one


def test_a_rate_that_is_spent_is_not_forgotten_in_a_crowd() -> None:
    admission, shares = Admission(calls=5000, request_bytes=100), Shares(Config())
    rated = Quotas(calls_per_second=1e-3)
    ticket = admission.enter()
    shares.take(Caller(name="one", quotas=rated), ticket)
    end(ticket)
    for number in range(2000):
        assert shares.has_turn(Caller(name=str(number), quotas=rated))
    assert not shares.has_turn(Caller(name="one", quotas=rated))


def test_a_rate_says_when_there_is_room_again() -> None:
    now = [0.0]
    rate = Rate(2.0, clock=lambda: now[0])
    rate.take()
    rate.take()
    with pytest.raises(Overloaded) as caught:
        rate.take()
    assert caught.value.retry_seconds == pytest.approx(0.5)
    now[0] += 0.2
    with pytest.raises(Overloaded) as caught:
        rate.take()
    assert caught.value.retry_seconds == pytest.approx(0.3)
    now[0] += caught.value.retry_seconds
    rate.take()
    now[0] += 1000
    rate.take()
    rate.take()
    with pytest.raises(Overloaded):
        rate.take()


def test_a_crowd_of_callers_takes_no_memory_for_ever() -> None:
    admission, shares = Admission(calls=2, request_bytes=100), Shares(Config())
    for number in range(5000):
        ticket = admission.enter()
        shares.take(Caller(host=f"host {number}"), ticket)
        end(ticket)
    assert len(shares._shares) <= 1024


def test_a_caller_with_a_call_keeps_its_share_whoever_else_comes() -> None:
    admission, shares = Admission(calls=2, request_bytes=100), Shares(Config(caller_calls=1))
    shares.take(ONE, admission.enter())
    for number in range(3000):
        ticket = admission.enter()
        shares.take(Caller(host=f"host {number}"), ticket)
        end(ticket)
    assert not shares.has_room(ONE)


@pytest.mark.parametrize(("whole", "share"), [(1, 1), (2, 1), (4, 3), (64, 48)])
def test_three_quarters(whole: int, share: int) -> None:
    assert three_quarters(whole) == share


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("unix:", ""),
        ("unix:/a/socket", ""),
        ("unix-abstract:name", ""),
        ("ipv4:127.0.0.1:5000", ""),
        ("ipv4:127.3.2.1:5000", ""),
        ("ipv6:%5B::1%5D:5000", ""),
        ("ipv6:[::1]:5000", ""),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", ""),
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::127.0.0.1%5D:5000", "2001:db8::127.0.0.1"),
        ("vsock:2:5000", "vsock:2:5000"),
    ],
)
def test_the_host_of_a_peer(peer: str, host: str) -> None:
    assert host_of(peer) == host
