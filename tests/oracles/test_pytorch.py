"""PyTorch in float64, where it is right: an answer by other people.

Not asked: half precision, margins beyond 37, -inf (all wrong there).
"""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, Distance, DistributionKind, Loss, MulticlassHingeVariant
from lossd.reduction import Reduction
from tests.losses.case import Case, Form
from tests.sampling import cases, draw

pytestmark = pytest.mark.oracle


def _regression(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    name = {
        "squared_error": "mse_loss",
        "absolute_error": "l1_loss",
        "huber": "huber_loss",
        "smooth_l1": "smooth_l1_loss",
    }[case.loss.name]
    call = getattr(torch.nn.functional, name)
    return call(*tensors.values(), reduction=reduction, **case.parameters)


def _poisson_nll(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    call = torch.nn.functional.poisson_nll_loss
    return call(*tensors.values(), reduction=reduction, eps=0, **case.parameters)


def _gaussian_nll(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    if "eps" in case.parameters:
        return None  # PyTorch's gradient below the floor is not that of its value
    call = torch.nn.functional.gaussian_nll_loss
    return call(*tensors.values(), reduction=reduction, **case.parameters)


def _binary_cross_entropy(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    functional, given = torch.nn.functional, case.parameters
    kind = given.get("prediction_kind", DistributionKind.LOGITS)
    smoothing = given.get("label_smoothing", 0)
    smooth = tensors["targets"] * (1 - smoothing) + smoothing / 2
    weights = given.get("positive_weights")
    if kind is DistributionKind.LOGITS:
        return functional.binary_cross_entropy_with_logits(
            tensors["predictions"],
            smooth,
            pos_weight=None if weights is None else torch.tensor(weights).double(),
            reduction=reduction,
        )
    if weights is not None or kind is not DistributionKind.PROBABILITIES:
        return None
    return functional.binary_cross_entropy(tensors["predictions"], smooth, reduction=reduction)


def _kl_divergence(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    temperature = case.parameters.get("temperature", 1)
    logarithms = {
        DistributionKind.LOGITS: lambda x: torch.log_softmax(x / temperature, -1),
        DistributionKind.LOG_PROBABILITIES: lambda x: x,
        DistributionKind.PROBABILITIES: torch.log,
    }
    kind = case.parameters.get("prediction_kind", DistributionKind.LOGITS)
    target_kind = case.parameters.get("target_kind", DistributionKind.PROBABILITIES)
    value = torch.nn.functional.kl_div(
        logarithms[kind](tensors["predictions"]),
        logarithms[target_kind](tensors["targets"]),
        log_target=True,
        reduction="batchmean" if reduction == "mean" else reduction,
    )
    is_scaled = case.parameters.get("scale_by_squared_temperature", False)
    return value * (temperature**2 if is_scaled else 1)


def _multiclass_hinge(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    given = case.parameters
    power = given.get("power", 1)
    if given.get("variant") is not MulticlassHingeVariant.WESTON_WATKINS or power not in (1, 2):
        return None
    value = torch.nn.functional.multi_margin_loss(
        *tensors.values(), p=power, margin=given.get("margin", 1), reduction=reduction
    )
    return value * tensors["predictions"].shape[1]  # PyTorch divides by the number of classes


def _triplet(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    given = dict(case.parameters)
    if given.pop("distance", Distance.EUCLIDEAN) is not Distance.EUCLIDEAN:
        return None
    call = torch.nn.functional.triplet_margin_loss
    return call(*tensors.values(), reduction=reduction, **given)


def _cosine_embedding(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    call = torch.nn.functional.cosine_embedding_loss
    return call(*tensors.values(), reduction=reduction, **case.parameters)


def _cross_entropy(torch: Any, case: Case, tensors: dict[str, Any], reduction: str) -> Any:
    given = dict(case.parameters)
    if given.pop("prediction_kind", DistributionKind.LOGITS) is not DistributionKind.LOGITS:
        return None
    if "class_weights" in given:
        given["weight"] = torch.tensor(given.pop("class_weights")).double()
    logits = tensors["predictions"] / given.pop("temperature", 1.0)
    given.pop("outputs", None)
    strength, z_loss = given.pop("prior_strength", 1.0), given.pop("z_loss", 0.0)
    if "class_priors" in given:
        priors = torch.tensor(given.pop("class_priors")).double()
        logits = logits + strength * (priors / priors.sum()).log()
    penalty = z_loss * logits.logsumexp(dim=-1).square().sum()
    divisor = case.class_weights.sum() if reduction == "mean" else 1
    entropy = torch.nn.functional.cross_entropy(
        logits, tensors["targets"], reduction=reduction, **given
    )
    return entropy + penalty / divisor


FUNCTIONS = {
    **dict.fromkeys(("squared_error", "absolute_error", "huber", "smooth_l1"), _regression),
    "triplet": _triplet,
    "cosine_embedding": _cosine_embedding,
    "poisson_nll": _poisson_nll,
    "gaussian_nll": _gaussian_nll,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
    "kl_divergence": _kl_divergence,
    "multiclass_hinge": _multiclass_hinge,
}
REDUCTIONS = {Reduction.MEAN: "mean", Reduction.SUM: "sum"}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_pytorch_agrees(engine: Engine, loss: Loss, reduction: Reduction) -> None:
    torch = pytest.importorskip("torch")
    if loss.name not in FUNCTIONS:
        pytest.skip("PyTorch has no such loss")
    compared = 0
    for case in cases(loss, interior=True):
        tensors = {
            name: torch.tensor(array, requires_grad=name in case.differentiable)
            for name, array in case.inputs.items()
        }
        if case.form is Form.INTEGERS:
            tensors["targets"] = tensors["targets"].double()
        value = FUNCTIONS[loss.name](torch, case, tensors, REDUCTIONS[reduction])
        if value is None:
            continue
        result = engine.run(case.job(reduction=reduction, gradients=case.differentiable))
        # Of a pointwise loss, the sum is over examples here and over elements in PyTorch.
        elements = case.inputs[loss.inputs[0].name].shape[1]
        is_sum_of_means = reduction is Reduction.SUM and "batch_dims" in loss.complete({})
        factor = 1 / elements if is_sum_of_means else 1
        assert result.loss == pytest.approx(value.item() * factor, rel=1e-12), case
        value.backward()
        for name, gradient in result.gradients.items():
            expected = tensors[name].grad.numpy() * factor
            np.testing.assert_allclose(
                gradient, expected, rtol=1e-10, atol=1e-14, err_msg=f"{case} {name}"
            )
        compared += 1
    if not compared:
        pytest.skip("PyTorch has no such loss")


def test_weights_smoothing_and_ignored_rows_together(engine: Engine) -> None:
    torch = pytest.importorskip("torch")
    weights = (0.5, 2.0, 1.0, 0.25, 3.0)
    parameters = {"class_weights": weights, "label_smoothing": 0.1, "ignore_index": 2}
    case = draw(LOSSES["cross_entropy"], parameters, Form.CLASSES, 40, 5)
    assert (case.inputs["targets"] == 2).sum() > 2
    predictions = torch.tensor(case.inputs["predictions"], requires_grad=True)
    value = torch.nn.functional.cross_entropy(
        predictions,
        torch.tensor(case.inputs["targets"]),
        weight=torch.tensor(weights).double(),
        label_smoothing=0.1,
        ignore_index=2,
    )
    value.backward()
    result = engine.run(case.job())
    assert result.loss == pytest.approx(value.item(), rel=1e-13)
    np.testing.assert_allclose(
        result.gradients["predictions"], predictions.grad.numpy(), rtol=1e-11, atol=1e-16
    )
