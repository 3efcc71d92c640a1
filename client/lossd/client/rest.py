"""How long to do without what could not be had."""

import math
import time

# After an answer that there is none: a server may be started anew with some, or rules may grant it.
REFUSED_SECONDS = 30.0


class Rest:
    """A time for which nothing is asked for; may be used from many threads, and waits for none.

    It follows on what a server answered, or on the lack of one.  Whoever waits for a server ends
    the second, and not the first until that server is lost.
    """

    def __init__(self) -> None:
        self._state = (0.0, False)  # when it ends, and whether a server has answered

    @property
    def is_on(self) -> bool:
        """Whether it lasts."""
        return time.monotonic() < self._state[0]

    @property
    def is_answered(self) -> bool:
        """Whether it lasts, and another server would have to answer otherwise."""
        until, is_answered = self._state
        return is_answered and time.monotonic() < until

    def begin(self, seconds: float, *, is_answered: bool) -> None:
        """Begins, unless it is for good."""
        if self._state[0] < math.inf:
            self._state = (time.monotonic() + seconds, is_answered)

    def begin_refused(self) -> None:
        """Begins after a server has answered that there is none."""
        self.begin(REFUSED_SECONDS, is_answered=True)

    def begin_for_good(self) -> None:
        """Begins for as long as this process lives."""
        self.begin(math.inf, is_answered=True)

    def end_unanswered(self) -> None:
        """Ends if it is for the lack of a server."""
        self._end(is_answered=False)

    def end_answered(self) -> None:
        """Ends if it is for what a server answered, since that is gone."""
        self._end(is_answered=True)

    def _end(self, *, is_answered: bool) -> None:
        until, was_answered = self._state
        if until < math.inf and was_answered is is_answered:
            self._state = (0.0, False)
