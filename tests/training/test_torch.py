"""``RemoteLoss`` takes the place of PyTorch's own losses in training code."""

import copy
import inspect
import io
import math
import multiprocessing
import operator
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lossd.client import BatchWarning, InvalidRequestError, LossClient, weighted_sum
from lossd.v1 import (
    Accuracy,
    CrossEntropy,
    FeatureMatching,
    Huber,
    InfoNce,
    LossSpec,
    SigmoidContrastive,
    SquaredError,
)
from tests.versions import is_older

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

from lossd.client.reaching import client_of  # noqa: E402
from lossd.client.torch import RemoteLoss, remote_loss  # noqa: E402
from lossd.client.torch.translations import TRANSLATIONS  # noqa: E402

pytestmark = pytest.mark.oracle
REDUCTIONS = ("mean", "sum", "none")


def draw(*shape: int, seed: int = 0, dtype: Any = torch.float64) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def labels(count: int, *shape: int, seed: int = 0) -> Any:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


def with_gradients(
    criterion: Callable[..., Any], inputs: Sequence[Any], differentiated: Sequence[int]
) -> tuple[Any, Sequence[Any]]:
    """The value, and the gradients of its sum with weights of 1, 2, 3 and so on."""
    given = [each.detach().clone() for each in inputs]
    for index in differentiated:
        given[index].requires_grad_()
    value = criterion(*given)
    if not differentiated:
        return value, ()
    upstream = torch.arange(1, value.numel() + 1, dtype=value.dtype).reshape(value.shape)
    return value, torch.autograd.grad(value, [given[i] for i in differentiated], upstream)


IMAGES = draw(4, 3, 5, 6)
PIXELS = labels(3, 4, 5, 6)
PIXELS[0, 0, :3] = -100
COUNTERPARTS: dict[str, tuple[Callable[..., nn.Module], Sequence[Any], Sequence[int]]] = {
    "classes": (nn.CrossEntropyLoss, (IMAGES, PIXELS), (0,)),
    "weighted classes": (
        lambda **options: nn.CrossEntropyLoss(
            weight=torch.tensor([0.5, 1, 2], dtype=torch.float64), label_smoothing=0.1, **options
        ),
        (IMAGES, PIXELS), (0,),
    ),
    "distributions": (nn.CrossEntropyLoss, (IMAGES, IMAGES.flip(0).softmax(1)), (0,)),
    "ignored classes": (
        lambda **options: nn.CrossEntropyLoss(ignore_index=1, **options),
        (IMAGES, PIXELS.clamp(min=0)), (0,),
    ),
    "log-probabilities": (nn.NLLLoss, (IMAGES.log_softmax(1), PIXELS), (0,)),
    "binary logits": (nn.BCEWithLogitsLoss, (IMAGES, IMAGES.flip(0).sigmoid()), (0,)),
    "positive weights": (
        lambda **options: nn.BCEWithLogitsLoss(
            pos_weight=torch.arange(1, 7, dtype=torch.float64), **options
        ),
        (IMAGES, IMAGES.flip(0).sigmoid()), (0,),
    ),
    "one positive weight": (
        lambda **options: nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0), **options),
        (IMAGES, IMAGES.flip(0).sigmoid()), (0,),
    ),
    "binary": (nn.BCELoss, (IMAGES.sigmoid(), IMAGES.flip(0).sigmoid()), (0,)),
    "squares": (nn.MSELoss, (IMAGES, IMAGES.flip(0)), (0, 1)),
    "magnitudes": (nn.L1Loss, (IMAGES, IMAGES.flip(0)), (0, 1)),
    "smooth magnitudes": (
        lambda **options: nn.SmoothL1Loss(beta=0.5, **options), (IMAGES, IMAGES.flip(0)), (0,),
    ),
    "smooth magnitudes without width": (
        lambda **options: nn.SmoothL1Loss(beta=0.0, **options), (IMAGES, IMAGES.flip(0)), (0,),
    ),
    "huber": (
        lambda **options: nn.HuberLoss(delta=0.5, **options), (IMAGES, IMAGES.flip(0)), (0,),
    ),
    "counts": (nn.PoissonNLLLoss, (IMAGES, IMAGES.flip(0).abs()), (0,)),
    "variances": (
        nn.GaussianNLLLoss, (IMAGES, IMAGES.flip(0), IMAGES.abs() + 0.1), (0, 2),
    ),
    "triplets": (
        nn.TripletMarginLoss, (draw(5, 6), draw(5, 6, seed=1), draw(5, 6, seed=2)), (0, 1, 2),
    ),
    "cosines": (
        nn.CosineEmbeddingLoss,
        (draw(4, 6), draw(4, 6, seed=1), torch.tensor([1, -1, 1, -1])), (0, 1),
    ),
    "sequences": (
        nn.CTCLoss,
        (draw(12, 3, 5).log_softmax(-1), labels(4, 3, 4) + 1, torch.tensor([12, 9, 12]),
         torch.tensor([4, 2, 0])), (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", COUNTERPARTS)
def test_the_counterpart_of_a_module_has_its_values_and_gradients(
    address: str, name: str, reduction: str
) -> None:
    make, inputs, differentiated = COUNTERPARTS[name]
    module = make(reduction=reduction)

    value, gradients = with_gradients(RemoteLoss.like(module, address), inputs, differentiated)

    expected, expected_gradients = with_gradients(module, inputs, differentiated)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name",
    ["binary logits", "one positive weight", "binary", "squares", "magnitudes",
     "smooth magnitudes", "huber", "counts", "variances"],
)  # fmt: skip
def test_the_counterpart_of_a_module_takes_a_single_number(
    address: str, name: str, reduction: str
) -> None:
    make, inputs, differentiated = COUNTERPARTS[name]
    module, numbers = make(reduction=reduction), [each.flatten()[0] for each in inputs]

    value, gradients = with_gradients(RemoteLoss.like(module, address), numbers, differentiated)

    expected, expected_gradients = with_gradients(module, numbers, differentiated)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum"])
def test_the_counterpart_of_a_divergence_divides_by_what_pytorch_divides_by(
    address: str, reduction: str
) -> None:
    inputs = (IMAGES.log_softmax(-1), IMAGES.flip(0).softmax(-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice to divide otherwise
        module = nn.KLDivLoss(reduction=reduction)
        expected, (right,) = with_gradients(module, inputs, (0,))

    value, (gradient,) = with_gradients(RemoteLoss.like(module, address), inputs, (0,))

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, right)


def test_the_gradient_of_sequences_reaches_the_logits(address: str) -> None:
    """PyTorch's own is right behind a log-softmax only."""
    logits, flat = draw(12, 3, 5), torch.tensor([1, 2, 2, 4, 3])
    lengths = (torch.tensor([12, 9, 12]), torch.tensor([3, 2, 0]))
    gradients = []
    for criterion in (nn.CTCLoss(), RemoteLoss.like(nn.CTCLoss(), address)):
        leaf = logits.clone().requires_grad_()
        criterion(leaf.log_softmax(-1), flat, *lengths).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "module",
    [
        nn.MultiMarginLoss(), nn.SoftMarginLoss(), nn.Linear(1, 1),
        nn.KLDivLoss(reduction="none"), nn.PoissonNLLLoss(log_input=False),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_a_module_without_a_counterpart_is_refused(module: nn.Module) -> None:
    with pytest.raises(InvalidRequestError, match="module must be"):
        RemoteLoss.like(module)


def test_the_backward_pass_knows_the_loss_and_the_settings_of_the_forward_pass(
    address: str,
) -> None:
    logits, targets = draw(6, 4).requires_grad_(), labels(4, 6)
    criterion = RemoteLoss(CrossEntropy(), address, reduction="none")
    value = criterion(logits, targets)
    criterion.reduction, criterion.nonfinite = "mean", "zero"
    criterion.loss.label_smoothing = 1.0
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    (right,) = torch.autograd.grad(
        nn.functional.cross_entropy(logits, targets, reduction="sum"), logits
    )
    torch.testing.assert_close(gradient, right)


@pytest.mark.parametrize(
    "make",
    [
        torch.Tensor.to_sparse, lambda given: given.to("meta"),
        torch.Tensor.to_mkldnn, lambda given: given.to(torch.float8_e4m3fn),
        lambda given: given.to(torch.complex64),
        lambda given: given.to(torch.complex64).conj(),
        lambda given: torch.masked.masked_tensor(given, given > 0),
        lambda _: nn.parameter.UninitializedParameter(requires_grad=False),
    ],
    ids=["sparse", "meta", "opaque", "float8", "complex", "conjugate", "masked", "no shape"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["predictions", "weights", "cotangent"])
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of kinds of tensors that may change
def test_tensors_without_numbers_of_their_own_are_refused_by_name(
    address: str, name: str, make: Callable[..., Any]
) -> None:
    given = {"predictions": torch.ones(3, 3), "targets": torch.ones(3, 3)}
    with pytest.raises(InvalidRequestError, match=f"^{name} must ") as caught:
        RemoteLoss("squared_error", address)(**given | {name: make(torch.ones(3, 3))})
    assert caught.value.field == name


@pytest.mark.parametrize("scale", [None, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    "wrong",
    [
        np.ma.masked_array(np.ones(3), [True, False, False]), "a", [[1.0], [1.0, 2.0]],
        np.ones(3, "m8[s]"), np.array([1.0, None, 1.0]), torch.ones(1), torch.ones(3, 1),
    ],
    ids=["masked", "text", "ragged", "times", "objects", "one", "column"],
)  # fmt: skip
def test_a_cotangent_is_numbers_of_the_examples(
    address: str, reduction: Any, scale: Any, wrong: Any
) -> None:
    leaf = draw(3).requires_grad_()
    criterion = RemoteLoss("squared_error", address, reduction=reduction, gradient_scale=scale)
    with pytest.raises(InvalidRequestError, match=r"^cotangent must "):
        criterion(leaf, torch.zeros(3), cotangent=wrong)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *((name, ": give it with the loss") for name in ("reduction", "empty", "nonfinite")),
        *((name, ": give it with the loss") for name in ("lint", "timeout")),
        *((name, "") for name in ("gradients", "per_example")),
    ],
)
@pytest.mark.parametrize("module", [RemoteLoss, RemoteLoss.like])
def test_an_option_among_the_inputs_is_told_where_it_belongs(
    address: str, module: Any, name: str, hint: str
) -> None:
    loss = "squared_error" if module is RemoteLoss else nn.MSELoss()
    criterion = module(loss, address)
    with pytest.raises(
        InvalidRequestError, match=f"^inputs must be tensors, got {name}, an option{hint}$"
    ):
        criterion(draw(3), torch.zeros(3), **{name: "sum"})


def test_lists_of_tensors_have_lists_of_gradients(address: str) -> None:
    maps = [draw(2, 3, 4).requires_grad_(), draw(2, 2, 5, seed=1).requires_grad_()]
    others = [draw(2, 3, 4, seed=2), draw(2, 2, 5, seed=3)]

    RemoteLoss(FeatureMatching(), address)(maps, others).backward()

    for leaf, other in zip(maps, others, strict=True):
        expected = (leaf.detach() - other) * 2 / leaf[0].numel() / 2
        torch.testing.assert_close(leaf.grad, expected)


@pytest.mark.parametrize("nested", [False, True])
def test_numbers_in_a_list_have_a_gradient_each(address: str, *, nested: bool) -> None:
    """A list of tensors without axes is a list of numbers, as it is for a client."""
    leaves = [leaf.requires_grad_() for leaf in draw(3).unbind()]
    targets = [0.5, -1.0, 2.0]
    given: Any = ([leaves], [targets]) if nested else (leaves, targets)

    RemoteLoss(SquaredError(), address, reduction="sum")(*given).backward()

    for leaf, target in zip(leaves, targets, strict=True):
        scale = 1 / 3 if nested else 1
        torch.testing.assert_close(leaf.grad, scale * 2 * (leaf.detach() - target))


def test_arrays_may_lie_beside_tensors_in_a_list(address: str) -> None:
    maps = [draw(2, 3, 4).numpy(), draw(2, 2, 5, seed=1).requires_grad_()]
    others = [draw(2, 3, 4, seed=2), draw(2, 2, 5, seed=3).numpy()]

    RemoteLoss(FeatureMatching(), address)(maps, others).backward()

    expected = (maps[1].detach() - torch.tensor(others[1])) * 2 / maps[1][0].numel() / 2
    torch.testing.assert_close(maps[1].grad, expected)


def test_numbers_that_do_not_go_together_are_refused_by_name(address: str) -> None:
    criterion = RemoteLoss(SquaredError(), address)
    for wrong in ([torch.tensor(1.0), None], [[torch.tensor(1.0)], [torch.tensor(1.0)] * 2]):
        with pytest.raises(InvalidRequestError, match=r"^predictions must ") as told:
            criterion(wrong, torch.zeros(2))
        assert told.value.field == "predictions"


def test_weights_mask_and_normalizer_are_those_of_compute(address: str) -> None:
    logits, targets, weights = draw(6, 4), labels(4, 6), torch.arange(1.0, 7, dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, True, True])
    leaf = logits.clone().requires_grad_()
    criterion = RemoteLoss(CrossEntropy(), address, normalizer=3.0)

    criterion(leaf, targets, weights=weights, mask=mask, cotangent=2.0).backward()

    with LossClient(address) as client:
        expected = client.compute(
            CrossEntropy(), logits, targets, weights=weights, mask=mask, normalizer=3.0,
            cotangent=2.0,
        )  # fmt: skip
    assert criterion.last is not None
    assert criterion.last.loss == expected.loss
    torch.testing.assert_close(leaf.grad, torch.tensor(expected.gradients["predictions"]))


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("is_of_module", [False, True])
def test_a_normalizer_goes_with_a_mean_alone(
    address: str, reduction: Any, *, is_of_module: bool
) -> None:
    of_module, of_call = (5.0, None) if is_of_module else (None, 5.0)
    criterion = RemoteLoss(CrossEntropy(), address, reduction=reduction, normalizer=of_module)
    with pytest.raises(InvalidRequestError, match=r"^normalizer must go with .*, got " + reduction):
        criterion(draw(6, 4), labels(4, 6), normalizer=of_call)


def test_inputs_may_be_named(address: str) -> None:
    logits, targets = draw(6, 4), labels(4, 6)
    criterion = RemoteLoss(CrossEntropy(), address)

    assert criterion(targets=targets, predictions=logits) == criterion(logits, targets)


def test_without_gradients_none_are_asked_for(address: str) -> None:
    criterion = RemoteLoss(CrossEntropy(), address)
    leaf = draw(6, 4).requires_grad_()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            value = criterion(leaf, labels(4, 6))
        assert not value.requires_grad
        assert criterion.last is not None
        assert not criterion.last.gradients


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_have_the_type_of_their_input(address: str, dtype: Any) -> None:
    leaf = draw(6, 4, dtype=torch.float32).to(dtype).requires_grad_()

    value = RemoteLoss(CrossEntropy(), address)(leaf, labels(4, 6))
    value.backward()

    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("scaled", [False, True])
def test_a_gradient_scaler_loses_no_more_gradients_than_with_pytorch(
    address: str, *, scaled: bool
) -> None:
    scale = 65536.0
    logits = (draw(2048, 1000, dtype=torch.float32) * 4).half()
    targets = labels(1000, 2048)
    lost = []
    for criterion in (
        lambda leaf, targets: nn.functional.cross_entropy(leaf.float(), targets),  # as in autocast
        RemoteLoss(CrossEntropy(), address, gradient_scale=scale if scaled else None),
    ):
        leaf = logits.clone().requires_grad_()
        (criterion(leaf, targets) * scale).backward()
        lost.append(int((leaf.grad == 0).sum()))
    assert 0 < lost[0] < logits.numel() / 10
    assert lost[1] <= lost[0]


def test_a_scaler_is_asked_for_its_scale(address: str) -> None:
    class Scaler:
        def get_scale(self) -> float:
            return 4.0

    leaf = draw(6, 4).requires_grad_()
    value = RemoteLoss(CrossEntropy(), address, gradient_scale=Scaler())(leaf, labels(4, 6))
    (value * 4).backward()

    expected, (right,) = with_gradients(nn.CrossEntropyLoss(), (leaf, labels(4, 6)), (0,))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(leaf.grad, right * 4)


def test_numbers_of_a_loss_can_be_trained(address: str) -> None:
    queries, keys = draw(8, 3), draw(8, 3, seed=1)
    criterion = RemoteLoss(InfoNce(temperature=0.5), address, learnable=["temperature"])

    criterion(queries, keys).backward()

    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    cosines = nn.functional.normalize(queries) @ nn.functional.normalize(keys).T
    nn.functional.cross_entropy(cosines / temperature, torch.arange(8)).backward()
    assert [name for name, _ in criterion.named_parameters()] == ["temperature"]
    (trained,) = criterion.parameters()
    assert trained.grad is not None
    torch.testing.assert_close(trained.grad.double(), temperature.grad)


class Exponential(nn.Module):
    """Has a number trained by its logarithm."""

    def forward(self, logarithm: Any) -> Any:
        return logarithm.exp()

    def right_inverse(self, number: Any) -> Any:
        return number.log()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_number_that_is_computed_is_trained_by_what_it_is_computed_from(
    address: str, reduction: Any
) -> None:
    queries, keys = draw(8, 3), draw(8, 3, seed=1)
    criterion = RemoteLoss(
        InfoNce(temperature=0.5), address, learnable=["temperature"], reduction=reduction
    )
    nn.utils.parametrize.register_parametrization(criterion, "temperature", Exponential())

    criterion(queries, keys).sum().backward()

    logarithm = torch.tensor(0.5, dtype=torch.float64).log().requires_grad_()
    cosines = nn.functional.normalize(queries) @ nn.functional.normalize(keys).T
    right = nn.functional.cross_entropy(
        cosines / logarithm.exp(), torch.arange(8), reduction=reduction
    )
    right.sum().backward()
    (trained,) = criterion.parameters()
    assert trained.grad is not None
    torch.testing.assert_close(trained.grad.double(), logarithm.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_tensor_may_stand_for_a_number_that_is_trained(address: str, reduction: Any) -> None:
    queries, keys = draw(8, 3), draw(8, 3, seed=1)
    options: dict[str, Any] = {"reduction": reduction, "learnable": ["temperature"]}
    criterion = RemoteLoss(InfoNce(temperature=0.5), address, **options)

    swapped = {"temperature": torch.tensor(0.25)}
    value = torch.func.functional_call(criterion, swapped, (queries, keys))

    right = RemoteLoss(InfoNce(temperature=0.25), address, reduction=reduction)(queries, keys)
    torch.testing.assert_close(value, right)
    criterion.register_parameter("temperature", None)
    with pytest.raises(InvalidRequestError, match=r"^temperature must be a tensor, .* NoneType$"):
        criterion(queries, keys)


@pytest.mark.parametrize(
    ("loss", "name", "rule"),
    [
        (InfoNce(temperature=0.5), "temprature", "be among temperature for InfoNce"),
        (InfoNce(temperature=0.5), "queries", "be among temperature for InfoNce"),
        (InfoNce(temperature=0.5, normalize=True), "normalize", "be among temperature for InfoNce"),
        (InfoNce(), "temperature", r"name numbers that are given, as in InfoNce\("),
        (SigmoidContrastive(bias=0.0), "symmetric", "be among bias, temperature for SigmoidContr"),
        (Huber(delta=1.0), "delta", "be empty for Huber, none of whose parameters is trained"),
        (Huber(batch_dims=1), "batch_dims", "be empty for Huber"),
        (CrossEntropy(ignore_index=1), "ignore_index", "be empty for CrossEntropy"),
        (weighted_sum((1, InfoNce(temperature=0.5))), "temperature", "be empty for WeightedSum"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(loss: Any, name: str, rule: str) -> None:
    with pytest.raises(
        InvalidRequestError, match=f"^learnable must {rule}.*, got '{name}'$"
    ) as told:
        RemoteLoss(loss, learnable=[name])
    assert told.value.field == "learnable"


def test_names_to_train_are_a_list() -> None:
    with pytest.raises(InvalidRequestError, match=r"^learnable must be .* the text 'temperature'"):
        RemoteLoss(InfoNce(temperature=0.5), learnable="temperature")


def test_a_second_derivative_is_refused_in_words(address: str) -> None:
    leaf = draw(6, 4).requires_grad_()
    value = RemoteLoss(CrossEntropy(), address)(leaf, labels(4, 6))

    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(value, leaf, create_graph=True)


def test_a_graph_can_be_walked_twice(address: str) -> None:
    leaf = draw(6, 4).requires_grad_()
    value = RemoteLoss(CrossEntropy(), address)(leaf, labels(4, 6))

    value.backward(retain_graph=True)
    once = leaf.grad.clone()
    value.backward()

    torch.testing.assert_close(leaf.grad, once * 2)


def test_upstream_gradients_of_a_number_may_come_together(address: str) -> None:
    leaf, factors = draw(6, 4).requires_grad_(), torch.tensor([1.0, -2.0], dtype=torch.float64)
    value = RemoteLoss(CrossEntropy(), address)(leaf, labels(4, 6))
    (right,) = torch.autograd.grad(nn.functional.cross_entropy(leaf, labels(4, 6)), leaf)

    def pulled_back(upstream: Any) -> Any:
        return torch.autograd.grad(value, leaf, upstream, retain_graph=True)[0]

    (batched,) = torch.autograd.grad(value, leaf, factors, retain_graph=True, is_grads_batched=True)

    torch.testing.assert_close(batched, factors[:, None, None] * right)
    torch.testing.assert_close(torch.func.vmap(pulled_back)(factors), batched)


def test_upstream_gradients_of_a_vector_come_one_at_a_time(address: str) -> None:
    leaf = draw(3, 4).requires_grad_()
    criterion = RemoteLoss(CrossEntropy(), address, reduction="none")
    value = criterion(leaf, labels(4, 3))

    with pytest.raises(RuntimeError, match=r"^upstream gradients of .* must come one at a time"):
        torch.autograd.grad(value, leaf, torch.eye(3), retain_graph=True, is_grads_batched=True)
    with pytest.raises(RuntimeError, match=r"^upstream gradients of .* must come one at a time"):
        torch.func.vmap(lambda upstream: torch.autograd.grad(value, leaf, upstream))(torch.eye(3))


def test_copies_connect_anew(address: str) -> None:
    criterion = RemoteLoss(CrossEntropy(label_smoothing=0.1), address)
    logits, targets = draw(6, 4), labels(4, 6)
    expected = criterion(logits, targets)
    saved = io.BytesIO()
    torch.save(criterion, saved)
    saved.seek(0)

    copies = [
        copy.deepcopy(criterion),
        pickle.loads(pickle.dumps(criterion)),  # noqa: S301 - ours
        torch.load(saved, weights_only=False),
    ]

    for each in copies:
        assert each(logits, targets) == expected
        assert each.client is not criterion.client


def test_replicas_and_threads_share_a_connection(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def connected(*given: Any) -> LossClient:
        both.wait(20)  # until the other thread makes one too
        return client_of(*given)

    criterion = RemoteLoss(CrossEntropy(), address)
    # What ``DataParallel`` has for every device, anew at each step.
    replicas = [criterion._replicate_for_data_parallel() for _ in range(2)]
    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(remote_loss, "client_of", connected)
        first, second = threads.map(operator.attrgetter("client"), replicas)
    later = criterion._replicate_for_data_parallel()

    assert first is second is criterion.client is later.client
    assert later(draw(6, 4), labels(4, 6)) == criterion(draw(6, 4), labels(4, 6))


def _spawned(criterion: RemoteLoss, found: Any) -> None:
    found.put(float(criterion(draw(6, 4), labels(4, 6))))


FORKING = """
import multiprocessing, sys
import torch
from lossd.client.torch import RemoteLoss
from lossd.v1 import CrossEntropy

criterion = RemoteLoss(CrossEntropy(), sys.argv[1])
logits, targets = torch.arange(12.0).reshape(3, 4), torch.tensor([0, 1, 2])
expected = float(criterion(logits, targets))

def child():
    sys.exit(float(criterion(logits, targets)) != expected)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(50)
sys.exit(process.exitcode)
"""


def test_a_forked_process_goes_on_with_it(address: str) -> None:
    """In a process of its own: threads of other tests would not survive a fork."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_can_be_given_one(address: str, method: str) -> None:
    criterion = RemoteLoss(CrossEntropy(), address)
    expected = float(criterion(draw(6, 4), labels(4, 6)))
    context: Any = multiprocessing.get_context(method)
    found = context.Queue()

    process = context.Process(target=_spawned, args=(criterion, found))
    process.start()

    assert found.get(timeout=60) == expected
    process.join(60)
    assert process.exitcode == 0


def test_a_compiled_function_may_call_it(address: str) -> None:
    criterion = RemoteLoss(CrossEntropy(), address)
    targets = labels(4, 6)
    leaf = draw(6, 4).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler looks at gradients of inner tensors
        compiled = torch.compile(lambda x: criterion(x * 2, targets), backend="eager")
        value = compiled(leaf)
    value.backward()

    expected, (right,) = with_gradients(
        lambda x: nn.functional.cross_entropy(x * 2, targets), (leaf,), (0,)
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(leaf.grad, right)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_compiled_backward_pass_may_have_it(address: str, reduction: Any) -> None:
    criterion = RemoteLoss(CrossEntropy(), address, reduction=reduction)
    leaf, targets = draw(6, 4).requires_grad_(), labels(4, 6)

    def step(given: Any) -> None:
        criterion(given * 2, targets).sum().backward()

    with torch._dynamo.config.patch(compiled_autograd=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler looks at gradients of inner tensors
        torch.compile(step, backend="eager")(leaf)

    right = nn.functional.cross_entropy(leaf * 2, targets, reduction=reduction).sum()
    torch.testing.assert_close(leaf.grad, torch.autograd.grad(right, leaf)[0])


class Criterion(nn.Module):
    """A module around a function, as only those are exported."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.forward = function


RECORDS: dict[str, Callable[[Callable[[Any], Any], Any], Any]] = {
    "real": lambda function, given: make_fx(function, tracing_mode="real")(given),
    "fake": lambda function, given: make_fx(function, tracing_mode="fake")(given),
    "symbolic": lambda function, given: make_fx(function, tracing_mode="symbolic")(given),
    "pre-dispatch": lambda function, given: make_fx(function, pre_dispatch=True)(given),
    "export": lambda function, given: torch.export.export(
        Criterion(function), (given,), strict=False
    ),
    "linearize": torch.func.linearize,
    "trace": lambda function, given: torch.jit.trace(function, given, check_trace=False),
    "trace of a module": lambda function, given: torch.jit.trace(Criterion(function), given),
    "onnx by a trace": lambda function, given: torch.onnx.export(
        Criterion(function), (given,), io.BytesIO(), dynamo=False
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's, of what it uses itself
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_record_of_operations_must_not_have_it(address: str, record: str, reduction: Any) -> None:
    """It would have the loss of one batch as that of all."""
    if record == "export" and is_older("torch", "2.5"):
        pytest.skip("it is refused for its inputs, which are read before anything is recorded")
    criterion = RemoteLoss("squared_error", address, reduction=reduction)
    with pytest.raises(
        InvalidRequestError,
        match=r"^loss must be .* recorded \(make_fx, .*, torch\.jit\.trace\), got a call ",
    ):
        RECORDS[record](lambda given: criterion(given * 1, torch.zeros(3)), torch.ones(3))


def test_it_prints_what_it_computes() -> None:
    text = repr(RemoteLoss(CrossEntropy(label_smoothing=0.5)))

    assert text == "RemoteLoss(CrossEntropy(label_smoothing=0.5), reduction='mean')"


def test_names_and_lints_reach_the_server(address: str) -> None:
    criterion = RemoteLoss("cross_entropy", address, lint=True)
    probabilities = draw(16, 4).softmax(-1).requires_grad_()
    with pytest.warns(BatchWarning, match="set prediction_kind=") as told:
        value = criterion(probabilities, labels(4, 16))
    assert [one.filename for one in told] == [__file__]  # where it is called, not PyTorch's
    expected = nn.functional.cross_entropy(probabilities, labels(4, 16))
    assert value.item() == pytest.approx(expected.item())
    assert str(criterion) == "RemoteLoss(CrossEntropy(), reduction='mean')"
    with pytest.raises(InvalidRequestError, match="did you mean cross_entropy"):
        RemoteLoss("crossentropy")  # type: ignore[arg-type]


# ---------------------------------------------------------------- what would be wrong in silence


@pytest.mark.parametrize("changed", ["targets", "predictions", "weights", "array", "temperature"])
def test_what_a_vector_was_computed_from_must_not_change(address: str, changed: str) -> None:
    logits, targets, weights = draw(6, 4), labels(4, 6), torch.ones(6, dtype=torch.float64)
    tensor: Any
    if changed == "temperature":
        learned = RemoteLoss(
            InfoNce(temperature=0.5), address, reduction="none", learnable=["temperature"]
        )
        value, tensor = learned(logits, logits.flip(1)), learned.temperature
    elif changed == "array":  # which PyTorch does not watch: it is copied
        leaf, array = logits.requires_grad_(), targets.numpy().copy()
        value = RemoteLoss(CrossEntropy(), address, reduction="none")(leaf, array)
        array[:] = 0
        value.sum().backward()
        (right,) = torch.autograd.grad(
            nn.functional.cross_entropy(leaf, targets, reduction="sum"), leaf
        )
        torch.testing.assert_close(leaf.grad, right)
        return
    else:
        leaf = logits.requires_grad_()
        value = RemoteLoss(CrossEntropy(), address, reduction="none")(
            leaf, targets, weights=weights
        )
        tensor = {"targets": targets, "predictions": leaf, "weights": weights}[changed]
    with torch.no_grad():
        tensor.mul_(2) if tensor.is_floating_point() else tensor.fill_(1)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()


def test_tensors_of_inference_mode_go_into_a_vector_and_are_copied(address: str) -> None:
    """PyTorch neither saves nor watches them."""
    leaf = draw(6, 4).requires_grad_()
    with torch.inference_mode():
        targets, weights = labels(4, 6), torch.ones(6, dtype=torch.float64)
    value = RemoteLoss(CrossEntropy(), address, reduction="none")(leaf, targets, weights=weights)
    kept = targets.clone()
    with torch.inference_mode():
        targets.fill_(0), weights.fill_(2)
    value.sum().backward()
    (right,) = torch.autograd.grad(nn.functional.cross_entropy(leaf, kept, reduction="sum"), leaf)
    torch.testing.assert_close(leaf.grad, right)


@pytest.mark.parametrize("name", ["weights", "cotangent", "normalizer"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_what_has_no_gradient_must_not_be_differentiated(
    address: str, name: str, reduction: Any
) -> None:
    criterion = RemoteLoss(CrossEntropy(), address, reduction=reduction)
    size = () if name == "normalizer" else (6,)
    given: Any = {name: torch.ones(size, requires_grad=True)}

    with pytest.raises(InvalidRequestError, match=f"{name} must not be differentiated"):
        criterion(draw(6, 4), labels(4, 6), **given)
    if name != "normalizer":
        given = {name: given[name].detach()}
        criterion(draw(6, 4), labels(4, 6), **given)


def test_an_ignored_example_adds_nothing_to_a_vector(address: str) -> None:
    weights = torch.tensor([1.0, float("nan"), 2.0])
    mask = torch.tensor([True, False, True])
    criterion = RemoteLoss("squared_error", address, reduction="none")

    value = criterion(torch.ones(3, 1), torch.zeros(3, 1), weights=weights, mask=mask)

    assert value.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "scale", [2.0, -2, torch.tensor([2.0]), np.float32(2), np.full((1, 1), 2.0)]
)
def test_any_number_that_can_be_divided_by_is_a_scale(address: str, scale: Any) -> None:
    leaf = draw(6, 4).requires_grad_()
    value = RemoteLoss(CrossEntropy(), address, gradient_scale=scale)(leaf, labels(4, 6))
    number = np.asarray(scale).item()
    (value * number).backward()

    (right,) = torch.autograd.grad(nn.functional.cross_entropy(leaf, labels(4, 6)), leaf)
    torch.testing.assert_close(leaf.grad, right * number)


@pytest.mark.parametrize(
    "scale",
    [2 + 1j, "much", 0, -0.0, 5e-324, math.nan, math.inf, 10**400, [2.0], torch.ones(2)],
    ids=repr,
)
def test_what_cannot_be_divided_by_is_no_scale(address: str, scale: Any) -> None:
    criterion = RemoteLoss(CrossEntropy(), address, gradient_scale=scale)
    with pytest.raises(InvalidRequestError, match="gradient_scale must be"):
        criterion(draw(6, 4).requires_grad_(), labels(4, 6))


@pytest.mark.parametrize(
    "module",
    [
        nn.CrossEntropyLoss(weight=torch.ones(3, dtype=torch.complex64)),
        nn.NLLLoss(weight=torch.ones(3, 1)),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3, dtype=torch.complex64)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_module_with_numbers_of_no_use_is_refused(address: str, module: nn.Module) -> None:
    with pytest.raises(InvalidRequestError, match="must be a number"):
        RemoteLoss.like(module, address)


def test_a_scale_does_not_overflow_a_cotangent_in_half_precision(address: str) -> None:
    leaf = draw(6, 4, dtype=torch.float32).requires_grad_()
    criterion = RemoteLoss(CrossEntropy(), address, gradient_scale=65536.0)

    criterion(leaf, labels(4, 6), cotangent=torch.ones(6, dtype=torch.float16)).backward()

    (right,) = torch.autograd.grad(nn.functional.cross_entropy(leaf, labels(4, 6)), leaf)
    torch.testing.assert_close(leaf.grad, right)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_inputs_may_have_the_names_of_pytorch_or_of_lossd(address: str, name: str) -> None:
    make, inputs, _ = COUNTERPARTS[name]
    module = make(reduction="sum")
    criterion = RemoteLoss.like(module, address)
    expected = criterion(*inputs)
    theirs = list(inspect.signature(module.forward).parameters)
    ours = criterion.client.input_names(criterion.loss)

    for names in (theirs, ours):
        assert criterion(**dict(zip(names, inputs, strict=False))) == expected
        rest = dict(list(zip(names, inputs, strict=False))[1:])
        assert criterion(inputs[0], **rest) == expected
    with pytest.raises(InvalidRequestError, match="inputs must be"):
        criterion(inputs[0])
    with pytest.raises(InvalidRequestError, match="inputs must each be given once"):
        criterion(*inputs, **{theirs[0]: inputs[0]})
    with pytest.raises(InvalidRequestError, match="inputs must each be one of"):
        criterion(*inputs, nothing=inputs[0])


def test_a_spec_is_the_loss_that_it_holds(address: str) -> None:
    spec = LossSpec(info_nce=InfoNce(temperature=0.5))
    criterion = RemoteLoss(spec, address, learnable=["temperature"])

    value = criterion(draw(8, 3), draw(8, 3, seed=1))

    assert value == RemoteLoss(InfoNce(temperature=0.5), address)(draw(8, 3), draw(8, 3, seed=1))
    with pytest.raises(InvalidRequestError, match="got an empty LossSpec"):
        RemoteLoss(LossSpec())


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_the_counterpart_of_a_module_divides_by_what_a_mask_keeps(address: str, name: str) -> None:
    make, inputs, differentiated = COUNTERPARTS[name]
    axes = [1 if name == "sequences" and each is inputs[0] else 0 for each in inputs]
    kept = torch.arange(inputs[0].shape[axes[0]]) % 2 == 0
    shares = [each.movedim(a, 0)[kept].movedim(0, a) for each, a in zip(inputs, axes, strict=True)]
    criterion = RemoteLoss.like(make(), address)
    criterion(*inputs)
    assert criterion.last is not None
    shape = criterion.last.per_example.shape
    mask = kept.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)

    value, gradients = with_gradients(
        lambda *given: criterion(*given, mask=mask), inputs, differentiated
    )

    expected, rights = with_gradients(make(), shares, differentiated)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    for gradient, right in zip(gradients, rights, strict=True):
        torch.testing.assert_close(gradient[kept], right, rtol=1e-10, atol=1e-12)
        assert not gradient[~kept].any()


@pytest.mark.parametrize("kind", TRANSLATIONS, ids=lambda kind: kind.__name__)
def test_the_counterpart_of_every_module_goes_to_other_processes(
    address: str, kind: Callable[[], nn.Module]
) -> None:
    criterion = RemoteLoss.like(kind(), address)
    for each in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):  # noqa: S301 - ours
        assert repr(each) == repr(criterion)
    assert {type(make(reduction="sum")) for make, _, _ in COUNTERPARTS.values()} | {
        nn.KLDivLoss
    } == set(TRANSLATIONS)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"loss": Accuracy()}, "loss must be differentiable, got the metric Accuracy: train with "),
        ({"loss": CrossEntropy}, "loss must be a message of .*, got the class CrossEntropy$"),
        ({"loss": None}, "loss must be a message of .*, got NoneType$"),
        ({"loss": nn.MSELoss()}, "loss must be one of lossd.*, got MSELoss: RemoteLoss.like takes"),
        ({"loss": nn.MSELoss}, "loss must be one of lossd.*, got MSELoss: RemoteLoss.like takes "),
        ({"reduction": "avg"}, "reduction must be one of mean, batch_mean, sum, none, got 'avg'"),
        ({"empty": "x"}, "empty must be one of zero, nan, error, got 'x'"),
        ({"nonfinite": "x"}, "nonfinite must be one of propagate, zero, error, got 'x'"),
        ({"normalizer": "x"}, "normalizer must be a number, got 'x'"),
        ({"lint": "x"}, "lint must be True or False, got 'x'"),
        ({"timeout": -1}, r"timeout must be in \(0, inf\), got -1"),
        ({"timeout": "x"}, "timeout must be a number, got 'x'"),
    ],
)  # fmt: skip
def test_what_could_never_work_is_refused_at_once(
    address: str, arguments: dict[str, Any], rule: str
) -> None:
    with LossClient(address) as client:
        for given in (address, client):
            with pytest.raises(InvalidRequestError, match=f"^{rule}") as told:
                RemoteLoss(**{"loss": "cross_entropy", "client": given} | arguments)
            assert told.value.field == next(iter(arguments))
