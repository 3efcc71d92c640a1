"""Keeps calls that say nothing, or that nobody reads, from taking every slot.

A connection may have all slots while nobody else wants one.  When a call of another one finds
none, a call that waits for its message, or whose answer is not read, gives way, of the connection
that has the most of them; and for some seconds no connection is given more than half of the slots.
The only one of a connection gives way where its answer is not read.  What computes never does, and
the bundled client sends again what did.
"""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lossd.errors import Overloaded
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.watchdog import Owner, Watchdog

_WANTED_SECONDS = 30.0  # for which a call that found no slot is remembered


class Crowd:
    """The slots of each connection; may be used from many threads.

    ``silent`` watch the calls that wait for a message, and ``unread`` those whose answer nobody
    reads, each with its connection; for others it tells an empty one.
    """

    def __init__(
        self,
        slots: int,
        silent: Sequence[Watchdog],
        unread: Watchdog,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._half = max(1, slots // 2)
        self._silent = (*silent, unread)
        self._unread = unread
        self._clock = clock
        self._taken: set[_Taken] = set()
        self._wanted = ("", -_WANTED_SECONDS)  # by whom, and when: the last one
        self._lock = threading.Lock()

    def take(self, peer: Owner, ticket: AdmissionTicket) -> None:
        """Counts a call among those of its connection, which ``peer`` tells.

        Raises:
            Overloaded: if they are half of all, and another connection has found no slot.
        """
        slot = _Taken(peer, self._taken)
        with self._lock:
            if self._is_wanted_beside(slot):
                self._check(slot)
            ticket.count_in(slot)

    def turned_away(self, peer: str) -> bool:
        """Makes room for a call of a connection that found no slot; returns whether one left."""
        waiting = Counter(owner for watchdog in self._silent for owner in watchdog.owners())
        del waiting[""]
        if not waiting:
            return False
        owner, count = waiting.most_common(1)[0]
        if count <= 1:  # the only call of a connection may yet say something, but not be read
            return any(self._unread.end_newest(1, late) for late in self._late(peer))
        if owner == peer:
            return False
        with self._lock:
            self._wanted = (peer, self._clock())
        return any(watchdog.end_newest(1, owner) for watchdog in self._silent)

    def _late(self, peer: str) -> Iterator[str]:
        """Yields the connections, but one, that do not read an answer."""
        return (owner for owner in self._unread.owners() if owner not in {"", peer})

    def _is_wanted_beside(self, slot: "_Taken") -> bool:
        by, when = self._wanted
        return self._clock() - when < _WANTED_SECONDS and by != slot.peer

    def _check(self, slot: "_Taken") -> None:
        wanted = 1 + sum(each.peer == slot.peer for each in [*self._taken])
        if wanted > self._half:
            raise Overloaded(
                f"calls in flight of one connection must be at most {self._half} while others "
                f"want some, got {wanted}",
                reason="TOO_MANY_CALLS",
                details={"limit": self._half},
            )


class _Taken:
    """The slot of one call; gRPC is asked for its connection when somebody counts them."""

    def __init__(self, ask: Owner, taken: "set[_Taken]") -> None:
        self._ask = ask
        self._taken = taken

    @functools.cached_property
    def peer(self) -> str:
        """The connection of the call."""
        return self._ask()

    def take(self, _: int) -> None:
        """Takes it."""
        self._taken.add(self)

    def give_back(self, _: int) -> None:
        """Leaves it."""
        self._taken.discard(self)
