"""Tensors in device memory that client and server share.

Run on gpulab's fake device, whose work waits until somebody waits for it: a missing wait between
the processes gives wrong numbers every time.
"""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import v1
from lossd.client import (
    AsyncLossClient,
    DeadlineExceededError,
    InvalidRequestError,
    LossClient,
    UnavailableError,
)
from lossd.v1 import (
    BinaryCrossEntropy,
    CrossEntropy,
    Ctc,
    Dice,
    FeatureMatching,
    Huber,
    InfoNce,
    KlDivergence,
    SquaredError,
    Triplet,
    WeightedSum,
    WeightedTerm,
)
from tests.end_to_end import on_device
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.on_device import (
    CLASSES,
    CUPY,
    MEBIBYTE,
    ROWS,
    assert_same,
    classes,
    filled,
    holder,
    idle,
    in_use,
    logits,
)
from tests.waiting import until

pytestmark = pytest.mark.gpu
# These are fixtures here too, and the first of every test.
fake, sharing, cupy = on_device.fake, on_device.sharing, on_device.cupy


# ------------------------------------------------------------------ the bundled clients

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_come_back_in_device_memory(
    sharing: Process, connect: Any, cupy: Any, dtype: Any
) -> None:
    given = logits().astype(dtype)
    with connect(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), filled(near, given), classes())
        sent = far.compute(CrossEntropy(), given, classes())
    gradient = found.gradients["predictions"]
    assert found.transport == "device_memory"
    assert isinstance(gradient, cupy.ndarray)
    assert found.loss == sent.loss
    assert_same(gradient, sent.gradients["predictions"])
    assert_same(found.per_example, sent.per_example)


def probabilities() -> Any:
    return (1 / (1 + np.exp(-logits()))).astype(np.float32)


LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "two inputs that stay": (SquaredError(), {"predictions": logits(), "targets": logits() * 2}),
    "an input with a domain": (
        BinaryCrossEntropy(),
        {"predictions": logits(), "targets": probabilities()},
    ),
    "a distribution": (
        KlDivergence(),
        {"predictions": logits(), "targets": probabilities() / CLASSES / 2},
    ),
    "another class axis": (
        CrossEntropy(class_axis=0),
        {"predictions": np.ascontiguousarray(logits().T), "targets": classes()},
    ),
    "a loss of regions": (Dice(), {"predictions": logits(), "targets": probabilities()}),
    "a loss of vectors": (
        Triplet(),
        {"anchor": logits(), "positive": logits() + 1, "negative": logits() * 2},
    ),
    "a loss of sequences": (
        Ctc(),
        {
            "predictions": logits(20, 300).reshape(4, 50, 30),
            "targets": classes(4 * 9, 29).reshape(4, 9) + 1,
        },
    ),
    "a loss of pairs": (InfoNce(), {"queries": logits(16, 8), "keys": logits(16, 8) + 1}),
    "a sum": (
        WeightedSum(terms=[WeightedTerm(loss=v1.LossSpec(huber=Huber()), weight=2)]),
        {"predictions": logits(), "targets": logits() * 2},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_kind_of_loss_takes_device_memory(sharing: Process, name: str) -> None:
    """The server copies those that it has to look at first, and those of other shapes."""
    loss, given = LOSSES[name]
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(loss, **{n: filled(near, array) for n, array in given.items()})
        sent = far.compute(loss, **given)
    assert found.transport == "device_memory"
    assert found.loss == sent.loss
    assert found.gradients.keys() == sent.gradients.keys()
    for input_name, gradient in sent.gradients.items():
        assert hasattr(found.gradients[input_name], "__cuda_array_interface__")
        assert_same(found.gradients[input_name], gradient)


def test_numbers_outside_their_domain_are_refused_as_elsewhere(sharing: Process) -> None:
    """Though the server never reads them on the host but for the error."""
    targets = probabilities()
    targets[ROWS - 2, 7] = -1e-40
    said = []
    with LossClient(sharing.address) as client:
        for put in (lambda array: filled(client, array), np.asarray):
            with pytest.raises(InvalidRequestError) as raised:
                client.compute(BinaryCrossEntropy(), put(logits()), put(targets))
            said.append((raised.value.field, str(raised.value).partition(" (request")[0]))
    assert said[0] == said[1]
    assert said[0][0] == "inputs.targets"


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_options_are_as_elsewhere(sharing: Process, nonfinite: Any) -> None:
    given = logits()
    given[3, 5] = np.nan
    options: dict[str, Any] = {
        "weights": np.linspace(0, 2, ROWS),
        "mask": np.arange(ROWS) % 7 != 0,
        "reduction": "sum",
        "nonfinite": nonfinite,
    }
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), filled(near, given), classes(), **options)
        sent = far.compute(CrossEntropy(), given, classes(), **options)
    assert found.statuses == sent.statuses
    np.testing.assert_equal(found.loss, sent.loss)
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_metrics_weights_and_labels_may_be_on_the_device(sharing: Process) -> None:
    weights = np.linspace(0, 2, ROWS).astype(np.float32)
    options: dict[str, Any] = {"metrics": [v1.MetricSpec(accuracy=v1.Accuracy())]}
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        inputs = [filled(near, logits()), filled(near, classes())]
        found = near.compute(CrossEntropy(), *inputs, weights=filled(near, weights), **options)
        sent = far.compute(CrossEntropy(), logits(), classes(), weights=weights, **options)
    assert found.loss == sent.loss
    assert found.metrics[0].value == sent.metrics[0].value
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_the_server_waits_for_what_was_queued_and_the_client_for_results(
    sharing: Process, cupy: Any
) -> None:
    given = logits()
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        sent = far.compute(CrossEntropy(), 2 * given, classes())
        stream = cupy.cuda.Stream(non_blocking=True)
        source = cupy.asarray(given)
        cupy.cuda.Device().synchronize()
        with stream:
            array = near.device_empty(given.shape)
            cupy.multiply(source, 2, out=array)  # which has not run yet
            found = near.compute(CrossEntropy(), array, classes())
            total = found.gradients["predictions"] * 1
        stream.synchronize()
        assert found.loss == sent.loss
        assert_same(total, sent.gradients["predictions"])


def test_an_array_from_elsewhere_on_the_device_is_copied_there(sharing: Process, cupy: Any) -> None:
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        found = near.compute(CrossEntropy(), cupy.asarray(logits()), classes())
        sent = far.compute(CrossEntropy(), logits(), classes())
    assert found.transport == "device_memory"
    assert_same(found.gradients["predictions"], sent.gradients["predictions"])


def test_lists_of_arrays_stay_on_the_device_for_asyncio(sharing: Process, cupy: Any) -> None:
    maps = [logits(4, 16), logits(4, 32)]
    given: dict[str, Any] = {"predictions": maps, "targets": [one + 1 for one in maps]}
    lying: dict[str, Any] = {n: [cupy.asarray(one) for one in maps] for n, maps in given.items()}

    async def ask() -> Any:
        async with AsyncLossClient(sharing.address) as near:
            return await near.compute(FeatureMatching(), **lying)

    with LossClient(sharing.address) as far:
        sent = far.compute(FeatureMatching(), **given)
    found = asyncio.run(ask())
    assert found.transport == "device_memory"
    assert found.loss == sent.loss
    for name, gradients in sent.gradients.items():
        for near, expected in zip(found.gradients[name], gradients, strict=True):
            assert isinstance(near, cupy.ndarray)
            assert_same(near, expected)


def test_other_libraries_take_the_array(sharing: Process, cupy: Any) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        assert array.__dlpack_device__() == (2, 0)
        viewed = cupy.from_dlpack(array)
        del array
        viewed *= 2
        assert client.compute(CrossEntropy(), viewed, classes()).transport == "device_memory"
        assert_same(viewed, 2 * logits())


def test_the_device_may_be_named(sharing: Process, connect: Any, cupy: Any) -> None:
    with connect(sharing.address) as client:
        assert client.device_empty((2, 3), "float16", device=0).device.id == 0
        assert type(client.device_empty((2, 3), device=7)) is np.ndarray  # there is none
        assert isinstance(client.device_empty((2, 3)), cupy.ndarray)


SECOND = """
import sys
import numpy as np
from gpulab import fake
from lossd.client import LossClient
from lossd.v1 import CrossEntropy
given = np.random.default_rng(2).normal(size=(200, 300)).astype(np.float32)
labels = np.arange(200)
with LossClient(sys.argv[1]) as client:
    array = client.device_empty(given.shape, device=1)
    with array.device:
        array.set(given)
        found = client.compute(CrossEntropy(), array, labels)
        gradient = found.gradients["predictions"]
        same = client.compute(CrossEntropy(), given, labels).gradients["predictions"]
        assert gradient.get().tobytes() == same.tobytes()
    print(found.transport, gradient.device.id, fake.violations())
"""


def test_memory_is_computed_on_the_device_that_it_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULAB_DEVICES", "2")
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(64 * MEBIBYTE))
    with serve(*CUPY, *flags) as process:
        command = [sys.executable, "-c", SECOND, process.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "device_memory 1 []\n", done.stderr


def test_memory_is_used_again(sharing: Process) -> None:
    idle(sharing)
    given = logits(1000, 1000)
    with LossClient(sharing.address) as client:
        array = filled(client, given)
        for _ in range(20):
            client.compute(CrossEntropy(), array, classes(1000))
        assert in_use(sharing) <= 16 * MEBIBYTE


def test_threads_do_not_get_in_each_others_way(sharing: Process, cupy: Any) -> None:
    wanted: dict[int, bytes] = {}
    found: dict[int, list[bytes]] = {}
    with LossClient(sharing.address) as near, LossClient(sharing.address) as far:
        for factor in range(4):
            sent = far.compute(CrossEntropy(), factor * logits(), classes())
            wanted[factor] = sent.gradients["predictions"].tobytes()

        def work(factor: int) -> None:
            array = filled(near, factor * logits())
            for _ in range(5):
                gradient = near.compute(CrossEntropy(), array, classes()).gradients["predictions"]
                found.setdefault(factor, []).append(cupy.asnumpy(gradient).tobytes())

        threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {factor: [bits] * 5 for factor, bits in wanted.items()}


def test_tensors_on_the_device_are_computed_there_whatever_others_are(tmp_path: Path) -> None:
    flags = ("--shm-dir", str(tmp_path), "--max-device-bytes", str(64 * MEBIBYTE))
    auto = ("--backend", "auto", "--no-check-device", "--routes", "rowwise=numpy")
    with serve(*auto, *flags) as process, LossClient(process.address) as client:
        (route,) = (one for one in client.server_info().routes if one.shape == "rowwise")
        assert (route.backend, route.device_backend) == ("numpy", "cupy")
        assert (route.reason, "cross_entropy" in route.losses) == ("asked for", True)
        backends = [
            client.compute(CrossEntropy(), predictions, classes()).backend
            for predictions in (logits(), filled(client, logits()))
        ]
    assert backends == ["numpy", "cupy"]


# ------------------------------------------------------------------ clients that go


def test_a_killed_clients_memory_is_freed(sharing: Process) -> None:
    idle(sharing)
    with holder(sharing) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith("cupy")
        assert in_use(sharing)
        client.send_signal(signal.SIGKILL)
        client.wait()
        idle(sharing)


def test_a_closed_client_gives_memory_back_with_its_last_array(sharing: Process) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
    assert in_use(sharing)
    assert_same(array, logits())
    del array
    idle(sharing)


def test_a_server_that_restarts_shares_memory_again(tmp_path: Path) -> None:
    """Memory of the one that ended is lost, and is never touched again."""
    flags = ("--shm-dir", str(tmp_path / "shm"), "--max-device-bytes", str(64 * MEBIBYTE))
    (tmp_path / "shm").mkdir()
    address = f"unix:{tmp_path}/socket"
    with LossClient(address) as client:
        with serve(*CUPY, *flags, address=address) as process:
            array = filled(client, logits())
            before = client.compute(CrossEntropy(), array, classes())
            process.end()
        with serve(*CUPY, *flags, address=address):
            client.wait_until_ready(20)
            with pytest.raises(UnavailableError, match="make it anew with device_empty"):
                client.compute(CrossEntropy(), array, classes())
            until(lambda: hasattr(client.device_empty((2, 2)), "get"))
            again = client.compute(CrossEntropy(), filled(client, logits()), classes())
    assert (again.transport, before.transport) == ("device_memory", "device_memory")
    assert again.loss == before.loss


def test_a_call_that_is_given_up_never_writes_to_a_later_result(
    sharing: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LossClient(sharing.address) as client:
        array = filled(client, logits())
        kept = client._connection().sharing.device
        client.compute(CrossEntropy(), array, classes())
        (segment,) = kept._segments

        def give_up(*_: Any, **__: Any) -> None:
            raise DeadlineExceededError("call must be answered in time, got nothing")

        with monkeypatch.context() as patch:
            patch.setattr(client._connection(), "call", give_up)
            with pytest.raises(DeadlineExceededError):
                client.compute(CrossEntropy(), array, classes())
        assert segment.is_retired
        found = client.compute(CrossEntropy(), filled(client, logits()), classes())
        assert found.transport == "device_memory"
        assert kept._segments != [segment]
