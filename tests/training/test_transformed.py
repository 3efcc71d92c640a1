"""A function that calls a server must not be transformed into another: PyTorch refuses it.

Such a call would read memory that no number is in, or lose a derivative, without a word.
"""

from collections.abc import Callable
from typing import Any

import pytest

from lossd.client import InvalidRequestError
from lossd.v1 import InfoNce, SquaredError

torch = pytest.importorskip("torch")
from torch.autograd import forward_ad, graph  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = [
    pytest.mark.oracle,
    # PyTorch compiles rules of its own when it first computes in forward mode.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

Function = Callable[[Any], Any]
POINT = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)


def of_predictions(address: str, reduction: Any) -> Function:
    criterion = RemoteLoss(SquaredError(), address, reduction=reduction)
    return lambda given: criterion(given * 1, torch.zeros(2))


def of_targets(address: str, reduction: Any) -> Function:
    criterion = RemoteLoss(SquaredError(), address, reduction=reduction)
    return lambda given: criterion(torch.zeros(2), given * 1)


def of_weights(address: str, reduction: Any) -> Function:
    criterion = RemoteLoss(SquaredError(), address, reduction=reduction)
    return lambda given: criterion(torch.ones(2), torch.zeros(2), weights=given * 1)


def of_cotangents(address: str, reduction: Any) -> Function:
    criterion = RemoteLoss(SquaredError(), address, reduction=reduction)
    return lambda given: criterion(torch.ones(2), torch.zeros(2), cotangent=given * 1)


def of_temperatures(address: str, reduction: Any) -> Function:
    criterion = RemoteLoss(
        InfoNce(temperature=0.5), address, reduction=reduction, learnable=["temperature"]
    )

    def compute(given: Any) -> Any:
        swapped = {"temperature": given.sum()}
        return torch.func.functional_call(criterion, swapped, (torch.eye(2), torch.ones(2, 2)))

    return compute


def of_weighted_elements(address: str, reduction: Any) -> Function:
    module = torch.nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 2.0]), reduction=reduction)
    criterion = RemoteLoss.like(module, address)
    return lambda given: criterion(given * 1, torch.zeros(2))


def in_forward_mode(function: Function) -> Any:
    with forward_ad.dual_level():
        return function(forward_ad.make_dual(POINT[0], torch.ones_like(POINT[0])))


def in_forward_mode_alone(function: Function) -> Any:
    """Where no other gradient is computed."""
    with torch.no_grad():
        return in_forward_mode(function)


TRANSFORMED: dict[str, Callable[[Function], Any]] = {
    "functionalize": lambda function: torch.func.functionalize(function)(POINT[0]),
    "grad": lambda function: torch.func.grad(lambda given: function(given).sum())(POINT[0]),
    "jvp": lambda function: torch.func.jvp(function, (POINT[0],), (POINT[1],)),
    "vjp": lambda function: torch.func.vjp(function, POINT[0]),
    "jacfwd": lambda function: torch.func.jacfwd(function)(POINT[0]),
    "vmap": lambda function: torch.func.vmap(function)(POINT),
    "forward mode": in_forward_mode,
    "forward mode alone": in_forward_mode_alone,
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("transformed", TRANSFORMED)
@pytest.mark.parametrize(
    "make",
    [of_predictions, of_targets, of_weights, of_cotangents, of_temperatures, of_weighted_elements],
)
def test_a_transformation_of_a_loss_is_refused(
    address: str, make: Callable[[str, Any], Function], transformed: str, reduction: Any
) -> None:
    function = make(address, reduction)

    with pytest.raises(
        (RuntimeError, InvalidRequestError), match=r"autograd\.Function|must not be differentiated"
    ):
        TRANSFORMED[transformed](function)

    assert torch.isfinite(function(POINT[0])).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_where_no_gradient_is_wanted_nothing_is_kept(
    address: str, mode: Callable[[], Any], reduction: Any
) -> None:
    criterion = RemoteLoss(SquaredError(), address, reduction=reduction)
    kept: list[Any] = []
    leaf = POINT.clone().requires_grad_(mode is not torch.enable_grad)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)

    with mode(), graph.saved_tensors_hooks(kept.append, lambda one: one):
        value = criterion(leaf, torch.zeros(2, 2).numpy(), weights=weights)

    assert not kept
    assert value.grad_fn is None
    squares = (POINT**2).mean(1) * weights
    right = squares if reduction == "none" else squares.sum() / weights.sum()
    torch.testing.assert_close(value.clone(), right)
