"""Presets of policies against PyTorch's automatic differentiation of their formulas."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.client import presets
from lossd.engine import Engine
from tests.losses.case import Array
from tests.tokens import LOGS, drawn, run

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(NumpyBackend(1))
    yield made
    made.close()


def by_autograd(given: dict[str, Array], loss: Any) -> tuple[float, Array]:
    """The loss of tensors, and its gradient with respect to the log-probabilities."""
    tensors = {name: torch.tensor(array) for name, array in given.items()}
    tensors[LOGS].requires_grad_()
    found = loss(
        tensors[LOGS],
        tensors["sampling_log_probabilities"],
        tensors["advantages"][:, None],
        tensors["token_mask"].double(),
    )
    found.backward()
    gradient = tensors[LOGS].grad
    assert gradient is not None
    return found.item(), gradient.numpy()


def _surrogate(ratio: Any, advantages: Any, low: float, high: float) -> Any:
    return -torch.min(ratio * advantages, torch.clamp(ratio, low, high) * advantages)


def _sequence_mean(costs: Any, mask: Any) -> Any:
    return ((costs * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def _grpo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    return _sequence_mean(_surrogate(torch.exp(now - then), advantages, 0.8, 1.2), mask)


def _dapo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    costs = _surrogate(torch.exp(now - then), advantages, 0.8, 1.28)
    return (costs * mask).sum() / mask.sum()


def _dr_grpo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    costs = _surrogate(torch.exp(now - then), advantages, 0.8, 1.2)
    return (costs * mask).sum() / (len(now) * 64)


def _gspo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    means = ((now - then) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
    costs = _surrogate(torch.exp(means)[:, None], advantages, 0.9, 1.1)
    return _sequence_mean(costs.expand_as(mask), mask)


def _gspo_token(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    means = (((now - then) * mask).sum(-1) / mask.sum(-1).clamp(min=1)).detach()
    costs = _surrogate(torch.exp(means[:, None] + now - now.detach()), advantages, 0.9, 1.1)
    return _sequence_mean(costs, mask)


def _cispo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    ratio = torch.clamp(torch.exp(now - then), max=5.0).detach()
    return (-ratio * advantages * now * mask).sum() / mask.sum()


def _sapo(now: Any, then: Any, advantages: Any, mask: Any) -> Any:
    heat = 1 + 0.05 * (advantages <= 0).double()
    gate = torch.sigmoid(heat * (torch.exp(now - then) - 1)) * 4 / heat
    return _sequence_mean(-gate * advantages, mask)


AUTOGRAD: dict[str, tuple[Any, Any]] = {
    "grpo": (presets.grpo(kl_coefficient=0), _grpo),
    "dapo": (presets.dapo(), _dapo),
    "dr_grpo": (presets.dr_grpo(length=64), _dr_grpo),
    "gspo": (presets.gspo(low=0.1, high=0.1), _gspo),
    "gspo_token": (presets.gspo_token(low=0.1, high=0.1), _gspo_token),
    "cispo of trl": (presets.cispo("trl"), _cispo),
    "sapo": (presets.sapo(), _sapo),
}


@pytest.mark.parametrize("name", AUTOGRAD)
def test_presets_are_what_autograd_makes_of_the_library_s_formula(
    engine: Engine, name: str
) -> None:
    message, formula = AUTOGRAD[name]
    given = drawn(6, 24, 9)
    given.pop("reference_log_probabilities")
    found = run(engine, message, given)
    value, gradient = by_autograd(given, formula)
    assert found.loss == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(found.gradients[LOGS], gradient, rtol=1e-11, atol=1e-15)
