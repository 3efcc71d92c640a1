"""A client whose target is told by a function follows it, and no call notices."""

import asyncio
import contextlib
import functools
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from lossd import v1
from lossd.client import AsyncLossClient, InvalidRequestError, LossClient, UnavailableError, moving
from tests.waiting import until

SERVER_INFO = "/lossd.v1.LossService/GetServerInfo"


class Server(grpc.GenericRpcHandler):
    """Answers with its name, when it may; ``asked`` tells that it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self.target = f"ipv4:127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != SERVER_INFO:
            return None  # which a client takes for the word that nobody looks after health
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, *_: object) -> bytes:
        self.asked.set()
        self.may_answer.wait(30)
        return v1.GetServerInfoResponse(version=self.name).SerializeToString()

    def close(self) -> None:
        self.may_answer.set()
        self._server.stop(0)


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    both = Server("one"), Server("two")
    yield both
    for each in both:
        each.close()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "LOOKING_SECONDS", 0.05)


class Told:
    """A target that may be told anew, or be missing."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        if self.target is None:
            raise LookupError("nobody is there")
        return self.target

    def is_asked_twice(self) -> None:
        """Waits until a client has asked, and done what it does then."""
        seen = self.times
        until(lambda: self.times >= seen + 2)


def test_calls_go_where_the_target_is_and_end_where_they_began(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    told = Told(one.target)
    with LossClient(told) as client, futures.ThreadPoolExecutor(1) as pool:
        assert client.server_info().version == "one"
        one.asked.clear()
        one.may_answer.clear()
        under_way = pool.submit(client.server_info)
        assert one.asked.wait(20)
        told.target = two.target
        told.is_asked_twice()
        assert client.server_info().version == "two"
        told.is_asked_twice()  # and closes what is left and has no calls
        one.may_answer.set()
        assert under_way.result(20).version == "one"


def test_asyncio_follows_too(servers: tuple[Server, Server]) -> None:
    one, two = servers
    told = Told(one.target)

    async def names() -> list[str]:
        async with AsyncLossClient(told) as client:
            seen = [(await client.server_info()).version]
            told.target = two.target
            await asyncio.to_thread(told.is_asked_twice)
            seen.append((await client.server_info()).version)
            told.target = None
            await asyncio.to_thread(told.is_asked_twice)
            await client.wait_until_ready(10)
            return [*seen, (await client.server_info()).version]

    assert asyncio.run(names()) == ["one", "two", "two"]


def test_a_target_that_is_not_found_or_wrong_stays_what_it_was(
    servers: tuple[Server, Server],
) -> None:
    told = Told(servers[0].target)
    with LossClient(told) as client:
        assert client.server_info().version == "one"
        for wrong in (None, "no target", 7):
            told.target = wrong  # type: ignore[assignment]
            told.is_asked_twice()
            assert client.server_info().version == "one"


def test_a_call_waits_for_the_first_target_until_its_timeout(
    servers: tuple[Server, Server],
) -> None:
    told = Told(None)
    with LossClient(told) as client:
        with pytest.raises(UnavailableError, match="must be found by its function"):
            client.server_info(timeout=0.3)
        told.target = "no target"
        with pytest.raises(InvalidRequestError, match="target must be"):
            client.server_info()
        told.target = servers[0].target
        assert client.server_info().version == "one"


def test_waiting_goes_on_where_the_target_went(servers: tuple[Server, Server]) -> None:
    with contextlib.closing(Server("gone")) as gone:
        nowhere = gone.target
    told = Told(nowhere)
    with LossClient(told) as client, futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_ready, 20)
        told.is_asked_twice()
        assert not waiting.done()
        told.target = servers[1].target
        waiting.result(20)


def told_of_another_process(target: str) -> str:
    return target


def test_a_copy_asks_for_itself(servers: tuple[Server, Server]) -> None:
    find = functools.partial(told_of_another_process, servers[1].target)
    with LossClient(find) as client, pickle.loads(pickle.dumps(client)) as copied:  # noqa: S301
        assert copied.server_info().version == client.server_info().version == "two"


def test_nobody_is_asked_once_a_client_is_closed(servers: tuple[Server, Server]) -> None:
    told = Told(servers[0].target)
    with LossClient(told) as client:
        client.server_info()
        told.is_asked_twice()
    time.sleep(0.1)  # for the last time that it may be on its way
    seen = told.times
    time.sleep(0.3)
    assert told.times == seen


class Opening:
    """Opens channels, unless their files are missing; counts how often it was asked to."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self.is_missing = False
        self.times = 0

    def __call__(self, target: str) -> Any:
        self.times += 1
        if self.is_missing:
            raise InvalidRequestError("tls must be in a file that can be read, got none")
        return self._gate.insecure_channel(target)


def test_a_target_is_followed_once_it_can_be_opened(servers: tuple[Server, Server]) -> None:
    """Files of TLS are missing for a moment when they change."""
    one, two = servers
    told, opening = Told(one.target), Opening(grpc)
    followed = moving.channel(grpc, told, opening)
    with contextlib.closing(followed), LossClient(channel=followed) as client:
        assert client.server_info().version == "one"
        opening.is_missing, told.target = True, two.target
        until(lambda: opening.times >= 3)  # so it looks again
        assert client.server_info().version == "one"
        opening.is_missing = False
        until(lambda: client.server_info().version == "two")


def test_asyncio_follows_once_it_can_be_opened(servers: tuple[Server, Server]) -> None:
    one, two = servers

    async def follow() -> None:
        told, opening = Told(one.target), Opening(grpc.aio)
        followed = moving.channel(grpc.aio, told, opening)
        async with AsyncLossClient(channel=followed) as client:
            opening.is_missing, told.target = True, two.target
            await asyncio.to_thread(until, lambda: opening.times >= 3)
            assert (await client.server_info()).version == "one"
            opening.is_missing = False
            await asyncio.to_thread(told.is_asked_twice)
            assert (await client.server_info()).version == "two"
        await followed.close()

    asyncio.run(follow())
