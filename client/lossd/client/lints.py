"""Looks for common mistakes in a batch, for ``lint=True``; each becomes a ``BatchWarning``.

What is looked at always, because it costs nothing, is in ``cautions``.  Here some thousand rows are
enough: a mistake of this kind is in all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import v1
from lossd.client import cautions, kinds
from lossd.client.arrays import Array

Rows = npt.NDArray[np.float64]

# Losses of classes that exclude each other, along one axis, and of independent yes-or-no answers.
# Those of regions are of classes where they have a class axis.
_OF_CLASSES = frozenset(
    {"cross_entropy", "ctc", "kl_divergence", "lovasz_softmax", "multiclass_hinge", "softmax_focal"}
)
_OF_DISTRIBUTIONS = frozenset({"KlDivergence"})  # which take no indices
_OF_ANSWERS = frozenset({"binary_cross_entropy", "focal", "hinge", "lovasz_hinge", "soft_f1"})
_OF_REGIONS = frozenset({"dice", "jaccard", "tversky"})
_OF_NUMBERS = frozenset(
    {
        "absolute_error",
        "gaussian_nll",
        "huber",
        "log_cosh",
        "quantile",
        "smooth_l1",
        "squared_error",
    }
)

_ELEMENTS = 1 << 16  # that are looked at, or a few more
_FEW = 8  # so many numbers or rows may look like something by chance
_TOLERANCE = 1e-2  # how much sums of 16-bit probabilities may differ from 1
_LARGE = 10.0  # how many times as large as 1 and as predictions targets may be


def look(
    spec: v1.LossSpec, inputs: Mapping[str, Sequence[Array]], extras: Mapping[str, Array]
) -> None:
    """Warns of what is probably a mistake in a batch; ``extras`` are its weights and mask."""
    for message in _of_extras(extras):
        cautions.warn(message)
    for loss, given in cautions.losses_of(spec, inputs):
        for message in _found(loss, given, extras.get("mask")):
            cautions.warn(message)


def _of_extras(extras: Mapping[str, Array]) -> Iterator[str]:
    mask, weights = extras.get("mask"), extras.get("weights")
    if mask is not None and mask.size and not mask.any():
        yield "mask keeps no example: True keeps one, so invert it if True was to drop them"
    if weights is not None and weights.size and not weights.any():
        yield "weights are all 0, so that no example counts: give those that count more than 0"


def _found(spec: v1.LossSpec, inputs: Mapping[str, Array], mask: Array | None) -> Iterator[str]:
    name = kinds.loss_name(spec)
    loss = getattr(spec, name)
    predictions, targets = inputs.get("predictions"), inputs.get("targets")
    if predictions is None or not predictions.size or not predictions.ndim:
        return
    has_axis = name in _OF_REGIONS and loss.HasField("class_axis")
    if name in _OF_CLASSES or has_axis:
        yield from _of_classes(loss, predictions, targets, mask)
    elif name in _OF_ANSWERS or name in _OF_REGIONS:
        yield from _of_answers(loss, predictions, targets if name in _OF_ANSWERS else None)
    elif name in _OF_NUMBERS and targets is not None:
        yield from _of_numbers(predictions, targets)


def _of_classes(
    loss: Any, predictions: Array, targets: Array | None, mask: Array | None
) -> Iterator[str]:
    axis = getattr(loss, "class_axis", 0) if _has(loss, "class_axis") else -1
    if not -predictions.ndim <= axis < predictions.ndim or predictions.shape[axis] < 2:
        return  # the server says so
    rows = _rows(predictions, axis, mask)
    elsewhere = _other_axis(loss, predictions, targets, axis, mask)
    if elsewhere is not None:
        yield elsewhere
    elif _takes_logits(loss) and _are_probabilities(rows):
        yield (
            "predictions look like probabilities, which add up to 1 in each row, and are taken "
            f"for logits: {_advice(loss)}"
        )
    if targets is None:
        return
    takes_indices = loss.DESCRIPTOR.name not in _OF_DISTRIBUTIONS
    is_like = targets.shape == predictions.shape
    if is_like and takes_indices and _are_one_hot(_rows(targets, axis, mask)):
        yield (
            f"targets are one-hot: give the indices of the classes, targets.argmax({axis}), "
            "which are fewer bytes"
        )
    if _has(loss, "ignore_index") and targets.size and (targets == loss.ignore_index).all():
        yield (
            f"targets are all {loss.ignore_index}, the ignore_index, so that no example counts: "
            "look at how they are made"
        )


def _other_axis(
    loss: Any, predictions: Array, targets: Array | None, axis: int, mask: Array | None
) -> str | None:
    """Returns a warning if predictions or targets are distributions along another axis only."""
    given = {"predictions": predictions}
    if targets is not None and targets.shape == predictions.shape:
        given["targets"] = targets
    for name, array in given.items():
        if _are_probabilities(_rows(array, axis, mask)):
            return None
        for other in range(1, array.ndim):
            is_other = other != axis % array.ndim and array.shape[other] > 1
            if is_other and _are_probabilities(_rows(array, other)):
                has_field = "class_axis" in loss.DESCRIPTOR.fields_by_name
                move = f"move them, numpy.moveaxis({name}, {other}, -1)"
                return (
                    f"{name} add up to 1 along axis {other}, and not along axis {axis}, where "
                    f"their classes are taken to be: "
                    + (f"set class_axis={other}" if has_field else move)
                )
    return None


def _of_answers(loss: Any, predictions: Array, targets: Array | None) -> Iterator[str]:
    numbers = _head(predictions).astype(np.float64)
    low, high = numbers.min(), numbers.max()
    if _takes_logits(loss) and numbers.size >= _FEW and 0 <= low < high <= 1:
        yield (
            "predictions look like probabilities, all of which are in [0, 1], and are taken for "
            f"logits: {_advice(loss)}"
        )
    if targets is not None and targets.shape == predictions.shape and _are_choices(targets):
        yield (
            "targets have exactly one 1 in each row, as of classes that exclude each other: train "
            "with CrossEntropy and targets.argmax(-1) if they do"
        )


def _of_numbers(predictions: Array, targets: Array) -> Iterator[str]:
    if not targets.size:
        return
    said, right = (_size(array) for array in (predictions, targets))
    if right > _LARGE * max(said, 1.0):
        yield (
            f"targets are about {right:.3g} in size, and predictions {said:.3g}: scale the "
            "targets, for example to a mean of 0 and a standard deviation of 1"
        )


def _takes_logits(loss: Any) -> bool:
    kind = getattr(loss, "prediction_kind", v1.DISTRIBUTION_KIND_UNSPECIFIED)
    return kind in (v1.DISTRIBUTION_KIND_UNSPECIFIED, v1.DISTRIBUTION_KIND_LOGITS)


def _advice(loss: Any) -> str:
    if "prediction_kind" in loss.DESCRIPTOR.fields_by_name:
        return 'set prediction_kind="PROBABILITIES", or give the logits'
    return "give the logits, from before the softmax or sigmoid"


def _has(loss: Any, name: str) -> bool:
    return name in loss.DESCRIPTOR.fields_by_name and loss.HasField(name)


def _head(array: Array) -> Array:
    """Returns as many of the first examples as are looked at."""
    each = max(array.size // max(len(array), 1), 1)
    return array[: max(_ELEMENTS // each, 1)]


def _rows(array: Array, axis: int, mask: Array | None = None) -> Rows:
    """Returns some rows of an array along an axis, without those that a mask drops."""
    whole = axis % array.ndim == 0
    some = array if whole else _head(array)
    moved = np.moveaxis(some, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1]).astype(np.float64)
    if mask is not None and mask.ndim:
        kept = mask if whole else mask[: len(some)]
        if kept.shape == moved.shape[:-1]:
            rows = rows[kept.ravel().astype(bool)]
    return rows


def _are_probabilities(rows: Rows) -> bool:
    """Returns whether each row is a distribution."""
    with np.errstate(all="ignore"):
        sums = np.abs(rows.sum(axis=1) - 1) < _TOLERANCE
        return bool(len(rows) and sums.all() and rows.min() >= 0)


def _are_one_hot(rows: Rows) -> bool:
    is_binary = ((rows == 0) | (rows == 1)).all()
    return bool(len(rows) and is_binary and (rows.sum(axis=1) == 1).all())


def _are_choices(targets: Array) -> bool:
    """Returns whether rows are one-hot, and too many and too long to be so by chance."""
    is_enough = targets.ndim == 2 and len(targets) >= _FEW and targets.shape[1] > 2
    return is_enough and _are_one_hot(_rows(targets, -1))


def _size(array: Array) -> float:
    """Returns the root of the mean square of the numbers that are finite."""
    numbers = _head(array).astype(np.float64) if array.ndim else array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return largest * float(np.sqrt(np.mean((finite / largest) ** 2))) if largest else 0.0
