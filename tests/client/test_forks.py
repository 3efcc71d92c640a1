"""Memory that forked processes inherit, without a server and without gRPC."""

import os
import subprocess
import sys
from pathlib import Path

BEGIN = """
import os, sys, threading, traceback
from pathlib import Path
import numpy as np
from lossd.client.segments import Arena, Segment

folder, DTYPE = Path(sys.argv[1]), np.dtype(np.int64)

def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

AMONG_THREADS = """
arena, held, done = Arena(), {}, threading.Event()
for _ in range(2):
    arena.add(Segment(folder, 1 << 20))

def work(number):
    value = number
    while not done.is_set():
        value += 8
        block = arena.take(1 << 16)
        array = block.array((8192,), DTYPE)
        array[:] = value
        held[number] = (value, array)
        del block, array

def look():
    for value, array in list(held.values()):
        assert (array == value).all()
        array[:] = -1

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
try:
    while len(held) < 8:
        pass
    assert all([ended_well(forked(look)) for _ in range(60)])
finally:
    done.set()
    for thread in threads:
        thread.join()
for value, array in held.values():
    assert (array == value).all()
"""

FORKING_THREADS = """
segment = Segment(folder, 1 << 20)
array = segment.take(8192).array((1024,), DTYPE)
array[:] = 5
ended = []

def look():
    assert (array == 5).all()
    array[:] = 7

threads = [
    threading.Thread(target=lambda: ended.extend(ended_well(forked(look)) for _ in range(10)))
    for _ in range(4)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert ended == [True] * 40
assert (array == 5).all()
"""

WITHOUT_DESCRIPTORS = """
import resource
segment = Segment(folder, 1 << 20)
array = segment.take(8192).array((1024,), DTYPE)
array[:] = 5
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))

def look():
    assert (array == 5).all()
    array[:] = 7

def unraised(_):
    pass

sys.unraisablehook = unraised
assert ended_well(forked(look))
assert (array == 5).all()
assert segment.take(64) is not None
"""

WITH_NOTHING_SHARED = """
def look():
    assert Segment(folder, 1 << 20).take(64) is not None

segment = Segment(folder, 1 << 20)
del segment
assert ended_well(forked(look))
"""

OF_A_DEAD_CHILD = """
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 9))
segment = Segment(folder, 1 << 20)
array = segment.take(8192).array((1024,), DTYPE)
array[:] = 5
assert not ended_well(forked(print))
assert segment.take(64) is not None
"""

IN_TURN = """
from lossd.client import forks
turns = forks.turns()
begun, may_end, ended, entered = (threading.Event() for _ in range(4))

def call():
    with turns:
        begun.set()
        may_end.wait(60)
        ended.set()

def look():
    assert ended.is_set() and not entered.is_set()
    with turns:
        pass

def another():
    while not turns._forks:  # until the fork waits
        pass
    threading.Timer(0.1, may_end.set).start()
    with turns:
        entered.set()

threads = [threading.Thread(target=work) for work in (call, another)]
threads[0].start()
assert begun.wait(60)
threads[1].start()
assert ended_well(forked(look))
for thread in threads:
    thread.join(60)
assert entered.is_set()
"""

AFTER_A_FORK = """
from lossd.client import forks
turns, entered = forks.turns(), threading.Event()

def call():
    with turns:
        entered.set()

turns._before()
threading.Thread(target=call, daemon=True).start()
assert not entered.wait(0.2)
turns._in_parent()
assert entered.wait(30)
"""

WITHIN_A_CALL = """
from lossd.client import forks
forks.PATIENCE = 0.1
turns = forks.turns()

def look():
    with turns:
        pass

with turns:
    assert ended_well(forked(look))
assert ended_well(forked(look))
"""

AFTER_ITS_PARENTS_CALL = """
import time
from lossd.client import forks
forks.PATIENCE = 0.1
turns = forks.turns()
with turns:
    child = os.fork()
if child == 0:
    forks.PATIENCE, began = 30, time.monotonic()
    is_well = ended_well(forked(sys.stdout.flush))
    os._exit(0 if is_well and time.monotonic() - began < 20 else 1)
assert ended_well(child)
"""


def run(script: str, folder: Path) -> None:
    root = Path(__file__).parents[2]
    roots = os.pathsep.join(str(root / part) for part in ("protos", "server", "client"))
    finished = subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(folder)],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_a_fork_amid_threads_inherits_arrays_as_they_are_at_that_moment(tmp_path: Path) -> None:
    run(AMONG_THREADS, tmp_path)


def test_threads_may_fork_at_once(tmp_path: Path) -> None:
    run(FORKING_THREADS, tmp_path)


def test_a_fork_without_a_free_descriptor_keeps_its_memory_too(tmp_path: Path) -> None:
    run(WITHOUT_DESCRIPTORS, tmp_path)


def test_a_fork_may_share_first(tmp_path: Path) -> None:
    run(WITH_NOTHING_SHARED, tmp_path)


def test_a_child_that_dies_at_once_is_not_waited_for(tmp_path: Path) -> None:
    run(OF_A_DEAD_CHILD, tmp_path)


def test_a_fork_waits_for_calls_and_the_next_calls_for_it(tmp_path: Path) -> None:
    run(IN_TURN, tmp_path)


def test_a_call_that_a_fork_kept_waiting_begins_after_it(tmp_path: Path) -> None:
    run(AFTER_A_FORK, tmp_path)


def test_a_fork_of_a_fork_waits_for_no_call_of_before(tmp_path: Path) -> None:
    run(AFTER_ITS_PARENTS_CALL, tmp_path)


def test_a_call_that_forks_waits_for_itself_only_so_long(tmp_path: Path) -> None:
    run(WITHIN_A_CALL, tmp_path)
