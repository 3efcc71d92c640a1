"""PyTorch's automatic differentiation in float64 of what critics, generators and maps lose."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Distance
from tests.losses.case import total
from tests.sampling import cases

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


def _critic_costs(objective: str, target: float) -> tuple[Callable[[Any], Any], ...]:
    """Returns the costs of a score that should be high, and of one that should be low."""
    functional = torch.nn.functional
    if objective == "LEAST_SQUARES":
        return lambda x: (x - target) ** 2 / 2, lambda x: x**2 / 2
    if objective == "HINGE":
        return lambda x: functional.relu(1 - x), lambda x: functional.relu(1 + x)
    if objective == "WASSERSTEIN":
        return lambda x: -x, lambda x: x

    def high(x: Any) -> Any:
        truth = torch.full_like(x, target)
        return functional.binary_cross_entropy_with_logits(x, truth, reduction="none")

    return high, functional.softplus


def _generator_cost(objective: str) -> Callable[[Any], Any]:
    if objective == "MINIMAX":
        return lambda x: -torch.nn.functional.softplus(x)
    if objective == "HINGE":
        return lambda x: -x
    return _critic_costs(objective, 1)[0]


def _opposed(name: str, given: dict[str, Any], parameters: dict[str, Any]) -> Any:
    chosen = parameters.get("objective")
    objective = chosen.name if chosen else "NON_SATURATING"
    high, low = _critic_costs(objective, 1 - parameters.get("label_smoothing", 0))
    first, second = ("real", "fake") if name == "discriminator_loss" else ("fake", "real")
    if objective == "RELATIVISTIC":
        return high(given[first] - given[second]).mean()
    if objective == "RELATIVISTIC_AVERAGE":
        means = {side: scores.mean() for side, scores in given.items()}
        own = high(given[first] - means[second]).mean()
        return own + low(given[second] - means[first]).mean()
    if name == "generator_loss":
        return _generator_cost(objective)(given["fake"]).mean()
    return high(given["real"]).mean() + low(given["fake"]).mean()


@pytest.mark.parametrize("name", ["generator_loss", "discriminator_loss"])
def test_both_players_of_every_objective(engine: Engine, name: str) -> None:
    for case in cases(LOSSES[name]):
        tensors = {n: torch.tensor(a, requires_grad=True) for n, a in case.inputs.items()}
        value = _opposed(name, tensors, dict(case.parameters))
        value.backward()
        result = engine.run(case.job(gradients=tuple(tensors)))
        assert total(result) == pytest.approx(value.item(), rel=1e-13), case
        for side, tensor in tensors.items():
            np.testing.assert_allclose(
                result.gradients[side], tensor.grad.numpy(), rtol=1e-12, atol=1e-16
            )


@pytest.mark.parametrize("parameters", [{}, {"one_sided": True}, {"target_norm": 0.5}])
def test_a_penalty_goes_on_into_the_critic(engine: Engine, parameters: dict[str, Any]) -> None:
    """The gradient with respect to the critic's gradients goes on into its weights."""
    rng = np.random.default_rng(3)
    points = torch.tensor(rng.normal(size=(9, 4)), requires_grad=True)
    first, last = (torch.tensor(rng.normal(size=shape)) for shape in ((4, 8), (8, 1)))
    first.requires_grad_()
    scores = torch.tanh(points @ first) @ last
    (derivatives,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    excess = derivatives.norm(dim=1) - parameters.get("target_norm", 1)
    excess = excess.clamp(min=0) if parameters.get("one_sided") else excess
    expected = torch.autograd.grad((excess**2).mean(), first, retain_graph=True)[0]
    assert (excess > 0).any()
    assert expected.abs().max() > 1e-3
    given = {"input_gradients": [derivatives.detach().numpy()]}
    job = Job(loss=LOSSES["gradient_penalty"], parameters=parameters, inputs=given)
    result = engine.run(job)
    assert total(result) == pytest.approx((excess**2).mean().item(), rel=1e-13)
    by_slopes = torch.tensor(np.asarray(result.gradients["input_gradients"]))
    (found,) = torch.autograd.grad(derivatives, first, grad_outputs=by_slopes)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-11, atol=1e-15)


def _layers(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(5, *shape)) for shape in ((3, 4, 4), (6, 7), (8,))]


def _matched(x: Any, y: Any, distance: Distance, style: float) -> Any:
    flat = [layer.flatten(1) for layer in (x, y)]
    size = flat[0].shape[1]
    content = {
        Distance.SQUARED_EUCLIDEAN: lambda a, b: ((a - b) ** 2).mean(1),
        Distance.EUCLIDEAN: lambda a, b: (a - b).norm(dim=1) / size**0.5,
        Distance.COSINE: lambda a, b: 1 - torch.cosine_similarity(a, b, dim=1),
    }[distance](*flat)
    maps = [layer.reshape(*layer.shape[:2], -1) for layer in (x, y)]
    grams = [each @ each.transpose(1, 2) / size for each in maps]
    return content + style * ((grams[0] - grams[1]) ** 2).sum((1, 2))


def _weights() -> Iterator[tuple[Distance, float, tuple[float, ...]]]:
    for distance in Distance:
        yield distance, 0.0, ()
        yield distance, 2.5, (0.5, 2.0, 1.25)


def test_maps_and_their_styles(engine: Engine) -> None:
    for distance, style, weights in _weights():
        given = {"predictions": _layers(1), "targets": _layers(2)}
        tensors = {n: [torch.tensor(a, requires_grad=True) for a in x] for n, x in given.items()}
        pairs = zip(weights or (1,) * 3, *tensors.values(), strict=True)
        value = sum(w * _matched(x, y, distance, style).mean() for w, x, y in pairs)
        value.backward()
        parameters = {"distance": distance, "style_weight": style, "layer_weights": weights}
        loss = LOSSES["feature_matching"]
        result = engine.run(
            Job(loss=loss, parameters=parameters, inputs=given, gradients=tuple(given))
        )
        assert total(result) == pytest.approx(value.item(), rel=1e-13)
        for name, layers in tensors.items():
            for gradient, layer in zip(result.gradients[name], layers, strict=True):
                np.testing.assert_allclose(gradient, layer.grad.numpy(), rtol=1e-10, atol=1e-14)
