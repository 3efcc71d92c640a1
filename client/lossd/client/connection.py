"""The channel of a client, opened at first use, and calls on it; for threads and for asyncio.

A client has one channel for each process: a channel does not survive a fork, because its threads
stay behind. A data loader that forks workers after the client was used gets a new channel in each
of them. With asyncio there is one for each event loop too, because a channel is bound to the loop
that it was made in.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from lossd import v1
from lossd.client import chunked
from lossd.client.call import REQUEST_ID_KEY, STREAM_LOSS, Answer, Call, Method
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossdError,
    ServerError,
    UnavailableError,
    closed_error,
    from_rpc_error,
    given_up_error,
    lost_error,
)
from lossd.client.retry import AsyncRetrier, Retrier
from lossd.client.security import PLAIN, Security, explained
from lossd.client.sharing import Sharing
from lossd.client.target import checked_target
from lossd.client.tracing import Metadata, Trace, tracer, untraced
from lossd.framing import Framed

Result = TypeVar("Result")
Made = TypeVar("Made", bound="Connection | AsyncConnection")

# gRPC's word for a call that ended because its channel was closed on this side.
_CHANNEL_CLOSED = "Channel closed!"


class Connection:
    """A channel to a target, or one that was passed in, which is never closed here."""

    def __init__(
        self,
        target: str,
        channel: grpc.Channel | None,
        security: Security = PLAIN,
        trace: Trace = untraced,
    ) -> None:
        self._target = target
        self._security = security
        self.trace = trace
        self._channel = channel
        self._owned = channel is None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._retrier = Retrier(sleep=self._rest)
        self._unary: dict[str, Any] = {}  # by path; gRPC takes 40 us to make one
        self.sharing = Sharing(self._ask)

    @property
    def survives_fork(self) -> bool:
        """Whether a fork of this process can make another one."""
        return True

    def channel(self) -> grpc.Channel:
        """Returns the channel, the same for all threads.

        Raises:
            InvalidRequestError: if the connection was closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise closed_error()
            if self._channel is None:
                self._channel = self._security.opened(grpc, self._target)
            return self._channel

    def close(self) -> None:
        """Closes the channel; calls under way end as cancelled."""
        self.sharing.close()
        with self._lock:
            self._closed.set()
            if self._owned and self._channel is not None:
                self._channel.close()

    def call(
        self, method: Method[Answer], request: Framed[Any], call: Call, *, is_shared: bool = False
    ) -> Framed[Answer]:
        """Returns the answer of a method, after retries where they help.

        A call with shared memory (``is_shared``) that lost its server is not repeated: the first
        attempt might still write there when the second is long done.

        Raises:
            LossdError: the error of the last attempt.
        """
        encoded = request.serialise()

        with self.trace(method.path, call.request_id) as traced:
            metadata = call.metadata + traced

            def attempt(left: float) -> bytes:
                return self._invoke(method, encoded, left, metadata)

            return method.parsed(self._repeated(attempt, call, is_shared=is_shared))

    def _repeated(
        self, attempt: Callable[[float], Result], call: Call, *, is_shared: bool = False
    ) -> Result:
        final = (UnavailableError,) if is_shared else ()
        return self._retrier.call(attempt, call.left(), final=final, name=call.request_id)

    def _rest(self, seconds: float) -> None:
        """Waits before the next attempt; closing ends it."""
        if self._closed.wait(seconds):
            raise given_up_error()

    def _ask(self, method: Method[Any], request: Message, timeout: float) -> Any:
        """Returns the message that a method answers with, in one attempt."""
        answer = self._invoke(method, request.SerializeToString(), timeout, ())
        return method.parsed(answer).message

    def _invoke(self, method: Method[Any], encoded: bytes, timeout: float, metadata: Any) -> bytes:
        channel = self.channel()
        invoke = self._unary.get(method.path)
        if invoke is None:
            invoke = self._unary[method.path] = channel.unary_unary(method.path)
        proven = self._security.metadata(metadata)
        with self.translated():
            answer: bytes = invoke(encoded, timeout=timeout, metadata=proven)
        return answer

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises our errors for gRPC's."""
        try:
            yield
        except grpc.RpcError as error:
            found = explained(from_rpc_error(error))
            if isinstance(found, CancelledError) and not self._is_given_up(found):
                found = lost_error(found)
            raise found from error
        except ValueError as error:  # gRPC's word for a channel that was closed meanwhile
            raise closed_error() from error

    def _is_given_up(self, error: CancelledError) -> bool:
        """Returns whether a call ended because this side closed its channel: only that cancels."""
        return self._closed.is_set() or error.message == _CHANNEL_CLOSED

    def stream(
        self, request: Framed[v1.ComputeLossRequest], call: Call
    ) -> Framed[v1.ComputeLossResponse]:
        """Returns the answer to a large batch, which goes and comes in chunks.

        Raises:
            LossdError: the error of the last attempt.
        """
        question = chunked.Question(request)
        with self.trace(STREAM_LOSS.path, call.request_id) as traced:
            metadata = call.metadata + traced
            return self._repeated(lambda left: self._converse(question, left, metadata), call)

    def _converse(
        self, question: chunked.Question, left: float, metadata: Any
    ) -> Framed[v1.ComputeLossResponse]:
        """Returns the answer to a large batch, in one attempt."""
        invoke: Any = self.channel().stream_stream(STREAM_LOSS.path)
        proven = self._security.metadata(metadata)
        answer = chunked.Answer()
        started: Future[Any] = Future()

        def messages() -> Iterator[bytes]:
            yield question.first
            started.result().initial_metadata()
            yield from question.chunks()

        with self.translated():
            replies = invoke(messages(), timeout=left, metadata=proven)
            started.set_result(replies)
            try:
                for encoded in replies:
                    answer.take(encoded)
            finally:
                replies.cancel()  # without effect on one that has ended
        return answer.framed()

    def follow(
        self, method: Method[Answer], requests: Iterator[Message], call: Call, traced: Metadata
    ) -> Any:
        """Sends a stream of requests; returns gRPC's future of the answer, encoded.

        Nothing is repeated; ``traced`` is what the span tells the server.

        Raises:
            InvalidRequestError: if the connection was closed.
        """
        metadata = self._security.metadata(call.metadata + traced)
        try:
            stream: Any = self.channel().stream_unary(method.path, _serialised)
            return stream.future(requests, timeout=call.left(), metadata=metadata)
        except ValueError as error:  # gRPC's word for a channel that was closed meanwhile
            raise closed_error() from error


class AsyncConnection:
    """A channel of asyncio, for the event loop that it is first used in.

    Shared memory takes long to set up and waits for the server, so it is used in threads, which
    make their calls through the loop.
    """

    def __init__(
        self,
        target: str,
        channel: grpc.aio.Channel | None,
        security: Security = PLAIN,
        trace: Trace = untraced,
    ) -> None:
        self._target = target
        self._security = security
        self.trace = trace
        self._channel = channel
        self._owned = channel is None
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retrier = AsyncRetrier(sleep=self._rest)
        self.sharing = Sharing(self._ask)

    @property
    def survives_fork(self) -> bool:
        """Whether there can be another in a fork of this process: not of gRPC's own threads."""
        return self._loop is None

    def channel(self) -> grpc.aio.Channel:
        """Returns the channel.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
        """
        if self._closed.is_set():
            raise closed_error()
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise InvalidRequestError("client must stay in one event loop, got a second one")
        self._loop = loop
        if self._channel is None:
            self._channel = self._security.opened(grpc.aio, self._target)
        return self._channel

    async def close(self) -> None:
        """Closes the channel; calls under way end as cancelled."""
        try:
            await asyncio.to_thread(self.sharing.close)
        finally:
            self._closed.set()
            if self._owned and self._channel is not None:
                await self._channel.close()

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Runs a function that may use ``sharing`` in a thread, and returns its result.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
        """
        self.channel()  # binds the loop that the thread will ask through
        return await asyncio.to_thread(work)

    async def call(
        self, method: Method[Answer], request: Framed[Any], call: Call, *, is_shared: bool = False
    ) -> Framed[Answer]:
        """Returns the answer of a method, after retries where they help, as ``Connection.call``.

        Raises:
            LossdError: the error of the last attempt.
            asyncio.CancelledError: if the task is cancelled; the server is told.
        """
        encoded = request.serialise()

        with self.trace(method.path, call.request_id) as traced:
            metadata = call.metadata + traced

            async def attempt(left: float) -> bytes:
                return await self._invoke(method, encoded, left, metadata)

            return method.parsed(await self._repeated(attempt, call, is_shared=is_shared))

    async def _repeated(
        self, attempt: Callable[[float], Awaitable[Result]], call: Call, *, is_shared: bool = False
    ) -> Result:
        final = (UnavailableError,) if is_shared else ()
        return await self._retrier.call(attempt, call.left(), final=final, name=call.request_id)

    async def _rest(self, seconds: float) -> None:
        """Waits before the next attempt; closing ends it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
                raise given_up_error()

    def _ask(self, method: Method[Any], request: Message, timeout: float) -> Any:
        """Returns the message that a method answers with, in one attempt; for threads."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)  # set before there is a thread
        invoked = self._invoke(method, request.SerializeToString(), timeout, ())
        try:
            asked = asyncio.run_coroutine_threadsafe(invoked, loop)
        except RuntimeError as error:
            invoked.close()
            raise _ended_error() from error
        try:
            return method.parsed(asked.result(timeout)).message
        except (TimeoutError, FutureCancelledError) as error:
            raise _ended_error() from error

    async def _invoke(
        self, method: Method[Any], encoded: bytes, timeout: float, metadata: Any
    ) -> bytes:
        invoke: Any = self.channel().unary_unary(method.path)
        proven = self._security.metadata(metadata)
        with self.translated():
            answer: bytes = await invoke(encoded, timeout=timeout, metadata=proven)
        return answer

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises our errors for gRPC's.

        A call that this side gave up ends as asyncio's cancellation; the status is a server's.
        """
        try:
            yield
        except grpc.RpcError as error:
            found = explained(from_rpc_error(error))
            raise (lost_error(found) if isinstance(found, CancelledError) else found) from error
        except grpc.aio.UsageError as error:  # gRPC's word for a channel that was closed
            raise closed_error() from error
        except asyncio.CancelledError as error:
            if _is_cancelled(asyncio.current_task()):
                raise
            raise given_up_error() from error

    async def stream(
        self, request: Framed[v1.ComputeLossRequest], call: Call
    ) -> Framed[v1.ComputeLossResponse]:
        """Returns the answer to a large batch, as ``Connection.stream`` does.

        Raises:
            LossdError: the error of the last attempt.
            asyncio.CancelledError: if the task is cancelled; the server is told.
        """
        question = chunked.Question(request)
        with self.trace(STREAM_LOSS.path, call.request_id) as traced:
            metadata = call.metadata + traced

            async def attempt(left: float) -> Framed[v1.ComputeLossResponse]:
                try:
                    return await self._converse(question, left, metadata)
                except ServerError as error:
                    raise _why_cut(error, call) from error

            return await self._repeated(attempt, call)

    async def _converse(
        self, question: chunked.Question, left: float, metadata: Any
    ) -> Framed[v1.ComputeLossResponse]:
        """Returns the answer to a large batch, in one attempt."""
        invoke: Any = self.channel().stream_stream(STREAM_LOSS.path)
        proven = self._security.metadata(metadata)
        answer = chunked.Answer()

        async def messages() -> AsyncIterator[bytes]:
            yield question.first
            if not _is_let_in(await replies.initial_metadata()):
                # To write to a refused call would hide why it was; its status is on the way.
                await asyncio.wait([asyncio.create_task(replies.code())], timeout=1)
            for chunk in question.chunks():
                if replies.done():
                    return
                yield chunk

        with self.translated():
            replies = invoke(messages(), timeout=left, metadata=proven)
            try:
                async for encoded in replies:
                    answer.take(encoded)
            finally:
                replies.cancel()
        return answer.framed()

    def follow(self, method: Method[Answer], call: Call, traced: Metadata) -> Any:
        """Opens a stream of requests; returns gRPC's call, which takes them.

        Awaited, it is the answer, encoded. Nothing is repeated; ``traced`` is as for threads.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
        """
        stream: Any = self.channel().stream_unary(method.path, _serialised)
        metadata = self._security.metadata(call.metadata + traced)
        return stream(timeout=call.left(), metadata=metadata)


class Connections(Generic[Made]):
    """The connections of a client, one in each process that it comes into; copies have their own.

    Args:
        make: Makes a connection from the target and the channel.
        target: Where to connect to, unless there is a channel.
        channel: The caller's channel, for all connections.
        security: How they are secured, and what proves who calls.
        tracing: Where spans go: True for the program's own provider, or a ``TracerProvider``; a
            pickled copy has that of the program that it comes into.

    Raises:
        InvalidRequestError: if the target is none, or spans can go nowhere.
    """

    def __init__(
        self,
        make: Callable[[str, Any, Security, Trace], Made],
        target: str,
        channel: Any,
        security: Security = PLAIN,
        tracing: Any = False,  # noqa: FBT002 - or a provider
    ) -> None:
        self._make = make
        self._security = security
        self._is_traced = tracing is not False
        self._trace = tracer(tracing)
        self._target = checked_target(target) if channel is None else target
        self._channel = channel
        # By process. The parent's stays here in a child, where nothing may touch it, not even to
        # free it.
        self._made: dict[int, Made] = {}

    def here(self) -> Made:
        """Returns that of this process.

        Raises:
            InvalidRequestError: if it is a fork that gRPC would do nothing in but wait.
        """
        # setdefault is atomic, where a lock could have been copied locked into a child.
        process = os.getpid()
        return self._made.get(process) or self._made.setdefault(process, self._new())

    def _new(self) -> Made:
        if not all(inherited.survives_fork for inherited in self._made.values()):
            raise InvalidRequestError(
                "client of asyncio must be first used after a fork, got one that the parent used: "
                "start the process with spawn or forkserver"
            )
        return self._make(self._target, self._channel, self._security, self._trace)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what is needed to make a copy, here or in another process.

        Raises:
            InvalidRequestError: if the channel is the caller's.
        """
        if self._channel is not None:
            raise InvalidRequestError(
                "client must connect to a target to be copied or pickled, got one with a channel "
                "of its caller",
                field="channel",
            )
        return type(self), (self._make, self._target, None, self._security, self._is_traced)


def _ended_error() -> UnavailableError:
    return UnavailableError("event loop must run until the server has answered, got none in time")


def _serialised(request: Message) -> bytes:
    return request.SerializeToString()


def _is_let_in(initial_metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    return any(key == REQUEST_ID_KEY for key, _ in initial_metadata)


def _why_cut(error: ServerError, call: Call) -> LossdError:
    """Returns the likely reason why a stream was cut; asyncio's gRPC gives none."""
    if error.message != "Internal error from Core":
        return error
    if not call.left():
        return DeadlineExceededError("call must be answered within its timeout, got a cut stream")
    return UnavailableError("server must stay until it has answered, got a cut stream")


def _is_cancelled(task: asyncio.Task[object] | None) -> bool:
    """Returns whether the task was cancelled, rather than the channel that it waits for closed."""
    return task is None or task.cancelling() > 0
