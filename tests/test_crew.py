"""A crew does all of a piece of work, each part once, whoever has the time for it."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from lossd.crew import Crew


@pytest.fixture
def crew() -> Iterator[Crew]:
    """A crew of two."""
    found = Crew(2, "crew-of-a-test")
    yield found
    found.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_each_part_is_done_once(threads: int, count: int) -> None:
    crew, done = Crew(threads, "crew-of-a-test"), Counter[int]()
    crew.run(count, lambda index: done.update([index]))
    crew.close()
    assert done == Counter(range(count))


def test_helpers_work_beside_the_caller(crew: Crew) -> None:
    both = threading.Barrier(2, timeout=10)
    crew.run(2, lambda _: both.wait())  # neither ends without the other


def test_the_caller_waits_for_no_helper_that_has_not_begun(crew: Crew) -> None:
    begun, may_end = threading.Event(), threading.Event()
    caller = threading.current_thread()

    def block(_: int) -> None:
        begun.set()
        may_end.wait(10)

    other = threading.Thread(target=crew.run, args=(2, block))  # keeps the only helper
    other.start()
    assert begun.wait(10)
    threads: list[threading.Thread] = []
    while len(threads) < 2:
        crew.run(2, lambda _: threads.append(threading.current_thread()))
    may_end.set()
    other.join(10)
    assert caller in threads


def test_an_error_is_raised_to_the_caller_and_ends_the_work(crew: Crew) -> None:
    begun: list[int] = []

    def fail(index: int) -> None:
        begun.append(index)
        raise ValueError(index)

    with pytest.raises(ValueError, match=r"^[01]$"):
        crew.run(1000, fail)
    assert len(begun) <= crew.threads


def test_a_closed_crew_leaves_the_work_to_the_caller(crew: Crew) -> None:
    crew.close()
    done: list[threading.Thread] = []
    crew.run(3, lambda _: done.append(threading.current_thread()))
    assert done == [threading.current_thread()] * 3
