"""Several threads at one piece of work: the caller's, and helpers that wait in a pool.

The caller works too, and takes whatever the helpers have not: one that is late costs nothing, and
where no helper comes the caller does all.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew:
    """Runs work on the caller's thread and on up to ``threads`` - 1 others, for any callers.

    Its threads start when they are first needed, and are called after ``name``.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix=name)

    def run(self, count: int, work: Callable[[int], object]) -> None:
        """Calls ``work`` with 0 to ``count`` - 1, in any order and perhaps at the same time.

        Raises the first error of ``work``, after which no more of it is begun.
        """
        indices = itertools.count()
        failures: list[BaseException] = []

        def drain() -> None:
            while not failures and (index := next(indices)) < count:
                try:
                    work(index)
                except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                    failures.append(error)

        helpers = self._called(min(self.threads, count) - 1, drain)
        drain()
        for helper in helpers:
            if not helper.cancel():  # a helper that has not begun is not waited for
                helper.result()
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # an error held by its own frames would keep their arrays
            work = _nothing  # which a helper that comes late still has at hand

    def close(self) -> None:
        """Ends the helpers; what comes later is done by its callers alone."""
        self._pool.shutdown()

    def _called(self, count: int, drain: Callable[[], None]) -> list[Future[None]]:
        """Has helpers come, if there are any and they can."""
        helpers: list[Future[None]] = []
        with contextlib.suppress(RuntimeError):  # closed, or the system has no more threads
            helpers.extend(self._pool.submit(drain) for _ in range(count))
        return helpers


def _nothing(_: int) -> None:
    """Does nothing."""
