"""Predictions and targets of a classification, laid out for the metrics."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import (
    MAX_CLASSES,
    Array,
    BatchFacts,
    Floats,
    InputError,
    MetricBatch,
    MetricInput,
    MetricLayout,
)
from lossd.evaluation._examples import (
    Flags,
    Selection,
    is_float,
    rounded,
    select,
    shape_error,
    widened,
)
from lossd.evaluation._state import ClassificationTask
from lossd.losses import DOMAINS, DistributionKind, Interval, Parameter, ParameterError, element
from lossd.schema import FINITE, exactly

BINARY = ClassificationTask.BINARY
MULTICLASS = ClassificationTask.MULTICLASS
MULTILABEL = ClassificationTask.MULTILABEL

CLASS_COUNTS = Interval(2, MAX_CLASSES)

TASK = Parameter("task", ClassificationTask, None)
PREDICTION_KIND = Parameter("prediction_kind", DistributionKind, DistributionKind.LOGITS)
THRESHOLD = Parameter("threshold", float, None, FINITE)
IGNORE_INDEX = Parameter("ignore_index", int, None, Interval(-(2**63), 2**63 - 1))
CLASSES = Parameter("classes", int, None, CLASS_COUNTS)

_THRESHOLDS = {
    DistributionKind.LOGITS: 0.0,
    DistributionKind.LOG_PROBABILITIES: math.log(0.5),
    DistributionKind.PROBABILITIES: 0.5,
}


Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decisions:
    """The predicted and the true answers of the examples that count.

    Classes as (n,) indices, labels as (n, L) booleans; binary answers are the classes 0 and 1.
    ``scores`` are given where predictions were scores of several classes.
    """

    facts: BatchFacts
    task: ClassificationTask
    width: int
    targets: Array
    predicted: Array
    weights: Floats | None
    scores: Array | None
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores and the true answers of the examples that count.

    Binary: (n,) and booleans; several classes: (n, C) and (n,) indices; labels: (n, L) and
    booleans.  ``dtype`` is the type in which the scores came.
    """

    facts: BatchFacts
    task: ClassificationTask
    width: int
    targets: Array
    scores: Array
    weights: Floats | None
    kind: DistributionKind
    dtype: np.dtype[Any]
    checkpoint: Checkpoint

    @property
    def rounding(self) -> float:
        """The distance from 1 to the next number of the type in which they came."""
        return 2.0**-7 if self.dtype.name == "bfloat16" else float(np.finfo(self.dtype).eps)


def lay_out_decisions(
    batch: MetricBatch,
    *,
    task: ClassificationTask | None,
    prediction_kind: DistributionKind,
    threshold: float | None,
    ignore_index: int | None,
    classes: int | None,
) -> Decisions:
    """Lays out which class or labels each example was predicted to have."""
    found = _lay_out(batch, task, ignore_index, prediction_kind, classes)
    if found.task is MULTICLASS and threshold is not None:
        raise ParameterError(
            "threshold",
            f"threshold must go with yes-or-no answers, got {exactly(threshold)} with classes",
        )
    limit = _THRESHOLDS[prediction_kind] if threshold is None else threshold
    if found.task is MULTICLASS:
        return _class_decisions(found, classes)
    if classes is not None:
        raise ParameterError("classes", f"classes must go with class indices, got {classes}")
    dtype = np.dtype(np.int64 if found.task is BINARY else np.bool_)
    predicted = found.predictions
    if found.has_scores:
        predicted = _above(predicted, limit, batch.inputs["predictions"].dtype)
    return Decisions(
        found.facts(),
        found.task,
        found.width or 2,
        found.targets.astype(dtype, copy=False),
        predicted.astype(dtype, copy=False),
        found.selection.weights,
        None,
        found.checkpoint,
    )


def lay_out_single_decisions(batch: MetricBatch, **parameters: Any) -> Decisions:
    """Lays out which class each example was predicted to have, and refuses several labels."""
    prepared = lay_out_decisions(batch, **parameters)
    _refuse_labels(prepared.task)
    return prepared


def _refuse_labels(task: ClassificationTask) -> None:
    if task is MULTILABEL:
        raise ParameterError(
            "task", "task must be binary or multiclass for this metric, got multilabel"
        )


def _above(scores: Array, limit: float, dtype: np.dtype[Any]) -> Flags:
    """Returns which scores are above a limit, which is rounded to the type that they came in."""
    nearest = float(rounded(np.array(limit), dtype))
    above: Flags = scores == math.inf if nearest == math.inf else scores > nearest
    return above


def _class_decisions(found: "_Checked", classes: int | None) -> Decisions:
    targets, predicted = found.targets, found.predictions
    if not found.has_scores:
        width = classes or 1 + max(int(targets.max(initial=1)), int(predicted.max(initial=1)))
        return Decisions(
            found.facts(width=classes), MULTICLASS, width, targets, predicted,
            found.selection.weights, None, found.checkpoint,
        )  # fmt: skip
    width = found.width or 0
    if classes not in (None, width):
        raise ParameterError(
            "classes", f"classes must be the {width} of the predictions, got {classes}"
        )
    return Decisions(
        found.facts(), MULTICLASS, width, targets, predicted.argmax(axis=1),
        found.selection.weights, predicted, found.checkpoint,
    )  # fmt: skip


def lay_out_scores(
    batch: MetricBatch,
    *,
    task: ClassificationTask | None,
    prediction_kind: DistributionKind,
    ignore_index: int | None,
) -> Scores:
    """Checks and lays out the scores and the true answers."""
    dtype = batch.inputs["predictions"].dtype
    if not is_float(batch.inputs["predictions"]):
        raise InputError(
            "inputs.predictions.dtype", f"predictions must be floating point, got {dtype.name}"
        )
    found = _lay_out(batch, task, ignore_index, prediction_kind)
    return Scores(
        found.facts(), found.task, found.width or 2, found.targets, found.predictions,
        found.selection.weights, prediction_kind, dtype, found.checkpoint,
    )  # fmt: skip


def lay_out_probabilities(
    batch: MetricBatch,
    *,
    task: ClassificationTask | None,
    prediction_kind: DistributionKind,
    ignore_index: int | None,
) -> Scores:
    """Returns the laid-out scores, which must be one answer for each example."""
    prepared = lay_out_scores(
        batch, task=task, prediction_kind=prediction_kind, ignore_index=ignore_index
    )
    _refuse_labels(prepared.task)
    return prepared


@dataclass(frozen=True, slots=True)
class _Checked:
    """Both inputs, checked, with one row for each example that counts and whose scores are not NaN.

    Predictions are scores of 32 bits or more, or answers of the kind of the targets.
    """

    task: ClassificationTask
    width: int | None
    predictions: Array
    targets: Array
    selection: Selection
    nonfinite_count: int
    checkpoint: Checkpoint

    @property
    def has_scores(self) -> bool:
        """Whether predictions are scores."""
        return is_float(self.predictions)

    def facts(self, width: int | None = None) -> BatchFacts:
        return self.selection.facts(
            task=self.task, width=self.width or width, nonfinite_count=self.nonfinite_count
        )


def _lay_out(
    batch: MetricBatch,
    task: ClassificationTask | None,
    ignore_index: int | None,
    kind: DistributionKind,
    classes: int | None = None,
) -> _Checked:
    predictions, targets = batch.inputs["predictions"], batch.inputs["targets"]
    task = task or _task(predictions, targets)
    may_be_float = task is not MULTICLASS or not targets.size  # an empty list has no type
    if targets.dtype.kind not in "iub" and not (may_be_float and is_float(targets)):
        raise InputError(
            "inputs.targets.dtype", f"targets must be integers, got {targets.dtype.name}"
        )
    shape, width = _example_shape(task, predictions, targets)
    if ignore_index is not None and task is MULTILABEL:
        raise ParameterError(
            "ignore_index", f"ignore_index must go with one target an example, got {ignore_index}"
        )
    flat = targets.reshape(-1) if task is not MULTILABEL else targets.reshape(-1, width or 1)
    selection = select(batch, shape, None if ignore_index is None else flat == ignore_index)
    rows = selection.of(predictions.reshape(-1 if width is None else (-1, width)))
    count = width if is_float(rows) else classes
    answers = _answers("targets", selection.of(flat), task, count, selection)
    if is_float(rows):
        given = _scores(rows, kind, selection)
    else:
        given = _answers("predictions", rows, task, count, selection)
    return _without_nan(_Checked(task, width, given, answers, selection, 0, batch.checkpoint))


def _without_nan(found: _Checked) -> _Checked:
    """Leaves out, and counts, the examples that have a score of NaN."""
    scores = found.predictions
    if not found.has_scores:
        return found
    # A sum is NaN wherever an element is, and costs less than checking each.
    with np.errstate(all="ignore"):
        if not math.isnan(float(scores.sum(dtype=scores.dtype))):
            return found
    bad = np.asarray(np.isnan(scores).any(axis=tuple(range(1, scores.ndim))))
    return replace(
        found,
        predictions=scores[~bad],
        targets=found.targets[~bad],
        selection=found.selection.without(bad),
        nonfinite_count=int(np.count_nonzero(bad)),
    )


def _task(predictions: Array, targets: Array) -> ClassificationTask:
    """Returns the task that follows from shapes and types, where the caller gave none."""
    if predictions.ndim == targets.ndim + 1 or predictions.dtype.kind in "iu":
        return MULTICLASS
    return MULTILABEL if predictions.ndim >= 2 else BINARY


def _example_shape(
    task: ClassificationTask, predictions: Array, targets: Array
) -> tuple[tuple[int, ...], int | None]:
    """Returns the shape of the examples, and how many columns each has; None for one number."""
    shape = predictions.shape
    if task is MULTICLASS and is_float(predictions):
        if not shape or shape[-1] < 2:
            raise shape_error("predictions", "a last axis of at least 2 classes", predictions)
        if targets.shape != shape[:-1]:
            rule = f"the shape {list(shape[:-1])} of the predictions without their classes"
            fits = len(shape) > 2 and targets.shape == shape[:1] + shape[2:]
            hint = ": they would fit classes on axis 1, which must be the last" if fits else ""
            raise shape_error("targets", rule, targets, hint)
        return shape[:-1], shape[-1]
    if targets.shape != shape:
        raise shape_error("targets", f"the shape {list(shape)} of the predictions", targets)
    if task is not MULTILABEL:
        return shape, None
    if len(shape) < 2 or not shape[-1]:
        raise shape_error("predictions", "a last axis of labels", predictions)
    if shape[-1] > MAX_CLASSES:
        raise shape_error("predictions", f"at most {MAX_CLASSES} labels", predictions)
    return shape[:-1], shape[-1]


def _scores(rows: Array, kind: DistributionKind, selection: Selection) -> Array:
    """Returns the predictions, which must be of the kind that was given, or NaN."""
    scores, domain = widened(rows), DOMAINS[kind]
    if domain is not None and scores.size and not _spans(domain, scores):
        _refuse("predictions", scores, domain.outside(scores), str(domain), selection)
    return scores


def _spans(domain: Interval, scores: Array) -> bool:
    return bool(scores.min() >= domain.low and scores.max() <= domain.high)


def _answers(
    name: str,
    values: Array,
    task: ClassificationTask,
    classes: int | None,
    selection: Selection,
) -> Array:
    """Returns class indices, or booleans."""
    if task is MULTICLASS:
        return _indices(name, values, classes, selection)
    return _truths(name, values, selection)


def _truths(name: str, values: Array, selection: Selection) -> Flags:
    """Returns numbers that must be 0 or 1 as booleans."""
    if values.dtype == np.bool_:
        return values
    if is_float(values):  # as losses take them
        wide = widened(values)
        _refuse(name, values, (wide != 0) & (wide != 1), "{0, 1}", selection)
    else:
        _check_range(name, values, 2, selection)
    truths: Flags = values.astype(np.bool_)
    return truths


def _indices(name: str, values: Array, classes: int | None, selection: Selection) -> Labels:
    """Returns class indices that are safe to count with."""
    _check_range(name, values, classes or MAX_CLASSES, selection)
    return values.astype(np.int64, copy=False)


def _check_range(name: str, values: Array, count: int, selection: Selection) -> None:
    if values.dtype == np.bool_ or not values.size:
        return
    if values.min() >= 0 and values.max() < count:
        return
    _refuse(name, values, (values < 0) | (values >= count), f"[0, {count})", selection)


def _refuse(name: str, values: Array, wrong: Flags, rule: str, selection: Selection) -> None:
    """Raises an error that names the first wrong element, if there is one."""
    indices = np.flatnonzero(wrong)
    if not len(indices):
        return
    first = int(indices[0])
    columns = values.shape[1] if values.ndim > 1 else 1
    index = selection.index(first // columns) * columns + first % columns
    shape = (*selection.shape, *values.shape[1:])
    value = values.reshape(-1)[first]
    raise InputError(
        f"inputs.{name}",
        f"{element(name, index, shape)} must be in {rule}, got {value}",
        index=index, value=value, range=rule,
    )  # fmt: skip


_SINGLE_SHAPES = ("(N, ...)", "(N, ..., C)")
_SHAPES = (*_SINGLE_SHAPES, "(N, ..., L)")
_DECIDED = "scores, or what was decided"


def _targets(*shapes: str) -> MetricInput:
    return MetricInput("targets", "class indices, or 0 and 1 of any type", shapes)


_TARGETS, _SINGLE_TARGETS = _targets("(N, ...)", "(N, ..., L)"), _targets("(N, ...)")
_OF_DECISIONS = (TASK, PREDICTION_KIND, THRESHOLD, IGNORE_INDEX, CLASSES)
_OF_SCORES = (TASK, PREDICTION_KIND, IGNORE_INDEX)

DECISIONS = MetricLayout(
    (MetricInput("predictions", _DECIDED, _SHAPES), _TARGETS), lay_out_decisions, _OF_DECISIONS
)
SINGLE_DECISIONS = MetricLayout(
    (MetricInput("predictions", _DECIDED, _SINGLE_SHAPES), _SINGLE_TARGETS),
    lay_out_single_decisions,
    _OF_DECISIONS,
)
SCORES = MetricLayout(
    (MetricInput("predictions", "scores", _SHAPES), _TARGETS), lay_out_scores, _OF_SCORES
)
PROBABILITIES = MetricLayout(
    (MetricInput("predictions", "scores", _SINGLE_SHAPES), _SINGLE_TARGETS),
    lay_out_probabilities,
    _OF_SCORES,
)
