"""Weights of the columns of the last axis, whichever of the axes count examples."""

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import InvalidParameter
from lossd.losses import LOSSES, DistributionKind
from lossd.shapes._blocks import BLOCK_ELEMENTS
from tests.losses.compare import Array, assert_same_bits

LOSS = LOSSES["binary_cross_entropy"]


def job(scores: Array, answers: Array, **parameters: object) -> Job:
    inputs = {"predictions": [scores], "targets": [answers]}
    wanted = ("predictions", "targets")
    return Job(loss=LOSS, parameters=parameters, inputs=inputs, gradients=wanted)


SHAPES = [(7,), (3, 2), (5, 4, 3), (40_000, 3), (1, BLOCK_ELEMENTS + 7)]  # the last in two parts


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [DistributionKind.LOGITS, DistributionKind.PROBABILITIES])
def test_columns_have_weights_of_their_own(
    engine: Engine, shape: tuple[int, ...], kind: DistributionKind
) -> None:
    random = np.random.default_rng(3)
    scores, answers = random.uniform(0.1, 0.9, shape), random.uniform(0, 1, shape)
    weights = random.uniform(0.5, 3, shape[-1])
    chances = 1 / (1 + np.exp(-scores)) if kind is DistributionKind.LOGITS else scores
    yes, no = -np.log(chances), -np.log(1 - chances)
    each = weights * answers * yes + (1 - answers) * no
    for dims in range(len(shape) + 1):
        given = job(
            scores, answers,
            positive_weights=tuple(weights), batch_dims=dims, prediction_kind=kind,
        )  # fmt: skip
        found = engine.run(given)
        expected = each.mean(axis=tuple(range(dims, len(shape))))
        assert found.per_example is not None
        np.testing.assert_allclose(found.per_example, expected, rtol=1e-11)
        by_targets = (weights * yes - no) / each.size
        np.testing.assert_allclose(found.gradients["targets"], by_targets, rtol=1e-9, atol=1e-18)


def test_one_example_has_the_bits_that_it_has_in_a_batch(engine: Engine) -> None:
    random = np.random.default_rng(4)
    scores = random.standard_normal((9, 4)).astype(np.float32)
    answers = (random.random((9, 4)) < 0.5).astype(np.float32)
    more = {"positive_weights": (1.0, 2.0, 3.0, 4.0), "batch_dims": 2}
    batch = engine.run(job(scores, answers, **more)).per_example
    assert batch is not None
    for row in range(9):
        alone = engine.run(job(scores[row : row + 1], answers[row : row + 1], **more)).per_example
        assert alone is not None
        assert_same_bits(alone, batch[row : row + 1])


def test_no_examples_take_weights_too(engine: Engine) -> None:
    for dims, shape in ((1, (0, 2)), (2, (0, 2))):
        empty = np.zeros(shape)
        found = engine.run(job(empty, empty, positive_weights=(1.0, 2.0), batch_dims=dims))
        assert (found.loss, found.example_count) == (0, 0)


@pytest.mark.parametrize(
    ("shape", "dims", "count", "words"),
    [
        ((3, 2), 1, 3, "2 numbers, got 3"),
        ((3, 2), 2, 3, "2 numbers, got 3"),
        ((3, 2), 2, 6, "2 numbers, got 6"),
        ((3, 1), 1, 2, "1 number, got 2"),
        ((3, 1), 2, 3, "1 number, got 3"),
        ((4,), 1, 2, "4 numbers, got 2"),
        ((), 0, 2, "1 number, got 2"),
    ],
)
def test_another_number_of_weights_is_refused(
    engine: Engine, shape: tuple[int, ...], dims: int, count: int, words: str
) -> None:
    zeros = np.zeros(shape)
    with pytest.raises(InvalidParameter, match=f"^positive_weights must have {words}$"):
        engine.run(job(zeros, zeros, positive_weights=(1.0,) * count, batch_dims=dims))
