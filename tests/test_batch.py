"""From a job to rows: shapes, types, and labels that are safe to index with."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.batch import Batch, Job
from lossd.errors import InvalidTensor
from lossd.losses import LOSSES
from tests.sampling import laid_out


def _lay_out(loss: str, predictions: Any, targets: Any, **options: Any) -> Batch:
    parameters = options.pop("parameters", {})
    inputs = {"predictions": [np.asarray(predictions)], "targets": [np.asarray(targets)]}
    return laid_out(Job(loss=LOSSES[loss], parameters=parameters, inputs=inputs, **options))


@pytest.mark.parametrize(
    ("batch_dims", "rows", "length", "examples"),
    [(0, 1, 24, ()), (1, 2, 12, (2,)), (2, 6, 4, (2, 3)), (3, 24, 1, (2, 3, 4))],
)
def test_the_leading_axes_of_pointwise_losses_count_examples(
    batch_dims: int, rows: int, length: int, examples: tuple[int, ...]
) -> None:
    zeros = np.zeros((2, 3, 4))
    batch = _lay_out("huber", zeros, zeros, parameters={"batch_dims": batch_dims})
    assert (batch.rows, batch.length, batch.example_shape) == (rows, length, examples)
    assert all(operand.rows.shape == (rows, length) for operand in batch.operands)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_rows_of_classes_come_from_any_axis(axis: int) -> None:
    cube = np.arange(24.0).reshape(2, 3, 4)
    examples = np.delete(cube.shape, axis)
    batch = _lay_out(
        "cross_entropy", cube, np.zeros(examples, int), parameters={"class_axis": axis}
    )
    assert batch.length == cube.shape[axis]
    expected = np.moveaxis(cube, axis, -1).reshape(batch.rows, batch.length)
    np.testing.assert_array_equal(batch.operand("predictions").rows, expected)


def test_classes_are_not_copied_where_they_lie_last() -> None:
    predictions = np.zeros((5, 3), np.float32)
    batch = _lay_out("cross_entropy", predictions, np.zeros(5, int))
    assert np.shares_memory(batch.operand("predictions").rows, predictions)


@pytest.mark.parametrize(
    ("one", "two", "computed"),
    [
        (np.float16, np.float16, np.float32),
        (ml_dtypes.bfloat16, np.float16, np.float32),
        (np.float32, np.float16, np.float32),
        (np.float32, np.float64, np.float64),
        (np.float64, np.float16, np.float64),
    ],
)
def test_the_widest_floating_point_input_decides_the_type(
    one: Any, two: Any, computed: Any
) -> None:
    assert _lay_out("huber", np.zeros(2, one), np.zeros(2, two)).dtype == computed


def test_integer_targets_do_not_widen() -> None:
    batch = _lay_out("binary_cross_entropy", np.zeros(2, np.float16), np.zeros(2, np.int64))
    assert batch.dtype == np.float32


def test_labels_that_nobody_looks_at_become_class_zero() -> None:
    labels = np.array([1, -100, 2**40, 2])
    batch = _lay_out(
        "cross_entropy",
        np.zeros((4, 3)),
        labels,
        mask=np.array([True, True, False, True]),
        parameters={"ignore_index": -100},
    )
    operand = batch.operand("targets")
    assert operand.is_classes
    assert operand.rows.dtype == np.int64
    assert operand.rows.tolist() == [1, 0, 0, 2]
    assert labels.tolist() == [1, -100, 2**40, 2]


def test_a_vector_is_spread_over_a_row() -> None:
    zeros = np.zeros((2, 3, 2), np.float32)
    one = _lay_out("binary_cross_entropy", zeros, zeros, parameters={"positive_weights": (2.0,)})
    assert one.parameters["positive_weights"].tolist() == [2.0] * 6
    two = _lay_out("binary_cross_entropy", zeros, zeros, parameters={"positive_weights": (2, 3)})
    assert two.parameters["positive_weights"].tolist() == [2.0, 3.0] * 3
    assert two.parameters["positive_weights"].dtype == np.float32


@pytest.mark.parametrize(("axis", "elements"), [(1, 8), (2, 6), (3, 12), (-1, 12), (-3, 8)])
def test_regions_have_their_classes_next_to_the_examples(axis: int, elements: int) -> None:
    cube = np.arange(48.0).reshape(2, 3, 4, 2)
    labels = np.zeros(np.delete(cube.shape, axis), int)
    batch = _lay_out("dice", cube, labels, parameters={"class_axis": axis})
    predictions, targets = batch.operands
    assert (batch.rows, batch.length, batch.example_shape) == (2, 24, (2,))
    expected = np.moveaxis(cube, axis, 1).reshape(2, -1, elements)
    np.testing.assert_array_equal(predictions.rows, expected)
    np.testing.assert_array_equal(predictions.slot.as_given(predictions.rows), cube)
    assert targets.is_classes
    assert targets.rows.shape == (2, elements)


def test_a_region_without_classes_is_a_row_of_elements() -> None:
    batch = _lay_out("dice", np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))
    assert all(operand.rows.shape == (2, 12) for operand in batch.operands)
    with pytest.raises(InvalidTensor, match=r"predictions must have an axis of examples, got \[\]"):
        _lay_out("dice", np.zeros(()), np.zeros(()))


def test_a_region_of_classes_is_not_taken_for_one_without() -> None:
    with pytest.raises(InvalidTensor, match=r"targets must have the shape \[2, 3, 4\]"):
        _lay_out("dice", np.zeros((2, 3, 4)), np.zeros((2, 4), int))


@pytest.mark.parametrize(("shape", "rows"), [((5,), (5, 1)), ((5, 3), (5, 3))])
def test_sets_are_rows_of_labels(shape: tuple[int, ...], rows: tuple[int, ...]) -> None:
    batch = _lay_out("soft_f1", np.zeros(shape), np.zeros(shape))
    assert batch.example_shape == (5,)
    assert all(operand.rows.shape == rows for operand in batch.operands)


def test_a_float_where_the_shape_says_class_is_refused() -> None:
    with pytest.raises(InvalidTensor, match="targets must be integers where they are class"):
        _lay_out("cross_entropy", np.zeros((4, 3)), np.zeros(4))


def test_one_row_of_classes_needs_no_example_axis() -> None:
    batch = _lay_out("cross_entropy", np.zeros(3), np.array(2))
    assert (batch.rows, batch.length, batch.example_shape) == (1, 3, ())
