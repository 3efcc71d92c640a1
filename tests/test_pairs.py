"""Pairs of examples: many of them, equals, infinite scores, and one class only."""

import itertools
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter
from lossd.losses import LOSSES, Status, pairwise_auc
from lossd.losses._maths import auc_labels, auc_pairs
from lossd.losses.pairwise_auc import AucSurrogate
from tests.losses.case import total
from tests.losses.compare import Array, assert_same_bits

INF = np.inf


def _run(engine: Engine, scores: Any, positive: Any, **parameters: Any) -> Result:
    inputs = {"predictions": [np.asarray(scores)], "targets": [np.asarray(positive)]}
    weights = parameters.pop("weights", None)
    job = Job(loss=LOSSES["pairwise_auc"], parameters=parameters, inputs=inputs, weights=weights)
    return engine.run(job)


def _by_pairs(scores: Array, positive: Array, weights: Array, margin: float) -> tuple[float, Array]:
    """The mean over a matrix of all pairs, and its gradient."""
    above, below = positive.astype(bool), ~positive.astype(bool)
    gaps = np.maximum(margin - (scores[above, None] - scores[None, below]), 0)
    shares = weights[above, None] * weights[None, below]
    shares /= shares.sum()
    gradient = np.empty_like(scores)
    gradient[above] = -2 * (shares * gaps).sum(axis=1)
    gradient[below] = 2 * (shares * gaps).sum(axis=0)
    return float((shares * gaps**2).sum()), gradient


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0, 7.0])
def test_sorted_walks_equal_all_pairs(engine: Engine, margin: float, offset: float) -> None:
    """Also far from 0, where sums of squared scores would have no digit left."""
    rng = np.random.default_rng(3)
    for digits in (0, 1, 15):
        scores = np.round(rng.normal(0, 2, 600), digits) + offset
        positive, weights = rng.random(600) < 0.1, rng.uniform(0.1, 3, 600)
        result = _run(engine, scores, positive, margin=margin, weights=weights)
        value, gradient = _by_pairs(scores, positive, weights, margin)
        assert result.loss == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(
            result.gradients["predictions"], gradient, rtol=1e-11, atol=1e-16
        )


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_walk_in_parts_equals_all_pairs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating[Any]], step: int
) -> None:
    monkeypatch.setattr(auc_pairs, "_BLOCK", step)
    monkeypatch.setattr(auc_pairs, "_BLOCK_ON_DEVICE", step)
    rng = np.random.default_rng(5)
    for share, digits in itertools.product((0.02, 0.5, 0.99), (0, 1, 9)):
        scores = np.round(rng.normal(0, 2, 300), digits).astype(dtype)
        positive, weights = rng.random(300) < share, rng.uniform(0.1, 3, 300)
        positive[:2] = True, False
        result = _run(engine, scores, positive, weights=weights)
        value, gradient = _by_pairs(scores.astype(float), positive, weights, 1.0)
        rounding = float(np.finfo(dtype).eps)
        assert result.loss == pytest.approx(value, rel=1e-12 + rounding)
        np.testing.assert_allclose(
            result.gradients["predictions"], gradient, rtol=1e-11 + rounding, atol=1e-16
        )


def test_a_gap_below_the_rounding_of_the_scores_is_a_gap(engine: Engine) -> None:
    """1e17 - 1 is 1e17: only the difference of the scores still knows the margin."""
    result = _run(engine, [1e17, 1e17], [1, 0])
    assert result.loss == 1.0
    assert result.gradients["predictions"].tolist() == [-2.0, 2.0]


def test_logistic_pairs_are_summed_over_many_tiles(engine: Engine) -> None:
    rng = np.random.default_rng(4)
    count = 5000 if engine.backend.name == "numpy" else 300
    scores, positive = rng.normal(0, 3, count), rng.random(count) < 0.2
    result = _run(engine, scores, positive, surrogate=AucSurrogate.LOGISTIC)
    gaps = scores[positive, None] - scores[None, ~positive]
    assert result.loss == pytest.approx(np.logaddexp(0, -gaps).mean(), rel=1e-13)
    derivatives = -1 / (1 + np.exp(gaps)) / gaps.size
    expected = np.empty(count)
    expected[positive], expected[~positive] = derivatives.sum(axis=1), -derivatives.sum(axis=0)
    np.testing.assert_allclose(result.gradients["predictions"], expected, rtol=1e-11)


def test_far_scores_do_not_overflow(engine: Engine) -> None:
    for surrogate, value in (
        (AucSurrogate.LOGISTIC, 2e4),
        (AucSurrogate.SQUARED_HINGE, 20001.0**2),
    ):
        result = _run(engine, [-1e4, 1e4], [1, 0], surrogate=surrogate)
        assert result.loss == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("surrogate", AucSurrogate)
@pytest.mark.parametrize("positive", [[0, 0, 0], [1, 1, 1]])
def test_one_class_only_is_zero_and_undefined(
    engine: Engine, surrogate: AucSurrogate, positive: list[int]
) -> None:
    result = _run(engine, [1.0, np.nan, 2.0], positive, surrogate=surrogate)
    assert (result.loss, result.status) == (0.0, Status.UNDEFINED)
    assert not result.gradients["predictions"].any()


def test_a_label_of_one_class_has_no_part_in_the_mean(engine: Engine) -> None:
    result = _run(engine, [[0.5, 1.0], [0.0, 2.0]], [[1, 1], [0, 1]])
    assert (result.loss, result.status) == (0.25, Status.UNDEFINED)
    assert result.gradients["predictions"].tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_infinite_scores_on_the_right_side_cost_nothing(engine: Engine) -> None:
    for surrogate in AucSurrogate:
        near = _run(engine, [0.5, 0.0], [1, 0], surrogate=surrogate)
        result = _run(engine, [0.5, INF, 0.0, -INF], [1, 1, 0, 0], surrogate=surrogate)
        assert result.loss == pytest.approx(total(near) / 4, rel=1e-15)
        found = result.gradients["predictions"]
        np.testing.assert_allclose(found[[0, 2]], near.gradients["predictions"] / 4, rtol=1e-15)
        assert not found[[1, 3]].any()
        assert result.status is None


def test_infinite_scores_on_the_wrong_side_are_seen(engine: Engine) -> None:
    for surrogate in AucSurrogate:
        result = _run(engine, [0.5, -INF, 0.0], [1, 1, 0], surrogate=surrogate)
        assert (result.loss, result.status) == (INF, Status.NONFINITE)


def test_a_margin_goes_with_the_squared_hinge(engine: Engine) -> None:
    for rows in (0, 2):
        with pytest.raises(InvalidParameter, match=r"margin must be 1 unless .*, got 2"):
            _run(
                engine,
                np.zeros(rows),
                np.zeros(rows, int),
                margin=2.0,
                surrogate=AucSurrogate.LOGISTIC,
            )


MILLION = 1_000_000


def _million() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    positive = rng.random(MILLION) < 0.01
    return (rng.normal(0, 1, MILLION) + positive).astype(np.float32), positive


def test_a_million_examples_take_memory_in_proportion(engine: Engine) -> None:
    """300 bytes an example, where one bit a pair would be a gigabyte."""
    if engine.backend.name != "numpy":
        pytest.skip("it is the host's memory that is measured")
    scores, positive = _million()
    tracemalloc.start()
    try:
        result = _run(engine, scores, positive)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 * MILLION
    # Of normal scores a unit apart, E max(0, 1 - d)^2 with d ~ N(1, sqrt 2) is half the variance.
    assert result.loss == pytest.approx(1.0, abs=0.02)
    assert abs(result.gradients["predictions"].astype(float).sum()) < 1e-6
    assert_same_bits(
        _run(engine, scores, positive).gradients["predictions"], result.gradients["predictions"]
    )


def test_logistic_tiles_are_all_that_is_held(engine: Engine) -> None:
    """A matrix of 20 million pairs would take 160 MB."""
    if engine.backend.name != "numpy":
        pytest.skip("it is the host's memory that is measured")
    rng = np.random.default_rng(1)
    scores, positive = rng.normal(0, 1, 30_000), np.arange(30_000) < 680
    tracemalloc.start()
    try:
        _run(engine, scores, positive, surrogate=AucSurrogate.LOGISTIC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60e6


def scores_of_labels(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> Array:
    scores: Array = rng.standard_normal(shape)
    if kind == "ties":
        return scores.round()
    if kind == "zeros":
        return np.where(scores < 0, -0.0, 0.0)
    if kind == "far":
        scores *= np.exp2(rng.integers(-20, 12, shape).astype(float))
    if kind == "infinite":
        scores[rng.random(shape) < 0.02] = INF
        scores[rng.random(shape) < 0.02] = -INF
    return scores


def weights_of(rng: np.random.Generator, kind: str, count: int) -> Array | None:
    if kind == "none":
        return None
    weights = rng.random(count)
    if kind == "some":
        weights[rng.random(count) < 0.3] = 0
    if kind == "tiny":
        weights[rng.random(count) < 0.5] *= 1e-200
    return weights


@pytest.mark.parametrize("surrogate", AucSurrogate)
@pytest.mark.parametrize("weights", ["none", "any", "some", "tiny"])
@pytest.mark.parametrize("kind", ["any", "ties", "zeros", "far", "infinite"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_labels_of_few_examples_have_the_bits_that_they_have_alone(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, kind: str, weights: str, surrogate: AucSurrogate
) -> None:
    rng, engine = np.random.default_rng(7), Engine(NumpyBackend(1))
    for count in (1, 2, 3, 8, 9, 17, 64, 65):
        shape = (count, 30)
        scores = scores_of_labels(rng, kind, shape).astype(dtype)
        positive = (rng.random(shape) < rng.random(30)).astype(np.int8)
        found = []
        for most in (0, auc_labels.MOST_EXAMPLES):
            monkeypatch.setattr(pairwise_auc, "MOST_EXAMPLES", most)
            monkeypatch.setattr(auc_labels, "_BLOCK", 200)  # so that there are parts
            given = weights_of(np.random.default_rng(count), weights, count)
            found.append(_run(engine, scores, positive, surrogate=surrogate, weights=given))
        alone, together = found
        assert_same_bits(*(np.array(one.loss, np.float64) for one in found))
        for name, gradient in alone.gradients.items():
            assert_same_bits(together.gradients[name], gradient)


def test_labels_of_two_examples_take_no_time_of_their_own() -> None:
    """Some 20 lines of Python a label would be 100,000 calls."""
    looks: list[None] = []
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    scores = np.random.default_rng(0).standard_normal((2, 5_000))
    positive = np.stack([np.ones(5_000), np.zeros(5_000)])
    job = Job(
        loss=LOSSES["pairwise_auc"],
        parameters={},
        inputs={"predictions": [scores], "targets": [positive]},
        gradients=("predictions",),
    )
    engine = Engine(NumpyBackend(1))
    sys.setprofile(count)
    try:
        engine.run(job, checkpoint=lambda: looks.append(None))
    finally:
        sys.setprofile(None)
    assert calls < 5_000
    assert looks
