"""Warns of batches that are valid but probably mean something else."""

import contextvars
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from lossd import v1
from lossd.client import kinds
from lossd.client.arrays import Array

Result = TypeVar("Result")

# How much sums of 16-bit probabilities may differ from 1.
_TOLERANCE = 1e-2
# Nothing is looked for in a batch whose inputs all have fewer axes.
LEAST_AXES = 3
# What stands between this package and whoever calls it.
_PASSED = re.compile(r"(lossd\.client|torch|jax)(\.|$)")
# What calls a function that somebody else gave it.
_RUNS_OTHERS = re.compile(r"(asyncio|concurrent|multiprocessing|threading)(\.|$)")


class BatchWarning(UserWarning):
    """A batch is probably not meant as it is interpreted; the message says what to set."""


def look(spec: v1.LossSpec, inputs: Mapping[str, Sequence[Array]]) -> None:
    """Warns of inputs that a loss, or a term of a sum, would probably misinterpret."""
    if all(array.ndim < LEAST_AXES for arrays in inputs.values() for array in arrays):
        return
    for loss, given in losses_of(spec, inputs):
        _look(loss, given)


def losses_of(
    spec: v1.LossSpec, inputs: Mapping[str, Sequence[Array]]
) -> Iterator[tuple[v1.LossSpec, Mapping[str, Array]]]:
    """Yields a loss, or those of a sum, each with its inputs by its own names."""
    if kinds.loss_name(spec) != "weighted_sum":
        yield spec, _firsts(inputs)
        return
    for term in spec.weighted_sum.terms:
        renamed = term.input_names
        found = {name: arrays for name, arrays in inputs.items() if name not in renamed}
        found |= {own: inputs[given] for own, given in renamed.items() if given in inputs}
        yield term.loss, _firsts(found)


def _firsts(inputs: Mapping[str, Sequence[Array]]) -> Mapping[str, Array]:
    return {name: arrays[0] for name, arrays in inputs.items() if arrays}


def _look(spec: v1.LossSpec, inputs: Mapping[str, Array]) -> None:
    name = kinds.loss_name(spec)
    if name in ("cross_entropy", "lovasz_softmax"):
        if not getattr(spec, name).HasField("class_axis"):
            _look_at_class_order(inputs)
    elif name == "ctc":
        _look_at_lengths(inputs)


def _look_at_class_order(inputs: Mapping[str, Array]) -> None:
    predictions, targets = inputs.get("predictions"), inputs.get("targets")
    if predictions is None or targets is None or predictions.ndim < 3 or predictions.shape[1] < 2:
        return
    shape = predictions.shape
    if targets.shape == shape:
        fits = _is_distribution(targets, 1) and not _is_distribution(targets, -1)
    else:
        fits = targets.shape == shape[:-1] == shape[:1] + shape[2:]
    if fits:
        warn(
            f"predictions of the shape {list(shape)} are taken to have their classes on the last "
            "axis, and the targets fit axis 1 too: set class_axis=1 if the classes are there, as "
            "in PyTorch, and class_axis=-1 if not"
        )


def _is_at_hand(array: Array) -> bool:
    """Returns whether an array's numbers can be read; of one on a device only the shape can."""
    return isinstance(array, np.ndarray)


def _is_distribution(targets: Array, axis: int) -> bool:
    """Returns whether the probabilities of the first example add up to 1 along an axis."""
    if not _is_at_hand(targets):
        return False
    with np.errstate(all="ignore"):
        sums = targets[:1].astype(np.float64).sum(axis=axis)
        return bool(sums.size) and bool((np.abs(sums - 1) < _TOLERANCE).all())


def _look_at_lengths(inputs: Mapping[str, Array]) -> None:
    label = None if "target_lengths" in inputs else _padding(inputs.get("targets"))
    if label is not None:
        warn(
            f"targets look padded, with {label}, and count in full: "
            "set target_lengths to how many labels each row has"
        )
    if "prediction_lengths" not in inputs and _has_padded_frames(inputs.get("predictions")):
        warn(
            "predictions look padded, with frames of one number, and count in full: "
            "set prediction_lengths to how many frames each row has"
        )


def _padding(labels: Array | None) -> int | None:
    """Returns the label that rows seem padded with: some rows end in it at least twice in a row.

    It occurs only there, or at least half of the rows end like that.  A single row is not padded,
    nor are rows with only one label.
    """
    if labels is None or not _is_at_hand(labels):
        return None
    if labels.ndim != 2 or min(labels.shape) < 2 or labels.dtype.kind not in "iu":
        return None
    last = labels[:, -1]
    runs = np.cumprod(labels[:, ::-1] == last[:, None], axis=1).sum(axis=1)
    repeated, counts = np.unique(last[runs > 1], return_counts=True)
    for label, count in zip(repeated.tolist(), counts.tolist(), strict=True):
        occurrences = int(np.count_nonzero(labels == label))
        is_only_there = occurrences == int(runs[last == label].sum())
        if occurrences < labels.size and (is_only_there or 2 * count >= len(labels)):
            return int(label)
    return None


def _has_padded_frames(predictions: Array | None) -> bool:
    """Returns whether a row ends in a frame of equal numbers for all classes, and others do not."""
    if predictions is None or not _is_at_hand(predictions):
        return False
    if predictions.ndim != 3 or min(predictions.shape[1:]) < 2:
        return False
    with np.errstate(all="ignore"):
        ends = predictions[:, -1]
        rows = predictions[(ends == ends[:, :1]).all(axis=1)]
        return bool((rows != rows[..., :1]).any())


def warn(message: str) -> None:
    """Warns where the code outside of this package called it, be it in another thread.

    Where no line of it is known, as in a task that runs this package's own coroutine, here.
    """
    caller = _blamed.get() or _caller()
    if caller is None:
        warnings.warn(message, BatchWarning, stacklevel=2)
        return
    warnings.warn_explicit(
        message,
        BatchWarning,
        filename=caller.file,
        lineno=caller.line,
        module=caller.names.get("__name__", "<unknown>"),
        registry=caller.names.setdefault("__warningregistry__", {}),
    )


def for_caller(work: Callable[[], Result]) -> Callable[[], Result]:
    """Returns a function that does some work once, in another thread, as its maker would here.

    It has the context of now, for spans, interceptors and tokens, and warns where its maker was
    called.
    """
    context = contextvars.copy_context()
    context.run(_blamed.set, _blamed.get() or _caller())
    return functools.partial(context.run, work)


@dataclass(frozen=True, slots=True)
class _CallingLine:
    """A line of code, with the names of its module."""

    file: str
    line: int
    names: dict[str, Any]


# Whose batch it is that a thread works on; None for that of who called it.
_blamed: contextvars.ContextVar[_CallingLine | None] = contextvars.ContextVar(
    "_blamed", default=None
)


def _caller() -> _CallingLine | None:
    """Returns the nearest line outside this package; None if that is of a thread or an event loop.

    Lines further out than those tell only where the thread or the loop was started.
    """
    frame = inspect.currentframe()
    while frame is not None and _PASSED.match(_module(frame)):
        frame = frame.f_back
    if frame is None or _RUNS_OTHERS.match(_module(frame)):
        return None
    return _CallingLine(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)


def _module(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name
