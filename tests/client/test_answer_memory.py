"""Memory of answers is used again, and never while somebody has an array over it."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.chunks import Room
from lossd.client.answer_memory import KEPT_BYTES, LEAST_BYTES, AnswerMemory

SIZE = 2 * LEAST_BYTES


def address(room: Any) -> int:
    return int(np.asarray(room).ctypes.data)


def array_of(room: Room) -> Any:
    """An array as a result has it."""
    return np.ndarray((SIZE // 4,), np.float32, room.data.toreadonly())


def test_memory_that_nobody_has_is_used_again() -> None:
    memory = AnswerMemory()
    first = address(memory.take(SIZE))
    assert address(memory.take(SIZE)) == first
    assert address(array_of(memory.take(SIZE))) == first


@pytest.mark.parametrize(
    "held",
    [
        lambda room: room,
        lambda room: room[5:6],
        array_of,
        lambda room: array_of(room)[3:4].reshape(1, 1),
        lambda room: memoryview(array_of(room))[:1],
        lambda room: np.asarray(memoryview(room[1:2])),
    ],
    ids=["bytes", "part", "array", "view", "buffer", "again"],
)
def test_memory_stays_with_whoever_has_any_part_of_it(held: Callable[[Room], Any]) -> None:
    memory = AnswerMemory()
    room = memory.take(SIZE)
    room[:] = 7
    kept = held(room)
    before = bytes(memoryview(kept).cast("B")[:1])
    first = address(room)
    del room
    other = memory.take(SIZE)
    assert address(other) != first
    other[:] = 8
    assert bytes(memoryview(kept).cast("B")[:1]) == before
    del kept
    assert address(memory.take(SIZE)) == first


def test_another_size_is_other_memory() -> None:
    memory = AnswerMemory()
    memory.take(SIZE)
    assert memory.take(SIZE + 1).nbytes == SIZE + 1
    assert memory.take(SIZE - 1).nbytes == SIZE - 1


def test_small_answers_are_left_to_the_allocator() -> None:
    memory = AnswerMemory()
    memory.take(LEAST_BYTES - 1)
    assert memory.waiting_bytes == 0


def test_what_waits_is_bounded_and_the_newest_stay() -> None:
    memory = AnswerMemory()
    part = KEPT_BYTES // 3 + 1
    for size in (part, part + 1, part + 2):
        memory.take(size)
    assert memory.waiting_bytes == 2 * part + 3
    memory.take(KEPT_BYTES + 1)
    assert memory.waiting_bytes <= KEPT_BYTES


def test_nothing_is_kept_once_closed() -> None:
    memory = AnswerMemory()
    held, _ = memory.take(SIZE), memory.take(SIZE)
    memory.close()
    assert memory.waiting_bytes == 0
    held[:] = 1
    del held, _
    assert memory.waiting_bytes == 0


def test_threads_never_share_memory() -> None:
    memory = AnswerMemory()
    wrong: list[int] = []

    def use(mark: int) -> None:
        for _ in range(200):
            room = memory.take(LEAST_BYTES)
            room[:8] = mark
            if room[:8].tolist() != [mark] * 8:
                wrong.append(mark)
            del room

    threads = [threading.Thread(target=use, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert memory.waiting_bytes <= 4 * LEAST_BYTES
