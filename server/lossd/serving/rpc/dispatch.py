"""Hands the calls that come in to the threads that serve them, or has them wait in line.

To refuse a call takes about as much of a processor as to serve a small one.  A connection that has
its share of the slots, and begins more all the same, would have the server do little else.  So what
it begins beyond waits in line, where one call has its turn every few milliseconds: it is served if
there is room by then, and refused if not.  With as many waiting as it may have open the connection
can begin no more.  Calls of others never wait there.

Calls of a connection that was ended wait there too, since gRPC may have hundreds of them to tell.
"""

import functools
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from lossd.errors import Abandoned, Overloaded, ServiceError
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.handlers import Pinned
from lossd.serving.rpc.threads import Threads

_PACE_SECONDS = 0.002  # from one refusal to the next: these take a twentieth to a tenth of it
_LONGEST = 1024  # calls that wait: what comes beyond is refused by the ordinary threads


class Door(Protocol):
    """Where calls come in."""

    def again(self, arrival: Any, /) -> "Incoming":
        """Looks for room for a call that waited in line, and returns what is to run for it."""

    def refuse(self, arrival: Any, error: ServiceError, /, *given: Any) -> Any:
        """Refuses a call; ``given`` is what gRPC gives a method."""


class Incoming(Pinned):
    """A method of one call that comes in, and what else may become of it.

    Attributes:
        threads: The threads that run it.
        door: Where it comes in.
        arrival: What is known of it there.
        ticket: Its room, if it has any.
        late: Why there was no room for it.
    """

    threads: ThreadPoolExecutor
    door: Door
    arrival: Any
    ticket: AdmissionTicket | None = None
    late: Overloaded | None = None

    @property
    def is_decided(self) -> bool:
        """Whether nothing about it depends on whose it is."""
        return self.ticket is None and self.late is None

    def leave(self) -> None:
        """Gives its room back."""
        if self.ticket is not None:
            self.ticket.leave()
            self.ticket.finish()

    def again(self) -> "Incoming":
        """Looks for room once more, and returns the call as it is then."""
        return self.door.again(self.arrival)

    def refusing(self, error: ServiceError) -> Callable[..., Any]:
        """Returns the method that refuses it with an error."""
        return functools.partial(self.door.refuse, self.arrival, error)


class Dispatch(ThreadPoolExecutor):
    """Takes calls from gRPC's own thread, for which nothing here waits or raises.

    ``crowd`` knows who has his share, and ``ended`` tells the connections that were ended for the
    calls that they dropped.  ``line`` is one thread, which serves nobody.  All is an executor since
    gRPC takes nothing else.
    """

    def __init__(self, crowd: Crowd, ended: Callable[[], Collection[str]], line: Threads) -> None:
        super().__init__(1)  # starts no thread before its own ``submit``, which is replaced
        self._crowd = crowd
        self._ended = ended
        self._line = line

    def submit(  # type: ignore[override]  # what gRPC wants of a future
        self, fn: Callable[..., Any], /, *args: Any
    ) -> Any:
        """Lets a thread run the method among the arguments, or has it wait in line."""
        place = next(at for at, each in enumerate(args) if isinstance(each, Incoming))
        incoming: Incoming = args[place]
        if self._why_not(incoming, args) is None or self._line.waiting >= _LONGEST:
            return incoming.threads.submit(fn, *args)
        incoming.leave()
        return self._line.submit(self._turn, place, fn, args)

    def _turn(self, place: int, fn: Callable[..., Any], args: Sequence[Any]) -> None:
        """Serves a call that waited if there is room now; else refuses it, and rests."""
        incoming = args[place].again()
        error = self._why_not(incoming, args)
        if error is None:
            incoming.threads.submit(fn, *args[:place], incoming, *args[place + 1 :])
            return
        incoming.leave()
        fn(*args[:place], incoming.refusing(error), *args[place + 1 :])
        time.sleep(_PACE_SECONDS)

    def _why_not(self, incoming: Incoming, args: Sequence[Any]) -> ServiceError | None:
        """Returns why a call is not served now; None if a thread may find room for it.

        gRPC is asked whose call it is only where that matters, for it lets go of the interpreter's
        lock to say it.
        """
        ended = self._ended()
        if incoming.is_decided or not (incoming.late or self._crowd.is_wanted or ended):
            return None
        peer = _peer(args)
        if peer in ended:
            return Abandoned("call must be waited for, got one whose connection was ended")
        return self._crowd.refusal(peer, incoming.late)


def _peer(args: Sequence[Any]) -> str:
    """Returns the connection of a call, which gRPC's event knows among what it hands over."""
    event = next((each for each in args if hasattr(each, "call")), None)
    return "" if event is None else event.call.peer().decode()
