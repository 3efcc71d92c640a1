"""Weights of elements, which a module of PyTorch has of its own beside those of a call."""

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch

from lossd.client import arguments
from lossd.client.errors import InvalidRequestError
from lossd.client.torch.tensors import as_tensor, read


@dataclass(frozen=True, slots=True, eq=False)
class ElementWeights:
    """The weight of each element of a batch, whose examples are the elements.

    Attributes:
        values: The weights, of the shape of the batch.
        is_by_row: Whether a call speaks of places on the first axis, as it would do without these
            weights; else it speaks of elements.
    """

    values: torch.Tensor
    is_by_row: bool

    def joined(self, *, weights: Any, mask: Any, cotangent: Any, normalizer: Any) -> dict[str, Any]:
        """Returns the options of a call as those of each element, with these weights in them.

        Raises:
            InvalidRequestError: for one that has not the shape that the call speaks of.
        """
        own = self.values
        if weights is not None:
            given = self._spread("weights", weights)
            own = given.double() * own.to(given.device)
        return {
            "weights": own,
            "mask": None if mask is None else self._spread("mask", mask),
            "cotangent": None if cotangent is None else self._spread("cotangent", cotangent),
            "normalizer": None if normalizer is None else self._counted(normalizer),
        }

    def _counted(self, normalizer: Any) -> Any:
        """Returns a number of examples as one of elements."""
        is_tensor = isinstance(normalizer, torch.Tensor)  # which may be refused for its gradient
        count: Any = normalizer if is_tensor else arguments.number("normalizer", normalizer)
        return count * math.prod(self.values.shape[1:]) if self.is_by_row else count

    def _spread(self, name: str, given: Any) -> torch.Tensor:
        """Returns what is given of each example as a tensor for each element."""
        found = as_tensor(name, given)
        shape = tuple(read(name, found, operator.attrgetter("shape")))
        elements = tuple(self.values.shape)
        examples = elements[:1] if self.is_by_row else elements
        is_for_all = name == "cotangent" and not shape
        if shape != examples and not is_for_all:
            raise InvalidRequestError(
                f"{name} must have the shape {list(examples)} of the examples, got {list(shape)}",
                field=name,
            )
        if is_for_all or not self.is_by_row:
            return found
        return found.reshape(shape + (1,) * (len(elements) - len(shape))).expand(elements)
