"""A thread that does something again and again goes on after failures that pass."""

import threading

import pytest

from lossd.serving.rounds import Rounds


@pytest.mark.parametrize("failure", [OSError("no file descriptor"), MemoryError()])
def test_a_round_that_fails_for_a_moment_is_followed_by_others(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    is_done = threading.Event()
    failures = [failure] * 3

    def work() -> None:
        if failures:
            raise failures.pop()
        is_done.set()

    rounds = Rounds("lossd-test", work, 0.001)
    assert is_done.wait(10)
    rounds.close()
    rounds.join()
    assert [record.message for record in caplog.records] == [
        "could not do it now, and will try again"
    ]


def test_a_rest_ends_when_it_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, done = list[str](), threading.Semaphore(0)
    has_rested = threading.Semaphore(0)

    def is_idle() -> bool:
        has_rested.release()
        return not jobs

    def work() -> None:
        while jobs:
            jobs.pop()
            done.release()

    clock = [0.0]
    monkeypatch.setattr("lossd.serving.rounds.time.monotonic", lambda: clock[0])
    rounds = Rounds("lossd-test", work, 0.001, is_idle=is_idle, resting=3600)
    for _ in range(100):
        clock[0] += 3600
        assert has_rested.acquire(timeout=10)
        jobs.append("job")  # at any moment around the beginning of a rest
        rounds.wake()
        assert done.acquire(timeout=10)
    rounds.close()
    rounds.join()


def test_who_rests_looks_now_and_then_and_can_be_closed() -> None:
    looked = threading.Semaphore(0)
    rounds = Rounds("lossd-test", looked.release, 0.01, is_idle=lambda: True, resting=0.02)
    assert all(looked.acquire(timeout=10) for _ in range(3))
    rounds.close()
    rounds.join()
    rounds.wake()
    idle = Rounds("lossd-test", looked.release, 0, is_idle=lambda: True, resting=3600)
    idle.close()
    idle.join()


def test_a_fault_of_ours_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def work() -> None:
        raise KeyError("ours")

    Rounds("lossd-test", work, 0.001).join()
    assert [one.exc_type for one in died] == [KeyError]
