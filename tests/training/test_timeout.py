"""The timeout of an adapter holds for all that it asks, not for the batch alone."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient
from lossd.client.boosting import objective
from lossd.v1 import SquaredError

NOBODY = "127.0.0.1:9"
Compute = Callable[[Any], Any]


def by_torch(client: Any, timeout: float) -> Compute:
    torch = pytest.importorskip("torch")
    from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - needs PyTorch

    criterion = RemoteLoss(SquaredError(), client, timeout=timeout)
    return lambda given: criterion(torch.from_numpy(given), torch.from_numpy(given))


def by_the_like_in_torch(client: Any, timeout: float) -> Compute:
    torch = pytest.importorskip("torch")
    from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - needs PyTorch

    criterion = RemoteLoss.like(torch.nn.MSELoss(), client, timeout=timeout)
    return lambda given: criterion(input=torch.from_numpy(given), target=torch.from_numpy(given))


def by_jax(client: Any, timeout: float) -> Compute:
    pytest.importorskip("jax")
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - needs JAX

    loss_fn = remote_loss(SquaredError(), client, timeout=timeout)
    return lambda given: loss_fn(given, given)


def by_name_in_jax(client: Any, timeout: float) -> Compute:
    pytest.importorskip("jax")
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - needs JAX

    loss_fn = remote_loss(SquaredError(), client, timeout=timeout)
    return lambda given: loss_fn(predictions=given, targets=given)


def by_boosting(client: Any, timeout: float) -> Compute:
    derivatives = objective(SquaredError(), client, timeout=timeout)
    return lambda given: derivatives(given, given)


@pytest.mark.parametrize("kind", [str, LossClient])
@pytest.mark.parametrize(
    "make", [by_torch, by_the_like_in_torch, by_jax, by_name_in_jax, by_boosting]
)
def test_a_server_that_is_not_there_is_waited_for_so_long(
    make: Callable[[Any, float], Compute], kind: Callable[[str], Any]
) -> None:
    compute = make(kind(NOBODY), 0.3)
    begin = time.monotonic()
    with pytest.raises(Exception, match=r"."):
        compute(np.ones(3, np.float32))
    assert time.monotonic() - begin < 10  # not the thirty seconds of a client


class Slow:
    """A client of a server that takes its time to tell the names of inputs."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def input_names(self, loss: Any, *, timeout: float) -> tuple[str, ...]:
        assert isinstance(loss, SquaredError)
        self.left.append(timeout)
        time.sleep(0.2)
        return ("predictions", "targets")

    def compute(self, *_: Any, timeout: float, **__: Any) -> Any:
        self.left.append(timeout)
        raise LookupError("enough is known")


@pytest.mark.parametrize("make", [by_torch, by_the_like_in_torch])
def test_the_batch_has_the_time_that_the_question_left(
    make: Callable[[Any, float], Compute],
) -> None:
    client = Slow()
    with pytest.raises(LookupError):
        make(client, 5.0)(np.ones(3, np.float32))
    asked, *_, left = client.left
    assert 4 < asked <= 5
    assert left <= asked - 0.2
