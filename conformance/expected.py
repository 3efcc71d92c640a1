"""Right answers, from formulas that share nothing with lossd: the oracles of the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import tensors, v1
from tests.losses.case import Case, by_row
from tests.oracles import oracle_gradients, oracle_values

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of a request besides its loss."""

    reduction: str = "mean"
    weights: Array | None = None
    mask: Array | None = None
    cotangent: Array | None = None
    normalizer: float | None = None
    gradients: Sequence[str] = ("predictions",)
    per_example: bool = True

    def options(self) -> dict[str, Any]:
        """Returns it as the client takes it."""
        return {name: getattr(self, name) for name in self.__slots__}


def answer(case: Case, asked: Asked) -> v1.ComputeLossResponse:
    """Returns the reply to a case, as ``semantics.md`` defines it."""
    values = oracle_values(case)
    kept = np.ones(case.count, bool) if asked.mask is None else asked.mask
    weights = np.where(kept, 1.0 if asked.weights is None else asked.weights, 0.0)
    total, weight_sum = float(weights @ values), float(weights @ case.class_weights)
    divisor = _divisor(asked, weight_sum, int(kept.sum()))
    reply = v1.ComputeLossResponse(
        loss_sum=total,
        weight_sum=weight_sum,
        example_count=int(kept.sum()),
        ignored_count=int((~kept).sum()),
    )
    if asked.reduction != "none":
        reply.loss = total / divisor
    if asked.per_example:
        is_double = any(array.dtype == np.float64 for array in case.inputs.values())
        dtype = np.float64 if is_double else np.float32
        tensors.fill(reply.per_example, np.where(kept, values, 0).astype(dtype))
    scales = weights / divisor * (1.0 if asked.cotangent is None else asked.cotangent)
    for name in asked.gradients:
        slopes = oracle_gradients(case, name)
        scaled = (by_row(scales, slopes) * slopes).astype(case.inputs[name].dtype)
        tensors.fill(reply.gradients.add(name=name).tensors.add(), scaled)
    return reply


def _divisor(asked: Asked, weight_sum: float, kept: int) -> float:
    if asked.normalizer is not None:
        return asked.normalizer
    return {"mean": weight_sum, "batch_mean": kept, "sum": 1, "none": 1}[asked.reduction]
