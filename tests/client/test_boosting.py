"""Objectives for gradient boosting: gradients and curvatures are those of the loss."""

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lossd.client import InvalidRequestError, LossClient
from lossd.client.boosting import objective
from lossd.v1 import (
    AbsoluteError,
    Accuracy,
    BinaryCrossEntropy,
    BradleyTerry,
    CrossEntropy,
    DiscriminatorLoss,
    Hinge,
    Huber,
    LogCosh,
    PoissonNll,
    Quantile,
    SmoothL1,
    SoftF1,
    SquaredError,
)
from lossd.v1.losses import Loss
from tests.end_to_end.conftest import serve


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve("--backend", "numpy") as process:
        yield process.address


@pytest.fixture
def client(address: str) -> Iterator[LossClient]:
    with LossClient(address) as client:
        yield client


def logistic(scores: Any) -> Any:
    return 1 / (1 + np.exp(-scores))


# By name, the gradient and the diagonal of the Hessian from the definition.
DEFINED: dict[str, tuple[Loss, Callable[..., Any], Callable[..., Any]]] = {
    "binary cross-entropy": (
        BinaryCrossEntropy(),
        lambda y, s: logistic(s) - y,
        lambda y, s: logistic(s) * logistic(-s) + 0 * y,
    ),
    "squared error": (
        SquaredError(),
        lambda y, s: 2 * (s - y),
        lambda y, s: 2 + 0 * s * y,
    ),
    "Poisson": (
        PoissonNll(),
        lambda y, s: np.exp(s) - y,
        lambda y, s: np.exp(s) + 0 * y,
    ),
    "log-cosh": (
        LogCosh(),
        lambda y, s: np.tanh(s - y),
        lambda y, s: np.cosh(s - y) ** -2.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFINED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_those_of_the_definition(
    client: LossClient, name: str, dtype: type[Any]
) -> None:
    loss, gradient, curvature = DEFINED[name]
    scores = np.linspace(-8, 8, 101).astype(dtype)
    targets = np.arange(101) % 2
    weights = 1 + np.arange(101) / 50
    wide = scores.astype(np.float64)
    first, second = objective(loss, client)(targets.astype(dtype), scores, weights)
    np.testing.assert_allclose(first, weights * gradient(targets, wide), rtol=1e-12, atol=1e-12)
    expected = np.maximum(weights * curvature(targets, wide), 1e-6)
    np.testing.assert_allclose(second, expected, rtol=1e-6, atol=1e-9)


# By name, a loss of the score minus its target, and the diagonal of the Hessian by definition.
OF_DIFFERENCES: dict[str, tuple[Loss, Callable[..., Any]]] = {
    "log-cosh": (LogCosh(), lambda apart: np.cosh(apart) ** -2.0),
    "Huber": (Huber(delta=1), lambda apart: np.where(np.abs(apart) < 1, 1.0, 1e-6)),
    "smooth L1": (SmoothL1(beta=1), lambda apart: np.where(np.abs(apart) < 1, 1.0, 1e-6)),
    "squared error": (SquaredError(), lambda apart: np.full_like(apart, 2)),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("size", "tolerance"), [(1e3, 1e-9), (1e5, 1e-8), (1e6, 1e-6)])
@pytest.mark.parametrize("name", OF_DIFFERENCES)
def test_scores_far_from_0_have_the_curvature_of_their_distance_from_the_target(
    client: LossClient, name: str, size: float, tolerance: float, sign: int
) -> None:
    loss, curvature = OF_DIFFERENCES[name]
    scores = sign * size + np.array([-3, -1.25, -0.875, -0.5, 0, 0.25, 0.9375, 1.125, 2])
    targets = np.full(len(scores), sign * size)
    _, found = objective(loss, client)(targets, scores)
    np.testing.assert_allclose(found, curvature(scores - targets), rtol=tolerance)


@pytest.mark.parametrize("score", [-30.0, -9.5, 0.0, 3.0, 20.0, 40.0])
def test_losses_of_the_score_alone_have_their_curvature_at_every_usual_score(
    client: LossClient, score: float
) -> None:
    """Against a step that is too small for what exp gives, or too wide for it."""
    _, poisson = objective(PoissonNll(), client, least_curvature=0)([1.0, 5.0], [score] * 2)
    np.testing.assert_allclose(poisson, np.exp(score), rtol=1e-9, atol=1e-9)
    _, binary = objective(BinaryCrossEntropy(), client, least_curvature=0)([0, 1.0], [score] * 2)
    np.testing.assert_allclose(binary, logistic(score) * logistic(-score), rtol=1e-9, atol=1e-10)


def test_a_loss_that_is_linear_in_pieces_takes_the_least_curvature(client: LossClient) -> None:
    asked = objective(AbsoluteError(), client, least_curvature=1)
    first, second = asked(np.zeros(3), np.array([-2.0, 1.0, 3.0]))
    assert first.tolist() == [-1, 1, 1]
    assert second.tolist() == [1, 1, 1]


@pytest.mark.parametrize("distance", [0.0, 2.0**-20, 0.7 * 2.0**-17, -0.4 * 2.0**-17, 2.0**-16])
@pytest.mark.parametrize("loss", [AbsoluteError(), Quantile(quantile=0.9), Hinge()])
def test_where_a_derivative_jumps_there_is_no_curvature(
    client: LossClient, loss: Loss, distance: float
) -> None:
    scores = [1.0 + distance, 4.0]  # the hinge bends at 1 too
    _, curvature = objective(loss, client)(np.ones(2), scores, [5.0, 2.0])
    np.testing.assert_array_equal(curvature, [1e-6, 1e-6])


@pytest.mark.parametrize("loss", [SquaredError(), LogCosh(), Huber()])
@pytest.mark.parametrize("distance", [0.0, 1e-7, -3e-6])
def test_at_its_least_a_smooth_loss_has_its_curvature(
    client: LossClient, loss: Loss, distance: float
) -> None:
    _, curvature = objective(loss, client)(np.zeros(2), np.array([distance, 0.5]))
    assert curvature[0] == pytest.approx(2.0 if isinstance(loss, SquaredError) else 1.0, rel=1e-6)


def test_scores_are_one_an_example(client: LossClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"one an example, got the shape \(2, 3\)"):
        objective(SquaredError(), client)(np.zeros(2), np.zeros((2, 3)))


@pytest.mark.parametrize("name", ["targets", "weights"])
@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 4), ()])
def test_targets_and_weights_are_one_a_score(
    client: LossClient, name: str, shape: tuple[int, ...]
) -> None:
    given = {"targets": np.ones(4), "scores": np.ones(4), "weights": np.ones(4)}
    expected = re.escape(f"{name} must have the shape [4] of scores, got {list(shape)}")
    with pytest.raises(InvalidRequestError, match=f"^{expected}$"):
        objective(SquaredError(), client)(*(given | {name: np.ones(shape)}).values())


def test_one_number_is_no_weight_of_one_score(client: LossClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"^weights must have the shape \[1\]"):
        objective(SquaredError(), client)([1.0], [2.0], 3.0)


@pytest.mark.parametrize("least", [-1, np.nan, np.inf, None, "1e-6", [1.0, 2.0], 1j])
def test_the_least_curvature_is_a_number_from_0(client: LossClient, least: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^least_curvature must be ") as told:
        objective(SquaredError(), client, least_curvature=least)
    assert told.value.field == "least_curvature"


def test_scores_that_are_not_finite_show_in_their_own_derivatives(client: LossClient) -> None:
    scores = np.array([1.0, np.nan, np.inf, 0.0])
    first, second = objective(SquaredError(), client)(np.zeros(4), scores)
    assert first[[0, 3]].tolist() == [2, 0]
    assert second[[0, 3]] == pytest.approx([2, 2], rel=1e-9)
    assert not np.isfinite(first[1:3]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(3) + 1j, np.zeros(3, "M8[s]"), ["1", "2", "3"], ["a", "b", "c"], [None] * 3,
        np.ma.masked_array(np.ones(3), [True, False, False]), [[1.0], [1.0, 2.0], 3.0],
    ],
    ids=["complex", "dates", "numerals", "texts", "nothing", "masked", "ragged"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["targets", "scores", "weights"])
def test_what_are_no_real_numbers_is_refused_by_name(
    client: LossClient, name: str, wrong: Any
) -> None:
    given = {"targets": np.ones(3), "scores": np.ones(3), "weights": np.ones(3)} | {name: wrong}
    with pytest.raises(InvalidRequestError, match=f"^{name} must ") as told:
        objective(SquaredError(), client)(*given.values())
    assert told.value.field == name


@pytest.mark.parametrize(
    ("loss", "refusal"),
    [
        (SquaredError(batch_dims=0), "loss must have an example for each score"),
        (BradleyTerry(), "gradients must be among"),
        (DiscriminatorLoss(), "gradients must be among"),
        (SoftF1(), "reduction must be mean"),
        (CrossEntropy(class_axis=0), "examples|targets"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_losses_whose_examples_are_not_single_scores_are_refused(
    client: LossClient, loss: Loss, refusal: str
) -> None:
    with pytest.raises(InvalidRequestError, match=refusal):
        objective(loss, client)(np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.3]))


def test_an_address_is_enough(address: str) -> None:
    first, second = objective(BinaryCrossEntropy(), address)([1.0], [0.0])
    assert first.tolist() == [-0.5]
    assert second == pytest.approx([0.25], rel=1e-9)


def estimator(library: str, client: LossClient) -> Any:
    """A model of a few trees, of as few rows as there are."""
    boosting = pytest.importorskip(library)
    make = boosting.XGBRegressor if library == "xgboost" else boosting.LGBMRegressor
    own: dict[str, Any] = (
        {"min_child_samples": 1, "min_data_in_bin": 1} if library == "lightgbm" else {}
    )
    return make(objective=objective(SquaredError(), client), n_estimators=3, n_jobs=1, **own)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.filterwarnings("ignore")
def test_estimators_fit_with_weights(client: LossClient, library: str) -> None:
    """A row of a whole weight is as many rows; each library gives weights in its own way."""
    random = np.random.default_rng(5)
    features, targets = random.normal(size=(40, 3)), random.normal(size=40)
    weights = random.integers(1, 4, 40)

    def predicted(rows: Any, given: Any) -> Any:
        model = estimator(library, client)
        model.fit(features[rows], targets[rows], sample_weight=given)
        return model.predict(features)

    whole = np.arange(40)
    expected = predicted(np.repeat(whole, weights), None)
    np.testing.assert_allclose(predicted(whole, weights), expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(predicted(whole, None), expected, rtol=1e-2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])  # noqa: S301
def test_a_copy_of_an_objective_connects_anew(client: LossClient, copied: Any) -> None:
    asked = objective("huber", client, least_curvature=0.5, timeout=20)
    given = np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.2, 4.0]), np.array([1.0, 2.0, 3.0])
    other = copied(asked)
    expected = asked(*given)
    client.close()
    for found, right in zip(other(*given), expected, strict=True):
        assert found.tobytes() == right.tobytes()


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.filterwarnings("ignore")
def test_a_model_is_pickled_with_its_objective(client: LossClient, library: str) -> None:
    random = np.random.default_rng(5)
    features, targets = random.normal(size=(40, 3)), random.normal(size=40)
    model = estimator(library, client)
    copied = pickle.loads(pickle.dumps(model.fit(features, targets)))  # noqa: S301 - our own bytes
    client.close()
    np.testing.assert_array_equal(copied.predict(features), model.predict(features))
    again = copied.fit(features, targets).predict(features)
    np.testing.assert_allclose(again, model.predict(features), rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("hubber", "got 'hubber': did you mean huber"),
        (Accuracy(), "got the metric Accuracy: train with"),
        (SquaredError, "got the class SquaredError"),
        (None, "loss must be a message"),
    ],
)
def test_what_is_no_loss_is_refused_at_once(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        objective(wrong, "127.0.0.1:9")  # nobody listens there
