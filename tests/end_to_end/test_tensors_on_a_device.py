"""``RemoteLoss`` with tensors on a device, and with memory of it that the server shares.

PyTorch is that for CPUs here, so a stand-in takes the place of its CUDA tensors: memory of the fake
device, which the host can read, under a tensor that tells of itself what one of CUDA does.  Not
tried so: PyTorch's own ``__cuda_array_interface__``, ``from_dlpack`` and streams.
"""

import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd.client import BatchWarning, LossClient
from lossd.v1 import CrossEntropy, FeatureMatching, SquaredError
from tests.device import is_fake
from tests.end_to_end.conftest import Process, serve

torch = pytest.importorskip("torch")
from lossd.client.torch import RemoteLoss, tensors  # noqa: E402

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
TYPES = {torch.float16: "<f2", torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8"}


class Standin(torch.Tensor):  # type: ignore[misc, name-defined]
    """A tensor of the fake device."""

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def device(self) -> Any:
        return CUDA

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        types = {**TYPES, torch.int16: "<i2"}
        return {
            "shape": tuple(self.shape),
            "typestr": types[self.dtype],  # of bfloat16 there is none
            "strides": tuple(step * self.element_size() for step in self.stride()),
            "data": (self.data_ptr(), False),
            "version": 2,
        }


class Memory:
    """Memory of the fake device, for NumPy."""

    def __init__(self, array: Any) -> None:
        self.array = array
        told = array.__cuda_array_interface__
        self.__array_interface__ = {
            **{name: told[name] for name in ("shape", "typestr", "data")},
            "version": 3,
        }


def standin(array: Any) -> Any:
    """An array of CuPy as a tensor on the device, in the same memory."""
    cupy = importlib.import_module("cupy")
    cupy.cuda.Device().synchronize()
    return torch.from_numpy(np.asarray(Memory(array))).as_subclass(Standin)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which tensors went from the device to the host, and back."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    found: list[str] = []

    def fetched(tensor: Any) -> Any:
        found.append("fetched")
        return tensor.as_subclass(torch.Tensor).clone()

    def sent(tensor: Any, device: Any) -> Any:
        assert device == CUDA
        found.append(f"sent {tensor.numel()}")
        return tensor.as_subclass(Standin)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch, "from_dlpack", standin)
    monkeypatch.setattr(tensors, "_fetched", fetched)
    monkeypatch.setattr(tensors, "_sent", sent)
    return found


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that shares memory of its device."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    shm = str(tmp_path_factory.mktemp("shm"))
    flags = ("--shm-dir", shm, "--max-device-bytes", str(256 << 20))
    with serve("--backend", "cupy", "--no-check-device", *flags) as process:
        yield process


@pytest.fixture
def client(sharing: Process) -> Iterator[LossClient]:
    with LossClient(sharing.address) as found:
        for _ in range(20):  # a question may take too long once on a busy machine
            if not isinstance(found.device_empty((1,)), np.ndarray):
                break
        yield found


def drawn(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)).to(dtype)


def placed(tensor: Any, client: LossClient | None = None) -> Any:
    """A tensor on the device: in memory that the server shares, or in that of CuPy."""
    cupy = importlib.import_module("cupy")
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    host = bits.numpy()
    empty = cupy.empty if client is None else client.device_empty
    array = empty(host.shape, host.dtype)
    array.set(host)
    return standin(array).view(tensor.dtype)


LABELS = torch.arange(200) % 300
Place = Callable[[Any, LossClient], Any]
PLACES: dict[str, Place] = {
    "in place": placed,
    "copied": lambda tensor, _: placed(tensor),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_and_gradients_stay_on_the_device(
    client: LossClient, moved: list[str], place: str, dtype: Any
) -> None:
    logits = drawn(200, 300, dtype=dtype)
    near = PLACES[place](logits, client).requires_grad_()
    far = logits.clone().requires_grad_()
    criterion = RemoteLoss(CrossEntropy(), client)
    value = criterion(near, PLACES[place](LABELS, client))
    (3 * value).backward()
    assert criterion.last is not None
    assert criterion.last.transport == "device_memory"
    assert moved == ["sent 1"]  # the loss
    expected = RemoteLoss(CrossEntropy(), client)(far, LABELS)
    (3 * expected).backward()
    assert value.item() == expected.item()
    assert torch.equal(near.grad.as_subclass(torch.Tensor), far.grad)


def test_a_vector_of_losses_has_its_gradient_on_the_device(
    client: LossClient, moved: list[str]
) -> None:
    near, far = placed(drawn(200, 300)).requires_grad_(), drawn(200, 300).requires_grad_()
    criterion = RemoteLoss(SquaredError(), client, reduction="none")
    for given in (near, far):
        value = criterion(given, torch.zeros(200, 300))
        value.as_subclass(torch.Tensor).sum().backward()
    assert moved == ["sent 200"]  # the losses
    assert torch.equal(near.grad.as_subclass(torch.Tensor), far.grad)


def test_lists_of_tensors_stay_on_the_device(client: LossClient, moved: list[str]) -> None:
    maps = [drawn(4, 8, 16), drawn(4, 8, 16) * 2]
    near = [placed(one).requires_grad_() for one in maps]
    criterion = RemoteLoss(FeatureMatching(), client)
    criterion(near, [placed(one + 1) for one in maps]).backward()
    assert criterion.last is not None
    assert criterion.last.transport == "device_memory"
    assert moved == ["sent 1"]
    assert all(one.grad is not None for one in near)


@pytest.mark.parametrize("why", ["a server on the CPU", "no CuPy", "lint", "full"])
def test_tensors_go_through_the_host_where_they_cannot_stay(
    moved: list[str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    near, far = placed(drawn(200, 300)).requires_grad_(), drawn(200, 300).requires_grad_()
    labels = placed(LABELS)
    if why == "no CuPy":
        monkeypatch.setitem(importlib.import_module("sys").modules, "cupy", None)
    flags = {"a server on the CPU": ("--backend", "numpy"), "full": ("--max-device-bytes", "1")}
    flags |= dict.fromkeys(("lint", "no CuPy"), ("--max-device-bytes", str(64 << 20)))
    backend = () if why == "a server on the CPU" else ("--backend", "cupy", "--no-check-device")
    with serve(*flags[why], *backend, "--shm-dir", str(tmp_path)) as process:
        criterion = RemoteLoss(CrossEntropy(), process.address, lint=why == "lint")
        value = criterion(near, labels)
        value.backward()
        expected = RemoteLoss(CrossEntropy(), process.address)(far, LABELS)
        expected.backward()
    assert criterion.last is not None
    assert criterion.last.transport == "shared_memory"
    assert moved == ["fetched", "fetched", "sent 1", "sent 60000"]
    assert value.item() == expected.item()
    assert torch.equal(near.grad.as_subclass(torch.Tensor), far.grad)


def test_a_class_axis_that_is_easily_mistaken_is_warned_of(
    client: LossClient, moved: list[str]
) -> None:
    del moved
    with pytest.warns(BatchWarning, match="class_axis=1"):
        client.compute(CrossEntropy(), placed(drawn(2, 3, 3)), placed(torch.zeros(2, 3).long()))
