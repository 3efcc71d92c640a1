"""``AsyncLossClient``: the client that awaits its answers.

``requests`` makes its requests, ``responses`` reads the answers; ``aio_connection`` and
``options`` connect it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from lossd import v1
from lossd.client import arguments, hints, readiness
from lossd.client import metrics as metrics_wire
from lossd.client.aio_connection import AsyncConnection
from lossd.client.arrays import Array
from lossd.client.asked import asked_of
from lossd.client.call import (
    EVALUATE,
    GET_SERVER_INFO,
    LIST_LOSSES,
    LIST_METRICS,
    Answer,
    ClientCall,
    Method,
)
from lossd.client.connections import Connections
from lossd.client.delivery import computed_async, recalled_async
from lossd.client.empties import unfilled
from lossd.client.evaluation import AsyncEvaluation
from lossd.client.headers import Headers
from lossd.client.input_names import InputNames
from lossd.client.requests import known_request, request_for
from lossd.client.responses import as_given, read_input_names
from lossd.client.result import LossResult, MetricResult
from lossd.client.security import TLS, Security, Token
from lossd.client.target import Target  # noqa: TC001 - a type hint that may be asked for
from lossd.framing import Framed


class AsyncLossClient:
    """Computes losses on a lossd server, for asyncio.

        async with AsyncLossClient("localhost:50051") as client:
            result = await client.compute(Huber(), predictions=predictions, targets=targets)

    Its methods, results and errors are those of ``LossClient``. It may be shared by tasks. It
    connects at first use, and belongs to the event loop of that moment; deep copies and pickled
    copies connect anew. Cancelling a task cancels its call, so that the server stops computing.
    Memory is shared with a server on this host as by ``LossClient``; arrays are copied there in
    threads of the client's own, so that those of the loop (``asyncio.to_thread``) may be taken.
    Without shared memory, arrays are copied into requests and out of replies in the event loop:
    64 MiB each way kept it busy for 0.5 s on a slow machine.

    Args:
        target: As for ``LossClient``.
        channel: A channel of ``grpc.aio`` to use instead of the target. It stays open when the
            client is closed.
        timeout: Seconds that a call may take, retries included, unless the call has its own
            timeout.
        tls: As for ``LossClient``.
        token: As for ``LossClient``; a function is called in the event loop.
        tracing: As for ``LossClient``.

    Raises:
        InvalidRequestError: if the target is none, the timeout is not in (0, inf), a file of
            ``tls`` or ``token`` cannot be read, or ``tracing`` lacks OpenTelemetry.
    """

    def __init__(
        self,
        target: "Target" = "localhost:50051",
        *,
        channel: grpc.aio.Channel | None = None,
        timeout: float = 30.0,
        tls: TLS | bool = False,
        token: Token | None = None,
        tracing: Any = False,
    ) -> None:
        security = Security.checked(tls, token, channel)
        self._connections = Connections(AsyncConnection, target, channel, security, tracing)
        self._timeout = arguments.checked_timeout(timeout)
        self._input_names = InputNames()
        self._headers = Headers()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connections}, timeout={self._timeout:g})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way raise ``CancelledError``. May be repeated."""
        await self._connection().close()

    @overload
    async def compute(
        self,
        loss: hints.NamedLoss,
        *inputs: Any,
        reduction: hints.Aggregate = "mean",
        **rest: Unpack[hints.ComputeArguments],
    ) -> LossResult: ...

    @overload
    async def compute(
        self,
        loss: hints.NamedLoss,
        *inputs: Any,
        reduction: Literal["none"],
        **rest: Unpack[hints.ComputeArguments],
    ) -> LossResult[None]: ...

    @overload
    async def compute(
        self, loss: hints.Combined, *inputs: Any, reduction: hints.Aggregate = "mean", **rest: Any
    ) -> LossResult: ...

    @overload
    async def compute(
        self, loss: hints.Combined, *inputs: Any, reduction: Literal["none"], **rest: Any
    ) -> LossResult[None]: ...

    async def compute(
        self,
        loss: "hints.AnyLoss",
        *inputs: Any,
        weights: Any = None,
        mask: Any = None,
        reduction: "hints.Reduction" = "mean",
        gradients: "Iterable[str] | v1.GradientSelection | None" = None,
        per_example: bool = True,
        cotangent: Any = None,
        normalizer: float | None = None,
        empty: "hints.EmptyPolicy" = "zero",
        nonfinite: "hints.NonfinitePolicy" = "propagate",
        metrics: "Sequence[hints.AnyMetric]" = (),
        lint: bool = False,
        timeout: float | None = None,
        request_id: str | None = None,
        **named_inputs: Any,
    ) -> LossResult[Any]:
        """Computes what ``LossClient.compute`` does, from the same arguments.

        Raises:
            LossdError: as ``LossClient.compute``.
            asyncio.CancelledError: if the task is cancelled meanwhile.
        """
        with self._begin(timeout, request_id) as call:
            names = None
            if inputs:
                names = await self._names(loss, call, len(inputs), named_inputs)
                named_inputs = arguments.bind(names, inputs, named_inputs)
            asked = asked_of(
                weights=weights, mask=mask, reduction=reduction, gradients=gradients,
                per_example=per_example, cotangent=cotangent, normalizer=normalizer, empty=empty,
                nonfinite=nonfinite, metrics=metrics, lint=lint,
            )  # fmt: skip
            connection = self._connection()
            known = known_request(self._headers, loss, named_inputs, **asked)
            if known is not None:
                return await recalled_async(connection, known, call)
            if names is None and self._input_names.of_single(loss) is not None:
                names = await self._names(loss, call, 0, named_inputs)
            build = functools.partial(
                request_for, self._headers, loss, named_inputs, names=names, **asked
            )
            found = await computed_async(connection, build, named_inputs.values(), call)
            return as_given(found, named_inputs)

    async def input_names(
        self, loss: "hints.AnyLoss", *, again: bool = False, timeout: float | None = None
    ) -> tuple[str, ...]:
        """Returns the names of a loss's inputs, as ``LossClient.input_names`` does.

        Raises:
            InvalidRequestError: if it is no loss, or the client was closed, or is used in another
                event loop.
            LossdError: if the server does not answer.
        """
        with self._begin(timeout, None) as call:
            self._connection().bind()
            if arguments.flag("again", again):
                self._input_names = InputNames()
            return await self._names(loss, call)

    async def empty(
        self, shape: int | tuple[int, ...], dtype: "npt.DTypeLike" = np.float32
    ) -> Array:
        """Returns an array that ``compute`` need not copy, as ``LossClient.empty``.

        Raises:
            InvalidRequestError: as ``LossClient``, or if it is used in another event loop.
        """
        connection = self._connection()
        make = connection.sharing.empty
        made: Array = await connection.shared(unfilled(shape, dtype), make, self._timeout)
        return made

    async def device_empty(
        self,
        shape: int | tuple[int, ...],
        dtype: "npt.DTypeLike" = np.float32,
        *,
        device: int | None = None,
    ) -> Any:
        """Returns an array in memory of the GPU, as ``LossClient.device_empty``.

        Without a ``device`` it is on the first one, since it is made in another thread.

        Raises:
            InvalidRequestError: as ``LossClient``, or if it is used in another event loop.
        """
        connection = self._connection()
        make = functools.partial(connection.sharing.device_empty, device=device)
        return await connection.shared(unfilled(shape, dtype), make, self._timeout)

    @overload
    async def evaluate(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self, metrics: hints.AnyMetric, **rest: Unpack[hints.EvaluateArguments]
    ) -> MetricResult: ...

    @overload
    async def evaluate(
        self, metrics: Sequence[hints.AnyMetric], **rest: Unpack[hints.EvaluateArguments]
    ) -> list[MetricResult]: ...

    async def evaluate(
        self,
        metrics: "hints.AnyMetric | Sequence[hints.AnyMetric]",
        *,
        weights: Any = None,
        mask: Any = None,
        states: Iterable[bytes] = (),
        timeout: float | None = None,
        request_id: str | None = None,
        **inputs: Any,
    ) -> MetricResult | list[MetricResult]:
        """Evaluates what ``LossClient.evaluate`` does, from the same arguments.

        Raises:
            LossdError: as ``LossClient.evaluate``.
            asyncio.CancelledError: if the task is cancelled meanwhile.
        """
        with self._begin(timeout, request_id) as call:
            request = metrics_wire.evaluate_request(
                metrics, inputs, weights=weights, mask=mask, states=states
            )
            results = metrics_wire.read_results(await self._ask(EVALUATE, request, call))
            return results if isinstance(metrics, list | tuple) else results[0]

    @overload
    def evaluation(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self, metric: hints.AnyMetric, /, **rest: Unpack[hints.EvaluationArguments]
    ) -> AsyncEvaluation[MetricResult]: ...

    @overload
    def evaluation(
        self,
        metric: hints.AnyMetric,
        another: hints.AnyMetric,
        /,
        *metrics: hints.AnyMetric,
        **rest: Unpack[hints.EvaluationArguments],
    ) -> AsyncEvaluation[list[MetricResult]]: ...

    @overload
    def evaluation(
        self, metrics: Sequence[hints.AnyMetric], /, **rest: Unpack[hints.EvaluationArguments]
    ) -> AsyncEvaluation[list[MetricResult]]: ...

    def evaluation(
        self,
        *metrics: "hints.AnyMetric | Sequence[hints.AnyMetric]",
        return_state: bool = False,
        timeout: float = 300.0,
        request_id: str | None = None,
        progress: bool | int = False,
    ) -> AsyncEvaluation[Any]:
        """Evaluates metrics over many batches, as ``LossClient.evaluation``.

            async with client.evaluation(RocAuc(), Accuracy()) as run:
                await run.update(predictions=predictions, targets=targets)
                auc, accuracy = await run.result()

        Raises:
            InvalidRequestError: if one is no metric, or none is given.
        """
        call = self._begin(timeout, request_id)
        with call:
            self._connection().check_open()
            first, is_one = metrics_wire.opening(metrics, return_state=return_state)
        return AsyncEvaluation(self._connection(), call, first, is_one=is_one, progress=progress)

    async def list_losses(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.ListLossesResponse:
        """Returns the losses that the server knows, with their inputs and parameters.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return (await self._ask(LIST_LOSSES, v1.ListLossesRequest(), call)).message

    async def list_metrics(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.ListMetricsResponse:
        """Returns the metrics that the server knows, with their inputs and parameters.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return (await self._ask(LIST_METRICS, v1.ListMetricsRequest(), call)).message

    async def server_info(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.GetServerInfoResponse:
        """Returns the server's versions, backends and limits.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return (await self._ask(GET_SERVER_INFO, v1.GetServerInfoRequest(), call)).message

    async def wait_until_ready(self, timeout: float | None = None) -> None:
        """Returns as soon as a server that calls itself healthy is connected.

        Args:
            timeout: Seconds to wait at most; None for the client's.

        Raises:
            DeadlineExceededError: if no server is ready in time.
            UnavailableError: if a function that is to tell the target fails until then.
            CancelledError: if the client is closed meanwhile.
        """
        seconds = arguments.checked_timeout(self._timeout if timeout is None else timeout)
        await readiness.wait_async(self._connection(), seconds)

    def _connection(self) -> AsyncConnection:
        return self._connections.here()

    def _begin(self, timeout: float | None, request_id: str | None) -> ClientCall:
        seconds = self._timeout if timeout is None else timeout
        return ClientCall.begin(seconds, request_id, self._connection().ids)

    async def _ask(
        self, method: Method[Answer], request: Message, call: ClientCall
    ) -> Framed[Answer]:
        """Returns the answer of a method whose requests have no bulk data."""
        return await self._connection().call(method, Framed(request), call)

    async def _names(
        self,
        loss: object,
        call: ClientCall,
        count: int = 0,
        named: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Returns the inputs of a loss in order; concurrent tasks may each ask the server."""
        names = self._input_names
        found = names.find(loss, count, named)
        if found is not None:
            return found
        response = await self._ask(LIST_LOSSES, v1.ListLossesRequest(), call)
        return names.learned(loss, read_input_names(response.message))
