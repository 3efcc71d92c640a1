"""Threads of a client of asyncio, apart from those of its event loop.

All of the loop's may be taken for as long as the program likes, not least by what waits there for
this client.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lossd.client.errors import given_up_error

Result = TypeVar("Result")


class OwnThreads:
    """Threads that begin when there is something to do.

    Args:
        name: What the names of the threads begin with.
        most: How many there may be; None for as many as a loop has.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._is_closed = False

    async def run(self, work: Callable[[], Result]) -> Result:
        """Does work in a thread, in the context of the caller, and returns its result.

        Raises:
            CancelledError: if they were closed.
        """
        if self._is_closed:
            raise given_up_error()
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, work)

    def close(self) -> None:
        """Takes no more work; what was begun goes on."""
        self._is_closed = True
        self._pool.shutdown(wait=False)
