"""Calls of ``LossClient`` in the background, each a future.

``Submitting`` is the part of the client that makes them; ``Background`` has the threads that wait
for their answers, and belongs to a connection.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from lossd import v1
from lossd.client import cautions, hints, kinds
from lossd.client.beginning import begin_thread
from lossd.client.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    closed_error,
    given_up_error,
    late_error,
    no_thread_error,
)
from lossd.client.line import Line
from lossd.client.result import LossResult, MetricResult

Result = TypeVar("Result")

# Calls that are under way at a time; others wait for one of them to end.
CALLS = 16
# Seconds that gRPC has to tell that a call took longer than it may.
_PATIENCE = 5.0


class Submission(Future[Result], Generic[Result]):
    """The future of a call.  Other than that of a thread it may be cancelled until it is done.

    It is ``pending`` until then, because a future of ``concurrent.futures`` that is ``running``
    cannot be cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rpc: Any = None

    def cancel(self) -> bool:
        """Ends the call, so that the server stops computing; returns False if it is done."""
        cancelled = super().cancel()
        rpc = self._rpc
        if cancelled and rpc is not None:
            rpc.cancel()
        return cancelled

    def watch(self, rpc: Any) -> None:
        """Cancels gRPC's call when this one is cancelled, or at once if it was."""
        self._rpc = rpc
        if self.cancelled():
            rpc.cancel()

    def fill(self, work: Callable[[], Result]) -> None:
        """Does the work, unless cancelled, and keeps what it returns or raises."""
        keep: Callable[[], None] = _nothing
        try:
            if not self.cancelled():
                keep = functools.partial(self.set_result, work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            keep = functools.partial(self.set_exception, error)
        if self.set_running_or_notify_cancel():
            keep()
        del keep, self  # an error has this frame, and with these it would have itself


def _nothing() -> None:
    """Does nothing: of a cancelled submission nothing is kept, and nobody waits for most."""


class Background:
    """The threads of a connection that wait for the answers of submitted calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._line = Line(CALLS)
        self._is_closed = False
        self._here = threading.local()

    @property
    def current(self) -> Submission[Any] | None:
        """The submission that this thread works for; None for a call that is waited for."""
        return getattr(self._here, "submission", None)

    @property
    def is_cancelled(self) -> bool:
        """Whether this thread works for a submission that was cancelled."""
        return self.current is not None and self.current.cancelled()

    def start(
        self, submission: Submission[Result], work: Callable[[], Result], until: float
    ) -> None:
        """Fills a submission in a thread, by a time on the monotonic clock.

        Where all threads are busy until then, the work, which has no time left, finds that out.

        Raises:
            InvalidRequestError: if it was closed.
            UnavailableError: if no thread can begin.
        """
        with self._lock:
            if self._is_closed:
                raise closed_error()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(CALLS, thread_name_prefix="lossd-submitted")
            self._line.join(submission, until, functools.partial(self._fill, submission, work))
            try:
                self._pool.submit(self._line.take_turn)
            except RuntimeError as error:
                self._line.leave(submission)  # or a thread of another one would take it
                raise no_thread_error(error) from error

    def unsignalled(
        self, work: Callable[[], Result], seconds: float, lose: Callable[[], None] = _nothing
    ) -> Result:
        """Does work that takes some seconds where no signal raises anything amid it.

        What a handler raises, such as KeyboardInterrupt, comes between any two steps of the main
        thread. Within gRPC's it would leave a lock taken that a channel needs for all that is
        streamed. So they are made in a thread of its own there, and the call is cancelled.

        Args:
            work: What to do, on a channel.
            seconds: How long it may take; five more are waited for gRPC to say so.
            lose: Has later calls go elsewhere, as this one did not end by then.

        Raises:
            DeadlineExceededError: if it takes much longer, as on a channel whose lock is taken.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        submission: Submission[Result] = Submission()
        ended = threading.Lock()  # Python's steps of an event leave a lock of its own taken too
        ended.acquire()
        run = contextvars.copy_context().run  # the caller's, for interceptors and tokens
        given = (self._fill, submission, work, ended.release)
        try:
            begin_thread(threading.Thread(target=run, args=given, daemon=True))
            if not ended.acquire(timeout=min(seconds + _PATIENCE, threading.TIMEOUT_MAX)):
                lose()
                raise late_error()
            return submission.result()
        finally:
            if not submission.done():
                _cancel_apart(submission)
            # An error has the frames that it came through, and these would have the error.
            del submission, given

    def close(self) -> None:
        """Gives up what waits for a turn; the connection ends what is under way."""
        with self._lock:
            self._is_closed = True
            if self._pool is not None:
                self._pool.shutdown(wait=False)

    def _fill(
        self,
        submission: Submission[Result],
        work: Callable[[], Result],
        end: Callable[[], None] = _nothing,
    ) -> None:
        self._here.submission = submission
        try:
            submission.fill(functools.partial(self._unless_closed, work))
        finally:
            del self._here.submission, submission  # an error has this frame
            end()

    def _unless_closed(self, work: Callable[[], Result]) -> Result:
        if self._is_closed:
            raise given_up_error()
        try:
            return work()
        except InvalidRequestError as error:
            if self._is_closed:  # between two steps of the call
                raise given_up_error() from error
            raise


class Submitting:
    """The part of ``LossClient`` that makes calls in the background, out of its other methods."""

    @overload
    def submit(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self,
        message: hints.NamedLoss,
        *inputs: Any,
        reduction: hints.Aggregate = "mean",
        **rest: Unpack[hints.ComputeArguments],
    ) -> Future[LossResult]: ...

    @overload
    def submit(
        self,
        message: hints.NamedLoss,
        *inputs: Any,
        reduction: Literal["none"],
        **rest: Unpack[hints.ComputeArguments],
    ) -> Future[LossResult[None]]: ...

    @overload
    def submit(
        self,
        message: hints.Combined,
        *inputs: Any,
        reduction: hints.Aggregate = "mean",
        **rest: Any,
    ) -> Future[LossResult]: ...

    @overload
    def submit(
        self, message: hints.Combined, *inputs: Any, reduction: Literal["none"], **rest: Any
    ) -> Future[LossResult[None]]: ...

    @overload
    def submit(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self, message: hints.AnyMetric, **rest: Unpack[hints.EvaluateArguments]
    ) -> Future[MetricResult]: ...

    @overload
    def submit(
        self, message: Sequence[hints.AnyMetric], **rest: Unpack[hints.EvaluateArguments]
    ) -> Future[list[MetricResult]]: ...

    def submit(
        self,
        message: Any,
        *inputs: Any,
        timeout: float | None = None,
        request_id: str | None = None,
        **rest: Any,
    ) -> Future[Any]:
        """Starts a call and returns its future, while this thread goes on.

            futures = [client.submit(loss, logits, labels) for logits, labels in batches]
            losses = [future.result().loss for future in futures]

        A loss is computed as by ``compute``, a metric or a list of metrics evaluated as by
        ``evaluate``; sixteen calls are under way at a time, and others wait for their turn. Inputs
        must not be changed before the future is done. Cancelling it ends its call, also one that
        is under way, so that the server stops computing. Closing the client ends those that are
        not done with ``lossd.client.CancelledError``. In a forked process a future of its
        parent is never done; new ones are as anywhere else.

        Args:
            message: The loss, or the metric or metrics, as for ``compute`` and ``evaluate``.
            *inputs: Inputs of a loss in the order that it declares.
            timeout: Seconds from now that the call may take, its wait for a turn and retries
                included; None for the client's.
            request_id: As for ``compute``.
            **rest: The other arguments of ``compute`` or ``evaluate``.

        Returns:
            The future of what ``compute`` or ``evaluate`` returns; its ``result`` raises what they
            raise.

        Raises:
            InvalidRequestError: if the timeout or the id breaks its rule, or the client is closed.
            UnavailableError: if the system begins no thread for it.
        """
        client: Any = self
        call = client._begin(timeout, request_id)  # noqa: SLF001 - its own
        method = client.evaluate if _is_evaluated(message) else client.compute

        def work() -> Any:
            with call:
                kinds.check_name(message)
                left = call.left()
                if not left:
                    raise DeadlineExceededError(
                        "call must begin within its timeout, got none of it left in the queue"
                    )
            return method(message, *inputs, timeout=left, request_id=call.request_id, **rest)

        submission: Submission[Any] = Submission()
        background: Background = client._background()  # noqa: SLF001
        background.start(submission, cautions.for_caller(work), call.deadline)
        return submission


def _is_evaluated(message: object) -> bool:
    """Returns whether it is a metric or several; what is neither is left to ``compute``."""
    if isinstance(message, str):
        return message in v1.MetricSpec.DESCRIPTOR.fields_by_name
    return isinstance(message, list | tuple) or kinds.wrapped(v1.MetricSpec, message) is not None


def _cancel_apart(submission: Submission[Any]) -> None:
    """Cancels in a thread of its own: gRPC's steps are no place for a signal, and may be stuck."""
    with contextlib.suppress(RuntimeError):  # no thread begins: the call ends with its time
        threading.Thread(target=submission.cancel, daemon=True).start()
