import asyncio
import threading
from typing import Any

import pytest

from lossd import client
from lossd.client.retry import AsyncRetrier, Retrier, RetryBudget, RetryPolicy, repeatable

UNAVAILABLE = client.UnavailableError("nobody")


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
    assert retrier(clock).call(Failing(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE), 30) == "answer"
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4])


def test_the_last_error_is_raised_after_four_attempts(retrier: Any) -> None:
    attempt = Failing(*[UNAVAILABLE] * 9)
    with pytest.raises(client.UnavailableError):
        retrier(Clock()).call(attempt, 30)
    assert len(attempt.given) == 4


def test_waits_are_spread_over_their_range_and_bounded() -> None:
    policy = RetryPolicy(attempts=99)
    assert policy.delay(UNAVAILABLE, 1, 0.0) == 0.0
    assert policy.delay(UNAVAILABLE, 1, 0.5) == pytest.approx(0.05)
    assert policy.delay(UNAVAILABLE, 50, 1.0) == 2.0


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


def test_the_time_that_the_server_gives_is_waited_for_exactly(retrier: Any) -> None:
    clock = Clock()
    busy = client.OverloadedError("busy", retry_delay=3.5)
    retrier(clock).call(Failing(busy), 30)
    assert clock.slept == [3.5]
    assert repeatable(busy)


def test_a_negative_time_is_no_wait() -> None:
    busy = client.OverloadedError("busy", retry_delay=-1.0)
    assert RetryPolicy().delay(busy, 1, 0.5) == 0.0


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


def test_an_outage_uses_up_the_budget_and_calls_are_then_made_once(retrier: Any) -> None:
    clock = Clock()
    shared = retrier(clock)
    made = []
    for _ in range(20):
        attempt = Failing(*[UNAVAILABLE] * 9)
        with pytest.raises(client.UnavailableError):
            shared.call(attempt, 30)
        made.append(len(attempt.given))
    # Failures 1 to 4 leave 6 tokens or more; the fifth leaves 5, which is no more than half.
    assert made == [4] + [1] * 19


def test_successes_refill_the_budget_a_tenth_at_a_time_and_not_beyond_its_size() -> None:
    budget = RetryBudget(tokens=2.0, gain=0.5)
    budget.succeeded()
    assert not budget.failed()  # 1 of 2 is half
    budget.succeeded()
    budget.succeeded()
    budget.succeeded()
    assert not budget.failed()  # had it grown beyond 2, this would be true


def test_a_failure_of_the_caller_costs_no_token(retrier: Any) -> None:
    budget = RetryBudget(tokens=4.0)
    shared = retrier(Clock(), budget=budget)
    for _ in range(20):
        with pytest.raises(client.InvalidRequestError):
            shared.call(Failing(client.InvalidRequestError("no")), 30)
    assert budget.failed()


def test_threads_lose_no_token() -> None:
    budget = RetryBudget(tokens=4000.0)
    threads = [
        threading.Thread(target=lambda: [budget.failed() for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    budget.succeeded()
    assert budget._tokens == pytest.approx(2000.1)
