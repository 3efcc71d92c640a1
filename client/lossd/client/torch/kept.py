"""The inputs of a call as they are kept for its backward pass, with places where tensors were.

PyTorch keeps the tensors, which tells whether they were written to, packs and unpacks them if it is
asked to (``torch.autograd.graph.saved_tensors_hooks``), and drops them after the backward pass.
What is no tensor, such as an array of NumPy, is copied, and the copy stays as long as the graph.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lossd.client import arrays
from lossd.client.device_arrays import is_on_device
from lossd.client.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor was: which of those it is that PyTorch keeps."""

    index: int


def taken_out(given: Any, tensors: list[torch.Tensor]) -> Any:
    """Returns what is given with places for its tensors, which it adds to some.

    All else is copied, as PyTorch does not watch it.
    """
    if isinstance(given, torch.Tensor):
        # PyTorch neither keeps nor watches tensors of inference mode.
        tensors.append(given.clone() if given.is_inference() else given)
        return _Place(len(tensors) - 1)
    if isinstance(given, Mapping):
        return {name: taken_out(one, tensors) for name, one in given.items()}
    if arrays.is_several(given):
        return [taken_out(one, tensors) for one in given]
    return _copied(given)


def put_back(kept: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """Returns what was given, with tensors in their places."""
    if isinstance(kept, _Place):
        return tensors[kept.index]
    if isinstance(kept, Mapping):
        return {name: put_back(one, tensors) for name, one in kept.items()}
    if isinstance(kept, list):
        return [put_back(one, tensors) for one in kept]
    return kept


def _copied(given: Any) -> Any:
    if given is None:
        return None
    if is_on_device(given):
        return given.copy() if hasattr(given, "copy") else given
    with contextlib.suppress(InvalidRequestError):  # the call refuses it, by its name
        return arrays.to_array("inputs", given).copy()
    return given
