"""Clients that are copied: deeply, by pickling, or flatly."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from lossd import client, v1
from tests.flavours import Waiting

BATCH: dict[str, Any] = {
    "predictions": np.array([1, 2], np.float32),
    "targets": np.array([1, 3], np.float32),
}


def pickled(given: Any) -> Any:
    return pickle.loads(pickle.dumps(given))  # noqa: S301 - our own bytes


@pytest.fixture(params=[copy.deepcopy, pickled])
def copied(request: pytest.FixtureRequest) -> Any:
    """Copies a client, also one of asyncio that waits."""

    def make(given: Any) -> Any:
        if isinstance(given, Waiting):
            return Waiting(request.param(given._client), given._loop)
        return request.param(given)

    return make


@pytest.mark.parametrize("is_used", [False, True])
def test_a_copy_connects_anew_to_the_same_server(
    serve: Any, connect: Any, copied: Any, *, is_used: bool
) -> None:
    server = serve()
    original = connect(server.address)
    if is_used:
        assert original.compute(v1.Huber(), *BATCH.values()).loss == 1.5
    made = copied(original)
    assert made.compute(v1.Huber(), *BATCH.values()).loss == 1.5
    original.close()
    assert made.compute(v1.Huber(), **BATCH).loss == 1.5
    made.close()
    with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
        made.compute(v1.Huber(), **BATCH)


def test_a_copy_of_a_closed_client_is_open_and_the_other_way_round(
    serve: Any, connect: Any, copied: Any
) -> None:
    original = connect(serve().address)
    copied(original).close()
    assert original.server_info().version == "1.2.3"
    original.close()
    with copied(copied(original)) as made:
        assert made.server_info().version == "1.2.3"


def test_a_copy_has_the_timeout_of_its_original(serve: Any, connect: Any, copied: Any) -> None:
    done = threading.Event()

    def hang(_request: Any, _context: Any) -> Any:
        done.wait(20)
        return v1.ComputeLossResponse()

    with (
        connect(serve(ComputeLoss=hang).address, timeout=0.2) as original,
        copied(original) as made,
        pytest.raises(client.DeadlineExceededError),
    ):
        made.compute(v1.Huber(), **BATCH)
    done.set()


def test_a_client_of_a_callers_channel_refuses_in_words(
    serve: Any, flavour: Any, connect: Any, copied: Any
) -> None:
    with (
        flavour.channel(serve().address) as channel,
        connect(channel=channel) as original,
        pytest.raises(
            client.InvalidRequestError, match=r"^client must connect to a target to be copied"
        ),
    ):
        copied(original)


def test_a_flat_copy_shares_the_connection(serve: Any, connect: Any) -> None:
    original = connect(serve().address)
    is_waiting = isinstance(original, Waiting)
    flat: Any = copy.copy(original._client if is_waiting else original)
    if is_waiting:
        flat = Waiting(flat, original._loop)
    assert flat.server_info().version == "1.2.3"
    original.close()
    with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
        flat.server_info()
