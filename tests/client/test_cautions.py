"""Likely mistakes are warned of, and nothing else is."""

import re
import warnings
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import BatchWarning, kinds, requests, weighted_sum
from lossd.losses import LOSSES


def warned(loss: Any, **inputs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        requests.build_request(loss, inputs)
    assert all(record.category is BatchWarning for record in caught)
    return [str(record.message) for record in caught]


def logits(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


def one_hot() -> Any:
    """Labels in one-hot form, (8, 6, 4), by the last axis."""
    return np.eye(4)[np.random.default_rng(0).integers(0, 4, (8, 6))]


@pytest.mark.parametrize("loss", [v1.CrossEntropy(), v1.LovaszSoftmax()])
@pytest.mark.parametrize(
    ("predictions", "targets", "is_told"),
    [
        (logits(8, 4, 4), np.zeros((8, 4), int), True),
        (logits(8, 4, 4, 4), np.zeros((8, 4, 4), int), True),
        (logits(8, 5, 4), np.zeros((8, 5), int), False),
        (logits(8, 4, 5), np.zeros((8, 5), int), False),  # refused, with the same words
        (logits(8, 4, 5, 4), np.zeros((8, 4, 5), int), False),
        (logits(4, 4), np.zeros(4, int), False),
        (logits(8, 1, 1), np.zeros((8, 1), int), False),
        (logits(8, 4, 6), np.moveaxis(one_hot(), -1, 1), True),
        (logits(8, 4, 6), np.moveaxis(one_hot(), -1, 1).astype(int), True),
        (logits(8, 6, 4), one_hot(), False),
        (logits(8, 4, 4), np.full((8, 4, 4), 0.25), False),  # both ways
        (logits(8, 4, 6), np.full((8, 4, 6), 0.5), False),  # neither way
        (logits(0, 4, 6), np.zeros((0, 4, 6)), False),
    ],
)
def test_the_order_of_classes_in_pytorch(
    loss: Any, predictions: Any, targets: Any, is_told: Any
) -> None:
    found = warned(loss, predictions=predictions, targets=targets)
    assert len(found) == is_told
    assert all("set class_axis=1 " in text for text in found)
    terms = weighted_sum((1, v1.Huber()), (1, loss, {"targets": "kinds"}))
    assert len(warned(terms, predictions=predictions, kinds=targets)) == is_told
    for axis in (1, -1):
        said = type(loss)(class_axis=axis)
        assert not warned(said, predictions=predictions, targets=targets)


@pytest.mark.parametrize(
    ("targets", "label"),
    [
        ([[1, 2, 3], [1, 9, 9]], 9),
        ([[1, 2, 3], [2, 0, 0]], 0),
        ([[1, 0, 3], [2, 0, 0]], 0),  # it is a label too, and half of the rows end so
        ([[1, 2, 3, 4], [1, 2, 9, 9], [1, 9, 9, 9], [1, 2, 3, 9]], 9),
        ([[1, 2, 3], [1, 2, 9]], None),
        ([[1, 2, 3], [3, 2, 1]], None),
        ([[1, 1, 1], [1, 1, 1]], None),
        ([[1, 2, 2]], None),
        ([[1], [1]], None),
        ([[1, 2, 2], [2, 1, 3], [2, 3, 1], [3, 2, 1]], None),  # a word may end so
        (np.zeros((0, 3), int), None),
        (np.zeros((3, 0), int), None),
    ],
)
def test_labels_that_look_padded(targets: Any, label: Any) -> None:
    targets = np.array(targets)
    frames = logits(len(targets), 9, 11)
    found = warned(v1.Ctc(blank=10), predictions=frames, targets=targets)
    assert [text.split(",")[1] for text in found] == ([] if label is None else [f" with {label}"])
    assert all("set target_lengths" in text for text in found)
    lengths = np.full(len(targets), targets.shape[1])
    assert not warned(v1.Ctc(blank=10), predictions=frames, targets=targets, target_lengths=lengths)


def test_random_labels_of_one_length_do_not_look_padded() -> None:
    random = np.random.default_rng(1)
    told = sum(
        len(warned(v1.Ctc(blank=10), predictions=logits(32, 9, 11), targets=digits))
        for digits in random.integers(0, 10, (200, 32, 6))
    )
    assert told == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_frames_that_look_padded(dtype: Any) -> None:
    whole = logits(3, 5, 4).astype(dtype)
    padded = whole.copy()
    padded[1, 3:] = 0
    targets = np.array([[1, 2], [2, 1], [1, 3]])
    (text,) = warned(v1.Ctc(), predictions=padded, targets=targets)
    assert re.search("set prediction_lengths", text)
    for frames in (whole, np.zeros_like(whole), whole[:, :1], whole[..., :1], whole[:0]):
        assert not warned(v1.Ctc(), predictions=frames, targets=targets)
    assert not warned(
        v1.Ctc(), predictions=padded, targets=targets, prediction_lengths=np.array([5, 3, 5])
    )


def test_the_losses_of_several_arrays_are_those_of_the_catalogue() -> None:
    several = {
        name: {declared.name for declared in loss.inputs if declared.is_list}
        for name, loss in LOSSES.items()
        if any(declared.is_list for declared in loss.inputs)
    }
    assert several == kinds.inputs_of_several


def test_the_losses_whose_order_of_classes_is_looked_at_are_those_of_the_catalogue() -> None:
    axes = {
        name
        for name, loss in LOSSES.items()
        if any(p.name == "class_axis" and p.default == -1 for p in loss.layout_parameters)
    }
    assert axes == {"cross_entropy", "lovasz_softmax"}
