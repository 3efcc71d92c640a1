"""``RemoteLoss.like`` takes what PyTorch's modules take besides whole batches."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.client import InvalidRequestError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),  # PyTorch's advice
]
REDUCTIONS = ("mean", "sum", "none")
DIVERGENCES = ("mean", "sum", "batchmean")
LONE: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...], list[float]]] = {
    "divergence": (nn.KLDivLoss, DIVERGENCES, [-0.7, 0.3]),
    "divergence of logarithms": (
        lambda **options: nn.KLDivLoss(log_target=True, **options), DIVERGENCES, [-0.7, -0.2],
    ),
    "triplet": (nn.TripletMarginLoss, REDUCTIONS, [2.0, 1.0, 3.5]),
}  # fmt: skip


def leaf(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def log_probabilities(frames: int) -> Any:
    drawn = torch.randn(frames, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return drawn.requires_grad_()


@pytest.mark.parametrize(
    ("name", "reduction"), [(name, each) for name, case in LONE.items() for each in case[1]]
)
def test_single_numbers_have_the_values_and_gradients_of_pytorch(
    address: str, name: str, reduction: str
) -> None:
    make, _, numbers = LONE[name]
    module, found = make(reduction=reduction), []
    for criterion in (module, RemoteLoss.like(module, address)):
        leaves = [leaf(number) for number in numbers]
        value = criterion(*leaves)
        found.append((value, torch.autograd.grad(value, leaves[0])))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("targets", [[1, 2, 2], [[1, 2, 2]], []], ids=str)
@pytest.mark.parametrize("has_axis", [False, True])
def test_a_sequence_needs_no_axis_of_examples(
    address: str, reduction: str, targets: list[Any], *, has_axis: bool
) -> None:
    lengths = [torch.tensor([each] if has_axis else each) for each in (12, 3 if targets else 0)]
    module, found = nn.CTCLoss(reduction=reduction), []
    for criterion in (module, RemoteLoss.like(module, address)):
        logits = log_probabilities(12)
        value = criterion(logits.log_softmax(-1), torch.tensor(targets, dtype=torch.long), *lengths)
        found.append((value, torch.autograd.grad(value, logits)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("probability", "target", "ours", "theirs"),
    [
        (1, 0, 0, 1e12), (0, 1, 0, -1e12), (0, 0, 1, 0), (1, 1, -1, 0),
        (1e-13, 1, -1e13, -1e12), (1e-13, 0, 1, 0.1), (1e-11, 1, -1e11, -1e11), (0.5, 0, 2, 2),
    ],
)  # fmt: skip
def test_probabilities_beside_0_and_1_have_the_gradient_of_the_clamped_loss(
    address: str, probability: float, target: float, ours: float, theirs: float
) -> None:
    """As ``docs/training.md`` tells, and what PyTorch has there."""
    found = []
    for criterion in (RemoteLoss.like(nn.BCELoss(), address), nn.BCELoss()):
        given = leaf([probability, 0.5])
        value = criterion(given, torch.tensor([target, 1.0], dtype=torch.float64))
        value.backward()
        found.append((float(value.detach()), *(2 * given.grad).tolist()))
    assert found[0] == pytest.approx((found[1][0], ours, -2), rel=1e-6)
    assert found[1][1:] == pytest.approx((theirs, -2), rel=1e-6)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_row_that_no_path_fits_has_no_gradient(address: str, *, zero_infinity: bool) -> None:
    module = nn.CTCLoss(reduction="sum", zero_infinity=zero_infinity)
    targets, lengths = torch.tensor([[1, 1, 1, 1], [1, 2, 0, 0]]), torch.tensor([4, 2])
    drawn = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(5)).log_softmax(-1)
    found = []
    for criterion in (RemoteLoss.like(module, address), module):
        given = drawn.clone().requires_grad_()
        value = criterion(given, targets, torch.tensor([3, 3]), lengths)
        value.backward()
        assert bool(torch.isinf(value)) != zero_infinity
        found.append(given.grad[:, 0])
    assert not found[0].any()
    assert bool(found[1].isnan().all()) != zero_infinity


@pytest.mark.parametrize("lengths", [[2, 2], [4, 3], [6, -1], [3.0, 2.0]], ids=str)
def test_lengths_that_are_not_those_of_the_targets_are_refused(
    address: str, lengths: list[Any]
) -> None:
    criterion = RemoteLoss.like(nn.CTCLoss(), address)
    predictions = torch.zeros(9, 2, 5).log_softmax(-1)
    with pytest.raises(InvalidRequestError, match="target_lengths must be integers"):
        criterion(predictions, torch.ones(5, dtype=torch.long), [9, 9], torch.tensor(lengths))


@pytest.mark.parametrize(
    "make", [nn.MSELoss, nn.BCEWithLogitsLoss, nn.KLDivLoss, nn.TripletMarginLoss]
)
def test_numbers_may_be_of_python_or_numpy(address: str, make: Callable[..., nn.Module]) -> None:
    criterion = RemoteLoss.like(make(reduction="sum"), address)
    numbers = [-0.7, 0.3, 0.5][: len(criterion.client.input_names(criterion.loss))]
    value = criterion(*map(leaf, numbers)).detach()
    assert criterion(*numbers) == criterion(*map(np.float64, numbers)) == value
    assert criterion(*([each] for each in numbers)) == value
    assert criterion(*(np.array([each]) for each in numbers)) == value


def test_classes_may_be_arrays(address: str) -> None:
    criterion = RemoteLoss.like(nn.CrossEntropyLoss(), address)
    value = criterion(np.zeros((2, 4)), np.array([1, -100]))
    assert float(value) == pytest.approx(np.log(4))


@pytest.mark.parametrize("given", [None, "one", [[1.0], [1.0, 2.0]], object()])
@pytest.mark.parametrize("make", [nn.MSELoss, nn.CrossEntropyLoss, nn.KLDivLoss, nn.CTCLoss])
def test_what_makes_no_tensor_is_refused_by_its_name(
    address: str, make: Callable[..., nn.Module], given: Any
) -> None:
    criterion = RemoteLoss.like(make(), address)
    names = list(inspect.signature(make().forward).parameters)
    for position, name in enumerate(names):
        inputs = [torch.zeros(2, 3)] * len(names)
        inputs[position] = given
        with pytest.raises(InvalidRequestError, match=f"^{name} must ") as told:
            criterion(*inputs)
        assert told.value.field == name


@pytest.mark.parametrize("make", [nn.MSELoss, nn.L1Loss, nn.KLDivLoss])
def test_tensors_in_lists_have_their_gradients(
    address: str, make: Callable[..., nn.Module]
) -> None:
    """Numbers and rows alike: each module takes one tensor."""
    for numbers in ([-0.7, -0.3], [[-0.7, -0.3], [-0.2, -1.0]]):
        module, found = make(reduction="sum"), []
        for criterion in (RemoteLoss.like(module, address), module):
            leaves = [leaf(number) for number in numbers]
            is_ours = criterion is not module
            value = criterion(leaves if is_ours else torch.stack(leaves), leaf(numbers).exp())
            found.append((value, torch.autograd.grad(value, leaves)))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "<f8", ">f2", "<f2"])
def test_arrays_may_have_their_bytes_in_any_order(address: str, dtype: str) -> None:
    criterion = RemoteLoss.like(nn.CrossEntropyLoss(), address)
    logits, labels = np.arange(6.0).reshape(2, 3), np.array([2, 0])
    value = criterion(logits.astype(dtype), labels.astype(dtype[0] + "i8"))
    expected = nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_array_with_a_mask_of_its_own_is_refused(address: str) -> None:
    criterion = RemoteLoss.like(nn.MSELoss(), address)
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    for position in range(2):
        inputs: list[Any] = [[1.0, 3.0], [1.0, 3.0]]
        inputs[position] = masked
        with pytest.raises(InvalidRequestError, match="must be without a mask of its own"):
            criterion(*inputs)


def test_an_array_may_be_written_to_before_the_backward_pass(address: str) -> None:
    predictions, targets = leaf([[0.0, 1.0], [2.0, 0.5]]), np.array([1, 0])
    (right,) = torch.autograd.grad(
        nn.functional.cross_entropy(predictions, torch.tensor(targets), reduction="sum"),
        predictions,
    )
    value = RemoteLoss.like(nn.CrossEntropyLoss(reduction="none"), address)(predictions, targets)
    targets[:] = 0
    (gradient,) = torch.autograd.grad(value.sum(), predictions)
    torch.testing.assert_close(gradient, right)


BINARY = [
    (nn.BCEWithLogitsLoss, log_probabilities(6).detach()),
    (nn.BCELoss, log_probabilities(6).detach().exp().clamp(max=0.9)),
]
POSITIVE = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("make", "predictions"), BINARY)
@pytest.mark.parametrize("shape", [(6, 5), (5,), (6, 1), (1,), ()], ids=str)
def test_weights_of_elements_have_the_values_and_gradients_of_pytorch(
    address: str, make: Any, predictions: Any, reduction: str, shape: tuple[int, ...]
) -> None:
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    is_of_logits = make is nn.BCEWithLogitsLoss
    options = {"pos_weight": POSITIVE} if is_of_logits else {}
    module, found = make(weight=weight, reduction=reduction, **options), []
    targets = predictions.flip(0).sigmoid()
    for criterion in (module, RemoteLoss.like(module, address)):
        given = predictions.clone().requires_grad_()
        value = criterion(given, targets)
        found.append((value, torch.autograd.grad(value, given, torch.ones_like(value) * 3)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("has_own", [False, True])
@pytest.mark.parametrize(("make", "predictions"), BINARY)
def test_weights_and_a_mask_of_rows_divide_by_the_elements_that_are_kept(
    address: str, make: Any, predictions: Any, *, has_own: bool
) -> None:
    weight = POSITIVE if has_own else None
    weights, kept = torch.arange(1.0, 7), torch.arange(6) % 3 > 0
    targets = predictions.flip(0).sigmoid()
    criterion = RemoteLoss.like(make(weight=weight), address)
    ours, theirs = (predictions.clone().requires_grad_() for _ in range(2))

    value = criterion(ours, targets, weights=weights, mask=kept, cotangent=weights)

    each = make(weight=weight, reduction="none")(theirs, targets) * weights[:, None]
    torch.testing.assert_close(value, each[kept].mean())
    value.backward()
    (each * weights[:, None])[kept].mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for normalizer in (3.0, torch.tensor(3.0)):  # of the rows of several micro-batches
        value = criterion(ours, targets, weights=weights, mask=kept, normalizer=normalizer)
        torch.testing.assert_close(value, each[kept].mean(-1).sum() / 3)


@pytest.mark.parametrize("name", ["weights", "mask", "cotangent"])
def test_what_is_not_of_the_rows_of_weighted_elements_is_refused(address: str, name: str) -> None:
    criterion = RemoteLoss.like(nn.BCEWithLogitsLoss(weight=POSITIVE), address)
    for shape in ((5,), (6, 1), (6, 5), (1,)):
        wrong: Any = {name: torch.ones(shape, dtype=torch.bool if name == "mask" else None)}
        with pytest.raises(
            InvalidRequestError, match=rf"^{name} must have the shape \[6\]"
        ) as told:
            criterion(torch.zeros(6, 5), torch.zeros(6, 5), **wrong)
        assert told.value.field == name


@pytest.mark.parametrize("normalizer", ["x", [3.0], torch.ones((), requires_grad=True)], ids=str)
def test_a_normalizer_of_weighted_elements_is_a_number(address: str, normalizer: Any) -> None:
    criterion = RemoteLoss.like(nn.BCEWithLogitsLoss(weight=POSITIVE), address)
    with pytest.raises(InvalidRequestError, match=r"^normalizer must (be a number|not be diff)"):
        criterion(leaf([[0.0] * 5]), torch.zeros(1, 5), normalizer=normalizer)


def test_weights_that_fit_no_element_are_refused(address: str) -> None:
    criterion = RemoteLoss.like(nn.BCEWithLogitsLoss(weight=POSITIVE), address)
    for shape in ((6, 4), (), (5, 1)):
        with pytest.raises(InvalidRequestError, match="weight must have a shape that is broadcast"):
            criterion(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize(
    "module",
    [
        nn.CrossEntropyLoss(weight=leaf([1.0, 2.0])),
        nn.BCELoss(weight=leaf([1.0, 2.0])),
        nn.BCEWithLogitsLoss(pos_weight=leaf([1.0, 2.0])),
    ],
    ids=lambda module: type(module).__name__,
)
def test_numbers_of_a_module_that_need_a_gradient_are_refused(module: nn.Module) -> None:
    with pytest.raises(InvalidRequestError, match="weight must not be differentiated"):
        RemoteLoss.like(module)


def test_the_reduction_is_that_of_the_module(address: str) -> None:
    options: Any = {"reduction": "sum"}
    with pytest.raises(InvalidRequestError, match=r"^reduction must be the module's") as told:
        RemoteLoss.like(nn.MSELoss(), address, **options)
    assert told.value.field == "reduction"


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (4, 2, 3, 5)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_divergence_divides_by_what_a_mask_keeps(
    address: str, reduction: str, shape: tuple[int, ...], count: int
) -> None:
    drawn = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    kept = torch.arange(4) < count
    module, found = nn.KLDivLoss(reduction=reduction), []
    mask = kept.reshape(-1, *[1] * (len(shape) - 2)).expand(shape[:-1])
    for is_ours in (False, True):
        given = drawn[0].clone().requires_grad_()
        inputs = given.log_softmax(-1), drawn[1].softmax(-1)
        value = (
            RemoteLoss.like(module, address)(*inputs, mask=mask)
            if is_ours
            else module(*(each[kept] for each in inputs))
        )
        found.append((value, torch.autograd.grad(value, given)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("reduction", DIVERGENCES)
def test_a_divergence_of_which_nothing_is_kept_is_that_of_an_empty_batch(
    address: str, reduction: str
) -> None:
    criterion = RemoteLoss.like(nn.KLDivLoss(reduction=reduction), address)
    inputs = torch.zeros(2, 3), torch.zeros(2, 3)
    assert criterion(*inputs, mask=torch.zeros(2, dtype=torch.bool)) == 0
    with pytest.raises(InvalidRequestError, match="mask must have the shape"):
        criterion(*inputs, mask=torch.zeros(0, dtype=torch.bool))


@pytest.mark.parametrize("reduction", DIVERGENCES)
def test_a_divergence_of_no_examples_is_that_of_an_empty_batch(
    address: str, reduction: str
) -> None:
    criterion = RemoteLoss.like(nn.KLDivLoss(reduction=reduction), address)
    nothing = torch.empty(0, 3, requires_grad=True)
    value = criterion(nothing, torch.empty(0, 3))
    value.backward()
    assert value == 0
    assert nothing.grad is not None
    assert nothing.grad.shape == (0, 3)
