"""The inputs of losses, and the parameters that say how they are laid out."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from lossd.schema import (
    FINITE,
    INTEGERS,
    REQUIRED,
    Choices,
    Differentiable,
    Interval,
    Names,
    Parameter,
    Vector,
)


class DistributionKind(enum.Enum):
    """The numbers in which an input describes a distribution."""

    LOGITS = "logits"
    LOG_PROBABILITIES = "log-probabilities"
    PROBABILITIES = "probabilities"


# The range of numbers that describe a probability.  There is no room for rounding: in every
# type a log-softmax rounds to 0 at most, and a softmax to 1.
DOMAINS: Mapping[DistributionKind, Interval | None] = MappingProxyType(
    {
        DistributionKind.LOGITS: None,
        DistributionKind.LOG_PROBABILITIES: Interval(-math.inf, 0, has_nan=True),
        DistributionKind.PROBABILITIES: Interval(0, 1, has_nan=True),
    }
)


class Content(enum.Enum):
    """The kinds of elements of an input."""

    FLOATS = "floating-point numbers"
    NUMBERS = "numbers, floating-point or integer"
    CLASSES = "class indices, or a probability of each class"
    INDICES = "class indices"
    LENGTHS = "how many elements of a row are there"
    LABELS = "integers, of which equal ones mean the same"
    OFFSETS = "where each row begins among all elements, and where the last one ends"
    FLAGS = "whether each element counts"


class Axes(enum.Enum):
    """How many numbers an input has, compared with the first input."""

    ELEMENTS = "all elements, like the first input"
    EXAMPLES = "one number for each example"
    ROWS = "rows like those of the first input: some for all examples, or as many for each"
    TOKENS = "one number for each token"
    EITHER = "one number for each token, or for each example"
    CLASSES = "a number for each class, or for some, of each token"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a loss.

    Numbers outside the ``domain`` are refused.  ``kind`` names the parameter that says which
    numbers describe its distribution, from which its domain follows.  ``side`` is what the names
    of all inputs that have the same tokens begin with.  A loss that takes the sums over sequences
    of one input less another, and nothing else of their tokens, says of the other what it is
    ``subtracted_from``.
    """

    name: str
    description: str
    content: Content = Content.FLOATS
    differentiable: Differentiable = Differentiable.NO
    domain: Interval | Choices | None = None
    is_optional: bool = False
    is_list: bool = False  # one tensor, or several that are named like "predictions[0]"
    kind: str = ""
    axes: Axes = Axes.ELEMENTS
    side: str = ""
    subtracted_from: str = ""

    def under(self, parameters: Mapping[str, Any]) -> "Input":
        """Returns the input with the domain that follows from these parameters."""
        if not self.kind:
            return self
        domain = DOMAINS[parameters[self.kind]]
        # NaN is data in a prediction, but a mistake in a target.
        if domain is not None and self.differentiable is not Differentiable.BY_DEFAULT:
            domain = replace(domain, has_nan=False)
        return replace(self, domain=domain)

    @property
    def base_name(self) -> str:
        """The name of the whole input, where this is one tensor of it."""
        return self.source[0]

    @property
    def source(self) -> tuple[str, int]:
        """The name of the whole input, and which tensor of it this is."""
        name, _, position = self.name.partition("[")
        return name, int(position[:-1] or 0)


# Parameters that lay out the inputs; the body of a loss does not see them.
BATCH_DIMS = Parameter("batch_dims", int, 1, Interval(0, 8))
CLASS_AXIS = Parameter("class_axis", int, -1, Interval(-8, 7))
OPTIONAL_CLASS_AXIS = Parameter("class_axis", int, None, Interval(-8, 7))
IGNORE_INDEX = Parameter("ignore_index", int, None, INTEGERS)
NETWORK = Parameter("network", str, REQUIRED)
LAYERS = Parameter("layers", Names, REQUIRED)
VALUE_RANGE = Parameter("value_range", Vector, REQUIRED, FINITE)
REPLICATE_GREY = Parameter("replicate_grey", bool, default=False)

# Inputs and parameters of most losses.
PREDICTIONS = Input("predictions", "what the model says", differentiable=Differentiable.BY_DEFAULT)
DISTRIBUTION = replace(PREDICTIONS, kind="prediction_kind")
REGRESSION_TARGETS = Input(
    "targets",
    "what it should have said",
    content=Content.NUMBERS,
    differentiable=Differentiable.ON_REQUEST,
)
EMBEDDINGS = Input(
    "embeddings", "one embedding for each example", differentiable=Differentiable.BY_DEFAULT
)
LABELS = Input(
    "labels",
    "what each is an embedding of; equal labels belong together",
    content=Content.LABELS,
    axes=Axes.EXAMPLES,
)
