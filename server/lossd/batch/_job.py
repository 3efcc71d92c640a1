"""One request, independent of the wire format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from lossd.losses import Loss
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, independent of the wire format.

    ``parameters`` holds those that were given; ``gradients`` is None for the loss's default.
    """

    loss: Loss
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Array]]
    weights: Array | None = None
    mask: Array | None = None
    cotangent: Array | None = None
    reduction: Reduction = Reduction.MEAN
    normalizer: float | None = None
    gradients: Sequence[str] | None = None
    per_example: bool = True
    empty: EmptyPolicy = EmptyPolicy.ZERO
    nonfinite: NonfinitePolicy = NonfinitePolicy.PROPAGATE
