"""The inputs of a call as they are kept for its backward pass, with places where tensors were.

PyTorch keeps the tensors, which tells whether they were written to, packs and unpacks them if it is
asked to (``torch.autograd.graph.saved_tensors_hooks``), and drops them after the backward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lossd.client import arrays


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor was: which of those it is that PyTorch keeps."""

    index: int


def taken_out(given: Any, tensors: list[torch.Tensor]) -> Any:
    """Returns what is given with places for its tensors, which it adds to some.

    Arrays are copied, as PyTorch does not watch them.
    """
    if isinstance(given, torch.Tensor):
        # PyTorch neither keeps nor watches tensors of inference mode.
        tensors.append(given.clone() if given.is_inference() else given)
        return _Place(len(tensors) - 1)
    if isinstance(given, Mapping):
        return {name: taken_out(one, tensors) for name, one in given.items()}
    if arrays.is_several(given):
        return [taken_out(one, tensors) for one in given]
    return given.copy() if isinstance(given, np.ndarray) else given


def put_back(kept: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """Returns what was given, with tensors in their places."""
    if isinstance(kept, _Place):
        return tensors[kept.index]
    if isinstance(kept, Mapping):
        return {name: put_back(one, tensors) for name, one in kept.items()}
    if isinstance(kept, list):
        return [put_back(one, tensors) for one in kept]
    return kept
