"""Results go to PyTorch with their type, their values and their shape, and without a warning."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import v1
from lossd.client import InvalidRequestError, responses, to_torch
from lossd.framing import Framed
from lossd.tensors import fill, type_of_dtype

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle


def received(array: Any) -> Any:
    response = v1.ComputeLossResponse()
    fill(response.gradients.add(name="predictions").tensors.add(), array)
    return responses.read_response(Framed(response)).gradients["predictions"]


@pytest.mark.parametrize("dtype", type_of_dtype, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3, 4)])
def test_every_type_that_travels_becomes_that_of_torch(dtype: Any, shape: Any) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    tensor = to_torch(received(values.astype(dtype)))
    assert str(tensor.dtype).removeprefix("torch.") == np.dtype(dtype).name
    assert tensor.shape == shape
    assert tensor.double().tolist() == values.astype(dtype).astype(float).tolist()


def test_bfloat16_comes_back_as_it_went_to_the_bit() -> None:
    bits = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    tensor = to_torch(received(bits))
    assert tensor.dtype is torch.bfloat16
    assert (tensor.view(torch.int16).numpy().view(np.uint16) == np.arange(2**16)).all()


def test_a_result_is_copied_and_what_may_be_written_to_is_shared() -> None:
    result = received(np.zeros(3))
    to_torch(result).fill_(7)
    assert result.tolist() == [0, 0, 0]
    for own in (np.zeros(3), np.zeros(3, ml_dtypes.bfloat16)):
        to_torch(own).fill_(7)
        assert own.tolist() == [7, 7, 7]


def test_a_list_of_arrays_is_a_list_of_tensors() -> None:
    first, second = to_torch([received(np.zeros(3)), received(np.ones((2, 2)))])
    assert (first.shape, second.shape) == ((3,), (2, 2))


@pytest.mark.parametrize("wrong", [None, 1.0, "predictions", [None], (1.0, 2.0)])
def test_what_is_no_array_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^array must be one of a result, got \w+$"):
        to_torch(wrong)
