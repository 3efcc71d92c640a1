"""A training loop with PyTorch's ``GradScaler`` goes as it does with PyTorch's own loss."""

from typing import Any

import pytest

from lossd.v1 import CrossEntropy

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from lossd.client.torch import RemoteLoss  # noqa: E402

pytestmark = pytest.mark.oracle


def run(criterion: Any, scaler: Any, steps: int = 6) -> tuple[list[int], float, Any]:
    """Zeros at each step, the scale at last, and the weights."""
    random = torch.Generator().manual_seed(0)
    weight = (torch.randn(16, 400, generator=random) * 2).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.5)
    zeros: list[int] = []
    for step in range(steps):
        features = torch.randn(256, 16, generator=random)
        targets = torch.randint(0, 400, (256,), generator=random)
        if step == 2:
            features = features * 1e6  # beyond float16: the scaler skips the step and goes down
        optimizer.zero_grad()
        logits = (features @ weight).half()
        logits.register_hook(lambda gradient: zeros.append(int((gradient == 0).sum())))
        loss = criterion(logits, targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return zeros, scaler.get_scale(), weight.detach()


@pytest.mark.parametrize("told", [False, True])
def test_a_scaler_sees_what_it_sees_with_pytorch(address: str, *, told: bool) -> None:
    def scaler() -> Any:
        return torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=3)

    theirs = run(
        lambda logits, targets: nn.functional.cross_entropy(logits.float(), targets), scaler()
    )
    mine = scaler()
    criterion = RemoteLoss(CrossEntropy(), address, gradient_scale=mine if told else None)
    ours = run(criterion, mine)

    assert ours[1] == theirs[1]
    assert all(mine <= yours for mine, yours in zip(ours[0], theirs[0], strict=True))
    assert theirs[0][0] > 0
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-2, atol=1e-3)
