"""Writes states as bytes, and reads those that come back from callers, which are not trusted.

Whatever the bytes are, reading them takes memory in proportion to their number, and computing from
what was read cannot fail.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossd import tensors, v1
from lossd.checkpoints import Checkpoint, never_stop
from lossd.engine import Hold, hold_nothing
from lossd.errors import InvalidRequest, UnknownField
from lossd.evaluation import (
    ClassificationTask,
    Metric,
    State,
    Tally,
    checked,
    from_signed_bytes,
    signed_bytes,
)
from lossd.serving.evaluation_service.codec import Requested, read_spec
from lossd.serving.rpc.messages import check_count, parse

VERSION = 2
_COPIES = 4  # of a state: its arrays, those that it is added to, and their sum
MAX_STATES = 1024
MAX_ENTRIES = 1 << 15  # in all states together
MAX_AXIS = {1: 1 << 20, 2: 1 << 12}  # for a tally, by its number of axes
MAX_COUNT = 1 << 50  # so that many states add up within 64 bits
MAX_WIDTH = 1 << 20
MAX_FRACTION_BYTES = 900

_TASKS = {
    v1.CLASSIFICATION_TASK_UNSPECIFIED: None,
    v1.CLASSIFICATION_TASK_BINARY: ClassificationTask.BINARY,
    v1.CLASSIFICATION_TASK_MULTICLASS: ClassificationTask.MULTICLASS,
    v1.CLASSIFICATION_TASK_MULTILABEL: ClassificationTask.MULTILABEL,
}
_NUMBERS = {task: number for number, task in _TASKS.items()}


def write(
    metrics: Sequence[Requested], states: Sequence[State], checkpoint: Checkpoint = never_stop
) -> bytes:
    """Returns the states of several metrics as bytes; ``checkpoint`` is called on the way."""
    message = v1.EvaluationState()
    for one, state in zip(metrics, states, strict=True):
        _fill(message.metrics.add(metric=one.spec), state, checkpoint)
    return message.SerializeToString()


def _fill(entry: v1.MetricState, state: State, checkpoint: Checkpoint) -> None:
    entry.version = VERSION
    entry.task = _NUMBERS[state.task]
    if state.width is not None:
        entry.width = state.width
    entry.example_count = state.example_count
    entry.ignored_count = state.ignored_count
    entry.silent_count = state.silent_count
    entry.nonfinite_count = state.nonfinite_count
    for name, tally in state.tallies.items():
        written = entry.tallies.add(name=name)
        tensors.fill(written.integers, tally.integers)
        indices = sorted(tally.fractions)
        tensors.fill(written.indices, np.array(indices, np.int64))
        written.fractions.extend(
            signed_bytes(tally.fractions[index]) for index in checked(indices, checkpoint)
        )
    for name, column in state.table().items():
        tensors.fill(entry.columns.add(name=name).tensors.add(), column)


def read(
    data: Sequence[bytes],
    metrics: Sequence[Requested],
    hold: Hold = hold_nothing,
    checkpoint: Checkpoint = never_stop,
) -> list[tuple[int, State]]:
    """Reads states of the metrics that were asked for.

    ``hold`` counts what they take, and ``checkpoint`` is called before each, and between some
    thousand exact sums: as many as may be take seconds.

    Returns:
        Each state with the position of its metric.

    Raises:
        InvalidRequest: if one is malformed, of another version, or of another metric.
        TooLarge: if there are too many.
    """
    check_count("states", len(data), MAX_STATES)
    found: list[tuple[int, State]] = []
    for position, encoded in enumerate(data):
        path = f"states[{position}]"
        message = _parsed(encoded, path, hold, checkpoint)
        check_count("states", len(found) + len(message.metrics), MAX_ENTRIES)
        hold(_COPIES * len(encoded))
        for entry in message.metrics:
            checkpoint()
            index = _index(entry, metrics, path)
            found.append((index, _state(entry, metrics[index].metric, path, checkpoint)))
    return found


def _parsed(encoded: bytes, path: str, hold: Hold, checkpoint: Checkpoint) -> v1.EvaluationState:
    try:
        return parse(v1.EvaluationState, encoded, hold, checkpoint)
    except UnknownField as error:
        raise _invalid(
            path, f"state must have fields that this server knows, got {error.field}"
        ) from error
    except InvalidRequest as error:
        raise _invalid(
            path, f"state must be one that a server made, got {len(encoded)} bytes that are none"
        ) from error


def _index(entry: v1.MetricState, metrics: Sequence[Requested], path: str) -> int:
    if entry.version != VERSION:
        raise _invalid(path, f"state must have version {VERSION}, got {entry.version}")
    given = read_spec(entry.metric, path)
    for index, one in enumerate(metrics):
        if one.is_same_as(given):
            return index
    raise _invalid(
        path,
        "state must be of a metric that is asked for, with its parameters, "
        f"got {given.metric.message}",
    )


def _invalid(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, field=path, reason="INVALID_STATE")


def _state(entry: v1.MetricState, metric: Metric, path: str, checkpoint: Checkpoint) -> State:
    try:
        state = State(
            task=_task(entry),
            width=_width(entry),
            tallies=_tallies(entry, metric, checkpoint),
            tables=_tables(entry, metric),
            **_counts(entry),
        )
    except (tensors.TensorError, ValueError) as error:
        raise _invalid(
            path, f"state must be one that a server made, got one where {error}"
        ) from error
    wrong = metric.check(state)
    if wrong:
        raise _invalid(path, f"state must be one that a server made, got one where {wrong}")
    return state


def _task(entry: v1.MetricState) -> ClassificationTask | None:
    if entry.task not in _TASKS:
        raise ValueError(f"task must be in [0, {max(_TASKS)}], got {entry.task}")
    return _TASKS[entry.task]


def _width(entry: v1.MetricState) -> int | None:
    if not entry.HasField("width"):
        return None
    if not 0 < entry.width <= MAX_WIDTH:
        raise ValueError(f"width must be in [1, {MAX_WIDTH}], got {entry.width}")
    return entry.width


def _counts(entry: v1.MetricState) -> dict[str, int]:
    names = ("example_count", "ignored_count", "silent_count", "nonfinite_count")
    counts = {name: getattr(entry, name) for name in names}
    for name, count in counts.items():
        if not 0 <= count <= MAX_COUNT:
            raise ValueError(f"{name} must be in [0, {MAX_COUNT}], got {count}")
    if counts["silent_count"] + counts["nonfinite_count"] > counts["example_count"]:
        raise ValueError(f"example_count must hold the others, got {counts['example_count']}")
    return counts


def _tallies(entry: v1.MetricState, metric: Metric, checkpoint: Checkpoint) -> dict[str, Tally]:
    if len(entry.tallies) > len(metric.tallies):
        raise ValueError(f"tallies must be at most {len(metric.tallies)}, got {len(entry.tallies)}")
    found: dict[str, Tally] = {}
    for written in entry.tallies:
        if written.name not in metric.tallies or written.name in found:
            raise ValueError(
                f"tallies must be those of {metric.message}, got {written.name[:64]!r}"
            )
        found[written.name] = _tally(written, metric.tallies[written.name], checkpoint)
    return found


def _tally(written: v1.TallyState, axes: int, checkpoint: Checkpoint) -> Tally:
    integers = tensors.read(written.integers)
    if integers.dtype != np.int64 or integers.ndim != axes or not integers.size:
        raise ValueError(
            f"{written.name} must be int64 on {axes} axes, "
            f"got {integers.dtype.name} of {list(integers.shape)}"
        )
    if max(integers.shape) > MAX_AXIS[axes]:
        raise ValueError(
            f"{written.name} must have at most {MAX_AXIS[axes]} along an axis, "
            f"got {list(integers.shape)}"
        )
    if integers.min() < 0 or integers.max() > MAX_COUNT:
        raise ValueError(f"{written.name} must be counts, got {integers.min()} to {integers.max()}")
    return Tally(integers, _fractions(written, integers.size, checkpoint))


def _fractions(written: v1.TallyState, size: int, checkpoint: Checkpoint) -> dict[int, int]:
    indices = tensors.read(written.indices)
    if indices.dtype != np.int64 or indices.shape != (len(written.fractions),):
        raise ValueError(f"indices must be one int64 a fraction, got {list(indices.shape)}")
    if not len(indices):
        return {}
    if indices[0] < 0 or indices[-1] >= size or (np.diff(indices) <= 0).any():
        raise ValueError(f"indices must ascend in [0, {size}), got others")
    found: dict[int, int] = {}
    pairs = zip(indices.tolist(), written.fractions, strict=True)
    for index, encoded in checked(pairs, checkpoint):
        if len(encoded) > MAX_FRACTION_BYTES:
            raise ValueError(
                f"fractions must have at most {MAX_FRACTION_BYTES} bytes, got {len(encoded)}"
            )
        found[index] = from_signed_bytes(encoded)
    return found


def _tables(entry: v1.MetricState, metric: Metric) -> tuple[Mapping[str, Any], ...]:
    if len(entry.columns) > len(metric.columns):
        raise ValueError(f"columns must be at most {len(metric.columns)}, got {len(entry.columns)}")
    table: dict[str, Any] = {}
    for named in entry.columns:
        if named.name not in metric.columns or named.name in table or len(named.tensors) != 1:
            raise ValueError(f"columns must be those of {metric.message}, got {named.name[:64]!r}")
        column = tensors.read(named.tensors[0])
        if column.ndim != metric.columns[named.name]:
            raise ValueError(
                f"{named.name} must have {metric.columns[named.name]} axes, got {column.ndim}"
            )
        table[named.name] = column
    lengths = {len(column) for column in table.values()}
    if len(lengths) > 1:
        raise ValueError("columns must be of one length, got several")
    rows = max(lengths, default=0)
    counted = entry.example_count - entry.silent_count - entry.nonfinite_count
    counted = max(counted, 0)
    if any(each.is_text for each in metric.layout.inputs):
        counted += entry.ignored_count  # ignored hypotheses keep their places
    if rows > counted:
        raise ValueError(f"columns must have a row for each of {counted} examples, got {rows}")
    return (table,) if rows else ()
