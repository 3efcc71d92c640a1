"""The batches of several workers, divided as the one batch that they are together.

Whatever decides how workers go on is added up first, so that all of them do the same: one that
raised alone would leave the others waiting for it.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

import torch
from torch import distributed

from lossd.client.errors import InvalidRequestError, LossdError
from lossd.client.hints import EmptyPolicy, Reduction
from lossd.client.result import LossResult
from lossd.v1 import WeightedSum

# The field of a result with the divisor of each mean.
DENOMINATORS: Mapping[Reduction, str] = MappingProxyType(
    {"mean": "weight_sum", "batch_mean": "example_count"}
)

Result = LossResult[float | None]


def checked_group(given: Any) -> Any:
    """Returns the workers that a module was given, None for none.

    Raises:
        InvalidRequestError: if it is neither True nor a group that this process is in.
    """
    if given is None or given is False:
        return None
    is_group = distributed.is_available() and isinstance(given, distributed.ProcessGroup)
    if given is not True and not is_group:
        raise InvalidRequestError(
            "process_group must be True or a group of torch.distributed that this process is in, "
            f"got {given!r:.64}",
            field="process_group",
        )
    return given


class HeldGroup:
    """A group in the state of a module: copies share it, and no other process can have it."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise InvalidRequestError(
            "process_group must be True in a module that is pickled, got a group, which belongs "
            "to its process",
            field="process_group",
        )


class OwnCall(Protocol):
    """The interface of a call with the batch of one worker."""

    def __call__(self, loss: Any, *, normalizer: float, empty: EmptyPolicy) -> Result:
        """Returns the result of a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divisors:
    """Divisors of the batch of one worker, where a mean would not say them.

    Attributes:
        whole: That of the whole batch, which the caller gave; None for what a mean would take.
        own: What this worker adds to that of the whole batch; None where that is the loss's to say.
    """

    whole: float | None
    own: float | None


class Workers:
    """Workers whose gradients are averaged, as ``DistributedDataParallel`` does.

    As a context it is one call of all of them: where one raises before it has told the others its
    counts, it tells them that, and they raise too.

    Args:
        group: A group of ``torch.distributed``, or True for all workers.
        device: Where the first input is.
        loss: The loss, whose terms have counts each.
        reduction: The mean that is wanted, "mean" or "batch_mean".
        empty: How to handle a whole batch without examples.
    """

    def __init__(
        self,
        group: Any,
        device: torch.device,
        loss: Any,
        *,
        reduction: Reduction,
        empty: EmptyPolicy,
    ) -> None:
        self._group = None if group is True else group
        self._device = _device_of_counts(self._group, device)
        self._reduction = reduction
        self._empty = empty
        terms = len(loss.terms) if isinstance(loss, WeightedSum) else 1
        self._due: int | None = 2 * terms  # numbers that the others wait for; None for no wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._due is not None and isinstance(error, Exception):
            with contextlib.suppress(RuntimeError, ValueError):  # the first error says more
                self._added([0.0] * self._due, failed=True)

    def computed(
        self, compute: OwnCall, loss: Any, divisors: Divisors
    ) -> tuple[Result, float, float]:
        """Returns this worker's result, and the factors of its loss and of its gradients.

        The average over workers is then the mean of the whole batch.

        Raises:
            LossdError: as ``compute``; in all workers if it raises in one of them.
        """
        result = _share(compute, loss, divisors)
        totals = self._added(self._counts(result, divisors))
        counts = totals[0::2]
        divided = totals[1::2] if divisors.whole is None else [1.0] * len(counts)
        is_whole = all(counts) and all(divided)
        if not is_whole and self._empty == "error":
            raise InvalidRequestError(
                "examples must be kept and have weight, got none",
                reason="EMPTY_BATCH",
                field="empty",
            )
        size = distributed.get_world_size(self._group)
        factors = [size / each if each else 0.0 for each in divided]
        factor = factors[0]
        if len(set(factors)) > 1:  # each term of a sum has a divisor of its own
            self._due = 0
            result, factor = _share(compute, _reweighted(loss, factors), divisors), 1.0
            self._added([])
        return result, factor if is_whole or self._empty == "zero" else float("nan"), factor

    def _counts(self, result: Result, divisors: Divisors) -> list[float]:
        """Returns the weight, without which a batch is empty, and the divisor of each term."""
        parts = result.terms or (result,)
        name = DENOMINATORS[self._reduction]
        return [
            count
            for part in parts
            for count in (
                part.weight_sum,
                getattr(part, name) if divisors.own is None else divisors.own,
            )
        ]

    def _added(self, counts: Sequence[float], *, failed: bool = False) -> list[float]:
        """Returns the sums of all workers' counts.

        Raises:
            LossdError: if another worker failed.
        """
        total = torch.tensor([*counts, float(failed)], dtype=torch.float64, device=self._device)
        self._due = None
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


def _device_of_counts(group: Any, device: torch.device) -> torch.device:
    """Returns where workers can add numbers up, wherever an input of one of them is."""
    backend = str(distributed.get_backend(group))
    if "gloo" in backend or "mpi" in backend:
        return torch.device("cpu")
    if "nccl" in backend:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _share(compute: OwnCall, loss: Any, divisors: Divisors) -> Result:
    normalizer = 1.0 if divisors.whole is None else divisors.whole
    try:
        return compute(loss, normalizer=normalizer, empty="zero")
    except LossdError as error:
        if divisors.whole is None and error.field.endswith("normalizer"):
            raise InvalidRequestError(
                "process_group must go with losses that are means over examples, "
                f"got {loss.DESCRIPTOR.name}",
                field="process_group",
            ) from error
        raise


def _reweighted(loss: WeightedSum, factors: Sequence[float]) -> WeightedSum:
    """Returns a sum whose weights have been multiplied."""
    found = WeightedSum()
    found.CopyFrom(loss)
    for term, factor in zip(found.terms, factors, strict=True):
        term.weight = factor * (term.weight if term.HasField("weight") else 1.0)
    return found
