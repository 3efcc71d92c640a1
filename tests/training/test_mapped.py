"""Batches that share a call have the results that they have alone, whatever divides them."""

import contextvars
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd.client import (
    BatchWarning,
    InvalidRequestError,
    LossClient,
    effective_number_weights,
    kinds,
)
from lossd.client.mapped import SCALED, Problem
from lossd.losses import LOSSES
from lossd.v1 import (
    CrossEntropy,
    Ctc,
    Dice,
    Huber,
    KlDivergence,
    LossSpec,
    SquaredError,
)

BATCHES, ROWS, CLASSES = 3, 4, 3


def softmax(logits: Any) -> Any:
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def batches() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Losses, and the inputs of several batches."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return random.standard_normal((BATCHES, ROWS, *shape))

    def count(low: int, high: int, *shape: int) -> Any:
        return random.integers(low, high, (BATCHES, ROWS, *shape))

    logits, labels = draw(CLASSES), count(0, CLASSES)
    classes = {"predictions": logits, "targets": labels}
    pixels = {"predictions": draw(CLASSES, 2), "targets": count(0, CLASSES, 2)}
    numbers = {"predictions": logits, "targets": draw(CLASSES)}
    masks = np.where(count(0, 2)[..., None] > 0, count(0, 2, 5), 0).astype(np.float64)
    balanced = effective_number_weights(np.bincount(labels.ravel()), beta=0.9)
    return {
        "classes": (CrossEntropy(ignore_index=1), classes),
        "weights of classes": (CrossEntropy(class_weights=balanced), classes),
        "a spec of weights": (
            LossSpec(cross_entropy=CrossEntropy(class_weights=balanced)), classes,
        ),
        "a spec of classes on axis 1": (
            LossSpec(cross_entropy=CrossEntropy(class_axis=1)), pixels,
        ),
        "elements": (SquaredError(batch_dims=2), numbers),
        "a spec of elements": (LossSpec(huber=Huber()), numbers),
        "divergences": (
            KlDivergence(), {"predictions": logits, "targets": softmax(draw(CLASSES))},
        ),
        "sequences": (
            Ctc(),
            {
                "predictions": draw(6, 4), "targets": count(1, 4, 2),
                "prediction_lengths": count(5, 7), "target_lengths": count(0, 3),
            },
        ),
        "regions that are skipped": (
            Dice(empty_target="SKIP"),
            {"predictions": draw(5), "targets": masks},
        ),
    }  # fmt: skip


TABLE = batches()


@pytest.fixture
def client(address: str) -> Iterator[LossClient]:
    with LossClient(address) as found:
        yield found


def problem(client: LossClient, loss: Any, **options: Any) -> Problem:
    given = {
        "reduction": "mean", "normalizer": None, "empty": "zero", "nonfinite": "propagate",
        **options,
    }  # fmt: skip
    return Problem(compute=client.compute, loss=kinds.message_of(loss), **given)


def outcome(function: Any, *given: Any) -> Any:
    try:
        return function(*given)
    except InvalidRequestError as error:
        return error.reason


WAYS: dict[str, dict[str, Any]] = {
    "mean": {}, "batch_mean": {"reduction": "batch_mean"}, "sum": {"reduction": "sum"},
    "none": {"reduction": "none"}, "normalizer": {"normalizer": 7.0},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("empty", ["zero", "nan", "error"])
@pytest.mark.parametrize("name", TABLE)
def test_batches_together_are_batches_alone(
    client: LossClient, name: str, empty: str, way: str
) -> None:
    assert_alike(client, name, empty, way)


def test_no_way_divides_a_batch_by_another_number(client: LossClient) -> None:
    """All combinations, since a sample of them once held no mean of sequences."""
    for name in TABLE:
        for way in WAYS:
            assert_alike(client, name, "nan", way)


def assert_alike(client: LossClient, name: str, empty: str, way: str) -> None:
    loss, inputs = TABLE[name]
    asked = problem(client, loss, empty=empty, **WAYS[way])
    shape = (*inputs["targets"].shape[:2], *inputs["predictions"].shape[3:])
    if name == "elements":
        shape = inputs["targets"].shape
    mask = np.random.default_rng(1).random(shape) < 0.8
    mask[1] = False  # a batch without examples
    weights = np.where(mask, np.random.default_rng(2).random(shape), np.nan)
    for extras in ({}, {"mask": mask}, {"mask": mask, "weights": weights}):
        found = outcome(asked.each, inputs, extras, ("predictions",))
        alone = [
            outcome(
                asked.one,
                {key: value[i] for key, value in inputs.items()},
                {key: value[i] for key, value in extras.items()},
                ("predictions",),
            )
            for i in range(BATCHES)
        ]
        refusals = [one for one in alone if isinstance(one, str)]
        if refusals or isinstance(found, str):
            assert found in refusals
            continue
        values, gradients = found
        for i, (value, gradient) in enumerate(alone):
            np.testing.assert_allclose(np.ravel(values[i]), np.ravel(value), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(
                gradients["predictions"][i], gradient["predictions"], rtol=1e-9, atol=1e-12
            )


def test_batches_side_by_side_are_those_of_who_called(address: str) -> None:
    """Their calls have the caller's context, and warnings name the line that called."""
    user = contextvars.ContextVar("user", default="nobody")
    told: list[str] = []

    def token() -> str:
        told.append(user.get())
        return "secret"

    inputs = {"predictions": np.zeros((2, 6, 6, 6)), "targets": np.zeros((2, 6, 6), int)}
    with LossClient(address, token=token) as client, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        asked = problem(client, CrossEntropy(class_weights=[1, 2, 3, 4, 5, 6]))
        context = contextvars.copy_context()
        context.run(user.set, "me")
        context.run(asked.each, inputs, {}, ())
    assert set(told) == {"me"}
    assert [(each.category, each.filename) for each in seen] == [(BatchWarning, __file__)] * 2


def test_losses_with_a_factor_of_each_example_are_known() -> None:
    declared = {name for name, loss in LOSSES.items() if loss.mean_factor is not None}
    assert declared == SCALED


def test_the_weight_of_an_ignored_example_may_be_anything(client: LossClient) -> None:
    mask, weights = np.array([True, False, True]), np.array([1.0, np.nan, 2.0])
    asked = problem(client, SquaredError(), reduction="none")
    values, _ = asked.one(
        {"predictions": np.array([[1.0], [np.inf], [0.0]]), "targets": np.zeros((3, 1))},
        {"mask": mask, "weights": weights}, (),
    )  # fmt: skip
    np.testing.assert_array_equal(values, [1.0, 0.0, 0.0])
