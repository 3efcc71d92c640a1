"""Thread pools whose threads all exist before the first call.

One gRPC thread takes every event of a server, hands calls over with ``submit``, and runs the
callbacks of those that end.  An exception there ends that thread, and a wait there stops the
server: no call is answered any more, while the process looks healthy.  So no thread is started when
a call comes (the system may have none left), and ``submit`` only adds to a queue.
"""

import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from lossd.errors import ServiceError
from lossd.serving.rpc.watchdog import Watchdog

log = logging.getLogger(__name__)


class Task:
    """A task of a thread: as much of a future as gRPC asks for, and its result.

    It takes no lock, where one of the library takes a dozen: a tenth of the time of a small call.
    """

    __slots__ = ("_callbacks", "_error", "_function", "_is_done", "_value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._callbacks: list[Callable[[Task], object]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._is_done = False

    def run(self) -> None:
        """Does it."""
        function, self._function = self._function, _nothing  # so that its arguments are freed
        try:
            self._value = function()
        except BaseException as error:  # noqa: BLE001 - whoever asks learns of it
            self._error = error
        self._is_done = True
        self._tell()

    def add_done_callback(self, callback: Callable[["Task"], object]) -> None:
        """Calls a function when it is done, or at once if it is."""
        self._callbacks.append(callback)
        if self._is_done:
            self._tell()

    def result(self, timeout: float | None = None) -> Any:
        """Returns what it returned, when it is done, or raises what it raised.

        Raises:
            TimeoutError: if it is not done in time.
        """
        is_done = threading.Event()
        self.add_done_callback(lambda _: is_done.set())
        if not is_done.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def _tell(self) -> None:
        """Calls what was added, each once: of two threads that look, one takes it out."""
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback(self)


def _nothing() -> None:
    """Stands for what was done."""


_Rest = queue.SimpleQueue[Task | None]  # where a thread waits to be given one


class ThreadsError(ServiceError):
    """The system does not have enough threads."""

    reason = "THREADS"


class Threads(ThreadPoolExecutor):
    """An executor with ``count`` threads; gRPC accepts only subclasses of the library's class.

    The threads are daemons: none keeps the process alive.  ``newest_first`` is for work that is
    useless when late, so that a backlog does not delay new work.  A task goes to the thread that
    rests since the shortest time, whose stack is still in a cache: in turn, a hundred threads would
    take a fifth more time for a small call.

    Raises:
        ThreadsError: if the system allows fewer.
    """

    def __init__(self, count: int, name: str, *, newest_first: bool = False) -> None:
        super().__init__(count)  # starts no thread before its own ``submit``, which is replaced
        self._newest_first = newest_first
        self._lock = threading.Lock()
        self._tasks: deque[Task | None] = deque()  # that no thread has taken
        self._resting: list[_Rest] = []
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for started, worker in enumerate(self._workers):
            try:
                worker.start()
            except RuntimeError as error:
                self._end(started)
                raise ThreadsError(
                    f"threads must be as many as {name} needs ({count}), got {started}"
                ) from error

    @property
    def waiting(self) -> int:
        """The number of tasks that no thread has taken yet."""
        return len(self._tasks)

    def submit(  # type: ignore[override]  # what gRPC wants of a future
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Task:
        """Lets a thread run a task."""
        task = Task(functools.partial(fn, *args, **kwargs))
        self._give(task)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's
        """Ends the threads, once they have finished the tasks before."""
        del cancel_futures
        self._end(len(self._workers))
        for worker in self._workers if wait else ():
            worker.join()

    def _end(self, count: int) -> None:
        for _ in range(count):
            self._give(None)

    def _give(self, task: Task | None) -> None:
        with self._lock:  # which nobody keeps for longer than this
            if self._resting:
                self._resting.pop().put(task)
            else:
                self._tasks.append(task)

    def _work(self) -> None:
        rest: _Rest = queue.SimpleQueue()
        while (task := self._next(rest)) is not None:
            task.run()
            del task  # otherwise its arguments live until the next task comes

    def _next(self, rest: _Rest) -> Task | None:
        """Returns a task, after a rest where there is none; None for the end."""
        with self._lock:
            if self._tasks:
                return self._tasks.pop() if self._newest_first else self._tasks.popleft()
            self._resting.append(rest)
        return rest.get()


class BriefThreads(Threads):
    """Threads for tasks that take a moment, unless the caller is slow.

    A caller may be slow for ``seconds``, but only for ``hurried_seconds`` when all threads are
    taken and others wait: however many are silent, the next one is answered.

    Attributes:
        watchdog: Watches the callers.
    """

    def __init__(
        self, count: int, name: str, *, seconds: float = 10, hurried_seconds: float = 0.25
    ) -> None:
        super().__init__(count, name, newest_first=True)

        def patience() -> float:
            is_crowded = self.waiting and len(self.watchdog) >= count
            return hurried_seconds if is_crowded else seconds

        self.watchdog = Watchdog(patience, every=hurried_seconds)

    @contextmanager
    def limited(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Cancels the work done within if it takes too long."""
        release = self.watchdog.watch(cancel)
        try:
            yield
        finally:
            release()

    def start(self, task: Callable[[], object], cancel: Callable[[], object]) -> None:
        """Lets a thread run a task, and cancels it if it takes too long."""

        def run() -> None:
            with self.limited(cancel):
                task()

        self.submit(run)


def when_one_dies(tell: Callable[[str], object]) -> None:
    """Calls ``tell`` when any thread of the process ends by an exception.

    Its work is not done any more; it may be the thread that takes gRPC's events.
    """

    def hook(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else "a thread"
        try:
            error = arguments.exc_value or arguments.exc_type()
            log.critical("a thread died", extra={"which": name}, exc_info=error)
        finally:  # there may be no memory for the line
            tell(f"threads must live, got the end of {name}")

    threading.excepthook = hook
