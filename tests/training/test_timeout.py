"""The timeout of an adapter holds for all that it asks, not for the batch alone."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd.client.boosting import objective
from lossd.v1 import SquaredError

NOBODY = "127.0.0.1:9"


def by_torch(timeout: float) -> Callable[[Any], Any]:
    torch = pytest.importorskip("torch")
    from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - needs PyTorch

    criterion = RemoteLoss(SquaredError(), NOBODY, timeout=timeout)
    return lambda given: criterion(torch.from_numpy(given), torch.from_numpy(given))


def by_jax(timeout: float) -> Callable[[Any], Any]:
    pytest.importorskip("jax")
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - needs JAX

    loss_fn = remote_loss(SquaredError(), NOBODY, timeout=timeout)
    return lambda given: loss_fn(given, given)


def by_boosting(timeout: float) -> Callable[[Any], Any]:
    derivatives = objective(SquaredError(), NOBODY, timeout=timeout)
    return lambda given: derivatives(given, given)


@pytest.mark.parametrize("make", [by_torch, by_jax, by_boosting])
def test_a_server_that_is_not_there_is_waited_for_so_long(
    make: Callable[[float], Callable[[Any], Any]],
) -> None:
    compute = make(0.3)
    begin = time.monotonic()
    with pytest.raises(Exception, match=r"."):
        compute(np.ones(3, np.float32))
    assert time.monotonic() - begin < 10  # not the thirty seconds of a client
