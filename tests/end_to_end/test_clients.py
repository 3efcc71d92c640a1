"""Both clients in this process, a server in another."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import AsyncLossClient, DeadlineExceededError, InvalidRequestError, LossClient
from lossd.v1 import AUC_SURROGATE_LOGISTIC, CrossEntropy, Huber, PairwiseAuc, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until


def test_both_clients_get_the_same_bits(server: Process, client: LossClient, connect: Any) -> None:
    random = np.random.default_rng(5)
    batch: dict[str, Any] = {
        "predictions": random.standard_normal((64, 7)).astype(np.float32),
        "targets": random.integers(0, 7, 64),
        "weights": random.random(64),
        "mask": random.random(64) < 0.8,
        "cotangent": random.standard_normal(64),
    }
    expected = client.compute(CrossEntropy(label_smoothing=0.1), reduction="batch_mean", **batch)
    with connect(server.address) as other:
        result = other.compute(CrossEntropy(label_smoothing=0.1), reduction="batch_mean", **batch)

    assert result.loss == expected.loss
    assert result.ignored_count == expected.ignored_count > 0
    np.testing.assert_array_equal(result.per_example, expected.per_example)
    np.testing.assert_array_equal(
        result.gradients["predictions"], expected.gradients["predictions"]
    )


def test_inputs_by_position_find_their_names(server: Process, connect: Any) -> None:
    with connect(server.address) as client:
        assert client.compute(Huber(delta=1), [3.0], [1.0]).loss == 1.5


def test_what_the_caller_can_fix_comes_with_field_and_id(server: Process, connect: Any) -> None:
    with (
        connect(server.address) as client,
        pytest.raises(InvalidRequestError, match=r"targets\[1\] must be in \[0, 2\)") as caught,
    ):
        client.compute(
            CrossEntropy(), predictions=np.zeros((2, 2)), targets=[0, 7], request_id="step-7"
        )
    assert (caught.value.field, caught.value.request_id) == ("inputs.targets", "step-7")


def test_a_call_past_its_deadline_leaves_the_client_usable(server: Process, connect: Any) -> None:
    logits = np.zeros((20_000, 500), np.float32)
    with connect(server.address) as client:
        with pytest.raises(DeadlineExceededError):
            client.compute(
                CrossEntropy(), predictions=logits, targets=np.zeros(20_000, int), timeout=0.01
            )
        assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4.0


def test_a_unix_socket_serves_both(tmp_path: Path, connect: Any) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with serve("--backend", "numpy", address=address), connect(address) as client:
        assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4.0


def test_a_server_that_is_replaced_is_found_again(connect: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with connect(address) as client:
        for _ in range(2):
            with serve("--backend", "numpy", address=address) as process:
                client.wait_until_ready(10)
                assert client.compute(SquaredError(), predictions=[2.0], targets=[0.0]).loss == 4.0
                process.end(signal.SIGKILL)


def test_a_task_that_is_cancelled_stops_the_server_from_computing(server: Process) -> None:
    examples = 200_000  # ten thousand million pairs take minutes
    scores, labels = np.zeros(examples, np.float32), np.arange(examples, dtype=np.int8) % 2

    def has_come() -> bool:  # not what the client asks before it sends a batch
        return metric(server, "lossd_inflight_bytes") >= scores.nbytes + labels.nbytes

    async def main() -> None:
        async with AsyncLossClient(server.address) as client:
            loss = PairwiseAuc(surrogate=AUC_SURROGATE_LOGISTIC)
            task = asyncio.create_task(client.compute(loss, predictions=scores, targets=labels))
            await asyncio.to_thread(until, has_come)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.compute(SquaredError(), [2.0], [0.0])).loss == 4.0

    before = cancellations(server)
    asyncio.run(main())
    until(lambda: cancellations(server) != before)


def cancellations(server: Process) -> float:
    """How many calls the server saw cancelled, whether it was reading or computing."""
    return metric(
        server,
        "grpc_server_handled_total",
        grpc_type="unary",
        grpc_service="lossd.v1.LossService",
        grpc_method="ComputeLoss",
        grpc_code="CANCELLED",
    )
