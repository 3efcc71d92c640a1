"""Gradients of ``RemoteLoss`` are derivatives, as PyTorch's own check has it, for every shape."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd.losses import LOSSES, Shape
from lossd.v1 import (
    BatchTriplet,
    CrossEntropy,
    Ctc,
    Dice,
    Distance,
    FeatureMatching,
    GeneratorLoss,
    InfoNce,
    LossSpec,
    PairwiseAuc,
    Perceptual,
    Preference,
    SquaredError,
    Triplet,
)
from lossd.v1.losses import Loss
from tests.end_to_end.conftest import networks, serve

torch = pytest.importorskip("torch")

from lossd.client.torch import RemoteLoss  # noqa: E402

__all__ = ["networks"]  # the fixture

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def address(networks: Path) -> Iterator[str]:
    arguments = ("--backend", "numpy", "--threads", "2", "--networks", str(networks))
    with serve(*arguments) as process:
        yield process.address


def draw(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(count: int, *shape: int) -> Any:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(0))


def single(given: Any) -> Any:
    return given


def layers(given: Any) -> Any:
    """A list of layers, of which the others are constant."""
    return [given, draw(2, 2, 5, seed=7)]


# A loss, its inputs by position, and how the first of them becomes what the loss takes.
Case = tuple[Loss, tuple[Any, ...], Callable[[Any], Any]]
CASES: dict[Shape, list[Case]] = {
    Shape.POINTWISE: [(SquaredError(), (draw(3, 4), draw(3, 4, seed=1)), single)],
    Shape.ROWWISE: [(CrossEntropy(), (draw(3, 4), labels(4, 3)), single)],
    Shape.REGIONWISE: [(Dice(), (draw(2, 6), labels(2, 2, 6).double()), single)],
    Shape.SETWISE: [(PairwiseAuc(), (draw(6), torch.tensor([0, 1, 1, 0, 1, 0])), single)],
    Shape.SEQUENCE: [(Ctc(), (draw(2, 5, 4), labels(3, 2, 2) + 1), single)],
    Shape.OPPOSED: [(GeneratorLoss(), (draw(4),), single)],
    Shape.FEATURES: [
        (
            FeatureMatching(), (draw(2, 3, 4), [draw(2, 3, 4, seed=2), draw(2, 2, 5, seed=3)]),
            layers,
        ),
    ],
    Shape.VECTORS: [
        (
            Triplet(distance=Distance.DISTANCE_COSINE),
            (draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2)), single,
        ),
    ],
    Shape.COUPLED: [
        (InfoNce(temperature=0.5), (draw(4, 3), draw(4, 3, seed=1)), single),
        (BatchTriplet(margin=3), (draw(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])), single),
    ],
    Shape.IMAGES: [
        (
            Perceptual(network="worked", layers=["linear", "rectified"], value_range=[0, 1]),
            (draw(2, 1, 3, 3), draw(2, 1, 3, 3, seed=1)), single,
        ),
    ],
    Shape.TOKENS: [
        (
            Preference(objective="SIGMOID", beta=0.5),
            tuple(-draw(3, 4, seed=seed).abs() for seed in range(4)), single,
        ),
    ],
}  # fmt: skip
ALL = [(shape, case) for shape, cases in CASES.items() for case in cases]


def test_every_shape_is_checked() -> None:
    assert set(CASES) == {loss.shape for loss in LOSSES.values()}
    for shape, (loss, _, _) in ALL:
        fields = LossSpec.DESCRIPTOR.fields_by_name.items()
        (name,) = (n for n, field in fields if field.message_type is loss.DESCRIPTOR)
        assert LOSSES[name].shape is shape


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("shape", "case"), ALL, ids=[f"{shape.name}-{type(case[0]).__name__}" for shape, case in ALL]
)
def test_gradients_are_derivatives(address: str, shape: Shape, case: Case, reduction: Any) -> None:
    loss, (first, *others), whole = case
    if reduction == "none" and not shape.has_values:
        pytest.skip("a set has one value")
    criterion = RemoteLoss(loss, address, reduction=reduction)

    assert torch.autograd.gradcheck(
        lambda leaf: criterion(whole(leaf), *others), first.clone().requires_grad_(), atol=1e-6
    )


def test_weights_are_in_the_vector_as_they_are_in_its_gradients(address: str) -> None:
    criterion = RemoteLoss(CrossEntropy(), address, reduction="none")
    weights = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    mask = torch.tensor([True, False, True])

    def weighed(leaf: Any) -> Any:
        return criterion(leaf, labels(4, 3), weights=weights, mask=mask)

    leaf = draw(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(weighed, leaf, atol=1e-6)
    alone = torch.nn.functional.cross_entropy(leaf, labels(4, 3), reduction="none")
    torch.testing.assert_close(weighed(leaf), torch.where(mask, weights * alone, 0))
