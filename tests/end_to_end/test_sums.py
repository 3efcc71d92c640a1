"""Sums of losses, lists of maps and optional inputs against a real server."""

from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import InvalidRequestError, LossClient, UnknownLossError, weighted_sum


def test_a_sum_of_two_losses(client: LossClient) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    masks, truth = rng.normal(size=(6, 9)), rng.integers(0, 2, (6, 9))
    names = {"predictions": "masks", "targets": "truth"}
    loss = weighted_sum((0.7, v1.CrossEntropy()), (0.3, v1.Dice(), names))
    result = client.compute(loss, logits, labels, masks=masks, truth=truth)
    first = client.compute(v1.CrossEntropy(), logits, labels)
    second = client.compute(v1.Dice(), masks, truth)
    assert first.loss is not None
    assert second.loss is not None
    assert result.loss == pytest.approx(0.7 * first.loss + 0.3 * second.loss)
    np.testing.assert_allclose(
        result.gradients["predictions"], 0.7 * first.gradients["predictions"]
    )
    np.testing.assert_allclose(result.gradients["masks"], 0.3 * second.gradients["predictions"])
    assert [term.loss for term in result.terms] == [first.loss, second.loss]
    assert result.terms[0].gradient_norm == pytest.approx(
        np.linalg.norm(first.gradients["predictions"])
    )
    assert result.per_example is not None
    assert not client.compute(v1.CrossEntropy(), logits, labels).terms


@pytest.mark.parametrize("classes", [4, 50, 1000], ids=["bytes", "kilobytes", "megabytes"])
@pytest.mark.parametrize("way", ["server", "sharing"])
def test_a_term_has_the_outputs_that_its_loss_is_asked_for(
    request: pytest.FixtureRequest, connect: Any, way: str, classes: int
) -> None:
    """However they travel: in the message, beside it, in chunks, or after shared memory."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1000, classes)).astype(np.float32)
    labels = rng.integers(0, classes, 1000)
    asked = v1.CrossEntropy(outputs=["PREDICTED_CLASS", "LOG_SUM_EXP"])
    smooth = v1.CrossEntropy(outputs=["ENTROPY"], label_smoothing=0.1)
    loss = weighted_sum((0.7, asked), (0.3, smooth), (1, v1.CrossEntropy()))
    with connect(request.getfixturevalue(way).address) as client:
        found = [client.compute(loss, logits, labels) for _ in range(2)][1]  # a known request
    assert found.outputs == {}
    first, second, third = (term.outputs for term in found.terms)
    assert list(first) == ["predicted_class", "log_sum_exp"]
    np.testing.assert_array_equal(first["predicted_class"], logits.argmax(axis=1))
    exact = logits.astype(np.float64)
    logarithms = np.log(np.exp(exact).sum(axis=1))
    np.testing.assert_allclose(first["log_sum_exp"], logarithms, 1e-6)
    assert not first["log_sum_exp"].flags.writeable
    shares = np.exp(exact - logarithms[:, None])
    assert list(second) == ["entropy"]
    np.testing.assert_allclose(second["entropy"], -(shares * np.log(shares)).sum(axis=1), 1e-5)
    assert third == {}


def test_each_term_has_a_temperature_of_its_own(client: LossClient) -> None:
    rng = np.random.default_rng(1)
    queries, keys = rng.normal(size=(2, 5, 3))
    warm, cold = v1.InfoNce(temperature=0.5), v1.InfoNce(temperature=0.1)
    loss = weighted_sum((2, warm), (-0.5, cold))
    names = ["terms[0].temperature", "terms[1].temperature"]
    result = client.compute(loss, queries, keys, gradients=["queries", *names])
    assert list(result.gradients) == ["queries", *names]
    for name, weight, term in zip(names, (2, -0.5), (warm, cold), strict=True):
        alone = client.compute(term, queries, keys, gradients=["temperature"])
        assert result.gradients[name] == weight * alone.gradients["temperature"]
        assert result.gradients[name].dtype == np.float64
    with pytest.raises(InvalidRequestError, match=r"keys, terms\[0\].temperature, .* got 'temp"):
        client.compute(loss, queries, keys, gradients=["temperature"])


def test_sums_that_are_none_are_refused(client: LossClient) -> None:
    numbers = np.ones(3)
    nested = weighted_sum((1, weighted_sum((1, v1.Huber()))))  # type: ignore[arg-type]
    with pytest.raises(
        UnknownLossError, match=r"^terms\[0\].loss must be a single loss, got a sum"
    ):
        client.compute(nested, predictions=numbers, targets=numbers)
    with pytest.raises(InvalidRequestError, match=r"^terms\[0\].loss must be a single loss, got a"):
        client.compute(nested, numbers, numbers)
    with pytest.raises(InvalidRequestError, match=r"^terms must be at least one, got none"):
        client.compute(weighted_sum(), numbers, numbers)
    many = weighted_sum(*[(1, v1.Huber())] * 17)
    for wrong, words in (
        (weighted_sum(), "terms must be 1 to 16, got 0"),
        (many, "terms must be 1 to 16, got 17"),
        (weighted_sum((float("nan"), v1.Huber())), r"terms\[0\].weight must be in \(-inf, inf\)"),
        (weighted_sum((1, v1.Huber(), {"scores": "x"})), "input_names must be of predictions, "),
    ):
        with pytest.raises(InvalidRequestError, match=words):
            client.compute(wrong, predictions=numbers, targets=numbers)


def test_maps_come_as_lists_and_so_do_their_gradients(client: LossClient) -> None:
    maps = [np.ones((2, 3, 4)), np.ones((2, 5), np.float32)]
    zeros = [np.zeros_like(layer) for layer in maps]
    result = client.compute(v1.FeatureMatching(), maps, zeros)
    assert result.loss == 2
    assert [g.dtype for g in result.gradients["predictions"]] == [np.float64, np.float32]
    np.testing.assert_allclose(result.gradients["predictions"][1], 2 / 5 / 2, rtol=1e-6)
    bare = client.compute(v1.FeatureMatching(), maps[0], zeros[0])
    assert bare.gradients["predictions"].shape == (2, 3, 4)


def test_lengths_and_real_scores_may_be_left_out(client: LossClient) -> None:
    result = client.compute(v1.Ctc(), np.zeros((1, 2, 2)), [[1]])
    assert result.loss == pytest.approx(np.log(4 / 3))
    short = client.compute(v1.Ctc(), np.zeros((2, 2, 2)), [[1], [1]], [2, 0], [1, 1])
    assert short.statuses == {1: "INFEASIBLE"}
    assert client.compute(v1.GeneratorLoss(), [0.0]).loss == pytest.approx(np.log(2))
    objective = v1.GAN_OBJECTIVE_RELATIVISTIC
    paired = client.compute(v1.GeneratorLoss(objective=objective), [0.0], [0.0])
    assert paired.loss == pytest.approx(np.log(2))
    assert sorted(paired.gradients) == ["fake", "real"]
