"""``LossClient``: the client that waits for its answers.

``requests`` makes its requests, ``responses`` reads the answers; ``connection`` and ``options``
connect it.
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
from lossd.client.connection import Connection
from lossd.client.connections import Connections
from lossd.client.delivery import computed, recalled
from lossd.client.empties import unfilled
from lossd.client.evaluation import Evaluation
from lossd.client.headers import Headers
from lossd.client.input_names import InputNames
from lossd.client.requests import known_request, request_for
from lossd.client.responses import as_given, read_input_names
from lossd.client.result import LossResult, MetricResult
from lossd.client.security import TLS, Security, Token
from lossd.client.submitting import Background, Submitting
from lossd.client.target import Target  # noqa: TC001 - a type hint that may be asked for
from lossd.framing import Framed


class LossClient(Submitting):
    """Computes losses on a lossd server.

        with LossClient("localhost:50051") as client:
            result = client.compute(Huber(delta=2), predictions=predictions, targets=targets)

    It may be shared by threads. It connects at first use, and again in a forked process, where
    results and arrays of ``empty`` stay valid. Deep copies and pickled copies connect anew. Where
    the server is on this host and offers it, large tensors are shared in memory instead of sent;
    ``result.transport`` says which. Calls that found no server, one that ended meanwhile, or a busy
    one that said when to try again, are repeated until their timeout; each retry is logged as INFO
    by ``lossd.client``, and as WARNING, once a minute, that one waits for a connection.

    Args:
        target: ``"host:port"``, ``"unix:/path/to/socket"``, ``"dns:///name:port"`` for all
            addresses of a name, or any other target of gRPC; or a function that returns it and is
            asked again every five seconds, so that servers that come and go are found.
        channel: A channel to use instead of the target, for example one of a service mesh.
            It stays open when the client is closed, and is not made anew in a forked process.
        timeout: Seconds that a call may take, retries included, unless the call has its own
            timeout.
        tls: How the connection is secured: a ``TLS`` with the paths of certificates, True for a
            server whose certificate is of a public authority, False for plain text.
        token: What proves who calls: a bearer token, the ``Path`` of a file that holds it and may
            change, or a function that returns it, which is asked for each call. A pickled client
            has it in itself; ``repr`` never shows it.
        tracing: Whether calls are spans of OpenTelemetry (``pip install '.[otel]'``), which the
            server's are children of: True for the program's own tracer provider, or a
            ``TracerProvider``.

    Raises:
        InvalidRequestError: if the target is none, the timeout is not in (0, inf), a file of
            ``tls`` or ``token`` cannot be read, or ``tracing`` lacks OpenTelemetry.
    """

    def __init__(
        self,
        target: "Target" = "localhost:50051",
        *,
        channel: grpc.Channel | None = None,
        timeout: float = 30.0,
        tls: TLS | bool = False,
        token: Token | None = None,
        tracing: Any = False,
    ) -> None:
        security = Security.checked(tls, token, channel)
        self._connections = Connections(Connection, target, channel, security, tracing)
        self._timeout = arguments.checked_timeout(timeout)
        self._input_names = InputNames()
        self._headers = Headers()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connections}, timeout={self._timeout:g})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way raise ``CancelledError``. May be repeated."""
        self._connection().close()

    @overload
    def compute(
        self,
        loss: hints.NamedLoss,
        *inputs: Any,
        reduction: hints.Aggregate = "mean",
        **rest: Unpack[hints.ComputeArguments],
    ) -> LossResult: ...

    @overload
    def compute(
        self,
        loss: hints.NamedLoss,
        *inputs: Any,
        reduction: Literal["none"],
        **rest: Unpack[hints.ComputeArguments],
    ) -> LossResult[None]: ...

    @overload
    def compute(
        self, loss: hints.Combined, *inputs: Any, reduction: hints.Aggregate = "mean", **rest: Any
    ) -> LossResult: ...

    @overload
    def compute(
        self, loss: hints.Combined, *inputs: Any, reduction: Literal["none"], **rest: Any
    ) -> LossResult[None]: ...

    def compute(
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
        """Computes the loss of one batch, the loss of each example, and the gradients.

        Inputs are array-likes: arrays, nested lists, tensors, on the CPU or on a GPU whose memory
        the server shares. They keep their type: lists of Python floats are float64. A list or tuple
        of arrays, each with an axis or more, is an input of several tensors, for losses that take
        several. None stands for an input that is not given. Inputs are never written to.

        Args:
            loss: The loss with its parameters, for example ``CrossEntropy(label_smoothing=0.1)``;
                or the name of one with its defaults, "cross_entropy".
            *inputs: Inputs in the order that the loss declares; the server is asked for the order
                once, and once more before an input is refused that the loss did not have.
            weights: One weight for each example, of any type, each in [0, inf); shaped like the
                examples.
            mask: Booleans, shaped like the examples: True keeps an example, False ignores it.
            reduction: How the losses become one number: "mean" (divided by the sum of weights),
                "batch_mean" (by the number of kept examples), "sum", or "none" for no aggregate.
            gradients: Names of the inputs whose gradients to return; None for those that the loss
                declares as default, () for none. Names of parameters that the loss is
                differentiable in are taken too, for example "temperature"; in a sum
                "terms[0].temperature".
            per_example: Whether to return the loss of each example.
            cotangent: Upstream gradient, of any type: a single number, or one for each example.
                It scales the gradients, never the loss.
            normalizer: Divisor in place of the one that a mean would use, in (0, inf).
            empty: How to answer when no example is kept: "zero", "nan" or "error".
            nonfinite: How to handle examples whose loss or gradient is not finite: "propagate"
                them, "zero" them, or raise an "error".
            metrics: Evaluation metrics of the same batch, for example ``[Accuracy(), F1()]``: the
                tensors travel once. They take the predictions and targets of the loss, its
                weights and mask; examples with its ``ignore_index`` are ignored, classes lie on
                its ``class_axis``, and a metric whose task or ``prediction_kind`` is not set takes
                the loss's. Otherwise the results are those of ``evaluate``. Not with a token mask
                or lengths, which leave out elements that metrics would count.
            lint: Whether to look for common mistakes in the batch, such as probabilities given as
                logits, and warn of them; it takes a pass over the inputs.
            timeout: Seconds that the call may take, retries included; None for the client's.
            request_id: The id of this request in the server's log and in raised errors, 1 to 128
                visible ASCII characters; retries share it. None for a fresh one.
            **named_inputs: Inputs by name.

        Returns:
            The result; its arrays are read-only.

        Raises:
            InvalidRequestError: for mistakes that the caller can fix; ``field`` names the argument.
            UnknownLossError: if the server does not know the loss.
            UnauthenticatedError: if the server does not know who calls.
            PermissionDeniedError: if it does, and whoever it is may not.
            OverloadedError: if the server has no room for the request.
            UnavailableError: if no server answers.
            DeadlineExceededError: if the answer does not come in time.
            CancelledError: if the client is closed meanwhile.
            ServerError: if the server fails.

        Warns:
            BatchWarning: if the classes may lie on axis 1 as well as on the last, or if rows look
                padded and their lengths are not given; under ``lint``, of more such mistakes.
        """
        with self._begin(timeout, request_id) as call:
            names = None
            if inputs:
                names = self._names(loss, call, len(inputs), named_inputs)
                named_inputs = arguments.bind(names, inputs, named_inputs)
            asked = asked_of(
                weights=weights, mask=mask, reduction=reduction, gradients=gradients,
                per_example=per_example, cotangent=cotangent, normalizer=normalizer, empty=empty,
                nonfinite=nonfinite, metrics=metrics, lint=lint,
            )  # fmt: skip
            connection = self._connection()
            known = known_request(self._headers, loss, named_inputs, **asked)
            if known is not None:
                return recalled(connection, known, call)
            if names is None and self._input_names.of_single(loss) is not None:
                names = self._names(loss, call, 0, named_inputs)
            build = functools.partial(
                request_for, self._headers, loss, named_inputs, names=names, **asked
            )
            return as_given(computed(connection, build, call), named_inputs)

    def input_names(
        self, loss: "hints.AnyLoss", *, again: bool = False, timeout: float | None = None
    ) -> tuple[str, ...]:
        """Returns the names of a loss's inputs, in the order in which ``compute`` takes them.

        The server is asked for them once.

        Args:
            loss: The loss, or its name.
            again: Whether to ask once more, since a newer server may take more of them.
            timeout: Seconds that the call may take, retries included; None for the client's.

        Raises:
            InvalidRequestError: if it is no loss, or the client was closed.
            LossdError: if the server does not answer.
        """
        with self._begin(timeout, None) as call:
            self._connection().check_open()
            if arguments.flag("again", again):
                self._input_names = InputNames()
            return self._names(loss, call)

    def empty(self, shape: int | tuple[int, ...], dtype: "npt.DTypeLike" = np.float32) -> Array:
        """Returns an array, not filled, that ``compute`` need not copy to share it with the server.

        It behaves like any other array; keep it and fill it again for each batch. It waits for a
        server that is about to start, or busy, as long as a call does. Where no memory is shared,
        or no server comes, it is an ordinary array.

        Args:
            shape: Its shape.
            dtype: The type of its elements.

        Raises:
            InvalidRequestError: if the client was closed, or no array has the shape or the type.
        """
        connection = self._connection()
        make = connection.open_sharing().empty
        made: Array = connection.shared(unfilled(shape, dtype), make, self._timeout)
        return made

    def device_empty(
        self,
        shape: int | tuple[int, ...],
        dtype: "npt.DTypeLike" = np.float32,
        *,
        device: int | None = None,
    ) -> Any:
        """Returns an array, not filled, in memory of the GPU that the server shares.

        It is one of CuPy, which PyTorch and JAX take without a copy: ``to_torch`` makes a tensor of
        it. ``compute`` uses it where it lies, and returns the gradients with respect to it in the
        same memory. Keep it and fill it again for each batch. Where no device memory is shared it
        is an array as ``empty`` returns it, which ``to_torch`` takes too.

        Args:
            shape: Its shape.
            dtype: The type of its elements.
            device: The index of the GPU in this process; None for the one that is current.

        Raises:
            InvalidRequestError: if the client was closed, or no array has the shape or the type.
        """
        connection = self._connection()
        make = functools.partial(connection.open_sharing().device_empty, device=device)
        return connection.shared(unfilled(shape, dtype), make, self._timeout)

    @overload
    def evaluate(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self, metrics: hints.AnyMetric, **rest: Unpack[hints.EvaluateArguments]
    ) -> MetricResult: ...

    @overload
    def evaluate(
        self, metrics: Sequence[hints.AnyMetric], **rest: Unpack[hints.EvaluateArguments]
    ) -> list[MetricResult]: ...

    def evaluate(
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
        """Evaluates one metric or several on one batch: numbers without gradients.

        Args:
            metrics: A metric with its parameters, for example ``Accuracy(top_k=5)``, or its name,
                or a list of metrics over the same tensors.
            weights: One weight for each example, each in [0, inf).
            mask: Booleans, shaped like the examples: True keeps an example, False ignores it.
            states: States of evaluations of these metrics, to be merged into the result.
            timeout: Seconds that the call may take, retries included; None for the client's.
            request_id: As for ``compute``.
            **inputs: Inputs by name: predictions and targets; or hypotheses, a list of texts or of
                sequences of token ids, and references, a list of such lists.

        Returns:
            A ``MetricResult``, or a list of them for a list of metrics.

        Raises:
            UnknownMetricError: if the server does not know a metric.
            LossdError: otherwise as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            request = metrics_wire.evaluate_request(
                metrics, inputs, weights=weights, mask=mask, states=states
            )
            results = metrics_wire.read_results(self._ask(EVALUATE, request, call))
            return results if isinstance(metrics, list | tuple) else results[0]

    @overload
    def evaluation(  # type: ignore[overload-overlap]  # a text is no sequence of metrics
        self, metric: hints.AnyMetric, /, **rest: Unpack[hints.EvaluationArguments]
    ) -> Evaluation[MetricResult]: ...

    @overload
    def evaluation(
        self,
        metric: hints.AnyMetric,
        another: hints.AnyMetric,
        /,
        *metrics: hints.AnyMetric,
        **rest: Unpack[hints.EvaluationArguments],
    ) -> Evaluation[list[MetricResult]]: ...

    @overload
    def evaluation(
        self, metrics: Sequence[hints.AnyMetric], /, **rest: Unpack[hints.EvaluationArguments]
    ) -> Evaluation[list[MetricResult]]: ...

    def evaluation(
        self,
        *metrics: "hints.AnyMetric | Sequence[hints.AnyMetric]",
        return_state: bool = False,
        timeout: float = 300.0,
        request_id: str | None = None,
        progress: bool | int = False,
    ) -> Evaluation[Any]:
        """Evaluates metrics over many batches, which need not be in memory at once.

            with client.evaluation(RocAuc(), Accuracy()) as run:
                for predictions, targets in batches:
                    run.update(predictions=predictions, targets=targets)
                auc, accuracy = run.result()

        However the data is split, and over however many evaluations whose states are merged, the
        result is that of one call with all of it.

        Args:
            *metrics: Metrics over the same tensors, or a list of them.
            return_state: Whether ``state`` will be asked for.
            timeout: Seconds that all of it may take from when it is entered, the wait for a server
                with room for it included; the server has a limit of its own, 300 by default. For
                longer ones, run several evaluations and merge their states.
            request_id: As for ``compute``.
            progress: Whether to show on a terminal how many batches were sent; or how many will be.

        Raises:
            InvalidRequestError: if one is no metric, or none is given; if there is no ``rich`` for
                the progress.
        """
        call = self._begin(timeout, request_id)
        with call:
            self._connection().check_open()
            first, is_one = metrics_wire.opening(metrics, return_state=return_state)
        return Evaluation(self._connection(), call, first, is_one=is_one, progress=progress)

    def list_losses(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.ListLossesResponse:
        """Returns the losses that the server knows, with their inputs and parameters.

        Args:
            timeout: Seconds that the call may take; None for the client's.
            request_id: As for ``compute``.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return self._ask(LIST_LOSSES, v1.ListLossesRequest(), call).message

    def list_metrics(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.ListMetricsResponse:
        """Returns the metrics that the server knows, with their inputs and parameters.

        Args:
            timeout: Seconds that the call may take; None for the client's.
            request_id: As for ``compute``.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return self._ask(LIST_METRICS, v1.ListMetricsRequest(), call).message

    def server_info(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> v1.GetServerInfoResponse:
        """Returns the server's versions, backends and limits.

        Args:
            timeout: Seconds that the call may take; None for the client's.
            request_id: As for ``compute``.

        Raises:
            LossdError: as ``compute``.
        """
        with self._begin(timeout, request_id) as call:
            return self._ask(GET_SERVER_INFO, v1.GetServerInfoRequest(), call).message

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Returns as soon as a server that calls itself healthy is connected.

        Args:
            timeout: Seconds to wait at most; None for the client's.

        Raises:
            DeadlineExceededError: if no server is ready in time.
            UnavailableError: if a function that is to tell the target fails until then.
            CancelledError: if the client is closed meanwhile.
        """
        seconds = arguments.checked_timeout(self._timeout if timeout is None else timeout)
        readiness.wait(self._connection(), seconds)

    def _connection(self) -> Connection:
        return self._connections.here()

    def _background(self) -> Background:
        return self._connection().background

    def _begin(self, timeout: float | None, request_id: str | None) -> ClientCall:
        seconds = self._timeout if timeout is None else timeout
        return ClientCall.begin(seconds, request_id, self._connection().ids)

    def _ask(self, method: Method[Answer], request: Message, call: ClientCall) -> Framed[Answer]:
        """Returns the answer of a method whose requests have no bulk data."""
        return self._connection().call(method, Framed(request), call)

    def _names(
        self,
        loss: object,
        call: ClientCall,
        count: int = 0,
        named: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Returns the inputs of a loss in order; concurrent threads may each ask the server."""
        names = self._input_names
        found = names.find(loss, count, named)
        if found is not None:
            return found
        response = self._ask(LIST_LOSSES, v1.ListLossesRequest(), call)
        return names.learned(loss, read_input_names(response.message))
