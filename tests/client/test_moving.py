"""A client follows where its target is, and what it is secured with; no call notices."""

import asyncio
import contextlib
import functools
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from lossd import v1
from lossd.client import AsyncLossClient, InvalidRequestError, LossClient, UnavailableError, moving
from lossd.client.target import checked_target, is_looked_up
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
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0.1)


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


def test_asyncio_follows_also_where_the_threads_of_the_loop_are_taken(
    servers: tuple[Server, Server],
) -> None:
    told, done = Told(servers[0].target), threading.Event()

    async def name() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(futures.ThreadPoolExecutor(1))
        taken = loop.run_in_executor(None, done.wait, 30)
        try:
            async with asyncio.timeout(10), AsyncLossClient(told) as client:
                await client.server_info()
                told.target = servers[1].target
                for _ in range(500):
                    seen = (await client.server_info()).version
                    if seen == "two":
                        break
                    await asyncio.sleep(0.01)
                return seen
        finally:
            done.set()
            await taken

    assert asyncio.run(name()) == "two"


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
        told.target = "ipv4:"  # of a registry that has no servers yet
        with pytest.raises(UnavailableError, match="must be found by its function, got none"):
            client.server_info(timeout=0.3)
        with pytest.raises(UnavailableError, match="must be found by its function, got none"):
            client.wait_until_ready(0.3)
        told.target = 7  # type: ignore[assignment]
        with pytest.raises(InvalidRequestError, match="target must be"):
            client.server_info()
        told.target = "ipv4:"
        threading.Timer(0.5, setattr, (told, "target", servers[0].target)).start()
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


def test_asyncio_waits_where_the_target_went_too(servers: tuple[Server, Server]) -> None:
    with contextlib.closing(Server("gone")) as gone:
        nowhere = gone.target

    async def waits() -> None:
        told = Told(nowhere)
        async with AsyncLossClient(told) as client:
            waiting = asyncio.create_task(client.wait_until_ready(20))
            await asyncio.to_thread(told.is_asked_twice)
            assert not waiting.done()
            told.target = servers[1].target
            await waiting

    for _ in range(5):  # a channel that was closed while it was waited for showed now and then
        asyncio.run(waits())


class Channels:
    """Opens channels, and knows the targets of those that were closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def __call__(self, target: str) -> grpc.Channel:
        made = grpc.insecure_channel(target)
        close = made.close

        def note() -> None:
            self.closed.append(target)
            close()

        setattr(made, "close", note)  # noqa: B010 - mypy refuses to assign a method
        return made


@contextlib.contextmanager
def following(told: Told, channels: Channels) -> Iterator[Any]:
    with contextlib.closing(moving.channel(grpc, told, channels)) as followed:
        yield followed


def test_a_channel_that_was_left_is_closed_once_its_calls_have_ended(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    told, channels = Told(one.target), Channels()
    with following(told, channels) as followed:
        ask = followed.unary_unary(SERVER_INFO)
        ask(b"", timeout=20)
        one.asked.clear()
        one.may_answer.clear()
        under_way = ask.future(b"", timeout=20)
        assert one.asked.wait(20)
        told.target = two.target
        for _ in range(3):
            told.is_asked_twice()
        assert not channels.closed
        one.may_answer.set()
        under_way.result(20)
        until(lambda: channels.closed == [one.target])


def test_closing_closes_what_was_left_too(servers: tuple[Server, Server]) -> None:
    one, two = servers
    told, channels = Told(one.target), Channels()
    with following(told, channels) as followed:
        one.may_answer.clear()
        under_way = followed.unary_unary(SERVER_INFO).future(b"", timeout=20)
        assert one.asked.wait(20)
        told.target = two.target
        told.is_asked_twice()
        assert not channels.closed
    assert sorted(channels.closed) == sorted([one.target, two.target])
    assert under_way.code() is grpc.StatusCode.CANCELLED


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


class Turn:
    """A lock; ``wanted`` tells that a thread came to take it."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.wanted.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_call_that_found_nobody_goes_not_back_from_where_the_target_went_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "LOOKING_SECONDS", 60)
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0)
    opened: list[str] = []
    opens, may_open = threading.Event(), threading.Event()

    def open_one(target: str) -> grpc.Channel:
        opened.append(target)
        if len(opened) == 2:
            opens.set()
            assert may_open.wait(20)
        return grpc.insecure_channel(target)

    told = Told("localhost:1")
    followed: Any = moving.channel(grpc, told, open_one)
    turn = followed._turn = Turn()
    with contextlib.closing(followed), futures.ThreadPoolExecutor(2) as pool:
        told.target = "localhost:2"
        looking = pool.submit(followed.look)
        assert opens.wait(20)
        turn.wanted.clear()
        looking_again = pool.submit(followed.look_again)
        assert turn.wanted.wait(20)
        may_open.set()
        looking.result(20)
        looking_again.result(20)
    assert opened == ["localhost:1", "localhost:2", "localhost:2"]


class Names:
    """A server of DNS, which knows one name, or none; gRPC asks it alone."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._answer, daemon=True).start()

    def target(self, server: Server) -> str:
        """Returns the target for a server that is found under a name."""
        port = server.target.rpartition(":")[2]
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/lossd.example.com:{port}"

    def close(self) -> None:
        self._socket.close()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asked, sender = self._socket.recvfrom(2048)
                self._socket.sendto(self._answered(asked), sender)

    def _answered(self, asked: bytes) -> bytes:
        """Returns RFC 1035's answer: the question again, and at most one address of IPv4."""
        end = asked.index(0, 12) + 5
        question, kind = asked[12:end], asked[end - 4 : end - 2]
        found = b""
        if self.address is not None and kind == b"\0\1":
            found = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address)
        self.questions += kind == b"\0\1"
        code = b"\x81\x83" if self.address is None else b"\x81\x80"
        counts = asked[4:6] + (b"\0\1" if found else b"\0\0") + bytes(4)
        return asked[:2] + code + counts + question + found


@pytest.fixture
def names() -> Iterator[Names]:
    with contextlib.closing(Names()) as found:
        yield found


# After so many questions gRPC alone waits for longer than a call of these tests does.
MANY = 8


def test_a_name_is_found_soon_after_it_is_there(
    servers: tuple[Server, Server], names: Names
) -> None:
    """gRPC would look up to two minutes later, and the later the longer it was missing."""
    target = names.target(servers[0])
    with (
        LossClient(target) as calling,
        LossClient(target) as waiting,
        futures.ThreadPoolExecutor(2) as pool,
    ):
        answer = pool.submit(calling.server_info)
        ready = pool.submit(waiting.wait_until_ready, 30)
        until(lambda: names.questions >= 2 * MANY)
        names.address = "127.0.0.1"
        ready.result(20)
        assert answer.result(20).version == "one"


def test_asyncio_finds_a_name_too(servers: tuple[Server, Server], names: Names) -> None:
    target = names.target(servers[0])

    async def find() -> str:
        async with AsyncLossClient(target) as calling, AsyncLossClient(target) as waiting:
            answer = asyncio.create_task(calling.server_info())
            ready = asyncio.create_task(waiting.wait_until_ready(30))
            await asyncio.to_thread(until, lambda: names.questions >= 2 * MANY)
            names.address = "127.0.0.1"
            await asyncio.wait_for(ready, 20)
            return (await asyncio.wait_for(answer, 20)).version

    assert asyncio.run(find()) == "one"


def test_a_name_that_is_there_is_not_looked_up_again_and_again(
    servers: tuple[Server, Server], names: Names
) -> None:
    names.address = "127.0.0.1"
    opened: list[Any] = []

    def open_one(target: str) -> Any:
        opened.append(grpc.insecure_channel(target))
        return opened[-1]

    followed = moving.channel(grpc, names.target(servers[0]), open_one)
    with contextlib.closing(followed), LossClient(channel=followed) as client:
        for _ in range(5):
            assert client.server_info().version == "one"
            time.sleep(0.1)
    assert len(opened) == 1


def test_an_address_is_not_opened_anew(servers: tuple[Server, Server]) -> None:
    with contextlib.closing(Server("gone")) as gone:
        opening = Opening(grpc)
        followed = moving.channel(grpc, gone.target, opening)
    with (
        contextlib.closing(followed),
        LossClient(channel=followed) as client,
        pytest.raises(UnavailableError),
    ):
        client.server_info(timeout=1)
    assert opening.times == 1
    assert servers


@pytest.mark.parametrize(
    ("target", "is_name"),
    [
        ("localhost:1", True), ("dns:///lossd:1", True), ("dns://127.0.0.1:53/lossd:1", True),
        ("lossd.example.com:1", True), ("DNS:lossd:1", True), ("127.0.0.1:1", False),
        ("dns:///127.0.0.1:1", False), ("[::1]:1", False), ("ipv4:127.0.0.1:1", False),
        ("ipv6:[::1]:1", False), ("unix:/run/lossd.sock", False), ("xds:///lossd", False),
    ],
)  # fmt: skip
def test_what_is_looked_up_is_a_name(target: str, is_name: bool) -> None:  # noqa: FBT001
    assert is_looked_up(checked_target(target)) is is_name
