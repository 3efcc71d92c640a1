"""Workers with uneven batches train as one process with the whole batch does."""

import copy
import gc
import io
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd.client import InvalidRequestError, LossdError, weighted_sum
from lossd.v1 import CrossEntropy, SoftF1

torch = pytest.importorskip("torch")
from torch import distributed, nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = pytest.mark.oracle
SIZES = (1, 7, 3, 5)  # examples of each worker
STEPS = 5


def data(dtype: Any) -> tuple[Any, Any]:
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(STEPS, sum(SIZES), 6, dtype=dtype, generator=drawn)
    return features, torch.randint(0, 3, (STEPS, sum(SIZES)), generator=drawn)


def model(dtype: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def trained(module: nn.Module, criterion: nn.Module, batches: Any) -> list[Any]:
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    for features, labels in batches:
        optimiser.zero_grad()
        criterion(module(features), labels).backward()
        optimiser.step()
    return [parameter.detach() for parameter in module.parameters()]


def loss() -> CrossEntropy:
    # With class weights, neither examples nor batches divide the sum, but the weights of labels.
    return CrossEntropy(class_weights=[1, 2, 5])


def work(rank: int, address: str, rendezvous: str, dtype: Any, found: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=len(SIZES)
    )
    parameters = trained_in_parallel(rank, address, dtype)
    # The parallel module, which a cycle keeps, must end before the process group does: if it were
    # the last to hold the group, PyTorch would wait for the group's thread with the interpreter's
    # lock held, and that thread may be waiting for the lock.
    gc.collect()
    if rank == 0:
        found.put([parameter.numpy() for parameter in parameters])
    distributed.barrier()
    distributed.destroy_process_group()


def trained_in_parallel(rank: int, address: str, dtype: Any) -> list[Any]:
    """Trains with this worker's share of each batch."""
    features, labels = data(dtype)
    own = slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))
    criterion = RemoteLoss(loss(), address, process_group=True)
    parallel = DistributedDataParallel(model(dtype))
    return trained(parallel, criterion, zip(features[:, own], labels[:, own], strict=True))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str
)
def test_uneven_batches_of_four_workers_are_one_batch(
    address: str, tmp_path: Path, dtype: Any, tolerance: float
) -> None:
    context: Any = multiprocessing.get_context("spawn")
    found = context.Queue()
    rendezvous = str(tmp_path / "rendezvous")
    workers = [
        context.Process(target=work, args=(rank, address, rendezvous, dtype, found))
        for rank in range(len(SIZES))
    ]
    for worker in workers:
        worker.start()
    parameters = found.get(timeout=120)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(SIZES)

    alone = trained(model(dtype), RemoteLoss(loss(), address), zip(*data(dtype), strict=True))

    for parameter, right in zip(parameters, alone, strict=True):
        torch.testing.assert_close(
            torch.from_numpy(parameter), right, rtol=tolerance, atol=tolerance
        )


# ------------------------------------------------------------ two workers, batches of all kinds

PARTS = (2, 5)  # examples of each of two workers
LOGITS = torch.randn(sum(PARTS), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 0, 1, 2, 0, 2, 1])
WEIGHTS = torch.tensor([1.0, 2, 5], dtype=torch.float64)
TWO_DIVISORS = weighted_sum((1, CrossEntropy(class_weights=[1, 2, 5])), (0.5, CrossEntropy()))
IGNORING = weighted_sum((1, CrossEntropy(ignore_index=0)), (1, CrossEntropy(ignore_index=1)))
ROWS = torch.arange(1.0, sum(PARTS) + 1)
KEPT = torch.arange(sum(PARTS)) % 3 > 0  # another share of each worker's examples
FAILURES = {  # of the first worker, with words of its own error
    "a wrong label": "targets",
    "a second call that fails": "server must",
    "weights with a gradient": "weights must",
    "one input too many": "inputs must",
    "what is no array": "targets must",
    "an input of another device": "predictions must",
    "a closed client": "client must be open",
}
NOTHING = torch.zeros(sum(PARTS), dtype=torch.bool)
NO_WEIGHTS = {"weights": torch.zeros(sum(PARTS))}
EMPTY = (
    "workers with nothing", "workers without weight", "no weight and a normalizer",
    "weight of classes that are not there",
)  # fmt: skip


def cases(address: str) -> dict[str, tuple[RemoteLoss, dict[str, Any]]]:
    def remote(loss: Any, **options: Any) -> RemoteLoss:
        return RemoteLoss(loss, address, process_group=True, **options)

    plain = CrossEntropy()
    likes: dict[str, tuple[RemoteLoss, dict[str, Any]]] = {
        f"divergence {reduction}": (
            RemoteLoss.like(nn.KLDivLoss(reduction=reduction), address, process_group=True),
            {},
        )
        for reduction in ("mean", "batchmean")
    }
    likes |= {
        f"masked {name}": (criterion, {"mask": KEPT}) for name, (criterion, _) in likes.items()
    }
    weighted = nn.BCEWithLogitsLoss(weight=WEIGHTS)
    likes["weighted elements"] = (
        RemoteLoss.like(weighted, address, process_group=True),
        {"weights": ROWS, "mask": KEPT},
    )
    return likes | {
        "two divisors": (remote(TWO_DIVISORS), {}),
        "terms that ignore": (remote(IGNORING, reduction="batch_mean"), {}),
        "a normalizer of the call": (remote(plain), {"normalizer": 100.0}),
        "a normalizer of the module": (remote(plain, normalizer=100.0), {}),
        "a worker with nothing": (
            remote(plain, empty="error"), {"mask": torch.arange(sum(PARTS)) >= PARTS[0]},
        ),
        "half precision": (remote(plain, gradient_scale=65536.0), {}),
        "workers with nothing": (remote(plain, empty="nan"), {"mask": NOTHING}),
        "workers without weight": (remote(plain, reduction="batch_mean", empty="nan"), NO_WEIGHTS),
        "no weight and a normalizer": (remote(plain, normalizer=100.0, empty="nan"), NO_WEIGHTS),
        "weight of classes that are not there": (
            remote(CrossEntropy(class_weights=[0, 0, 1]), reduction="batch_mean", empty="nan"),
            {"mask": LABELS < 2},
        ),
        "a worker without weight": (
            remote(plain, reduction="batch_mean", empty="error"),
            {"weights": 1.0 * (torch.arange(sum(PARTS)) >= PARTS[0])},
        ),
        "an error": (remote(plain, empty="error"), {"mask": NOTHING}),
        "an error of weights": (remote(plain, reduction="batch_mean", empty="error"), NO_WEIGHTS),
        "a wrong label": (remote(plain), {}),
        "a second call that fails": (remote(TWO_DIVISORS), {}),
        "weights with a gradient": (remote(plain), {"weights": torch.ones(sum(PARTS))}),
        "one input too many": (remote(TWO_DIVISORS), {}),
        "what is no array": (remote(plain), {}),
        "an input of another device": (remote(plain), {}),
        "a closed client": (remote(plain), {}),
        "a whole set": (remote(SoftF1()), {}),
    }  # fmt: skip


def inputs_of(name: str, own: slice) -> tuple[Any, Any]:
    logits, labels = LOGITS[own].clone(), LABELS[own]
    if name == "half precision":
        logits = logits.half()
    if "divergence" in name:
        return logits.log_softmax(-1).requires_grad_(), LOGITS[own].flip(1).softmax(-1)
    if name == "weighted elements":
        return logits.requires_grad_(), LOGITS[own].flip(1).sigmoid()
    if name == "a whole set":
        labels = nn.functional.one_hot(labels, 3)
    if name == "a wrong label" and own.start == 0:
        labels = labels + 3
    return logits.requires_grad_(), labels


def fail_later(client: Any) -> None:
    """Has a client answer once, and no more."""
    answers = iter([client.compute])

    def compute(*arguments: Any, **options: Any) -> Any:
        for once in answers:
            return once(*arguments, **options)
        raise LossdError("server must be there, got none")

    client.compute = compute


def break_one(name: str, criterion: RemoteLoss, inputs: list[Any], shares: dict[str, Any]) -> None:
    """Has one worker fail, before it asks the server or later."""
    if name == "a second call that fails":
        fail_later(criterion.client)
    elif name == "weights with a gradient":
        shares["weights"].requires_grad_()
    elif name == "one input too many":
        inputs.append(inputs[1])
    elif name == "what is no array":
        inputs[1] = object()
    elif name == "an input of another device":
        inputs[0] = inputs[0].to("meta")
    elif name == "a closed client":
        criterion.client.close()


def answer(criterion: RemoteLoss, name: str, own: slice, options: dict[str, Any]) -> Any:
    """The value and the gradient of a share of the batch, or the words of a refusal."""
    predictions, targets = inputs_of(name, own)
    shares = {k: v[own] if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    inputs = [predictions, targets]
    if own.start == 0:
        break_one(name, criterion, inputs, shares)
    try:
        value = criterion(*inputs, **shares)
    except LossdError as error:
        return str(error)
    (value * 65536.0 if name == "half precision" else value).backward()
    assert predictions.grad is not None
    return float(value.detach()), predictions.grad.double().numpy()


def answer_all(rank: int, address: str, rendezvous: str, found: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=len(PARTS)
    )
    own = slice(sum(PARTS[:rank]), sum(PARTS[: rank + 1]))
    answers = {
        name: answer(criterion, name, own, options)
        for name, (criterion, options) in cases(address).items()
    }
    found.put((rank, answers))
    distributed.barrier()
    distributed.destroy_process_group()


def expected(name: str) -> Any:
    """The value and the gradient that PyTorch has for the whole batch in one process."""
    cross_entropy = nn.functional.cross_entropy
    leaf, targets = inputs_of(name.replace("half precision", ""), slice(0, sum(PARTS)))
    if "divergence" in name:
        # PyTorch warns of its "mean", which divides by the number of all elements.
        kept = KEPT if name.startswith("masked") else ~NOTHING
        total = nn.functional.kl_div(leaf[kept], targets[kept], reduction="sum")
        value = total / (leaf[kept].numel() if name.endswith(" mean") else len(leaf[kept]))
    elif name == "weighted elements":
        each = nn.functional.binary_cross_entropy_with_logits(
            leaf, targets, weight=WEIGHTS * ROWS[:, None], reduction="none"
        )
        value = each[KEPT].mean()
    elif name == "two divisors":
        weighted = cross_entropy(leaf, targets, weight=WEIGHTS)
        value = weighted + 0.5 * cross_entropy(leaf, targets)
    elif name == "terms that ignore":
        value = cross_entropy(leaf, targets, ignore_index=0)
        value = value + cross_entropy(leaf, targets, ignore_index=1)
    elif name == "a worker with nothing":
        value = cross_entropy(leaf[PARTS[0] :], targets[PARTS[0] :])
    elif name == "a worker without weight":
        value = cross_entropy(leaf[PARTS[0] :], targets[PARTS[0] :], reduction="sum") / len(leaf)
    elif name.startswith("a normalizer"):
        value = cross_entropy(leaf, targets, reduction="sum") / 100
    else:
        value = cross_entropy(leaf, targets)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient * (65536.0 if name == "half precision" else 1)


def test_two_workers_have_the_mean_of_one_or_are_refused_alike(
    address: str, tmp_path: Path
) -> None:
    context: Any = multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [
        context.Process(target=answer_all, args=(rank, address, str(tmp_path / "meeting"), found))
        for rank in range(len(PARTS))
    ]
    for worker in workers:
        worker.start()
    answers = dict(found.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    both = {name: [answers[rank][name] for rank in range(len(PARTS))] for name in answers[0]}

    for case in ("an error", "an error of weights"):
        assert [str(one) for one in both.pop(case)] == [
            "examples must be kept and have weight, got none"
        ] * len(PARTS)
    for case, told in FAILURES.items():
        first, second = both.pop(case)
        assert told in first
        assert "workers must all compute their batches, got 1 that could not" in second
    for one in both.pop("a whole set"):
        assert "process_group must go with losses that are means over examples" in one
    for case in EMPTY:
        for value, gradient in both.pop(case):
            assert value != value, case  # noqa: PLR0124 - NaN
            assert not gradient.any()
    for name, shares in both.items():
        assert not any(isinstance(one, str) for one in shares), (name, shares)
        value, gradient = expected(name)
        tolerance = 1e-3 if name == "half precision" else 1e-10
        mean = sum(one for one, _ in shares) / len(shares)
        assert mean == pytest.approx(value, rel=tolerance), name
        averaged = torch.cat([torch.from_numpy(each) for _, each in shares]) / len(shares)
        torch.testing.assert_close(averaged, gradient, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    "wrong", ["gloo", 2, [0, 1], -100, object()], ids=["name", "count", "ranks", "no member", "any"]
)
def test_what_is_no_group_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^process_group must be True or a ") as told:
        RemoteLoss(CrossEntropy(), process_group=wrong)
    assert told.value.field == "process_group"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Any]:
    """A group of this process alone."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    yield distributed.new_group([0])
    distributed.destroy_process_group()


def test_copies_share_a_group_which_no_other_process_can_have(address: str, group: Any) -> None:
    criterion = RemoteLoss(loss(), address, process_group=group)
    model = nn.ModuleDict({"layers": nn.Linear(2, 2), "criterion": criterion})
    within: Any = copy.deepcopy(model)["criterion"]

    for copied in (copy.copy(criterion), copy.deepcopy(criterion), within):
        assert copied.process_group is group
        assert copied(LOGITS, LABELS) == criterion(LOGITS, LABELS)
    with pytest.raises(InvalidRequestError, match=r"^process_group must be True in a module that"):
        torch.save(model, io.BytesIO())
    everyone = RemoteLoss(loss(), address, process_group=True)
    assert pickle.loads(pickle.dumps(everyone)).process_group is True  # noqa: S301 - ours


def test_accumulated_micro_batches_are_one_batch(address: str) -> None:
    features, labels = (each[0] for each in data(torch.float64))
    gradients = []
    for sizes in ((sum(SIZES),), SIZES):
        module = model(torch.float64)
        criterion = RemoteLoss(CrossEntropy(), address)
        for own, targets in zip(features.split(sizes), labels.split(sizes), strict=True):
            criterion(module(own), targets, normalizer=float(sum(SIZES))).backward()
        gradients.append([parameter.grad for parameter in module.parameters()])

    for accumulated, right in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(accumulated, right, rtol=1e-12, atol=1e-13)
