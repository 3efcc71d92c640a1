"""Turns evaluation requests into metrics and batches, and scores into replies."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd import tensors, v1
from lossd.engine import Hold, hold_nothing
from lossd.errors import (
    InvalidParameter,
    InvalidRequest,
    InvalidTensor,
    TooLarge,
    UnknownMetric,
)
from lossd.evaluation import METRICS, InputError, Metric, MetricBatch, Score, Sequences, State
from lossd.framing import Payloads
from lossd.losses import ParameterError
from lossd.naming import guess
from lossd.serving.rpc.messages import check_count
from lossd.serving.wire.parameters import read_parameters
from lossd.serving.wire.reader import RequestReader

MAX_METRICS = 32
MAX_SEQUENCES = 1 << 20
_SEQUENCE_BYTES = 256  # a view and two tuples
NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Requested:
    """A requested metric with all its parameters; ``path`` is its field in the request."""

    metric: Metric
    parameters: Mapping[str, Any]
    spec: v1.MetricSpec
    path: str

    def score(self, state: State, checkpoint: Callable[[], None], hold: Hold) -> Score:
        """Returns the number that a state stands for; ``hold`` is told first what it takes.

        Raises:
            Overloaded: if there is no room.
        """
        hold(self.metric.scoring(state, self.parameters))
        return self.metric.score(state, self.parameters, checkpoint)

    def is_same_as(self, other: "Requested") -> bool:
        """Returns whether both give the same number for the same data."""
        return self.metric is other.metric and self.parameters == other.parameters

    def observe(self, batch: MetricBatch, hold: Hold = hold_nothing) -> State:
        """Returns the state of one batch; ``hold`` is told first what it takes.

        Raises:
            InvalidRequest: if the caller broke a rule.
            Overloaded: if there is no room.
        """
        hold(self.metric.observing(batch, self.parameters))
        with _told(self.path):
            return self.metric.observe(batch, self.parameters)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Translates errors of the evaluation into those of the error tree."""
    try:
        yield
    except ParameterError as error:
        raise InvalidParameter(str(error), field=f"{path}.{error.parameter}") from error
    except InputError as error:
        raise InvalidTensor(
            str(error), field=f"batch.{error.field}", details=error.details
        ) from error


def kinds(specs: Sequence[v1.MetricSpec]) -> list[str]:
    """Returns the names of the metrics of a request, up to the number it may have."""
    return [spec.WhichOneof("kind") or "" for spec in specs[:MAX_METRICS]]


def requested(
    specs: Sequence[v1.MetricSpec], defaults: Mapping[str, Any] = NO_PARAMETERS
) -> list[Requested]:
    """Reads the metrics of a request.

    ``defaults`` are parameters for metrics that have them and where they are not set.

    Raises:
        UnknownMetric: if one is not served.
        InvalidRequest: if there is none, a parameter breaks its rule, or two are equal.
    """
    check_count("metrics", len(specs), MAX_METRICS)
    if not specs:
        raise InvalidRequest("metrics must be at least one, got none", field="metrics")
    found: list[Requested] = []
    for position, spec in enumerate(specs):
        one = read_spec(spec, f"metrics[{position}]", defaults)
        if any(one.is_same_as(other) for other in found):
            raise InvalidRequest(
                f"metrics must be different, got {one.metric.message} twice",
                field=f"metrics[{position}]",
            )
        found.append(one)
    return found


def read_spec(
    spec: v1.MetricSpec, path: str, defaults: Mapping[str, Any] = NO_PARAMETERS
) -> Requested:
    """Reads one metric; ``defaults`` as for ``requested``.

    Raises:
        UnknownMetric: if it is not served.
        InvalidParameter: if a parameter breaks its rule.
    """
    name = spec.WhichOneof("kind")
    if name is None or name not in METRICS:
        raise UnknownMetric(
            f"metric must be one of {', '.join(METRICS)}, got {name or 'none that is known here'}",
            field=path,
        )
    metric = METRICS[name]
    path = f"{path}.{name}"
    taken = {p.name: defaults[p.name] for p in metric.all_parameters if p.name in defaults}
    with _told(path):
        parameters = metric.complete(taken | read_parameters(metric, getattr(spec, name), path))
    return Requested(metric, parameters, spec, path)


def batch(
    message: v1.EvaluationBatch,
    metrics: Sequence[Requested],
    checkpoint: Callable[[], None],
    read: RequestReader,
) -> MetricBatch:
    """Reads a batch.

    Raises:
        InvalidRequest: if a tensor is malformed, or no metric takes it.
        TooLarge: if there are too many of something.
    """
    try:
        return MetricBatch(
            inputs=_inputs(message, metrics, read),
            sequences=_sequences(message, metrics, read),
            weights=read.optional(message, "weights"),
            mask=read.optional(message, "mask"),
            checkpoint=checkpoint,
        )
    except (InvalidRequest, TooLarge) as error:
        error.below("batch")
        raise


def sequence_bytes(message: v1.EvaluationBatch) -> int:
    """Returns the bytes of sequences one by one, besides their texts and tokens."""
    count = 0
    for named in message.sequences[:MAX_METRICS]:
        sizes = (named.lengths, named.counts)
        count += len(named.texts) + sum(max(0, each.shape[0]) for each in sizes if each.shape)
    return _SEQUENCE_BYTES * min(count, 4 * MAX_SEQUENCES)


def _check_names(given: Iterable[str], metrics: Sequence[Requested], *, texts: bool) -> None:
    """Refuses what no metric takes, and what belongs to the other field of a batch."""
    taken = {i.name: i.is_text for one in metrics for i in one.metric.inputs}
    fields = ("inputs", "sequences")
    field = fields[texts]
    for position, name in enumerate(given):
        path = f"{field}[{position}].name"
        if name not in taken:
            hint = guess(name[:64], taken, ("weights", "mask", "states"))
            raise InvalidTensor(
                f"inputs must be among {', '.join(taken)}, got {name[:64]!r}{hint}", field=path
            )
        if taken[name] is not texts:
            raise InvalidTensor(
                f"{name} must be among {fields[not texts]}, got it among {field}", field=path
            )


def _inputs(
    message: v1.EvaluationBatch, metrics: Sequence[Requested], read: RequestReader
) -> dict[str, tensors.Array]:
    several = read.inputs(message.inputs)
    _check_names(several, metrics, texts=False)
    for name, arrays in several.items():
        if len(arrays) != 1:
            raise InvalidTensor(
                f"{name} must be given as one tensor, got {len(arrays)}", field="inputs"
            )
    return {name: arrays[0] for name, arrays in several.items()}


def _sequences(
    message: v1.EvaluationBatch, metrics: Sequence[Requested], read: RequestReader
) -> dict[str, Sequences]:
    check_count("sequences", len(message.sequences), read.limits.tensors)
    found: dict[str, Sequences] = {}
    for position, named in enumerate(message.sequences):
        if named.name in found:
            raise InvalidTensor(
                f"sequences must each be given once, got {named.name[:64]!r} twice",
                field=f"sequences[{position}].name",
            )
        found[named.name] = _grouped(named, f"sequences[{position}]", read)
    _check_names(found, metrics, texts=True)
    return found


def _grouped(named: v1.NamedSequences, path: str, read: RequestReader) -> Sequences:
    are_texts = not named.HasField("tokens")
    check_count("texts", len(named.texts), MAX_SEQUENCES, f"{path}.texts")
    if are_texts and named.HasField("lengths"):
        raise InvalidTensor("lengths must go with tokens, got none", field=f"{path}.lengths")
    each: Sequence[Any] = _texts(named) if are_texts else _tokens(named, path, read)
    if not named.HasField("counts"):
        return Sequences(tuple((one,) for one in each), are_texts)
    counts = _sizes(named, "counts", len(each), path, read)
    return Sequences(tuple(tuple(part) for part in _parts(each, counts)), are_texts)


def _texts(named: v1.NamedSequences) -> tuple[str, ...]:
    """Decodes one by one: all at once would keep the interpreter until the last is done."""
    return tuple(text for text in named.texts)


def _tokens(named: v1.NamedSequences, path: str, read: RequestReader) -> list[tensors.Array]:
    """Returns the tokens of each sequence, where they lie: a number of Python's takes 40 bytes."""
    if len(named.texts):
        raise InvalidTensor("tokens must be unset beside texts, got both", field=f"{path}.tokens")
    tokens = read.tensor(named.tokens, "tokens", f"{path}.tokens")
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InvalidTensor(
            f"tokens must be integers on one axis, got {tokens.dtype.name} of {tokens.ndim}",
            field=f"{path}.tokens",
        )
    lengths = _sizes(named, "lengths", len(tokens), path, read)
    return list(_parts(tokens, lengths))


def _sizes(
    named: v1.NamedSequences, name: str, total: int, path: str, read: RequestReader
) -> list[int]:
    """Returns the sizes of the parts that make up a whole."""
    sizes = read.tensor(getattr(named, name), name, f"{path}.{name}")
    if sizes.ndim != 1 or sizes.dtype != np.int64:
        raise InvalidTensor(
            f"{name} must be int64 on one axis, got {sizes.dtype.name} of {sizes.ndim}",
            field=f"{path}.{name}",
        )
    check_count(name, len(sizes), MAX_SEQUENCES, f"{path}.{name}")
    found: list[int] = sizes.tolist()
    if min(found, default=0) < 0 or sum(found) != total:
        raise InvalidTensor(
            f"{name} must be at least 0 and add up to {total}, got {min(found, default=0)} at "
            f"least and {sum(found)} in all",
            field=f"{path}.{name}",
        )
    return found


def _parts(whole: Any, sizes: Sequence[int]) -> Iterator[Any]:
    start = 0
    for size in sizes:
        yield whole[start : start + size]
        start += size


def result(
    one: Requested, state: State, score: Score, payloads: Payloads | None = None
) -> v1.MetricResult:
    """Writes the result of one metric; its tensors go into ``payloads`` as those of its message."""
    reply = v1.MetricResult(
        metric=one.metric.name,
        value=score.value,
        reason=score.reason,
        example_count=state.example_count,
        ignored_count=state.ignored_count,
        signature=score.signature,
    )
    if score.reason:
        reply.status = v1.STATUS_NONFINITE if score.is_nonfinite else v1.STATUS_UNDEFINED
    if score.values is not None:
        tensors.fill(reply.values, np.asarray(score.values, np.float64), payloads)
    for name, output in score.outputs.items():
        array = np.asarray(output, np.float64)
        tensors.fill(reply.outputs.add(name=name).tensors.add(), array, payloads)
    return reply
