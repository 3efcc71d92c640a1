"""Shares: how much one caller may take, so that the others have the rest.

Callers of this host that nobody has to know by name share everything, as they always may, but for
what a rule says of them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from lossd.errors import Overloaded
from lossd.schema import exactly
from lossd.serving.access.gate import Gate
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

    def _refill(self) -> None:
        now = self.clock()
        refilled = self._left + (now - self._at) * self.per_second
        self._left, self._at = min(refilled, max(self.per_second, 1.0)), now


@dataclass(frozen=True, slots=True)
class _Limits:
    """The limits of a caller of whom no rule says anything else."""

    calls: int
    request_bytes: int
    calls_per_second: float


@dataclass(frozen=True, slots=True)
class _Share:
    admission: Admission
    rate: Rate | None


class Shares:
    """The shares of all callers; may be used from many threads."""

    def __init__(self, config: Config) -> None:
        self._usual = _Limits(
            config.caller_calls or three_quarters(config.max_calls),
            config.caller_inflight_bytes or three_quarters(config.max_inflight_bytes),
            config.caller_calls_per_second,
        )
        self._whole = _Limits(config.max_calls, config.max_inflight_bytes, 0.0)
        self._shares: ByKey[tuple[str, Quotas], _Share] = ByKey(
            lambda key: self._of_caller(*key), lambda share: not share.admission.calls
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
            share = self._shares.of((caller.key, caller.quotas))
            if share.rate is not None:
                share.rate.take()
            share.admission.narrow(ticket)

    def has_room(self, caller: Caller) -> bool:
        """Returns whether another call of a caller would be within its share; counts none."""
        if not caller.key:
            return True
        with self._lock:
            admission = self._shares.of((caller.key, caller.quotas)).admission
            return admission.calls < admission.max_calls

    def has_turn(self, caller: Caller) -> bool:
        """Returns whether a caller may begin a call now; counts none."""
        if not caller.key:
            return True
        with self._lock:
            rate = self._shares.of((caller.key, caller.quotas)).rate
            return rate is None or rate.has_turn()

    def _of_caller(self, key: str, quotas: Quotas) -> _Share:
        usual = self._whole if key == THIS_HOST else self._usual
        admission = Admission(
            calls=quotas.calls or usual.calls,
            request_bytes=quotas.inflight_bytes or usual.request_bytes,
            whose=" of one caller",
        )
        per_second = quotas.calls_per_second or usual.calls_per_second
        return _Share(admission, Rate(per_second) if per_second else None)


def let_in_by(
    gate: Gate, shares: Shares
) -> Callable[[str, grpc.ServicerContext, AdmissionTicket], Caller]:
    """Returns what lets calls in that the gate admits, within the share of their caller."""

    def let_in(method: str, context: grpc.ServicerContext, ticket: AdmissionTicket) -> Caller:
        caller = gate.admit(method, context)
        try:
            shares.take(caller, ticket)
        except Overloaded as error:
            gate.note(error, method=method, peer=context.peer(), caller=caller.name)
            raise
        return caller

    return let_in


def three_quarters(whole: int) -> int:
    """Returns what one may have where all have ``whole``; at least 1."""
    return max(1, whole * 3 // 4)
