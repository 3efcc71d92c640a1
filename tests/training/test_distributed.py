"""Workers with uneven batches train as one process with the whole batch does."""

import gc
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from lossd.v1 import CrossEntropy

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
