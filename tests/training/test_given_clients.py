"""An adapter takes an address or a client that waits for its answers, and refuses the rest."""

from collections.abc import Callable
from typing import Any

import pytest

from lossd.client import AsyncLossClient, InvalidRequestError, LossClient
from lossd.client.boosting import objective
from lossd.v1 import SquaredError

NOBODY = "127.0.0.1:9"


def by_torch(given: Any) -> Any:
    pytest.importorskip("torch")
    from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - needs PyTorch

    return RemoteLoss(SquaredError(), given)


def by_jax(given: Any) -> Any:
    pytest.importorskip("jax")
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - needs JAX

    return remote_loss(SquaredError(), given)


def by_boosting(given: Any) -> Any:
    return objective(SquaredError(), given)


ADAPTERS = [by_torch, by_jax, by_boosting]


@pytest.mark.parametrize("make", ADAPTERS)
@pytest.mark.parametrize(
    "wrong",
    [None, 50051, b"localhost:50051", ("localhost", 50051), lambda: NOBODY, LossClient],
    ids=["nothing", "port", "bytes", "pair", "function", "class"],
)
def test_what_is_neither_is_refused_by_its_kind(make: Callable[[Any], Any], wrong: Any) -> None:
    kind = type(wrong).__name__
    with pytest.raises(InvalidRequestError, match=f"^client must be .*, got {kind}$") as told:
        make(wrong)
    assert told.value.field == "client"


@pytest.mark.parametrize("make", ADAPTERS)
def test_a_client_of_asyncio_is_refused(make: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^client must be .*, got AsyncLossClient$"):
        make(AsyncLossClient(NOBODY))


@pytest.mark.parametrize("make", ADAPTERS)
def test_a_client_what_wraps_one_and_an_address_are_taken(make: Callable[[Any], Any]) -> None:
    class Counting:
        """As a user may write it."""

        def __init__(self, client: LossClient) -> None:
            self.compute = client.compute

    with LossClient(NOBODY) as client:
        make(client)
        make(Counting(client))
    make(NOBODY)
