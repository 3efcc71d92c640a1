import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from lossd import client, v1
from lossd.client.call import EVALUATE_STREAM, GET_SERVER_INFO, ClientCall
from lossd.client.connection import Connection
from lossd.client.conversing import converse
from lossd.client.options import channel_options
from lossd.client.request_streams import open_stream
from lossd.framing import Framed


def version(connection: Connection) -> str:
    call = ClientCall.begin(5, None, connection.ids)
    return connection.call(GET_SERVER_INFO, Framed(v1.GetServerInfoRequest()), call).message.version


def test_threads_share_one_channel() -> None:
    connection = Connection("127.0.0.1:9", None)
    channels = []
    threads = [
        threading.Thread(target=lambda: channels.append(connection.channel())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()
    assert len(set(map(id, channels))) == 1


def test_no_two_calls_have_one_id() -> None:
    connections = [Connection("127.0.0.1:9", None) for _ in range(3)]
    ids = [connection.ids.fresh() for connection in connections for _ in range(1000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 32 for each in ids)


def test_closing_may_be_repeated_and_then_nothing_is_sent() -> None:
    connection = Connection("127.0.0.1:9", None)
    connection.close()
    connection.close()
    with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
        version(connection)


def test_a_channel_that_was_passed_in_stays_open(serve: Any) -> None:
    with grpc.insecure_channel(serve().address, channel_options()) as channel:
        Connection("unused", channel).close()
        assert version(Connection("unused", channel)) == "1.2.3"


def test_a_channel_that_someone_else_closed_is_a_closed_client(serve: Any) -> None:
    channel = grpc.insecure_channel(serve().address, channel_options())
    channel.close()
    with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
        version(Connection("unused", channel))


class Interrupted:
    """A channel whose streams begin, when a signal comes before their callers have them."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def stream_stream(self, *_: Any) -> Any:
        return self._begin

    def stream_unary(self, *_: Any) -> Any:
        return SimpleNamespace(future=self._begin)

    def _begin(self, messages: Iterator[Any], **_: Any) -> Any:
        self.threads.append(threading.Thread(target=deque, args=(messages,), daemon=True))
        self.threads[0].start()
        raise KeyboardInterrupt


class Parts:
    """Requests of an evaluation that go on until they are ended."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.end = self._ended.set

    def messages(self) -> Iterator[Any]:
        while not self._ended.wait(0.01):
            yield v1.EvaluateStreamRequest()


def compute_in_chunks(connection: Connection, call: ClientCall) -> None:
    converse(connection, Framed(v1.ComputeLossRequest()), call)


def evaluate_batches(connection: Connection, call: ClientCall) -> None:
    open_stream(connection, EVALUATE_STREAM, Parts, call, ())


@pytest.mark.parametrize("begin", [compute_in_chunks, evaluate_batches])
def test_a_stream_that_is_interrupted_at_once_keeps_no_thread(begin: Any) -> None:
    channel: Any = Interrupted()
    connection = Connection("unused", channel)
    with pytest.raises(KeyboardInterrupt):
        begin(connection, ClientCall.begin(5, None, connection.ids))
    (thread,) = channel.threads
    thread.join(10)
    assert not thread.is_alive()


FORKING = """
import os, sys
from lossd.client import LossClient

client = LossClient(sys.argv[1], timeout=10)
if sys.argv[2] == "used":
    assert client.server_info().version == "1.2.3"
child = os.fork()
if child == 0:
    try:
        ok = client.server_info().version == "1.2.3"
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        ok = False
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
assert client.server_info().version == "1.2.3"
client.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("before", ["unused", "used"])
def test_a_client_works_in_a_forked_process(serve: Any, before: Any) -> None:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(str(root / part) for part in ("protos", "server", "client"))
    finished = subprocess.run(
        [sys.executable, "-c", FORKING, serve().address, before],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()
