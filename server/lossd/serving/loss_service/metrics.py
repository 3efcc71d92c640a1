"""Evaluates metrics on the batch that a loss is computed from, from the same arrays.

The loss's parameters hold for the metrics too: which examples are ignored, where the classes lie,
and what kind of numbers the predictions are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd import v1
from lossd.batch import Job
from lossd.engine import Hold
from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor
from lossd.evaluation import ClassificationTask, InputError, MetricBatch, Score, State
from lossd.framing import Payloads
from lossd.losses import Content, ParameterError
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.evaluation_service.codec import Requested
from lossd.tensors import Array

_LEAVES_OUT = (Content.FLAGS, Content.LENGTHS)


@dataclass(frozen=True, slots=True)
class MetricOutcome:
    """A metric and its result, with the counts of its state."""

    requested: Requested
    state: State
    score: Score

    def write(self, payloads: Payloads | None) -> v1.MetricResult:
        """Returns the result as a message."""
        return evaluation_codec.result(self.requested, self.state, self.score, payloads)


def requested(specs: Sequence[v1.MetricSpec], job: Job) -> list[Requested]:
    """Reads the metrics that were asked for along with a loss.

    Raises:
        UnknownMetric: if one is not served.
        InvalidRequest: if a parameter breaks its rule, two are equal, the job lacks an input, or
            has one that leaves out elements.
        TooLarge: if there are too many.
    """
    if not len(specs):
        return []
    found = evaluation_codec.requested(specs, _said(job))
    for one in found:
        _check_inputs(one, job)
    _check_whole(job)
    return found


def _check_whole(job: Job) -> None:
    """Checks that no input leaves out what a metric would count; a mask is of both."""
    for declared in job.loss.inputs:
        if declared.content in _LEAVES_OUT and job.inputs.get(declared.name):
            raise InvalidRequest(
                f"{declared.name} must be unset with metrics beside a loss, which count all "
                "elements: Evaluate takes a mask of its own",
                field=f"inputs.{declared.name}",
            )


def _check_inputs(one: Requested, job: Job) -> None:
    name = one.metric.message
    if any(declared.is_text for declared in one.metric.inputs):
        raise InvalidRequest(
            f"metrics beside a loss must take tensors, got {name}, which takes sequences and is "
            "for Evaluate",
            field=one.path,
        )
    for declared in one.metric.inputs:
        count = len(job.inputs.get(declared.name, ()))
        if count != 1:
            rule, got = ("as one tensor ", count) if count else ("", "nothing")
            raise InvalidTensor(
                f"{declared.name} must be given {rule}for the metric {name}, got {got} for "
                f"{job.loss.message}",
                field=one.path,
            )


def _said(job: Job) -> dict[str, Any]:
    """Returns the loss's parameters that describe the predictions, as parameters of metrics."""
    said = {}
    if "prediction_kind" in job.parameters:
        said["prediction_kind"] = job.parameters["prediction_kind"]
    if _class_axis(job) is not None:
        said["task"] = ClassificationTask.MULTICLASS
    return said


def _class_axis(job: Job) -> int | None:
    defaults = {parameter.name: parameter.default for parameter in job.loss.all_parameters}
    axis: int | None = job.parameters.get("class_axis", defaults.get("class_axis"))
    return axis


def evaluate(
    metrics: Sequence[Requested], job: Job, checkpoint: Callable[[], None], hold: Hold
) -> list[MetricOutcome]:
    """Evaluates metrics on a job whose loss was computed, so that it is known to be valid.

    ``hold`` is told what each of them takes, before it is taken.

    Raises:
        InvalidRequest: if a metric does not take the inputs of the loss.
    """
    as_given = _batch(job, checkpoint)
    by_class = _with_classes_last(as_given, _class_axis(job))
    found = []
    for one in metrics:
        checkpoint()
        taken = by_class if "prediction_kind" in one.parameters else as_given
        state = _observe(one, taken, as_given, hold)
        score = one.score(state, checkpoint, hold)
        found.append(MetricOutcome(one, replace(state, tallies={}, tables=()), score))
    return found


def _batch(job: Job, checkpoint: Callable[[], None]) -> MetricBatch:
    return MetricBatch(
        inputs={name: arrays[0] for name, arrays in job.inputs.items() if len(arrays) == 1},
        weights=job.weights,
        mask=_mask(job),
        checkpoint=checkpoint,
    )


def _mask(job: Job) -> Array | None:
    ignore_index = job.parameters.get("ignore_index")
    if ignore_index is None:
        return job.mask
    kept = np.asarray(job.inputs["targets"][0] != ignore_index)
    return kept if job.mask is None else kept & job.mask


def _with_classes_last(batch: MetricBatch, axis: int | None) -> MetricBatch:
    """Moves the classes to the last axis, where metrics expect them.

    Targets that have a number for each class too have them on the same axis.
    """
    predictions = batch.inputs.get("predictions")
    if axis is None or predictions is None or axis in (-1, predictions.ndim - 1):
        return batch
    moved = {
        name: np.ascontiguousarray(np.moveaxis(array, axis, -1))
        for name, array in batch.inputs.items()
        if array.shape == predictions.shape
    }
    return replace(batch, inputs={**batch.inputs, **moved})


def _observe(one: Requested, batch: MetricBatch, as_given: MetricBatch, hold: Hold) -> State:
    hold(one.metric.observing(batch, one.parameters))
    try:
        return one.metric.observe(batch, one.parameters)
    except ParameterError as error:
        raise InvalidParameter(str(error), field=f"{one.path}.{error.parameter}") from error
    except InputError as error:
        raise InvalidTensor(
            f"{error}{_as_sent(error, batch, as_given)}, for the metric {one.metric.message}",
            field=error.field,
            details=error.details,
        ) from error


def _as_sent(error: InputError, batch: MetricBatch, as_given: MetricBatch) -> str:
    """Says which shape was sent, if one is at fault whose classes were moved."""
    _, _, name = error.field.removesuffix(".shape").rpartition(".")
    sent = as_given.inputs.get(name)
    if sent is None or sent is batch.inputs[name] or not error.field.endswith(".shape"):
        return ""
    return f" with the classes moved, sent as {list(sent.shape)}"
