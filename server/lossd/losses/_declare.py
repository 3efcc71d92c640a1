"""Declarations of losses: inputs, parameters, formula, examples and kernel text.

It imports NumPy's types and the standard library only, so that the losses are a library of their
own.  Read ``huber.py`` next, the smallest complete declaration.
"""

import enum
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from lossd.schema import (
    FINITE,
    INTEGERS,
    REQUIRED,
    Array,
    Choices,
    Differentiable,
    Interval,
    Names,
    Parameter,
    Vector,
    completed,
    documentation,
    message_name,
    parameters_of,
)

Gradient = Array | Callable[[], Array]


class Shape(enum.Enum):
    """How the examples of a loss lie in its inputs, which decides how the loss is computed."""

    POINTWISE = "each pair of elements by itself, averaged within an example"
    ROWWISE = "one example a row of classes"
    REGIONWISE = "one example all that axis 0 leaves, its elements in one region or one a class"
    SETWISE = "one value of all examples together"
    SEQUENCE = "one example a row of frames, with a row of labels of another length"
    OPPOSED = "scores of two sides, of any number of examples each"
    FEATURES = "one example what all layers hold of it, layers of any sizes"
    VECTORS = "one example a few vectors side by side"
    COUPLED = "one example a vector, which is compared with those of the others"
    IMAGES = "one example an image, which is looked at through a network"
    TOKENS = "one example a sequence of tokens, or a pair of them, of any lengths"

    @property
    def has_values(self) -> bool:
        """Whether each example has a value of its own."""
        return self is not Shape.SETWISE

    @property
    def can_be_cut(self) -> bool:
        """Whether examples lie along axis 0 of every input, each computed by itself."""
        cut = (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE, Shape.SEQUENCE, Shape.VECTORS)
        return self in cut


class Sides(enum.Enum):
    """The examples that a loss of real and generated ones takes."""

    FAKE = "the generated ones alone"
    PAIRS = "pairs of a real and a generated one"
    BOTH = "the real ones followed by the generated ones"


class Status(enum.IntEnum):
    """Why the result of an example, or of a whole set, is special; 0 in an array means none."""

    NONFINITE = 1
    INFEASIBLE = 2
    ZERO_NORM = 3
    NO_POSITIVE = 4
    EMPTY_TARGET = 5
    UNDEFINED = 6


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


class MulticlassHingeVariant(enum.Enum):
    """The wrong classes that count in a multiclass hinge."""

    CRAMMER_SINGER = "the best of them"
    WESTON_WATKINS = "each of them"


class Distance(enum.Enum):
    """The distance of two vectors."""

    EUCLIDEAN = "length of the difference"
    SQUARED_EUCLIDEAN = "squared length of the difference"
    COSINE = "one less the cosine of the angle"


# Parameters that lay out the inputs; the body of a loss does not see them.
BATCH_DIMS = Parameter("batch_dims", int, 1, Interval(0, 8))
CLASS_AXIS = Parameter("class_axis", int, -1, Interval(-8, 7))
OPTIONAL_CLASS_AXIS = Parameter("class_axis", int, None, Interval(-8, 7))
IGNORE_INDEX = Parameter("ignore_index", int, None, INTEGERS)
NETWORK = Parameter("network", str, REQUIRED)
LAYERS = Parameter("layers", Names, REQUIRED)
VALUE_RANGE = Parameter("value_range", Vector, REQUIRED, FINITE)
REPLICATE_GREY = Parameter("replicate_grey", bool, default=False)


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
    EXAMPLES = "one number an example"
    ROWS = "rows like those of the first input: some for all examples, or as many for each"
    TOKENS = "one number a token"
    EITHER = "one number a token, or one an example"
    CLASSES = "a number for each class, or for some, of each token"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a loss.

    Numbers outside the ``domain`` are refused.  ``kind`` names the parameter that says which
    numbers describe its distribution, from which its domain follows.  ``side`` is what the names
    of all inputs that have the same tokens begin with.
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
        name, _, place = self.name.partition("[")
        return name, int(place[:-1] or 0)


@dataclass(frozen=True, slots=True)
class Output:
    """One more number for each example that a loss can return, for losses of rows only.

    A loss that has some takes a parameter ``outputs``, a list of members of an enum whose values
    are these, and its body returns those that were asked for.  ``is_index`` marks an int64; other
    outputs have the type that is computed in.
    """

    name: str
    description: str
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class BodyResult:
    """The result of a body: the value of each example or element, gradients, and outputs.

    A gradient that is computed on request only is given as a function.
    ``statuses`` has the number of a Status for each example, 0 for none; ``status`` is that of
    the whole, for losses of a set.
    """

    value: Array
    gradients: Mapping[str, Gradient]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    statuses: Array | None = None
    status: Status | None = None

    def gradient(self, name: str) -> Array:
        """Returns the gradient with respect to an input."""
        found = self.gradients[name]
        return found() if callable(found) else found


def in_turn(count: int, work: Callable[[int], None]) -> None:
    """Calls ``work`` with 0 to ``count`` - 1, one after the other."""
    for index in range(count):
        work(index)


class SoftCounts(Protocol):
    """A counter of the examples of labels, with p the sigmoid of a logit and t its true share.

    Inputs have axes of examples and labels and lie in that order; ``weights`` has one number for
    each example, None for 1.
    """

    def count(
        self, predictions: Array, targets: Array, weights: Array | None, products: Array | None
    ) -> Array:
        """Returns the sums of p t, p (1 - t) and (1 - p) t for each label, in float64.

        Writes p (1 - p) to ``products``, if given, which has the type that is computed in.
        """

    def slope(
        self,
        targets: Array,
        weights: Array | None,
        by_share: tuple[Array, Array],
        products: Array,
    ) -> None:
        """Multiplies ``products`` by the weights and by derivatives with respect to p.

        ``by_share`` has those of each label for a share t and for 1 - t, of the products' type.
        """


@dataclass(frozen=True, slots=True)
class BatchContext:
    """The argument after the inputs, for a body that sees the whole batch.

    The inputs hold the examples that are present.  The body returns the value of each, or one value
    of all, and the gradients of the sum of all values times their ``scales``.
    ``weights`` has one number for each example, of float64: its weight in a mean of examples.
    ``scales`` has one number for each value, of float64; a scale of 0 gives 0, even for infinity
    and NaN.  ``wanted`` are the gradients that will be read.  ``parts`` has the range of examples
    of each input: all of them, except for losses of two sides.  ``for_each`` calls a function with
    0 to count - 1, in any order and perhaps at the same time; each call writes to memory of its
    own, so that the result has the same bits at any number of threads.  ``in_cache`` says that a
    piece should fit the caches of a CPU; a device is faster with few large ones.
    ``is_weighted`` is False where all weights are 1.  ``soft_counts`` counts, where something was
    compiled for it.
    """

    weights: Array
    scales: Array
    wanted: frozenset[str] = frozenset()
    parts: Mapping[str, slice] = field(default_factory=dict)
    for_each: Callable[[int, Callable[[int], None]], None] = in_turn
    in_cache: bool = True
    is_weighted: bool = True
    soft_counts: SoftCounts | None = None

    def of(self, name: str) -> "BatchContext":
        """Returns the context of the examples of one input alone."""
        part = self.parts[name]
        return replace(self, weights=self.weights[part], scales=self.scales[part])


@dataclass(frozen=True, slots=True)
class Example:
    """A case worked by hand: one example (or set) in, its value and gradient out."""

    inputs: Mapping[str, Any]
    value: float
    gradients: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CudaText:
    """Scalar CUDA for one variant of a loss, and when it applies.

    ``when`` holds values of enum parameters; ``targets_are_classes`` tells class indices from
    distributions; None where the loss takes no indices.
    """

    text: str
    when: Mapping[str, Any] = field(default_factory=dict)
    targets_are_classes: bool | None = None


@dataclass(frozen=True)
class Loss:
    """A declared loss."""

    # Without slots, so that what follows from the declaration is computed once: every call needs
    # it.

    name: str
    shape: Shape
    body: Callable[..., BodyResult]
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    layout_parameters: tuple[Parameter, ...]
    examples: tuple[Example, ...]
    cuda: tuple[CudaText, ...]
    kinks: Mapping[str, Callable[..., Array]]
    is_ordered: bool
    ignores: Callable[..., Array] | None
    mean_factor: Callable[..., Array] | None
    sides: Callable[..., Sides] | None
    working_bytes: int | None
    summary: str
    formula: str
    reference: str

    @functools.cached_property
    def message(self) -> str:
        """The name of its protobuf message: ``CrossEntropy`` for ``cross_entropy``."""
        return message_name(self.name)

    @functools.cached_property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the body and those of the layout."""
        return self.layout_parameters + self.parameters

    @functools.cached_property
    def vectors(self) -> frozenset[str]:
        """The names of the parameters that are lists of numbers."""
        return frozenset(p.name for p in self.parameters if p.is_vector)

    @functools.cached_property
    def _known(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.all_parameters}

    def is_beyond_float32(self, parameters: Mapping[str, Any]) -> bool:
        """Returns whether a number among the parameters is one that float32 cannot hold."""
        return any(p.is_beyond_float32(parameters.get(p.name)) for p in self.parameters)

    def input(self, name: str) -> Input:
        """Returns the input of that name; KeyError if there is none."""
        return next(i for i in self.inputs if i.name == name)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fills in defaults and checks bounds.

        Raises:
            ParameterError: for an unknown parameter or one out of bounds.
        """
        return completed(self.message, self._known, given)


_BY_ELEMENT = (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE)


def _widening(
    body: Callable[..., BodyResult], known: tuple[Parameter, ...]
) -> Callable[..., BodyResult]:
    """Wraps a body, so that it computes in float64 where float32 cannot hold a parameter.

    A temperature of 1e-50 would be 0 in float32, and a quotient by it NaN.
    """
    numbers = tuple(parameter for parameter in known if parameter.type is float)

    @functools.wraps(body)
    def widened(xp: Any, *given: Any, **parameters: Any) -> BodyResult:
        if not any(p.is_beyond_float32(parameters.get(p.name)) for p in numbers):
            return body(xp, *given, **parameters)
        dtype = given[0].dtype
        wide = (array.astype(np.float64) if array.dtype == dtype else array for array in given)
        found = body(xp, *wide, **parameters)

        def rounded(gradient: Gradient) -> Array:
            return (gradient() if callable(gradient) else gradient).astype(dtype)

        return replace(
            found,
            value=found.value.astype(dtype),
            gradients={
                name: functools.partial(rounded, gradient)
                for name, gradient in found.gradients.items()
            },
            outputs={
                name: array if array.dtype.kind == "i" else array.astype(dtype)
                for name, array in found.outputs.items()
            },
        )

    return widened


def loss(
    shape: Shape,
    *,
    inputs: tuple[Input, ...],
    examples: tuple[Example, ...],
    layout: tuple[Parameter, ...] = (),
    cuda: tuple[CudaText, ...] = (),
    kinks: Mapping[str, Callable[..., Array]] = MappingProxyType({}),
    is_ordered: bool = False,
    ignores: Callable[..., Array] | None = None,
    mean_factor: Callable[..., Array] | None = None,
    sides: Callable[..., Sides] | None = None,
    working_bytes: int | None = None,
) -> Callable[[Callable[..., BodyResult]], Loss]:
    """Turns a body into a declared loss.

    The body is ``body(xp, *inputs, **parameters) -> BodyResult`` over C-contiguous pieces of one
    floating-point type; ``xp`` is NumPy or CuPy.
    The meaning of the axes depends on the ``shape``; its module in ``lossd.shapes`` defines it.  A
    body of SETWISE, OPPOSED or COUPLED sees the whole batch and is given a ``BatchContext`` after
    its inputs; for other shapes it returns the unscaled gradient of each value.  POINTWISE,
    ROWWISE, REGIONWISE, SEQUENCE and VECTORS have a kernel template; for others the body runs on
    CuPy. Unless examples are compared with each other, a row of a result may depend on that row
    alone, which holds if only the last axis is reduced. Keyword-only parameters with annotations
    are the schema: ``Annotated[type, bounds]``, and a ``Differentiable`` after the bounds where
    there is a gradient. The docstring holds the summary, the formula (indented) and, after
    "Reference:", the source.

    ``kinks[input](*inputs, **parameters)`` tells how far each element of an input is from where the
    value has no derivative with respect to it.  ``is_ordered`` says that the gradient follows the
    order of an example's elements by size; of equals the lowest index goes first.
    ``ignores(*inputs, **parameters)`` tells before anything is computed which examples the loss
    leaves out of every sum and count; their status is the body's to give.  ``mean_factor(*inputs)``
    is a factor of each example that MEAN applies before it averages.  ``sides(**parameters)`` tells
    which examples an OPPOSED loss has.  ``working_bytes`` is what the body makes of each element on
    its way, in float32, where that is another number than its shape has.  ``layout`` names the
    parameters that the engine uses.
    """

    def declare(body: Callable[..., BodyResult]) -> Loss:
        summary, formula, reference = documentation(body)
        parameters = parameters_of(body)
        return Loss(
            name=body.__name__,
            shape=shape,
            body=_widening(body, parameters) if shape in _BY_ELEMENT else body,
            inputs=inputs,
            parameters=parameters,
            layout_parameters=layout,
            examples=examples,
            cuda=cuda,
            kinks=kinks,
            is_ordered=is_ordered,
            ignores=ignores,
            mean_factor=mean_factor,
            sides=sides,
            working_bytes=working_bytes,
            summary=summary,
            formula=formula,
            reference=reference,
        )

    return declare


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
    "embeddings", "one embedding an example", differentiable=Differentiable.BY_DEFAULT
)
LABELS = Input(
    "labels",
    "what each is an embedding of; equal labels belong together",
    content=Content.LABELS,
    axes=Axes.EXAMPLES,
)
NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})
