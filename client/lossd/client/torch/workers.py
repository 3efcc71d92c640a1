"""The batches of several workers, divided as the one batch that they are together.

Whatever decides how workers go on is added up first, so that all of them do the same: one that
raised alone would leave the others waiting for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import distributed

from lossd.client.errors import InvalidRequestError, LossdError
from lossd.client.hints import EmptyPolicy, Reduction
from lossd.client.result import LossResult, TermResult
from lossd.v1 import WeightedSum

# The field of a result with the divisor of each mean.
DENOMINATORS: Mapping[Reduction, str] = MappingProxyType(
    {"mean": "weight_sum", "batch_mean": "example_count"}
)

Result = LossResult[float | None]


class OwnCall(Protocol):
    """The interface of a call with the batch of one worker."""

    def __call__(self, loss: Any, *, normalizer: float, empty: EmptyPolicy) -> Result:
        """Returns the result of a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Workers whose gradients are averaged, as ``DistributedDataParallel`` does.

    Attributes:
        group: A group of ``torch.distributed``, or True for all workers.
        device: Where the counts are that they exchange.
        reduction: The mean that is wanted, "mean" or "batch_mean".
        normalizer: The divisor of the whole batch; None for what a mean would divide it by.
        divisor: What this worker adds to the divisor, where that is not the loss's to say.
        empty: How to handle a whole batch without examples.
    """

    group: Any
    device: torch.device
    reduction: Reduction
    normalizer: float | None
    divisor: float | None
    empty: EmptyPolicy

    def computed(self, compute: OwnCall, loss: Any) -> tuple[Result, float, float]:
        """Returns this worker's result, and what to multiply its loss and its gradients by.

        The average over workers is then the mean of the whole batch.

        Raises:
            LossdError: as ``compute``; in all workers if it raises in one of them.
        """
        terms = len(loss.terms) if isinstance(loss, WeightedSum) else 1
        result, totals = self._together(compute, loss, 2 * terms, self._counts)
        counts = totals[0::2]
        divisors = totals[1::2] if self.normalizer is None else [1.0] * len(counts)
        is_whole = all(counts) and all(divisors)
        if not is_whole and self.empty == "error":
            raise InvalidRequestError(
                "examples must be kept and have weight, got none", reason="EMPTY_BATCH"
            )
        size = distributed.get_world_size(self._group)
        factors = [size / each if each else 0.0 for each in divisors]
        factor = factors[0]
        if len(set(factors)) > 1:  # each term of a sum has a divisor of its own
            again = _reweighted(loss, factors)
            (result, _), factor = self._together(compute, again, 0, lambda _: []), 1.0
        return result, factor if is_whole or self.empty == "zero" else float("nan"), factor

    def _together(
        self, compute: OwnCall, loss: Any, size: int, counts: Callable[[Result], list[float]]
    ) -> tuple[Result, list[float]]:
        """Returns a result and the sums of all workers' counts, ``size`` of them; or all raise."""
        try:
            result = self._share(compute, loss)
        except Exception:
            self._added([0.0] * size, failed=True)
            raise
        return result, self._added(counts(result), failed=False)

    def _share(self, compute: OwnCall, loss: Any) -> Result:
        normalizer = 1.0 if self.normalizer is None else self.normalizer
        try:
            return compute(loss, normalizer=normalizer, empty="zero")
        except LossdError as error:
            if self.normalizer is None and error.field.endswith("normalizer"):
                raise InvalidRequestError(
                    "process_group must go with losses that are means over examples, "
                    f"got {loss.DESCRIPTOR.name}",
                    field="process_group",
                ) from error
            raise

    def _counts(self, result: Result) -> list[float]:
        """Returns the examples and the divisor of each term of a loss."""
        parts = result.terms or (result,)
        return [count for part in parts for count in (part.example_count, self._divisor(part))]

    def _divisor(self, part: Result | TermResult) -> float:
        if self.divisor is not None:
            return self.divisor
        found: float = getattr(part, DENOMINATORS[self.reduction])
        return found

    def _added(self, counts: Sequence[float], *, failed: bool) -> list[float]:
        """Returns the sums of all workers' counts.

        Raises:
            LossdError: if another worker failed.
        """
        total = torch.tensor([*counts, float(failed)], dtype=torch.float64, device=self.device)
        distributed.all_reduce(total, group=self._group)
        *found, failures = total.tolist()
        if failures and not failed:
            raise LossdError(
                f"workers must all compute their batches, got {failures:g} that could not: "
                "their own errors tell why",
                code="ABORTED",
                field="process_group",
            )
        return found

    @property
    def _group(self) -> Any:
        return None if self.group is True else self.group


def _reweighted(loss: WeightedSum, factors: Sequence[float]) -> WeightedSum:
    """Returns a sum whose weights have been multiplied."""
    found = WeightedSum()
    found.CopyFrom(loss)
    for term, factor in zip(found.terms, factors, strict=True):
        term.weight = factor * (term.weight if term.HasField("weight") else 1.0)
    return found
