"""One of three servers is killed, and one server has more callers than it takes: nobody notices."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lossd.client import LossClient
from lossd.v1 import Accuracy, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until

ONES, ZEROS = np.ones(320, np.float32), np.zeros(320, np.float32)


@contextlib.contextmanager
def replicas(count: int) -> Iterator[list[Process]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serve("--backend", "numpy")) for _ in range(count)]


def computed(process: Process) -> float:
    """How many batches a server has computed."""
    examples = metric(process, "lossd_examples_total", loss="squared_error", backend="numpy")
    return examples / len(ONES)


def calls(connect: Any, address: str, pool: ThreadPoolExecutor, done: threading.Event) -> Any:
    """Futures of callers, who call in each way that there is until they are told to stop."""

    def waiting(client: Any) -> set[Any]:
        found = set()
        while not done.is_set():
            found.add(client.compute(SquaredError(), ONES, ZEROS).loss)
            found.add(client.evaluate(Accuracy(), predictions=[1.0], targets=[1]).value)
        return found

    def submitting(client: LossClient) -> set[Any]:
        found = set()
        while not done.is_set():
            futures = [client.submit(SquaredError(), ONES, ZEROS) for _ in range(8)]
            found |= {future.result(60).loss for future in futures}
        return found

    def calling(work: Callable[[Any], set[Any]], client: Any) -> Any:
        return pool.submit(work, client)

    client = connect(address, timeout=30)
    other = LossClient(address, timeout=30)
    return (client, other), [
        *(calling(waiting, client) for _ in range(6)),
        *(calling(submitting, other) for _ in range(2)),
    ]


def test_callers_of_three_servers_do_not_notice_that_one_is_killed(connect: Any) -> None:
    done = threading.Event()
    with replicas(3) as processes, ThreadPoolExecutor(8) as pool:
        target = "ipv4:" + ",".join(process.address for process in processes)
        clients, callers = calls(connect, target, pool, done)
        try:
            until(lambda: all(computed(process) > 0 for process in processes))
            killed, *others = processes
            killed.end(signal.SIGKILL)
            before = [computed(process) for process in others]
            until(
                lambda: all(
                    computed(process) > count + 50
                    for process, count in zip(others, before, strict=True)
                )
            )
        finally:
            done.set()
        found = [caller.result(60) for caller in callers]
        for client in clients:
            client.close()
    assert set.union(*found) == {1.0}


def test_an_overloaded_server_answers_all_its_callers(
    connect: Any,
    whole: bool,  # noqa: FBT001
) -> None:
    seconds = 60 if whole else 2
    done = threading.Event()
    with (
        serve("--backend", "numpy", "--max-calls", "2") as process,
        ThreadPoolExecutor(8) as pool,
    ):
        clients, callers = calls(connect, process.address, pool, done)
        done.wait(seconds)  # what is tested is that it goes on so long
        done.set()
        found = [caller.result(60) for caller in callers]
        refused = metric(process, "lossd_rejected_total", reason="TOO_MANY_CALLS")
        answered = computed(process)
        for client in clients:
            client.close()
    assert set.union(*found) == {1.0}
    assert refused > 0
    print(f"{answered:.0f} batches, {refused:.0f} refusals in {seconds} s")  # noqa: T201
