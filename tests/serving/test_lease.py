"""The lease of a call on shared memory, and how far a client can change its data afterwards."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.errors import Overloaded
from lossd.framing import Framed
from lossd.losses import LOSSES, Axes, Content
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.shared_memory_service.lease import Lease
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.sigbus import Bytes
from lossd.serving.wire.reader import Limits

SIZE = 1 << 16
# A lock counts for others than the process that holds it.
CLIENT = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(file, int(sys.argv[2]))
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedMemory]:
    with SharedMemory(str(tmp_path), segments=2, segment_bytes=SIZE) as made:
        yield made


@pytest.fixture
def token(shared: SharedMemory, tmp_path: Path) -> Iterator[bytes]:
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "file"), str(SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        client.stdout.readline()
        yield shared.attach("file", SIZE)


def test_a_segment_is_pinned_until_nobody_uses_it(tmp_path: Path) -> None:
    pinned: list[int] = []

    def pin(memory: Bytes) -> Callable[[], None]:
        pinned.append(memory.nbytes)
        return pinned.clear

    with SharedMemory(str(tmp_path), segments=2, segment_bytes=SIZE, pin=pin) as shared:
        command = [sys.executable, "-c", CLIENT, str(tmp_path / "file"), str(SIZE)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            token = shared.attach("file", SIZE)
        lease = Lease(shared, lambda _: None)
        used = lease.view(v1.SharedMemory(segment=token, offset=0), SIZE, "weights")
        shared.detach(token)
        assert pinned == [SIZE]
        del used, lease
        assert not pinned


def request(token: bytes) -> v1.ComputeLossRequest:
    """Cross-entropy whose tensors all lie at the beginning of a segment."""
    made = v1.ComputeLossRequest(loss=v1.LossSpec(cross_entropy=v1.CrossEntropy()))
    fields = {
        "predictions": (made.inputs.add(name="predictions").tensors.add(), np.zeros((2, 3), "f4")),
        "targets": (made.inputs.add(name="targets").tensors.add(), np.zeros(2, np.int64)),
        "weights": (made.weights, np.zeros(2, np.float32)),
        "mask": (made.mask, np.zeros(2, np.bool_)),
    }
    for tensor, array in fields.values():
        tensors.refer(tensor, array, v1.SharedMemory(segment=token, offset=0))
    return made


def test_only_rows_of_floats_stay_where_a_client_can_change_them(
    shared: SharedMemory, token: bytes
) -> None:
    held: list[int] = []
    job = loss_requests.read_job(Framed(request(token)), Limits(), Lease(shared, held.append))
    shared.find(token).mapping.bytes[:] = 1

    assert (job.inputs["predictions"][0] != 0).all()
    assert (job.inputs["targets"][0] == 0).all()
    assert job.weights is not None
    assert (job.weights == 0).all()
    assert job.mask is not None
    assert not job.mask.any()
    assert sorted(held) == [2, 8, 16]


def test_rows_along_another_axis_are_copied(shared: SharedMemory, token: bytes) -> None:
    made = request(token)
    made.loss.cross_entropy.class_axis = 0
    job = loss_requests.read_job(Framed(made), Limits(), Lease(shared, lambda _: None))
    shared.find(token).mapping.bytes[:] = 1
    assert (job.inputs["predictions"][0] == 0).all()


def test_what_sorts_its_inputs_gets_a_copy(shared: SharedMemory, token: bytes) -> None:
    made = v1.ComputeLossRequest(loss=v1.LossSpec(pairwise_auc=v1.PairwiseAuc()))
    for name in ("predictions", "targets"):
        place = v1.SharedMemory(segment=token, offset=0)
        array = np.zeros((2, 3), np.float32)
        tensors.refer(made.inputs.add(name=name).tensors.add(), array, place)
    job = loss_requests.read_job(Framed(made), Limits(), Lease(shared, lambda _: None))
    shared.find(token).mapping.bytes[:] = 1
    assert all((arrays[0] == 0).all() for arrays in job.inputs.values())


@pytest.mark.parametrize("loss", ["policy_gradient", "preference", "clipped_value"])
def test_numbers_of_tokens_stay_and_what_lays_them_out_does_not(
    shared: SharedMemory, token: bytes, loss: str
) -> None:
    made = v1.ComputeLossRequest()
    getattr(made.loss, loss).SetInParent()
    contents = {declared.name: declared.content for declared in LOSSES[loss].inputs}
    for name in contents:
        place = v1.SharedMemory(segment=token, offset=0)
        tensors.refer(made.inputs.add(name=name).tensors.add(), np.zeros((2, 3), "f4"), place)
    job = loss_requests.read_job(Framed(made), Limits(), Lease(shared, lambda _: None))
    shared.find(token).mapping.bytes[:] = 1
    for name, content in contents.items():
        assert (job.inputs[name][0] != 0).all() == (content is Content.FLOATS), name


def test_numbers_of_classes_of_tokens_are_copied(shared: SharedMemory, token: bytes) -> None:
    made = v1.ComputeLossRequest(loss=v1.LossSpec(distillation=v1.Distillation()))
    names = [i.name for i in LOSSES["distillation"].inputs if i.axes is Axes.CLASSES]
    for name in names:
        place = v1.SharedMemory(segment=token, offset=0)
        tensors.refer(made.inputs.add(name=name).tensors.add(), np.zeros((2, 3, 4), "f4"), place)
    job = loss_requests.read_job(Framed(made), Limits(), Lease(shared, lambda _: None))
    shared.find(token).mapping.bytes[:] = 1
    assert names
    assert all((arrays[0] == 0).all() for arrays in job.inputs.values())


def test_copies_count_as_memory_of_the_call(shared: SharedMemory, token: bytes) -> None:
    def refuse(amount: int) -> None:
        raise Overloaded(f"bytes must be none, got {amount}")

    with pytest.raises(Overloaded):
        loss_requests.read_job(Framed(request(token)), Limits(), Lease(shared, refuse))


def test_inputs_are_never_written_to(shared: SharedMemory, token: bytes) -> None:
    job = loss_requests.read_job(Framed(request(token)), Limits(), Lease(shared, lambda _: None))
    assert not job.inputs["predictions"][0].flags.writeable
