"""A moment in which the system begins no thread: what it leaves behind in gRPC shows at the end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lossd.client import InvalidRequestError
from lossd.client.renewing import Renewing

ROOT = Path(__file__).parents[2]
NONE = "can't start new thread"
HEAD = f"""
import sys, threading
import grpc, numpy as np
from lossd.client import LossClient, UnavailableError

address, start = sys.argv[1], threading.Thread.start
batch = np.ones((1 << 17, 8), np.float32)

def refuse(thread):
    raise RuntimeError({NONE!r})

def without_threads(call):
    raised, may_begin = [], threading.Event()

    def run():
        may_begin.wait()
        try:
            call()
        except UnavailableError as error:
            raised.append(error)

    worker = threading.Thread(target=run)
    is_main = sys.argv[2] == "the main thread"  # where the client begins one before gRPC does
    if not is_main:
        worker.start()
    threading.Thread.start = refuse
    may_begin.set()
    run() if is_main else worker.join()
    threading.Thread.start = start
    assert raised, "answered without a thread"
    assert {NONE!r} in raised[0].message, raised
"""
# What is called, and that it works again: the loss of a large batch, which goes in chunks.
CALLS = {
    "a large batch": """
with LossClient(address, timeout=10) as client:
    without_threads(lambda: client.compute("huber", batch, batch, timeout=1))
    assert client.compute("huber", batch, batch).loss == 1.5
""",
    "a first submitted call": """
with LossClient(address, timeout=10) as client:
    without_threads(lambda: client.submit("huber", batch[:2], batch[:2]))
    assert client.submit("huber", batch[:2], batch[:2]).result(5).loss == 1.5
""",
    "an evaluation": """
with LossClient(address, timeout=10) as client:
    evaluation = client.evaluation("accuracy", timeout=1)
    without_threads(lambda: evaluation.__enter__())
    assert client.compute("huber", batch, batch).loss == 1.5
""",
    "a function as the target": """
with LossClient(lambda: address, timeout=10) as client:
    without_threads(lambda: client.compute("huber", batch, batch, timeout=1))
    assert client.compute("huber", batch, batch).loss == 1.5
    without_threads(lambda: client.compute("huber", batch, batch, timeout=1))
    assert client.compute("huber", batch, batch).loss == 1.5
""",
    "a channel of the caller's": """
with grpc.insecure_channel(address) as lost:
    client = LossClient(channel=lost, timeout=10)
    without_threads(lambda: client.compute("huber", batch, batch, timeout=1))
    try:
        client.compute("huber", batch, batch, timeout=1)
    except UnavailableError as error:
        assert "open another" in error.message, error
    else:
        raise AssertionError("answered by a lost channel")
    assert client.compute("huber", batch[:2], batch[:2]).loss == 1.5
    client.close()
    import os
    os._exit(0)  # to close that channel would wait for ever
""",
}


@pytest.mark.parametrize("where", ["the main thread", "another thread"])
@pytest.mark.parametrize("what", CALLS)
def test_a_moment_without_threads_costs_one_attempt(serve: Any, what: str, where: str) -> None:
    if what == "a channel of the caller's" and where == "the main thread":
        pytest.skip("gRPC is not reached, and the channel goes on")
    paths = os.pathsep.join(str(ROOT / part) for part in ("protos", "server", "client"))
    finished = subprocess.run(
        [sys.executable, "-c", HEAD + CALLS[what], serve().address, where],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=40,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()


class Breaking:
    """A caller's channel that raises what it was given, once."""

    def __init__(self, error: Exception) -> None:
        self._errors = [error]

    def stream_stream(self, path: str) -> Any:
        def call(**_: Any) -> str:
            if self._errors:
                raise self._errors.pop()
            return path

        return call


@pytest.mark.parametrize("error", [RuntimeError("breaker is open"), RecursionError("too deep")])
def test_what_a_callers_channel_raises_does_not_lose_it(error: Exception) -> None:
    channel: Any = Breaking(error)
    method = Renewing.of(channel).stream_stream("a method")
    with pytest.raises(RuntimeError) as caught:
        method(timeout=5)
    assert caught.value is error
    assert method(timeout=5) == "a method"


def test_a_channel_that_is_lost_is_not_opened_anew_once_it_is_closed() -> None:
    opened: list[Any] = []
    channel = Renewing(lambda: opened.append(None))
    channel.lose_stuck()
    channel.close()
    with pytest.raises(InvalidRequestError, match="client must be open"):
        channel.stream_stream("a method")(timeout=5)
    assert len(opened) == 1
