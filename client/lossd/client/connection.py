"""The channel of a ``LossClient``, opened at first use, and calls on it.

``connections`` holds one for each process; ``aio_connection`` is the same for asyncio.
``conversing`` and ``request_streams`` stream on both, and ``readiness`` waits for a server.
"""

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from lossd.client.answer_memory import AnswerMemory
from lossd.client.arrays import Array
from lossd.client.call import (
    Answer,
    ClientCall,
    Method,
    RequestIds,
    left_until,
)
from lossd.client.errors import (
    CancelledError,
    LossdError,
    UnavailableError,
    closed_error,
    forked_error,
    given_up_error,
    lost_error,
)
from lossd.client.failures import noticed
from lossd.client.forks import turns
from lossd.client.freed_memory import keep_memory_of
from lossd.client.headers import Encoded
from lossd.client.renewing import Renewing
from lossd.client.retry import Retrier
from lossd.client.security import PLAIN, Security
from lossd.client.sharing import Sharing
from lossd.client.submitting import Background
from lossd.client.target import Target
from lossd.client.tracing import Trace, untraced
from lossd.client.unreached import server_at
from lossd.framing import Framed

Result = TypeVar("Result")

# What gRPC raises for a call that is not answered: ValueError for a channel that was closed before.
_FAILURES = (grpc.RpcError, grpc.FutureCancelledError, ValueError)
# gRPC's word for a call that ended because its channel was closed on this side.
_CHANNEL_CLOSED = "Channel closed!"


class Connection:
    """A channel to a target, or one that was passed in, which is never closed here.

    Attributes:
        security: What each call proves who makes it with.
        trace: Traces a call, by its method and its id.
        retrier: Makes calls again.
        turns: Those of calls and forks; each call of gRPC has one.
        ids: Fresh ids of calls.
        sharing: The memory that is shared with the server.
        background: The threads of submitted calls, and of those that no signal may interrupt.
        memory: What large answers are received into.
    """

    def __init__(
        self,
        target: Target,
        channel: grpc.Channel | None,
        security: Security = PLAIN,
        trace: Trace = untraced,
    ) -> None:
        self._target = target
        self.security = security
        self.trace = trace
        self._channel: Any = None if channel is None else Renewing.of(channel)
        self._owned = channel is None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        server = server_at(target if self._owned else None)
        self.retrier = Retrier(sleep=self.rest, server=server)
        self.turns = turns()
        self._unary: dict[str, Any] = {}  # by path; gRPC takes 40 us to make one
        self.ids = RequestIds()
        self.sharing = Sharing(self._ask)
        self.background = Background()
        self.memory = AnswerMemory()

    @property
    def survives_fork(self) -> bool:
        """Whether a fork of this process can make another one."""
        return True

    def channel(self) -> Any:
        """Returns the channel, the same for all threads.

        Raises:
            InvalidRequestError: if the connection was closed, or this is a fork of a process with
                a server in it, or with an open evaluation.
        """
        with self._lock:
            self.check_open()
            if self._channel is None:
                if self.turns.parted:
                    raise forked_error(self.turns.parted)
                self._channel = self.security.opened(grpc, self._target)
            return self._channel

    def close(self) -> None:
        """Closes the channel; calls under way end as cancelled."""
        if sys.is_finalizing():  # threads were ended, perhaps with a lock; the system closes it
            return
        self.background.close()
        self.sharing.close()
        self.memory.close()
        with self._lock:
            self._closed.set()
            self._unary.clear()
            if self._owned and self._channel is not None:
                self._channel.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def check_open(self) -> None:
        """Raises InvalidRequestError if the connection was closed."""
        if self._closed.is_set():
            raise closed_error()

    def begin_closed(self) -> None:
        """Stays closed from the beginning, as that of the parent was before a fork."""
        self.close()

    def open_sharing(self) -> Sharing:
        """Returns what it shares with the server.

        Raises:
            InvalidRequestError: if the connection was closed.
        """
        self.check_open()
        return self.sharing

    def shared(self, wanted: Array, make: Callable[..., Any], seconds: float) -> Any:
        """Returns an array that ``sharing`` makes beside a server; the one wanted if none answers.

        ``make`` is its ``empty``, or ``device_empty``.

        Raises:
            CancelledError: if the connection is closed meanwhile.
        """

        def attempt(left: float) -> Any:
            return self.sharing.beside_server(make, wanted, time.monotonic() + left)

        with contextlib.suppress(UnavailableError):
            return self.retrier.call(attempt, seconds, name="empty")
        return wanted

    def call(
        self,
        method: Method[Answer],
        request: Framed[Any] | Encoded,
        call: ClientCall,
        *,
        is_shared: bool = False,
    ) -> Framed[Answer]:
        """Returns the answer of a method, after retries where they help.

        A call with shared memory (``is_shared``) that lost its server is not repeated: the first
        attempt might still write there when the second is long done.

        Raises:
            LossdError: the error of the last attempt.
        """
        encoded = request.serialise()
        return self.exchange(method.path, encoded, call, method.parsed, is_shared=is_shared)

    def exchange(
        self,
        path: str,
        encoded: bytes,
        call: ClientCall,
        read: Callable[[bytes], Result],
        *,
        is_shared: bool = False,
    ) -> Result:
        """Returns what ``read`` makes of the answer of a method, as ``call`` does.

        Raises:
            LossdError: as ``call``.
        """
        keep_memory_of(len(encoded))
        with self.trace(path, call.request_id) as traced:
            attempt = functools.partial(self._invoke, path, encoded, call.metadata + traced)
            final = (UnavailableError,) if is_shared else ()
            name = call.request_id
            return read(self.retrier.call(attempt, call.left(), final=final, name=name))

    def rest(self, seconds: float) -> None:
        """Waits before the next attempt; closing ends it."""
        if self._closed.wait(seconds) or self.background.is_cancelled:
            raise given_up_error()

    def _ask(self, method: Method[Any], request: Message, timeout: float) -> Any:
        """Returns the message that a method answers with, in one attempt."""
        answer = self._invoke(method.path, request.SerializeToString(), (), timeout)
        return method.parsed(answer).message

    def unary(self, path: str) -> Any:
        """Returns what calls a method, once made.

        Raises:
            InvalidRequestError: if the connection was closed.
        """
        channel = self.channel()
        with self._lock:
            self.check_open()
            return self._unary.setdefault(path, channel.unary_unary(path))

    def _invoke(self, path: str, encoded: bytes, metadata: Any, timeout: float) -> bytes:
        until = time.monotonic() + timeout
        invoke = self._unary.get(path) or self.unary(path)
        proven = self.security.metadata(metadata)
        try:  # as ``translated`` does, which takes longer to enter
            answer: bytes
            with self.turns:
                left = left_until(until)  # all before takes of it: a token, files, a fork
                if self.background.current is None:
                    answer = invoke(encoded, timeout=left, metadata=proven)
                else:
                    future = invoke.future(encoded, timeout=left, metadata=proven)
                    self.background.current.watch(future)
                    answer = future.result()
        except _FAILURES as error:
            if self.background.current is not None:
                _forget_frames(error)
            raise self._translated(error) from error
        return answer

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises our errors for gRPC's."""
        try:
            yield
        except _FAILURES as error:
            _forget_frames(error)
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> LossdError:
        if isinstance(error, grpc.FutureCancelledError):
            return CancelledError("call must be waited for, got a cancelled one")
        if not isinstance(error, grpc.RpcError):  # its word for a channel that was closed meanwhile
            return closed_error()
        found = noticed(error, self.sharing, self._channel)
        if self._is_given_up(found):
            return given_up_error()
        return lost_error(found) if isinstance(found, CancelledError) else found

    def _is_given_up(self, error: LossdError) -> bool:
        """Returns whether a call ended because this side closed its channel, or cancelled it."""
        if _CHANNEL_CLOSED in error.message:
            return True
        is_ended = self._closed.is_set() or self.background.is_cancelled
        return isinstance(error, CancelledError) and is_ended


def _forget_frames(error: BaseException) -> None:
    """Drops the frames of gRPC's error where it is a call too, which these have.

    Such a circle would keep the batch until it is collected.
    """
    error.__traceback__ = None
