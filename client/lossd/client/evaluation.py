"""An evaluation of many batches: one stream to one server, for threads and for asyncio.

``metrics`` makes its requests and reads its responses.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from lossd import v1
from lossd.client import metrics
from lossd.client.aio_connection import AsyncConnection
from lossd.client.call import EVALUATE_STREAM, ClientCall
from lossd.client.connection import Connection
from lossd.client.errors import CancelledError, InvalidRequestError, late_error
from lossd.client.forks import turns
from lossd.client.progress import Advance, bar_of
from lossd.client.request_streams import open_stream, open_stream_async
from lossd.client.sending import Part, Sending, not_open
from lossd.client.tracing import Metadata
from lossd.framing import Framed

# One result, or a list of them.
Results = TypeVar("Results")
Connected = TypeVar("Connected", Connection, AsyncConnection)


def _batch(inputs: Mapping[str, Any], **extras: Any) -> Part:
    return Part(part=metrics.filled(metrics.build_request((), inputs, **extras), ""))


def _states(states: tuple[bytes, ...]) -> Part:
    return Part(part=metrics.build_request((), {}, states=states))


class _EvaluationAnswer(Generic[Results]):
    """The answer to an evaluation: results, and the state if it was asked for."""

    def __init__(self, *, is_one: bool, return_state: bool) -> None:
        self._is_one = is_one
        self._return_state = return_state
        self._whole: Framed[v1.EvaluateResponse] | None = None

    @property
    def is_there(self) -> bool:
        return self._whole is not None

    def take(self, encoded: bytes) -> None:
        framed = EVALUATE_STREAM.parsed(encoded)
        self._whole = Framed(framed.message.whole, framed.payloads)

    def results(self) -> Results:
        found: Any = metrics.read_results(self._response())
        results: Results = found[0] if self._is_one else found
        return results

    def state(self) -> bytes:
        if not self._return_state:
            raise InvalidRequestError(
                "state must be asked for with evaluation(..., return_state=True), got none",
                field="return_state",
            )
        state: bytes = self._response().message.state
        return state

    def _response(self) -> Framed[v1.EvaluateResponse]:
        if self._whole is None:
            raise not_open("has ended")
        return self._whole


def _nothing() -> None:
    """Moves no bar on, before there is one."""


class _EvaluationBase(Generic[Connected, Results]):
    """An evaluation that may be opened once; threads and asyncio send and wait in different ways.

    ``_opened`` ends the bar, the call and the span, in this order, as does an opening that fails.
    """

    def __init__(
        self,
        connection: Connected,
        call: ClientCall,
        first: v1.EvaluateRequest,
        *,
        is_one: bool,
        progress: bool | int = False,
    ) -> None:
        self._bar = bar_of(progress)
        self._advance: Advance = _nothing
        self._connection: Connected = connection
        self._call = call
        self._seconds = call.left()
        self._first = first
        self._answer: _EvaluationAnswer[Results] = _EvaluationAnswer(
            is_one=is_one, return_state=first.return_state
        )
        self._stream: Any = None
        self._opened = contextlib.ExitStack()
        self._process = os.getpid()

    def _traced(self, opened: contextlib.ExitStack) -> Metadata:
        """Begins the span, which ends with what is opened; returns what the server is told."""
        span = self._connection.trace(EVALUATE_STREAM.path, self._call.request_id)
        return opened.enter_context(span)

    def _keep_open(self, opened: contextlib.ExitStack) -> None:
        """Shows the bar and keeps what was opened, until the end."""
        self._advance = opened.enter_context(self._bar)
        self._opened = opened.pop_all()

    @property
    def _is_inherited(self) -> bool:
        """Whether this is a fork of its process, to which the stream belongs."""
        return os.getpid() != self._process

    def _check_own(self) -> None:
        if self._is_inherited:
            raise InvalidRequestError(
                "evaluation must stay in the process that made it, got a fork of that"
            )

    def _check_begun(self) -> None:
        self._check_own()
        if self._stream is None:
            raise not_open("has not begun")

    def _check_open(self) -> None:
        self._check_begun()
        if self._answer.is_there:
            raise not_open("has ended")

    def _begin(self) -> ClientCall:
        """Returns its call, whose time begins now.

        Raises:
            InvalidRequestError: if it was entered before: a second stream would have no end.
        """
        with self._call:
            self._check_own()
            if self._stream is not None:
                raise InvalidRequestError("evaluation must be entered once, got a second time")
        self._call = self._call.begun_again(self._seconds)
        return self._call


class Evaluation(_EvaluationBase[Connection, Results]):
    """Metrics over many batches.  ``LossClient.evaluation`` makes one; it is a context.

    Batches go to one server as they come, at most two ahead of it.  It is entered as soon as one
    has room for it, in the time that all of it may take.  A batch that the server refuses raises in
    a later ``update``, or in ``result``; ``metadata["part"]`` of the error says which, from 1,
    where a ``merge`` counts too.  One that comes once ``result`` was asked for, be it by
    another thread or interrupted, raises at once.  Nothing is repeated after a failure.
    Forks wait until a batch is sent, and can call nobody.
    """

    _sending: Sending

    def __enter__(self) -> Self:
        with self._begin(), contextlib.ExitStack() as opened:
            traced = self._traced(opened)
            opened.enter_context(turns().parting("an open evaluation"))
            self._sending = Sending(self._first)
            opened.callback(self._cancel)  # also what an interrupt keeps from coming back
            self._stream = open_stream(
                self._connection, EVALUATE_STREAM, self._sent_anew, self._call, traced
            )
            self._keep_open(opened)
        return self

    def _sent_anew(self) -> Sending:
        """Returns what an attempt sends."""
        self._sending = Sending(self._first)
        return self._sending

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if sys.is_finalizing():  # threads were ended, perhaps with a lock; the server notices
            return
        if self._is_inherited:
            return
        self._opened.__exit__(kind, error, traceback)

    def _cancel(self) -> None:
        if not self._answer.is_there:
            self._sending.end()
            if self._stream is not None:
                self._stream.cancel()

    def update(self, *, weights: Any = None, mask: Any = None, **inputs: Any) -> None:
        """Adds a batch; the arguments are those of ``LossClient.evaluate``.

        Raises:
            LossdError: as ``LossClient.evaluate``, of this batch or an earlier one.
        """
        with self._call:
            self._put(_batch(inputs, weights=weights, mask=mask))
        self._advance()

    def merge(self, *states: bytes) -> None:
        """Adds states of other evaluations of the same metrics.

        Raises:
            LossdError: as ``LossClient.evaluate``.
        """
        with self._call:
            self._put(_states(states))

    def result(self) -> Results:
        """Ends the evaluation and returns its results; may be repeated.

        Returns:
            One result, or a list of them where there are several metrics.

        Raises:
            LossdError: as ``LossClient.evaluate``.
        """
        with self._call:
            self._finish()
            return self._answer.results()

    @property
    def state(self) -> bytes:
        """Ends the evaluation and gives its state, to be merged with others anywhere.

        Raises:
            LossdError: as ``result``, or if the state was not asked for.
        """
        with self._call:
            self._finish()
            return self._answer.state()

    def _put(self, part: Part) -> None:
        self._check_open()
        while not self._sending.is_over:
            if self._sending.put(part):
                return
            if not self._call.left():  # which gRPC tells too, unless it is stuck
                raise late_error()
        self._receive()  # if it failed, which raises here
        raise not_open("has ended")

    def _finish(self) -> None:
        if not self._answer.is_there:
            self._check_begun()
            self._sending.finish()
            self._receive()

    def _receive(self) -> None:
        self._answer.take(self._stream.answer(self._call.left()))


class AsyncEvaluation(_EvaluationBase[AsyncConnection, Results]):
    """The same for asyncio: ``AsyncLossClient.evaluation`` makes one.

    ``update``, ``merge``, ``result`` and ``state`` are awaited, by any number of tasks.  If one of
    them is cancelled in its turn, the evaluation ends, as a part of it may be missing.
    """

    _turn: asyncio.Lock  # gRPC takes one message at a time
    _cut_in: str = ""  # the step of a task that was cancelled in its turn

    async def __aenter__(self) -> Self:
        with self._begin(), contextlib.ExitStack() as opened:
            traced = self._traced(opened)
            self._stream = await open_stream_async(
                self._connection, EVALUATE_STREAM, self._call, traced
            )
            opened.callback(self._stream.cancel)
            self._turn = asyncio.Lock()
            await self._write(Part(part=self._first))
            self._keep_open(opened)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_inherited:
            self._opened.__exit__(kind, error, traceback)

    async def update(self, *, weights: Any = None, mask: Any = None, **inputs: Any) -> None:
        """Does what ``Evaluation.update`` does."""
        with self._call:
            await self._write(_batch(inputs, weights=weights, mask=mask))
        self._advance()

    async def merge(self, *states: bytes) -> None:
        """Does what ``Evaluation.merge`` does."""
        with self._call:
            await self._write(_states(states), "merge")

    async def result(self) -> Results:
        """Returns what ``Evaluation.result`` does."""
        with self._call:
            await self._finish()
            return self._answer.results()

    async def state(self) -> bytes:
        """Returns what ``Evaluation.state`` does."""
        with self._call:
            await self._finish()
            return self._answer.state()

    def _check_open(self) -> None:
        super()._check_open()
        self._connection.check_loop()
        if self._cut_in:
            raise CancelledError(f"evaluation must be whole, got a cancelled {self._cut_in}")

    @contextlib.asynccontextmanager
    async def _turn_for(self, step: str) -> AsyncIterator[None]:
        """Waits for a turn; a task that is cancelled in it takes the stream along in gRPC."""
        async with self._turn:
            try:
                with self._connection.translated():
                    yield
            except asyncio.CancelledError:
                self._cut_in = step
                raise

    async def _write(self, part: Part, step: str = "update") -> None:
        self._check_open()
        async with self._turn_for(step):
            self._check_open()  # another task may have ended it meanwhile
            if not await self._stream.write(part):
                await self._receive()  # its error tells what was wrong with the stream

    async def _finish(self) -> None:
        if self._answer.is_there:
            return
        self._check_open()
        async with self._turn_for("result"):
            if self._answer.is_there:  # another task asked for it first
                return
            self._check_open()
            await self._stream.finish()
            await self._receive()

    async def _receive(self) -> None:
        self._answer.take(await self._stream.answer())
