"""A model that is sharded over processes (FSDP) trains as it does with PyTorch's loss."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from lossd.v1 import CrossEntropy

torch = pytest.importorskip("torch")
from torch import distributed, nn  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = pytest.mark.oracle
WORKERS, STEPS = 2, 4


def trained(rank: int, criterion: Any) -> tuple[list[float], Any]:
    """The losses of a worker, and the first weight of all of them together."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    fully_shard(model, mesh=init_device_mesh("cpu", (WORKERS,)))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    random = torch.Generator().manual_seed(rank)
    losses = []
    for _ in range(STEPS):
        features = torch.randn(4, 6, dtype=torch.float64, generator=random)
        loss = criterion(model(features), torch.randint(0, 3, (4,), generator=random))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    sharded: Any = next(model.parameters())
    return losses, sharded.full_tensor().detach().numpy()


def work(rank: int, address: str, rendezvous: str, found: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORKERS
    )
    ours = trained(rank, RemoteLoss(CrossEntropy(), address))
    theirs = trained(rank, nn.CrossEntropyLoss())
    found.put((ours, theirs))
    distributed.barrier()
    distributed.destroy_process_group()


def test_sharding_is_not_affected(address: str, tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    found = context.Queue()
    arguments = (address, str(tmp_path / "rendezvous"), found)
    workers = [context.Process(target=work, args=(rank, *arguments)) for rank in range(WORKERS)]
    for worker in workers:
        worker.start()
    pairs = [found.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    for (losses, weights), (right_losses, right_weights) in pairs:
        assert losses == pytest.approx(right_losses, rel=1e-12)
        torch.testing.assert_close(
            torch.tensor(weights), torch.tensor(right_weights), rtol=1e-12, atol=1e-12
        )
