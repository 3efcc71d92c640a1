"""Threads are there before the work, and none is kept from the next by somebody slow."""

import gc
import logging
import threading
import weakref
from typing import NoReturn

import pytest

from lossd.serving.rpc.threads import BriefThreads, Task, Threads, ThreadsError, when_one_dies


def no_thread(_: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_tasks_run_on_the_threads_that_were_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(3)
    with Threads(3, "worker") as threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        together = [threads.submit(barrier.wait, timeout=20) for _ in range(6)]
        assert sorted(each.result(20) for each in together) == [0, 0, 1, 1, 2, 2]


def test_what_a_task_raises_is_for_who_asked() -> None:
    with Threads(1, "worker") as threads:
        failed = threads.submit(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failed.result(20)
        assert threads.submit(lambda: 5).result(20) == 5


def test_who_asks_is_told_once_that_a_task_is_done_however_late() -> None:
    told: list[Task] = []
    with Threads(4, "worker") as threads:
        tasks = [threads.submit(int) for _ in range(2000)]
        for task in tasks:  # some are done by then, and some later
            task.add_done_callback(told.append)
    assert len(told) == len(tasks)
    assert set(told) == set(tasks)


def test_a_task_keeps_nothing_that_it_was_given() -> None:
    given = Silent()
    gone = weakref.ref(given)
    with Threads(1, "worker") as threads:
        task = threads.submit(id, given)
        assert task.result(20) == id(given)
        del given
        gc.collect()
        assert gone() is None


def test_a_system_without_threads_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    left = iter(range(3))

    def few(thread: threading.Thread) -> None:
        if next(left, None) is None:
            no_thread(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    with pytest.raises(ThreadsError, match=r"as many as worker needs \(5\), got 3"):
        Threads(5, "worker")


@pytest.mark.parametrize("newest_first", [False, True])
def test_what_is_useless_when_late_comes_after_what_is_new(*, newest_first: bool) -> None:
    begun, may_end, done = threading.Event(), threading.Event(), list[int]()

    def busy() -> None:
        begun.set()
        assert may_end.wait(20)

    with Threads(1, "worker", newest_first=newest_first) as threads:
        threads.submit(busy)
        assert begun.wait(20)
        tasks = [threads.submit(done.append, number) for number in range(3)]
        may_end.set()
        for task in tasks:
            task.result(20)
    assert done == ([2, 1, 0] if newest_first else [0, 1, 2])


class Silent:
    """Somebody who keeps a thread until it is taken away."""

    def __init__(self) -> None:
        self.is_served = threading.Event()
        self.is_cut = threading.Event()

    def keep(self) -> None:
        self.is_served.set()
        assert self.is_cut.wait(20)


def started(threads: BriefThreads, count: int) -> list[Silent]:
    crowd = [Silent() for _ in range(count)]
    for each in crowd:
        threads.start(each.keep, each.is_cut.set)
    return crowd


def test_the_silent_keep_their_threads_while_nobody_waits() -> None:
    with BriefThreads(2, "worker", seconds=3600, hurried_seconds=0.001) as threads:
        silent = started(threads, 1)
        assert threads.submit(lambda: 5).result(20) == 5
        assert not silent[0].is_cut.wait(0.1)
        silent[0].is_cut.set()


def test_a_crowd_of_the_silent_is_in_nobodys_way() -> None:
    with BriefThreads(2, "worker", seconds=3600, hurried_seconds=0.001) as threads:
        started(threads, 50)
        assert threads.submit(lambda: 5).result(20) == 5
        for each in started(threads, 2):  # they end the crowd, and may stay
            assert each.is_served.wait(20)
            each.is_cut.set()


def test_the_silent_have_a_limit_of_their_own() -> None:
    with BriefThreads(2, "worker", seconds=0.01, hurried_seconds=0.001) as threads:
        (silent,) = started(threads, 1)
        assert silent.is_cut.wait(20)


def test_a_thread_that_dies_is_told_of_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # puts it back
    when_one_dies(told.append)
    with caplog.at_level(logging.CRITICAL):
        thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")
        thread.start()
        thread.join()
    assert told == ["threads must live, got the end of worker-7"]
    assert caplog.records[0].exc_info is not None


def all_rest(threads: Threads, count: int) -> bool:
    moment = threading.Event()
    return any(len(threads._resting) == count or moment.wait(0.001) for _ in range(20_000))


def test_a_task_goes_to_the_thread_that_rests_since_the_shortest_time() -> None:
    names = set()
    with Threads(8, "worker") as threads:
        for _ in range(50):
            assert all_rest(threads, 8)
            names.add(threads.submit(threading.current_thread).result(20).name)
    assert len(names) == 1
