"""Results of calls, as plain Python and NumPy.

``responses.read_response`` makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from lossd.client import shown
from lossd.client.arrays import Array

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Under the reduction "none" it is None. A bare ``LossResult`` has a number.
    Loss_co = TypeVar("Loss_co", bound=float | None, default=float, covariant=True)
else:
    from typing import TypeVar

    Loss_co = TypeVar("Loss_co", covariant=True)

# An array, or a list of them; or an array, or None. Any, because otherwise everyone who reads the
# usual array would have to tell the type checker that it is no list, or there.
Arrays = Array | Any
MaybeArray = Array | Any


@dataclass(frozen=True, slots=True)
class ServerTiming:
    """Where the time went on the server, in seconds.

    Attributes:
        receive: Waiting for the bytes of the request.
        decode: Parsing the request and checking it.
        queue: Waiting for a turn.
        compute: Computing.
        evaluate: Computing the metrics that were asked for along with a loss.
    """

    receive: float
    decode: float
    queue: float
    compute: float
    evaluate: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MetricResult(shown.Shown):
    """The result of one evaluation metric.

    The arrays are read-only views of the received bytes. Results are compared by identity.

    Attributes:
        metric: Its name, for example "roc_auc".
        value: The number; None where it is not defined, or where there are ``values`` only.
        values: The number of each class, label, output or hypothesis, where there are such; NaN
            where it is not defined, and for a hypothesis that is masked.
        status: "UNDEFINED" or "NONFINITE"; None for an ordinary result.
        reason: Why the status is set, for example "targets hold no negative".
        outputs: Auxiliary outputs of the metric, by name, as float64 arrays.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were masked or carry the ignore index.
        signature: sacrebleu's signature of a text score, which tells its parameters.
    """

    metric: str
    value: float | None
    values: "MaybeArray"
    status: str | None
    reason: str
    outputs: "Mapping[str, Arrays]"
    example_count: int
    ignored_count: int
    signature: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TermResult(shown.Shown):
    """The result of one term of a sum of losses, before its weight is applied.

    The arrays are as those of the result that it is part of. Results are compared by identity.

    Attributes:
        loss: The aggregate.
        loss_sum: Numerator of the requested reduction.
        weight_sum: Sum over the kept examples of weight times the loss's own denominator.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were masked or carry the ignore index.
        nonfinite_count: Number of kept examples whose loss or gradient is not finite.
        status: The status of the whole; None for an ordinary result.
        gradient_norm: Euclidean length of its gradient with respect to all inputs together whose
            gradients were asked for.
        outputs: Auxiliary outputs that the parameters of the term's loss ask for, by name.
    """

    loss: float
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    status: str | None
    gradient_norm: float
    outputs: "Mapping[str, Arrays]"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LossResult(shown.Shown, Generic[Loss_co]):
    """The result of one batch.

    The arrays are read-only, most of them views of the received bytes or of memory shared with the
    server, which is used again when they are gone; copy one to write to it.
    Results are compared by identity, since comparing arrays gives an array.

    Attributes:
        loss: The aggregate; None under the reduction "none".
        per_example: The loss of each example, shaped like the examples: float64 where an input is,
            or where weights or priors of classes are so large or small that it is computed in it,
            float32 otherwise. Sample weights are not applied; an ignored example has 0. None if it
            was not asked for, and for losses of a set.
        gradients: The gradients of the reduced loss by input, each with the shape and type of its
            input; a list of arrays where the input is a list of several. With respect to a
            parameter it is one float64, without an axis.
        loss_sum: Numerator of the requested reduction; for losses of a set the loss itself.
        weight_sum: Sum over the kept examples of weight times the loss's own denominator.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were masked, carry the ignore index or are skipped by
            the loss.
        nonfinite_count: Number of kept examples whose loss or returned gradient is not finite.
        statuses: The statuses of examples that have one, by flat index, for example
            ``{3: "NONFINITE"}``.
        status: The status of the whole; None for an ordinary result.
        outputs: Auxiliary outputs that the loss's parameters ask for, by name, each shaped like the
            examples; an example that is ignored or of weight 0 has 0, or -1 in outputs that are
            indices of examples. Those of a ``WeightedSum`` are in its ``terms``.
        metrics: The results of the metrics that were asked for, in that order; empty without any.
        terms: The result of each term of a ``WeightedSum``, in their order; empty for other losses.
            The counts and the sum of weights of a sum are those that all terms agree on, 0 where
            they differ.
        backend: The backend that computed: "numpy" or "cupy".
        transport: How the tensors travelled: "grpc", "shared_memory" or "device_memory".
        server_timing: Where the time went on the server.
    """

    loss: Loss_co
    per_example: "MaybeArray"
    gradients: "Mapping[str, Arrays]"
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    statuses: Mapping[int, str]
    status: str | None
    outputs: "Mapping[str, Arrays]"
    metrics: Sequence[MetricResult]
    terms: Sequence[TermResult]
    backend: str
    transport: str
    server_timing: ServerTiming
