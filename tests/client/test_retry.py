import asyncio
import logging
import threading
from typing import Any

import pytest

from lossd import client
from lossd.client import unreached
from lossd.client.errors import late_error
from lossd.client.retry import AsyncRetrier, Queue, Retrier, RetryPolicy, repeatable

UNAVAILABLE = client.UnavailableError("nobody")
BUSY = client.OverloadedError("busy", retry_delay=0.1)
ENDLESS = 10_000  # failures that no call lives to see


class Clock:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> Any:
        return self.now

    def sleep(self, seconds: Any) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Awaiting:
    """An ``AsyncRetrier`` that is run to its end, as if it were a ``Retrier``."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        self._retrier = AsyncRetrier(clock=clock, sleep=sleep, chance=lambda: 1.0, **options)

    def call(self, attempt: Any, timeout: float, **named: Any) -> Any:
        async def awaited(left: float) -> Any:
            return attempt(left)

        return asyncio.run(self._retrier.call(awaited, timeout, **named))


def sleeping(clock: Clock, **options: Any) -> Retrier:
    return Retrier(clock=clock, sleep=clock.sleep, chance=lambda: 1.0, **options)


@pytest.fixture(params=[sleeping, Awaiting], ids=["threads", "asyncio"])
def retrier(request: pytest.FixtureRequest) -> Any:
    """Makes a retrier of either kind that lives by a clock."""
    return request.param


class Failing:
    """An attempt that fails with each error in turn and then answers; keeps what it was given."""

    def __init__(self, *errors: Exception) -> None:
        self._left = list(errors)
        self.given: list[float] = []

    def __call__(self, left: float) -> str:
        self.given.append(left)
        if self._left:
            raise self._left.pop(0)
        return "answer"


def test_what_passes_is_repeated_with_doubling_waits(retrier: Any) -> None:
    clock = Clock()
    assert retrier(clock).call(Failing(*[UNAVAILABLE] * 5), 30) == "answer"
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])


@pytest.mark.parametrize("error", [UNAVAILABLE, BUSY])
@pytest.mark.parametrize("seconds", [3, 30, 3600])
def test_a_call_is_repeated_until_its_deadline_and_no_longer(
    retrier: Any, error: Any, seconds: float
) -> None:
    clock, attempt = Clock(), Failing(*[error] * ENDLESS)
    with pytest.raises(type(error)):
        retrier(clock).call(attempt, seconds)
    assert 0.75 * seconds <= clock.now - 100 < seconds
    assert 0.9 * seconds - 3 <= len(attempt.given) <= seconds + 12


@pytest.mark.parametrize("error", [UNAVAILABLE, BUSY])
def test_what_passes_before_the_deadline_is_answered(retrier: Any, error: Any) -> None:
    clock = Clock()

    def attempt(_left: float) -> str:
        if clock.now < 128:
            raise error
        return "answer"

    assert retrier(clock).call(attempt, 30) == "answer"


@pytest.mark.parametrize("error", [UNAVAILABLE, BUSY])
def test_waits_are_spread_over_half_of_their_range_at_least(error: Any) -> None:
    policy = RetryPolicy()
    for attempt in (1, 5, 50, 5000):
        least, most = (policy.delay(error, attempt, left=60, chance=x) for x in (0.0, 1.0))
        assert least is not None
        assert most is not None
        assert 0.05 <= least <= 0.5
        assert most - least >= 0.5 * min(0.1 * 2.0 ** min(attempt - 1, 10), 1.0)


@pytest.mark.parametrize("error", [UNAVAILABLE, BUSY])
def test_the_more_calls_wait_the_longer_so_that_all_together_keep_their_pace(error: Any) -> None:
    policy = RetryPolicy(per_second=50.0)
    for waiting in (100, 1000):
        waits = [
            policy.delay(error, 1, left=600, chance=part / 100, waiting=waiting)
            for part in range(100)
        ]
        assert sum(filter(None, waits)) / 100 >= 0.45 * waiting / 50


def test_a_crowd_is_repeated_too_in_the_time_that_is_left() -> None:
    delay = RetryPolicy().delay(BUSY, 1, left=1.0, chance=0.99, waiting=100_000)
    assert delay is not None
    assert delay < 0.95


@pytest.mark.parametrize(
    "kind",
    [
        client.InvalidRequestError,
        client.UnknownLossError,
        client.OverloadedError,
        client.DeadlineExceededError,
        client.CancelledError,
        client.ServerError,
    ],
)
def test_nothing_else_is_repeated(kind: Any, retrier: Any) -> None:
    attempt = Failing(kind("no"))
    with pytest.raises(kind):
        retrier(Clock()).call(attempt, 30)
    assert len(attempt.given) == 1


def test_an_error_that_is_final_is_not_repeated(retrier: Any) -> None:
    clock, attempt = Clock(), Failing(UNAVAILABLE)
    with pytest.raises(client.UnavailableError):
        retrier(clock).call(attempt, 10.0, final=(client.UnavailableError,))
    assert (len(attempt.given), clock.slept) == (1, [])


def test_the_time_that_the_server_gives_is_waited_for_at_least(retrier: Any) -> None:
    clock = Clock()
    busy = client.OverloadedError("busy", retry_delay=3.5)
    retrier(clock).call(Failing(busy), 30)
    assert 3.5 <= clock.slept[0] <= 3.7
    assert repeatable(busy)


def test_a_negative_time_is_none() -> None:
    busy = client.OverloadedError("busy", retry_delay=-1.0)
    assert RetryPolicy().delay(busy, 1, left=9, chance=0.0) == 0.0


def test_attempts_share_one_deadline(retrier: Any) -> None:
    attempt = Failing(UNAVAILABLE, UNAVAILABLE)
    retrier(Clock()).call(attempt, 30)
    assert attempt.given == pytest.approx([30.0, 29.9, 29.7])


def test_a_wait_beyond_the_deadline_is_not_begun(retrier: Any) -> None:
    clock = Clock()
    busy = client.OverloadedError("busy", retry_delay=5.0)
    with pytest.raises(client.OverloadedError):
        retrier(clock).call(Failing(busy), 5)
    assert clock.slept == []


def test_a_last_attempt_without_time_says_what_the_one_before_failed_with(retrier: Any) -> None:
    late = client.DeadlineExceededError("too late")
    with pytest.raises(client.UnavailableError) as caught:
        retrier(Clock()).call(Failing(UNAVAILABLE, late), 0.5)
    assert caught.value.__cause__ is late


def test_a_last_attempt_with_time_says_that_it_was_not_enough(retrier: Any) -> None:
    late = client.DeadlineExceededError("too late")
    with pytest.raises(client.DeadlineExceededError):
        retrier(Clock()).call(Failing(UNAVAILABLE, late), 5)


def test_an_outage_that_others_met_ends_no_call(retrier: Any) -> None:
    """A budget that all calls share would be empty by then."""
    shared = retrier(Clock())
    for _ in range(20):
        with pytest.raises(client.UnavailableError):
            shared.call(Failing(*[UNAVAILABLE] * ENDLESS), 3)
    assert shared.call(Failing(*[UNAVAILABLE] * 5), 30) == "answer"


def test_every_retry_is_logged_with_the_name_of_its_call(retrier: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="lossd.client")
    retrier(Clock()).call(Failing(UNAVAILABLE, BUSY), 30, name="step-7")
    first, second = caplog.messages
    assert first == (
        "call step-7 is repeated in 0.100 s, 30.0 s before its deadline: UNAVAILABLE: nobody"
    )
    assert second.endswith("RESOURCE_EXHAUSTED: busy")
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_a_call_that_succeeds_or_may_not_be_repeated_logs_nothing(
    retrier: Any, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, logger="lossd.client")
    retrier(Clock()).call(Failing(), 30)
    with pytest.raises(client.ServerError):
        retrier(Clock()).call(Failing(client.ServerError("no")), 30)
    assert caplog.messages == []


ALL = "connections to all backends failing"
NOBODY = (
    f"{ALL}; last error: UNKNOWN: ipv6:%5B::1%5D:50051: Failed to connect to remote host: "
    "Connection refused"
)
REFUSED = "[::1]:50051: Failed to connect to remote host: Connection refused"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NOBODY, REFUSED),
        (NOBODY.replace(ALL, "failed to connect to all addresses"), REFUSED),
        ("errors resolving no.host:1: [not found]", "errors resolving no.host:1: [not found]"),
        ("DNS resolution failed for no.host:1: none", "DNS resolution failed for no.host:1: none"),
    ],
)  # fmt: skip
def test_where_nobody_is_found_the_error_says_where_and_for_how_long(
    retrier: Any, said: str, told: str
) -> None:
    def failing(_: float) -> None:
        raise client.UnavailableError(said)

    with pytest.raises(client.UnavailableError) as caught:
        retrier(Clock(), server="server at localhost:50051").call(failing, 29.99)
    assert str(caught.value) == caught.value.message
    assert caught.value.code == "UNAVAILABLE"
    assert caught.value.message == (
        f"server at localhost:50051 must answer within 30 s, got no gRPC connection: {told}; "
        'is "lossd serve" running there?'
    )


def test_a_last_attempt_without_time_says_where_nobody_was_found(retrier: Any) -> None:
    errors = (client.UnavailableError(NOBODY), client.DeadlineExceededError("late"))
    with pytest.raises(client.UnavailableError, match=r"server must answer within 0\.5 s"):
        retrier(Clock()).call(Failing(*errors), 0.5)


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        ("Socket closed", "; does it want TLS, or another certificate of its client?"),
        ("Connection reset by peer", "; does it want TLS, or another certificate of its client?"),
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): NO_COMMON_SIGNATURE_ALGORITHMS", ""),
    ],
)
def test_of_whoever_ends_a_connection_nobody_asks_whether_it_runs(why: str, hint: str) -> None:
    error = client.UnavailableError(f"{ALL}; last error: UNKNOWN: ipv4:10.0.0.1:50051: {why}")
    unreached.explain(error, "server", 1.0)
    said = "server must answer within 1 s, got no gRPC connection: 10.0.0.1:50051"
    assert error.message == f"{said}: {why}{hint}"


def test_an_answer_that_is_late_names_the_server(retrier: Any) -> None:
    """Who calls a host that stays silent wants to know which."""
    silent = Failing(late_error())
    with pytest.raises(client.DeadlineExceededError) as caught:
        retrier(Clock(), server="server at 10.0.0.1:50051").call(silent, 30)
    said = "server at 10.0.0.1:50051 must answer within 30 s, got no answer in time"
    assert str(caught.value) == caught.value.message == said


def test_other_errors_keep_their_words(retrier: Any) -> None:
    with pytest.raises(client.UnavailableError, match=r"^nobody$"):
        retrier(Clock()).call(Failing(*[UNAVAILABLE] * ENDLESS), 3)


def test_calls_that_wait_for_a_connection_warn_once_a_minute(retrier: Any, caplog: Any) -> None:
    clock = Clock()
    waiting = retrier(clock, server="server at localhost:50051")

    def failing(_: float) -> None:
        raise client.UnavailableError(NOBODY)

    def call(seconds: float) -> list[str]:
        caplog.clear()
        with pytest.raises(client.UnavailableError):
            waiting.call(failing, seconds)
        return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]

    assert call(1.0) == []
    begun = clock.now
    (said,) = call(30.0)
    hint = 'is "lossd serve" running there?'
    named = "server at localhost:50051 gives no gRPC connection, 29 s left"
    assert said == f"{named}: {REFUSED}; {hint}"
    assert call(20.0) == []
    clock.now = begun + 70
    assert len(call(300.0)) == 5


def test_threads_are_counted_while_they_wait() -> None:
    queue, most = Queue(), []
    everybody_is_in = threading.Barrier(8)

    def wait() -> None:
        with queue.joined() as waiting:
            most.append(waiting)
            everybody_is_in.wait(20)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(most) == list(range(1, 9))
    with queue.joined() as waiting:
        assert waiting == 1
