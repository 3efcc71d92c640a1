"""Keeps calls that say nothing, or that nobody reads, from taking every slot.

A connection may have all slots while nobody else wants one.  When a call of another one finds
none, a call that waits for its message, or whose answer is not read, gives way, of the connection
that has the most of them; and for some seconds no connection is given more than half of the slots.
The only one of a connection gives way where its answer is not read.  What computes never does, and
the bundled client sends again what did.  None gives way to a connection that has half of the slots.
"""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lossd.errors import Overloaded
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.giving_way import Prospect
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
        self._slots, self._half = slots, max(1, slots // 2)
        self._silent = (*silent, unread)
        self._unread = unread
        self._clock = clock
        self._taken = _Taken()
        self._wanted = ("", -_WANTED_SECONDS)  # by whom, and when: the last one
        self._lock = threading.Lock()

    def take(self, peer: Owner, ticket: AdmissionTicket) -> "CallSlot":
        """Counts a call among those of its connection, which ``peer`` tells; returns its slot.

        Raises:
            Overloaded: if they are half of all, and another connection has found no slot.
        """
        slot = CallSlot(peer, self._taken)
        with self._lock:
            if self.is_wanted and (refusal := self._beyond_half(slot.peer)):
                raise refusal
            ticket.count_in(slot)
        return slot

    @property
    def is_wanted(self) -> bool:
        """Whether a call has found no slot lately."""
        return self._clock() - self._wanted[1] < _WANTED_SECONDS

    def refusal(self, peer: str, late: Overloaded | None) -> Overloaded | None:
        """Returns why a call of a connection is not served; None if it may be.

        ``late`` is why there was no slot for it, if there was none; then another call may still
        give way, unless the connection has half of the slots.
        """
        if late is not None:
            return late if 2 * self._slots_of(peer) >= self._slots else None
        return self._beyond_half(peer) if self.is_wanted else None

    def turned_away(self, peer: str, own: str | None = None) -> Prospect:
        """Makes room for a call of a connection that found no slot; returns whether one left.

        One may soon, if another connection has half of the slots: what it is told now it may not
        read.  ``own`` is the caller of a call for which only its own may give way: those of
        connections on which nobody else has a call.
        """
        if 2 * self._slots_of(peer) >= self._slots:
            return Prospect.NONE
        if self._turned_one_away(peer, own):
            return Prospect.LEFT
        is_crowded = own is None and 2 * self._taken.most() >= self._slots
        return Prospect.SOON if is_crowded else Prospect.NONE

    def _turned_one_away(self, peer: str, own: str | None) -> bool:
        """Ends a call that may give way, if there is one; returns whether it did."""
        spared = {"", *self._connections_of_others(own)}
        owners = (owner for watchdog in self._silent for owner in watchdog.owners())
        waiting = Counter(owner for owner in owners if owner not in spared)
        if not waiting:
            return False
        owner, count = waiting.most_common(1)[0]
        if count <= 1:  # the only call of a connection may yet say something, but not be read
            return any(self._unread.end_newest(1, late) for late in self._late({peer, *spared}))
        if owner == peer:
            return False
        if own is None:  # others have to leave room
            with self._lock:
                self._wanted = (peer, self._clock())
        return any(watchdog.end_newest(1, owner) for watchdog in self._silent)

    def _connections_of_others(self, own: str | None) -> set[str]:
        """Returns the connections on which somebody else than a caller has a call."""
        if own is None:
            return set()
        return {slot.peer for slot in self._taken if slot.caller != own}

    def _late(self, spared: set[str]) -> Iterator[str]:
        """Yields the connections, but some, that do not read an answer."""
        return (owner for owner in self._unread.owners() if owner not in spared)

    def _slots_of(self, peer: str) -> int:
        return self._taken.of(peer)

    def _beyond_half(self, peer: str) -> Overloaded | None:
        """Returns why a connection gets no other slot while another one wants some."""
        wanted = 1 + self._slots_of(peer)
        if wanted <= self._half or peer == self._wanted[0]:
            return None
        return Overloaded(
            f"calls in flight of one connection must be at most {self._half} while others "
            f"want some, got {wanted}",
            reason="TOO_MANY_CALLS",
            details={"limit": self._half},
        )


class CallSlot:
    """The slot of one call; gRPC is asked for its connection when somebody counts them.

    Attributes:
        caller: The key of who makes it, once that is known.
    """

    def __init__(self, ask: Owner, taken: "_Taken") -> None:
        self.caller = ""
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


class _Taken:
    """The slots that are taken, counted by connection once one is asked for.

    gRPC's own thread counts them for each call that comes while slots are few, so it must not go
    over all of them each time.
    """

    def __init__(self) -> None:
        self._all: set[CallSlot] = set()
        self._unasked: set[CallSlot] = set()
        self._counts = Counter[str]()
        self._lock = threading.Lock()  # nobody is asked, or waits for another, while it is held

    def __iter__(self) -> Iterator[CallSlot]:
        """Goes over the slots of this moment."""
        return iter([*self._all])

    def add(self, slot: CallSlot) -> None:
        """Adds one."""
        with self._lock:
            self._all.add(slot)
            self._unasked.add(slot)

    def discard(self, slot: CallSlot) -> None:
        """Removes one, if it is there."""
        with self._lock:
            if slot not in self._all:
                return
            self._all.remove(slot)
            if slot in self._unasked:
                self._unasked.remove(slot)
            elif self._counts[slot.peer] > 1:
                self._counts[slot.peer] -= 1
            else:
                del self._counts[slot.peer]

    def of(self, peer: str) -> int:
        """Returns how many a connection has."""
        self._note_all()
        return self._counts[peer]

    def most(self) -> int:
        """Returns how many the connection has that has the most."""
        self._note_all()
        with self._lock:
            return max(self._counts.values(), default=0)

    def _note_all(self) -> None:
        for slot in [*self._unasked]:
            self._note(slot, slot.peer)

    def _note(self, slot: CallSlot, peer: str) -> None:
        with self._lock:
            if slot in self._unasked:
                self._unasked.remove(slot)
                self._counts[peer] += 1
