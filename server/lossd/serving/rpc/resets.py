"""Ends connections whose calls are begun and dropped again and again.

gRPC's thread looks at every call that comes, some thousands a second, and refuses what is more,
whoever made it.  A call that its caller has dropped by then costs as much as any other.  So a
connection with too many of them is ended, and an address with too many, on one connection after
the other, waits before its next connection is taken: each time for twice as long.  Others notice
nothing, even from the same address, as long as they stay connected and drop few calls.

Of calls that are reset as soon as they are begun gRPC tells few: it keeps one of those that come
together, and forgets the rest.  So one that was reset before anybody looked at it counts for many,
and one that never said a word for some: who thinks better of a call has made it first.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lossd.serving.rounds import Rounds
from lossd.serving.rpc import doors
from lossd.serving.rpc.by_key import ByKey
from lossd.serving.rpc.doors import Address, Outcome

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.004
# As much does a dropped call count: one whose message had come, one that had said nothing, and one
# that was over before anybody looked at it.
SEEN, SILENT, UNSEEN = 1, 4, 8
_CONNECTIONS = 2  # as many of them may be at their limit, of one address
# Calls of a connection that may be dropped at once: as many as it may have open, unless that is
# more than by default.
_AT_ONCE = 256
_MANY = 32  # counted between two looks: a connection that takes part where its address has to wait
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 60.0  # that an address waits
_FORGIVEN_SECONDS = 300.0  # after which it waits as if for the first time
# As many times as much does each call count of an address that has waited until it is forgiven, and
# of one whose connection was ended lately: whoever begins another has to wait for the one
# after it.
_AGAIN, _SUSPECTED_SECONDS = 8, 60.0
_LATELY_SECONDS = 2.0  # in which gRPC may tell of calls whose connection was ended
_REST_SECONDS = 1.0  # after which all may be spent again

LetWait = Callable[[Sequence[Address]], bool]
REASON = "TOO_MANY_RESETS"


@dataclass(slots=True)
class _Budget:
    """A budget of so much per second, and of ``most`` at once after a rest."""

    per_second: float
    most: float
    at: float
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.most

    def is_overdrawn(self, amount: float, now: float, since: float) -> bool:
        """Spends; returns whether there was too little, in which case all is given anew.

        It was spent in the last ``since`` seconds, and what was earned in them paid for it at once.
        """
        rested = max(0.0, now - self.at - since)
        before = min(self.left + rested * self.per_second, self.most)
        left = before + since * self.per_second - amount
        self.at, self.left = now, min(left, self.most) if left >= 0 else self.most
        return left < 0


@dataclass(frozen=True, slots=True)
class _Wait:
    """How long an address waits, and until when."""

    seconds: float
    until: float


class Resets:
    """Counts the calls that ended before they were answered, on a thread of its own.

    ``per_second`` of one connection may, and twice as many of one address; 0 for any number.
    ``end`` ends the connection of a peer, and ``told`` learns of each one that was ended or has
    to wait.
    """

    def __init__(
        self,
        per_second: int,
        *,
        end: Callable[[str], Outcome] = doors.end,
        told: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._let_wait: LetWait = lambda _: False
        self._end = end
        self._told = told
        self._clock = clock
        self._noted: deque[tuple[str, int]] = deque()
        self._looked = clock()
        at_once = min(per_second, _AT_ONCE)
        self._of_connection: ByKey[str, _Budget] = self._budgets(per_second, at_once)
        self._of_address: ByKey[Address, _Budget] = self._budgets(
            _CONNECTIONS * per_second, _CONNECTIONS * at_once
        )
        self.ended: Mapping[str, float] = {}
        self._waits: dict[Address, _Wait] = {}
        self._suspected: dict[Address, float] = {}  # since when
        self._waiting: set[Address] = set()
        self._are_told = True  # those who have to wait
        self._rounds: Rounds | None = None
        self._is_on = per_second > 0

    def start(self, let_wait: LetWait) -> None:
        """Starts to look; ``let_wait`` has new connections of some addresses wait, no others."""
        self._let_wait = let_wait
        if self._is_on:
            self._rounds = Rounds("lossd-resets", self.look, LOOK_SECONDS, is_idle=self._is_idle)

    def note(self, peer: str, amount: int = SEEN) -> None:
        """Counts a call of a peer; never waits, for gRPC's own thread calls it."""
        if self._is_on:
            self._noted.append((peer, amount))
            if self._rounds is not None:
                self._rounds.wake()

    def close(self) -> None:
        """Looks no more."""
        if self._rounds is not None:
            self._rounds.close()

    def _is_idle(self) -> bool:
        """Returns whether there is nothing to count, and nothing that has to be over in time."""
        return not (self._noted or self._waiting or self.ended) and self._are_told

    def look(self) -> None:
        """Counts what was noted, and acts."""
        now = self._clock()
        since, self._looked = now - self._looked, now
        self._forgive(now)
        counts = self._counted()
        ended = set()
        for peer, count in counts.items():
            if self._of_connection.of(peer).is_overdrawn(count, now, since):
                self._end_and_tell(peer, now)
                ended.add(peer)
            self._count_address(peer, count, now, since)
        self._suspected |= {each[0]: now for peer in ended if (each := doors.endpoint(peer))}
        self._change(now)
        for peer in counts.keys() - ended:
            if counts[peer] >= _MANY and self._has_to_wait(peer):
                self._end_and_tell(peer, now)

    def _counted(self) -> Counter[str]:
        counts = Counter[str]()
        for _ in range(len(self._noted)):
            peer, amount = self._noted.popleft()
            counts[peer] += amount
        return counts

    def _end_and_tell(self, peer: str, now: float) -> None:
        if peer in self.ended:  # to look for its socket again would take a millisecond or more
            return
        outcome = self._end(peer)
        if outcome is not Outcome.UNKNOWN:
            self.ended = {**self.ended, peer: now}
        if outcome is Outcome.ENDED:
            self._tell("connection was ended", peer)

    def _count_address(self, peer: str, count: int, now: float, since: float) -> None:
        found = doors.endpoint(peer)
        if found is None:
            return
        address, _ = found
        before = self._waits.get(address)
        weight = _AGAIN if before or address in self._suspected else 1
        is_overdrawn = self._of_address.of(address).is_overdrawn(weight * count, now, since)
        if is_overdrawn and address not in self._waiting:
            seconds = min(2 * before.seconds, _LONGEST_SECONDS) if before else _FIRST_SECONDS
            self._waits[address] = _Wait(seconds, now + seconds)
            self._tell("new connections have to wait", str(address), seconds=seconds)

    def _has_to_wait(self, peer: str) -> bool:
        """Returns whether a peer's next connection has to wait, so that this one is ended too."""
        found = doors.endpoint(peer)
        return found is not None and found[0] in self._waiting

    def _forgive(self, now: float) -> None:
        self.ended = _since(now - _LATELY_SECONDS, self.ended)
        self._suspected = _since(now - _SUSPECTED_SECONDS, self._suspected)
        self._waits = {
            address: wait
            for address, wait in self._waits.items()
            if now - wait.until < _FORGIVEN_SECONDS
        }

    def _change(self, now: float) -> None:
        """Has those wait who have to."""
        waiting = {address for address, wait in self._waits.items() if now < wait.until}
        if waiting != self._waiting:
            self._waiting, self._are_told = waiting, False
        if not self._are_told:  # again, if there was no file descriptor to do it with
            self._are_told = self._let_wait(tuple(waiting))

    def _budgets(self, per_second: float, most: float) -> ByKey[Any, _Budget]:
        def is_idle(budget: _Budget) -> bool:
            return self._clock() - budget.at >= _REST_SECONDS

        return ByKey(lambda _: _Budget(per_second, most, self._clock()), is_idle)

    def _tell(self, what: str, whom: str, **facts: float) -> None:
        self._told(REASON)
        log.warning("calls were begun and dropped: %s", what, extra={"peer": whom, **facts})


def _since(when: float, noted: Mapping[Any, float]) -> dict[Any, float]:
    return {key: noted_at for key, noted_at in noted.items() if noted_at > when}
