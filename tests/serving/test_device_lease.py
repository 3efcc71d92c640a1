"""Tensors in the memory of a device, whose numbers kernels read at multiples of their size only."""

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.backends import Resident
from lossd.serving.device_memory_service.lease import DeviceLease
from lossd.serving.wire.reader import Limits, RequestReader

TYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)


def _reader(memory: Resident) -> RequestReader:
    """Returns a reader of a caller to whom this memory of a device is lent."""
    exported = SimpleNamespace(size=memory.size, device=0, array=lambda: memory)
    lent: Any = SimpleNamespace(
        find=lambda *_: SimpleNamespace(exported=exported),
        exports=SimpleNamespace(fetch=lambda array: np.array(array.view(np.ndarray))),
    )
    lease = DeviceLease(
        lent, v1.DeviceUse(), caller="", checkpoint=lambda: None, hold=lambda _: None
    )
    return RequestReader(None, Limits(), row_axis=-1, device=lease)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_a_kernel_cannot_read_where_it_lies_is_copied(dtype: Any) -> None:
    kind = np.dtype(dtype)
    memory = np.zeros(256, np.uint8).view(Resident)
    numbers = np.arange(6, dtype=np.float64).astype(kind).reshape(2, 3)
    for offset in range(2 * kind.itemsize):
        memory[:] = np.uint8(0)
        memory[offset : offset + numbers.nbytes] = numbers.reshape(-1).view(np.uint8)
        named = v1.NamedTensors(name="predictions")
        place = v1.DeviceMemory(segment=b"x" * 16, offset=offset)
        tensor = named.tensors.add(
            dtype=tensors.type_of_dtype[kind], shape=numbers.shape, device_memory=place
        )
        assert tensor.device_memory.offset == offset
        (found,) = _reader(memory).inputs([named])["predictions"]
        assert isinstance(found, Resident) == (offset % kind.itemsize == 0), offset
        assert found.view(np.ndarray).tolist() == numbers.tolist()
