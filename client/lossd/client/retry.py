"""Repeats calls that failed for reasons that may pass.

Every call is a pure function of its request, so that repeating one is always right.
Why not gRPC's own retry: it is silently off for messages above 256 KiB, which batches are.
Clock, sleep and chance are passed in; nothing here knows gRPC.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from lossd.client.errors import LossdError, OverloadedError, UnavailableError

Answer = TypeVar("Answer")
Errors = tuple[type[LossdError], ...]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to repeat a call, and after how long.

    Attributes:
        attempts: How often a call is made at most.
        first_delay: Upper end of the first wait, in seconds; it doubles from wait to wait.
        longest_delay: Upper end that no wait exceeds, in seconds.
    """

    attempts: int = 4
    first_delay: float = 0.1
    longest_delay: float = 2.0

    def delay(self, error: LossdError, attempt: int, chance: float) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: What the attempt failed with.
            attempt: Its number, from 1.
            chance: A number in [0, 1): waits are spread over their whole range, so that callers
                who failed together do not come back together.
        """
        if attempt >= self.attempts or not repeatable(error):
            return None
        if error.retry_delay is not None:
            return max(error.retry_delay, 0.0)
        return chance * min(self.longest_delay, self.first_delay * 2.0 ** (attempt - 1))


def repeatable(error: LossdError) -> bool:
    """Whether the reason of the failure may pass: nobody there, or no room with a time given."""
    if isinstance(error, OverloadedError):
        return error.retry_delay is not None  # else the request may be too large for ever
    return isinstance(error, UnavailableError)


class RetryBudget:
    """Tokens that the retries of all calls share, so that they cannot multiply an outage.

    As in gRFC A6: a failure costs a token, a success gives a tenth back, and calls are repeated
    only while more than half of the tokens are left.
    """

    def __init__(self, tokens: float = 10.0, gain: float = 0.1) -> None:
        self._most = tokens
        self._tokens = tokens
        self._gain = gain
        self._lock = threading.Lock()

    def failed(self) -> bool:
        """Counts a failure; returns whether the call may be repeated."""
        with self._lock:
            self._tokens = max(self._tokens - 1.0, 0.0)
            return self._tokens > self._most / 2

    def succeeded(self) -> None:
        """Counts a success."""
        with self._lock:
            self._tokens = min(self._tokens + self._gain, self._most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Decides whether a call is made again, and when. May be shared by threads and by tasks."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    budget: RetryBudget = field(default_factory=RetryBudget)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def delay(self, error: LossdError, attempt: int, deadline: float) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: What the attempt failed with.
            attempt: Its number, from 1.
            deadline: When the call has to end, on the clock.
        """
        if not repeatable(error) or not self.budget.failed():
            return None
        delay = self.policy.delay(error, attempt, self.chance())
        if delay is None or self.clock() + delay >= deadline:
            return None  # the error at hand says more than a deadline that passed while waiting
        return delay


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier(Retries):
    """Makes calls again, and sleeps in between."""

    sleep: Callable[[float], None] = time.sleep

    def call(
        self, attempt: Callable[[float], Answer], timeout: float, *, final: Errors = ()
    ) -> Answer:
        """Returns what an attempt returns, and the last error if none succeeds.

        Args:
            attempt: Called with the seconds that are left; raises ``LossdError`` where it fails.
            timeout: Seconds for all attempts and waits together.
            final: Errors that no attempt may follow.

        Raises:
            LossdError: what the last attempt failed with.
        """
        deadline = self.clock() + timeout
        number = 1
        while True:
            try:
                answer = attempt(deadline - self.clock())
            except final:
                raise
            except LossdError as error:
                delay = self.delay(error, number, deadline)
                if delay is None:
                    raise
            else:
                self.budget.succeeded()
                return answer
            self.sleep(delay)
            number += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncRetrier(Retries):
    """Makes calls again, and lets other tasks run in between."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def call(
        self, attempt: Callable[[float], Awaitable[Answer]], timeout: float, *, final: Errors = ()
    ) -> Answer:
        """Returns what an attempt returns, as ``Retrier.call`` does.

        Raises:
            LossdError: what the last attempt failed with.
        """
        deadline = self.clock() + timeout
        number = 1
        while True:
            try:
                answer = await attempt(deadline - self.clock())
            except final:
                raise
            except LossdError as error:
                delay = self.delay(error, number, deadline)
                if delay is None:
                    raise
            else:
                self.budget.succeeded()
                return answer
            await self.sleep(delay)
            number += 1
