"""Repeats calls that failed for reasons that may pass, for as long as their callers wait.

Every call is a pure function of its request, so that repeating one is always right.
Why not gRPC's own retry: it is silently off for messages above 256 KiB, which batches are.
Clock, sleep and chance are passed in; nothing here depends on gRPC.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from lossd.client import unreached
from lossd.client.errors import DeadlineExceededError, LossdError, OverloadedError, UnavailableError

Answer = TypeVar("Answer")
Errors = tuple[type[LossdError], ...]

log = logging.getLogger("lossd.client")

# With less time left than this, no attempt would be answered.
_SHORTEST_ATTEMPT = 0.01
# By then a wait has long stopped growing, and 2 to this power is still a finite number.
_LAST_DOUBLING = 30
# A server that starts is there by then; whoever waits longer wants to know for what.
_LONG = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to repeat a call, and after how long.

    Not a number of attempts ends a call but its deadline: a server that restarts or is busy for ten
    seconds is no failure for a caller who allowed thirty.  A budget of retries, as in gRFC A6,
    would end calls too, and first where many callers fail together, which is when repeating helps
    most.  The pace keeps retries from making an outage worse: one call is repeated at most about
    once a second, and all calls of a client together ``per_second`` times, however many they are.

    Attributes:
        first_delay: Upper end of the first wait, in seconds; it doubles from wait to wait.
        longest_delay: Upper end at which it stops doubling, in seconds.
        per_second: Retries per second of all calls together: the more calls wait, the longer
            each waits.
    """

    first_delay: float = 0.1
    longest_delay: float = 1.0
    per_second: float = 200.0

    def delay(
        self, error: LossdError, attempt: int, *, left: float, chance: float, waiting: int = 1
    ) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: The error of the attempt.
            attempt: Its number, from 1.
            left: Seconds until the call has to end; the wait leaves some of them for an attempt.
            chance: A number in [0, 1): waits are spread, so that callers who failed together do
                not come back together.
            waiting: How many calls wait to be repeated, this one among them.
        """
        told = error.retry_delay
        least = 0.0 if told is None else max(told, 0.0)
        room = 0.9 * left
        if not repeatable(error) or least >= room or left < _SHORTEST_ATTEMPT:
            return None  # this error says more than a deadline that passed while waiting would
        doubled = self.first_delay * 2.0 ** min(attempt - 1, _LAST_DOUBLING)
        spread = max(min(doubled, self.longest_delay), waiting / self.per_second)
        if told is not None:  # the server knows best when: not earlier, and not all callers at once
            return least + chance * min(spread, room - least)
        return (0.5 + 0.5 * chance) * min(spread, room)


def repeatable(error: Exception) -> bool:
    """Returns whether the failure may pass: no server, or one without room that gave a delay."""
    if isinstance(error, OverloadedError):
        return error.retry_delay is not None  # otherwise the request may be too large for good
    return isinstance(error, UnavailableError)


def may_answer_later(error: Exception) -> bool:
    """Returns whether a server that failed to answer, or was too busy, may answer another time."""
    return isinstance(error, DeadlineExceededError) or repeatable(error)


def was_answered(error: BaseException | None) -> bool:
    """Returns whether the server is done with a call that ended so, since it has said why.

    It may not be where the last attempt was late, though the error before that is the one raised.
    """
    if error is None:
        return True
    has_told = isinstance(error, LossdError) and bool(error.reason)
    return has_told and not isinstance(error.__cause__, DeadlineExceededError)


class Queue:
    """Counts the calls that wait to be repeated; may be shared by threads and by tasks."""

    def __init__(self) -> None:
        self._waiting = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def joined(self) -> Iterator[int]:
        """Counts one more while it waits, and yields the number."""
        with self._lock:
            self._waiting += 1
            waiting = self._waiting
        try:
            yield waiting
        finally:
            with self._lock:
                self._waiting -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Decides whether a call is made again, and when. May be shared by threads and by tasks.

    Attributes:
        policy: When to repeat a call.
        queue: The calls that wait.
        server: What the server is called in errors and in the log.
        warnings: Keeps the log from saying too often that calls wait for a connection.
        clock: Seconds that pass, from any beginning.
        chance: A number in [0, 1), which spreads waits.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    queue: Queue = field(default_factory=Queue)
    server: str = "server"
    warnings: unreached.Seldom = field(default_factory=unreached.Seldom)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def says_less(self, error: LossdError, left: float) -> bool:
        """Returns whether an attempt had so little time left that its end says nothing.

        What the attempt before it failed with tells more than a deadline that passed at once.
        """
        return isinstance(error, DeadlineExceededError) and left < self.policy.longest_delay

    def delay(
        self, error: LossdError, attempt: int, deadline: float, *, waiting: int, name: str
    ) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: What the attempt failed with.
            attempt: Its number, from 1.
            deadline: When the call has to end, on the clock.
            waiting: How many calls wait to be repeated, this one among them.
            name: What the log calls the call.
        """
        left = deadline - self.clock()
        delay = self.policy.delay(error, attempt, left=left, chance=self.chance(), waiting=waiting)
        if delay is not None:
            log.info(
                "call %s is repeated in %.3f s, %.1f s before its deadline: %s: %s",
                name, delay, left, error.code, error.message,
            )  # fmt: skip
        return delay

    def warn(self, error: LossdError, deadline: float) -> None:
        """Has the log say, once in a while, that calls wait for a connection."""
        now = self.clock()
        if unreached.is_unreached(error) and self.warnings.is_due(now):
            log.warning("%s", unreached.waiting(error, self.server, deadline - now))


@dataclass(slots=True)
class _Failures:
    """The failed attempts of one call; a call that succeeds at once has no use for it."""

    retries: Retries
    deadline: float  # when the call has to end, on the clock
    seconds: float  # how long it may take
    name: str  # what the log calls the call
    count: int = 0
    last: LossdError | None = None

    @contextlib.contextmanager
    def joined(self, error: LossdError, left: float) -> Iterator[float | None]:
        """Counts one more while it waits, and yields the seconds until the next attempt.

        It yields None if there is to be none.

        Args:
            error: What the attempt failed with.
            left: Seconds that the attempt had.

        Raises:
            LossdError: that of the attempt before, where this one says less.
        """
        retries = self.retries
        if self.last is not None and retries.says_less(error, left):
            unreached.explain(self.last, retries.server, self.seconds)
            try:
                raise self.last from error
            finally:
                self.last = None  # or it would have itself, by this frame
                del error
        self.count, self.last = self.count + 1, error
        with retries.queue.joined() as waiting:
            delay = retries.delay(error, self.count, self.deadline, waiting=waiting, name=self.name)
            if delay is None:
                unreached.explain(error, retries.server, self.seconds)
            elif self.seconds - left >= _LONG:
                retries.warn(error, self.deadline)
            yield delay


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier(Retries):
    """Makes calls again, and sleeps in between."""

    sleep: Callable[[float], object] = time.sleep

    def call(
        self,
        attempt: Callable[[float], Answer],
        timeout: float,
        *,
        final: Errors = (),
        name: str = "",
    ) -> Answer:
        """Returns what an attempt returns, and the last error if none succeeds.

        Args:
            attempt: Called with the seconds that are left; raises ``LossdError`` where it fails.
            timeout: Seconds for all attempts and waits together.
            final: Errors that no attempt may follow.
            name: What the log calls the call.

        Raises:
            LossdError: the error of the last attempt.
        """
        deadline = self.clock() + timeout
        failures: _Failures | None = None
        try:
            while True:
                left = deadline - self.clock()
                try:
                    return attempt(left)
                except final:
                    raise
                except LossdError as error:
                    failures = failures or _Failures(self, deadline, timeout, name)
                    with failures.joined(error, left) as delay:
                        if delay is None:
                            raise
                        self.sleep(delay)
        finally:
            del failures  # an error has this frame, and the batch, and with these it has itself


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncRetrier(Retries):
    """Makes calls again, and lets other tasks run in between."""

    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def call(
        self,
        attempt: Callable[[float], Awaitable[Answer]],
        timeout: float,
        *,
        final: Errors = (),
        name: str = "",
    ) -> Answer:
        """Returns what an attempt returns, as ``Retrier.call`` does.

        Raises:
            LossdError: the error of the last attempt.
        """
        deadline = self.clock() + timeout
        failures: _Failures | None = None
        try:
            while True:
                left = deadline - self.clock()
                try:
                    return await attempt(left)
                except final:
                    raise
                except LossdError as error:
                    failures = failures or _Failures(self, deadline, timeout, name)
                    with failures.joined(error, left) as delay:
                        if delay is None:
                            raise
                        await self.sleep(delay)
        finally:
            del failures  # as in ``Retrier``
