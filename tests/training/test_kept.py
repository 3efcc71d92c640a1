"""The backward pass of a vector computes from what the forward pass was given, whatever came since.

PyTorch keeps the tensors, as those of its own functions, and everything else is copied.
"""

import array
import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.v1 import CrossEntropy, InfoNce, SquaredError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.autograd import graph  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = pytest.mark.oracle


def draw(*shape: int, seed: int = 0) -> Any:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=drawn)


def cloning() -> Any:
    return graph.saved_tensors_hooks(torch.clone, lambda kept: kept)


@pytest.mark.parametrize("hooks", [cloning, graph.allow_mutation_on_saved_tensors])
@pytest.mark.parametrize("changed", ["predictions", "targets", "weights", "cotangent"])
def test_what_hooks_kept_is_differentiated(
    address: str, hooks: Callable[[], contextlib.AbstractContextManager[Any]], changed: str
) -> None:
    leaf, targets = draw(6, 4).requires_grad_(), torch.arange(6) % 4
    right = nn.functional.cross_entropy(leaf, targets, reduction="none") * torch.arange(1, 7)
    (expected,) = torch.autograd.grad(right.sum(), leaf)
    given = {
        "predictions": leaf * 1.0,
        "targets": targets.clone(),
        "weights": torch.arange(1.0, 7),
        "cotangent": torch.ones(6),
    }

    with hooks():
        value = RemoteLoss(CrossEntropy(), address, reduction="none")(**given)
        with torch.no_grad():
            given[changed].zero_()
        (gradient,) = torch.autograd.grad(value.sum(), leaf)

    torch.testing.assert_close(gradient, expected)


def test_hooks_keep_several_tensors_of_one_input_apart(address: str) -> None:
    maps = [draw(2, 3, 4).requires_grad_(), draw(2, 2, 5, seed=1).requires_grad_()]
    others = [draw(2, 3, 4, seed=2), draw(2, 2, 5, seed=3).numpy()]
    criterion = RemoteLoss("feature_matching", address, reduction="none")

    with cloning():
        value = criterion(maps, others)
    with torch.no_grad():
        for leaf in maps:
            leaf.copy_(leaf.flip(0))
    gradients = torch.autograd.grad(value.sum(), maps)

    for leaf, other, gradient in zip(maps, others, gradients, strict=True):
        expected = (leaf.detach().flip(0) - torch.as_tensor(other)) * 2 / leaf[0].numel()
        torch.testing.assert_close(gradient, expected)


def test_inputs_go_with_the_backward_pass(address: str) -> None:
    """As those of PyTorch's own functions, though the value stays."""
    leaf, inputs = draw(6, 4).requires_grad_(), []

    def computed(given: Any) -> Any:
        hidden = given * 1.0
        inputs.append(weakref.ref(hidden))
        return RemoteLoss(SquaredError(), address, reduction="none")(hidden, draw(6, 4, seed=1))

    value = computed(leaf)
    value.sum().backward()
    gc.collect()
    assert [one() for one in inputs] == [None]

    value = checkpoint(computed, leaf, use_reentrant=False)
    gc.collect()
    assert [one() for one in inputs] == [None] * 2
    value.sum().backward()
    gc.collect()
    assert [one() for one in inputs] == [None] * 3
    twice = 2 * 2 * (leaf.detach() - draw(6, 4, seed=1)) / 4
    torch.testing.assert_close(leaf.grad, twice)


def assign(criterion: Any, queries: Any, keys: Any) -> Any:
    value = criterion(queries, keys)
    criterion.load_state_dict({"temperature": torch.tensor(0.07)}, assign=True)
    return value


def call(criterion: Any, queries: Any, keys: Any) -> Any:
    criterion.load_state_dict({"temperature": torch.tensor(0.07)})
    swapped = {"temperature": nn.Parameter(torch.tensor(0.3))}
    return torch.func.functional_call(criterion, swapped, (queries, keys))


@pytest.mark.parametrize("way", [assign, call])
def test_a_number_that_is_replaced_later_stays_in_the_gradients(
    address: str, way: Callable[..., Any]
) -> None:
    queries, keys = draw(4, 3).requires_grad_(), draw(4, 3, seed=1)
    criterion = RemoteLoss(
        InfoNce(temperature=0.3), address, reduction="none", learnable=["temperature"]
    )

    (gradient,) = torch.autograd.grad(way(criterion, queries, keys).sum(), queries)

    cosines = nn.functional.normalize(queries) @ nn.functional.normalize(keys).T
    right = nn.functional.cross_entropy(cosines / 0.3, torch.arange(4), reduction="sum")
    (expected,) = torch.autograd.grad(right, queries)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        np.array, list,
        lambda classes: array.array("q", classes),
        lambda classes: memoryview(array.array("i", classes)),
        lambda classes: pytest.importorskip("pandas").Series(classes),
    ],
    ids=["array of numpy", "list", "array of python", "memory", "column"],
)  # fmt: skip
def test_what_is_no_tensor_may_be_written_to(address: str, make: Callable[..., Any]) -> None:
    leaf, classes = draw(6, 4).requires_grad_(), [0, 1, 2, 3, 0, 1]
    targets, weights = make(classes), make([1, 2, 3, 4, 5, 6])
    value = RemoteLoss(CrossEntropy(), address, reduction="none")(leaf, targets, weights=weights)

    for index in range(len(classes)):
        targets[index] = weights[index] = 0
    (gradient,) = torch.autograd.grad(value.sum(), leaf)

    right = nn.functional.cross_entropy(leaf, torch.tensor(classes), reduction="none")
    (expected,) = torch.autograd.grad((right * torch.arange(1, 7)).sum(), leaf)
    torch.testing.assert_close(gradient, expected)
