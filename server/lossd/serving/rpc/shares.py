"""Shares: how much one caller may take, so that the others have the rest.

Callers of this host that nobody has to know by name share everything, as they always may, but for
what a rule says of them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lossd.errors import Overloaded
from lossd.schema import exactly
from lossd.serving.caller import THIS_HOST, Caller, Quotas
from lossd.serving.config import Config
from lossd.serving.rpc.admission import Admission, AdmissionTicket
from lossd.serving.rpc.by_key import ByKey


@dataclass(slots=True)
class Rate:
    """Calls that may begin: ``per_second`` of them, or as many at once after a second of rest."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._at = max(self.per_second, 1.0), self.clock()

    def has_turn(self) -> bool:
        """Returns whether a call may begin now."""
        self._refill()
        return self._left >= 1

    def take(self) -> None:
        """Counts a call that begins.

        Raises:
            Overloaded: if there were as many as may be; it says when there is room for one.
        """
        if not self.has_turn():
            error = Overloaded(
                "calls a second of one caller must be at most "
                f"{exactly(self.per_second)}, got more",
                reason="TOO_MANY_CALLS",
                details={"limit": self.per_second},
            )
            error.retry_seconds = (1 - self._left) / self.per_second
            raise error
        self._left -= 1

    def is_rested(self) -> bool:
        """Returns whether as many may begin at once as ever."""
        self._refill()
        return self._left >= max(self.per_second, 1.0)

    def _refill(self) -> None:
        now = self.clock()
        refilled = self._left + (now - self._at) * self.per_second
        self._left, self._at = min(refilled, max(self.per_second, 1.0)), now


@dataclass(frozen=True, slots=True)
class _CallerLimits:
    """How much a caller may take."""

    calls: int
    request_bytes: int
    calls_per_second: float


class _Share:
    """The room that a caller takes, under limits that may change meanwhile."""

    def __init__(self, limits: _CallerLimits) -> None:
        self._limits = limits
        self.admission = Admission(
            calls=limits.calls, request_bytes=limits.request_bytes, whose=" of one caller"
        )
        self.rate = _rate_of(limits)

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten: nothing is taken, and no rate is spent."""
        return not self.admission.calls and (self.rate is None or self.rate.is_rested())

    def obey(self, limits: _CallerLimits) -> None:
        """Changes the limits, of what it has taken too."""
        if limits == self._limits:
            return
        self._limits = limits
        self.admission.limit(calls=limits.calls, request_bytes=limits.request_bytes)
        if self.rate is None or not limits.calls_per_second:
            self.rate = _rate_of(limits)
        else:
            self.rate.per_second = limits.calls_per_second


def _rate_of(limits: _CallerLimits) -> Rate | None:
    return Rate(limits.calls_per_second) if limits.calls_per_second else None


class Shares:
    """The shares of all callers; may be used from many threads."""

    def __init__(self, config: Config) -> None:
        self._usual = _CallerLimits(
            config.caller_calls or three_quarters(config.max_calls),
            config.caller_inflight_bytes or three_quarters(config.max_inflight_bytes),
            config.caller_calls_per_second,
        )
        self._whole = _CallerLimits(config.max_calls, config.max_inflight_bytes, 0.0)
        self._shares: ByKey[str, _Share] = ByKey(
            lambda _: _Share(self._usual), lambda share: share.is_idle
        )
        self._lock = threading.Lock()

    def take(self, caller: Caller, ticket: AdmissionTicket) -> None:
        """Counts a call against the share of its caller.

        Raises:
            Overloaded: if the caller has as much as it may.
        """
        if not caller.key:
            return
        with self._lock:
            share = self._of(caller)
            if share.rate is not None:
                share.rate.take()
            share.admission.narrow(ticket)

    def has_room(self, caller: Caller) -> bool:
        """Returns whether another call of a caller would be within its share; counts none."""
        if not caller.key:
            return True
        with self._lock:
            admission = self._of(caller).admission
            return admission.calls < admission.max_calls

    def has_turn(self, caller: Caller) -> bool:
        """Returns whether a caller may begin a call now; counts none."""
        if not caller.key:
            return True
        with self._lock:
            rate = self._of(caller).rate
            return rate is None or rate.has_turn()

    def _of(self, caller: Caller) -> _Share:
        """Returns the share of a caller, under the limits that hold for it now."""
        share = self._shares.of(caller.key)
        share.obey(self._limits(caller.key, caller.quotas))
        return share

    def _limits(self, key: str, quotas: Quotas) -> _CallerLimits:
        usual = self._whole if key == THIS_HOST else self._usual
        return _CallerLimits(
            quotas.calls or usual.calls,
            quotas.inflight_bytes or usual.request_bytes,
            quotas.calls_per_second or usual.calls_per_second,
        )


def three_quarters(whole: int) -> int:
    """Returns what one may have where all have ``whole``; at least 1."""
    return max(1, whole * 3 // 4)
