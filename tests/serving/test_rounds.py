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


def test_a_fault_of_ours_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def work() -> None:
        raise KeyError("ours")

    Rounds("lossd-test", work, 0.001).join()
    assert [one.exc_type for one in died] == [KeyError]
