"""Results as the engine returns them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import Array
from lossd.losses import Status

# An array, or a list of them for an input of several tensors.  Any, because with a union everyone
# who reads the usual single array would have to tell the type checker that it is no list.
Arrays = Any


@dataclass(frozen=True, slots=True)
class ExampleStatuses:
    """The examples that have a status: flat indices, ascending, and the number of each Status."""

    indices: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.uint8]


NO_EXAMPLES = np.zeros(0, np.int64)
NOTHING_SAID = ExampleStatuses(NO_EXAMPLES, np.zeros(0, np.uint8))


@dataclass(slots=True)  # not frozen: that would take four times as long, for every call
class Result:
    """The result of one job: numbers, and buffers that can be sent as they are.

    ``loss`` is None under ``Reduction.NONE``; ``per_example`` is None where it was not asked for,
    and for losses of a set.  ``nonfinite_examples`` holds flat indices, ascending; ``status`` is
    that of a whole set, or of gradients that belong to no example.
    """

    loss: float | None
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_examples: npt.NDArray[np.int64]
    statuses: ExampleStatuses
    status: Status | None
    per_example: Array | None
    gradients: Mapping[str, Arrays]
    outputs: Mapping[str, Array]
    backend: str
    terms: tuple["ComputedTerm", ...] = ()


@dataclass(frozen=True, slots=True)
class ComputedTerm:
    """The result of one term of a sum, before its weight is applied."""

    loss: float
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    status: Status | None
    gradient_norm: float
    outputs: Mapping[str, Array]
