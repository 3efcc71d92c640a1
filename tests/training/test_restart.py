"""A training loop waits for a server that is replaced, and goes on as if nothing had been."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.v1 import SquaredError
from tests.end_to_end.conftest import serve
from tests.end_to_end.test_retries import restarting

STEP = 0.1
STEPS_AFTER = 3


def torch_step(address: str) -> Callable[[Any], Any]:
    """A step of gradient descent from 1 to 0, in PyTorch."""
    torch = pytest.importorskip("torch")
    from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - needs PyTorch

    criterion = RemoteLoss(SquaredError(), address, timeout=30)

    def step(weight: Any) -> Any:
        tensor = torch.tensor([weight], dtype=torch.float64, requires_grad=True)
        criterion(tensor, torch.zeros(1, dtype=torch.float64)).backward()
        return float((tensor - STEP * tensor.grad).detach())

    return step


def jax_step(address: str) -> Callable[[Any], Any]:
    """The same under ``jax.jit``."""
    jax = pytest.importorskip("jax")
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - needs JAX

    loss_fn = remote_loss(SquaredError(), address, timeout=30)
    gradient = jax.jit(jax.grad(lambda weight: loss_fn(weight, np.zeros(1, np.float32))))

    def step(weight: Any) -> Any:
        return float(weight - STEP * gradient(np.asarray([weight], np.float32))[0])

    return step


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("make", [torch_step, jax_step])
def test_a_training_loop_outlives_its_server(
    tmp_path: Path, make: Callable[[str], Callable[[Any], Any]], how: signal.Signals
) -> None:
    def train(step: Callable[[Any], Any], swap: threading.Thread) -> list[float]:
        weights = [1.0]
        left = STEPS_AFTER
        while left:
            left -= not swap.is_alive()
            weights.append(step(weights[-1]) or 1.0)
        return weights

    address = f"unix:{tmp_path}/lossd.sock"
    with restarting(address, how, "--backend", "numpy") as swap, ThreadPoolExecutor(4) as pool:
        step = make(address)
        step(1.0)
        swap.start()
        trained = [pool.submit(train, step, swap) for _ in range(4)]
        for each in trained:
            weights = np.array(each.result(60))
            np.testing.assert_allclose(weights[1:4], 0.8 * weights[:3], rtol=1e-6)


@pytest.mark.parametrize("make", [torch_step, jax_step])
def test_a_training_loop_waits_for_a_server_that_is_busy(
    make: Callable[[str], Callable[[Any], Any]],
) -> None:
    with serve("--backend", "numpy", "--max-calls", "1") as process, ThreadPoolExecutor(8) as pool:
        step = make(process.address)
        found = list(pool.map(step, [1.0] * 48))
    np.testing.assert_allclose(found, 0.8, rtol=1e-6)
