"""Declarations of losses: a shape, inputs, a body, worked examples and kernel text.

Read ``huber.py`` next, the smallest complete declaration.
"""

import enum
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.losses._body import BodyResult, Gradient
from lossd.losses._inputs import Input
from lossd.schema import (
    Array,
    Parameter,
    completed,
    documentation,
    message_name,
    parameters_of,
)


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

    @property
    def is_apart(self) -> bool:
        """Whether each example adds to the loss by itself, whatever the others are."""
        return self.can_be_cut or self is Shape.IMAGES

    @property
    def adds_up_values(self) -> bool:
        """Whether the loss adds up what its examples show, though one may depend on the others."""
        return self in (Shape.TOKENS, Shape.COUPLED, Shape.FEATURES)


# The mean of the other side, for a loss that compares scores with it.
CENTRE = Parameter("centre", float, 0.0)


class Sides(enum.Enum):
    """The examples that a loss of real and generated ones takes."""

    FAKE = "the generated ones alone"
    PAIRS = "pairs of a real and a generated one"
    BOTH = "the real ones followed by the generated ones"


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
    distributions; None where the loss takes no indices.  With ``has_class_axis`` it is for inputs
    that have an axis of classes, where a loss may have one or not.  ``on_host`` is what the CPU
    computes where another text is better there: double costs it little, and a GPU perhaps much.
    """

    text: str
    when: Mapping[str, Any] = field(default_factory=dict)
    targets_are_classes: bool | None = None
    has_class_axis: bool = False
    on_host: str = ""

    @property
    def host_text(self) -> str:
        """The text for the CPU."""
        return self.on_host or self.text


@dataclass(frozen=True)
class Loss:
    """A declared loss: what it takes, what computes it, and what is to be known of it besides."""

    # Without slots, so that what follows from the declaration is computed once: every call needs
    # it.

    # That of its module and of its body.
    name: str
    # How its examples lie in its inputs.
    shape: Shape
    # body(xp, *inputs, **parameters) -> BodyResult: see ``loss``.
    body: Callable[..., BodyResult]
    # In the order in which the body takes them.
    inputs: tuple[Input, ...]
    # Those of the body.
    parameters: tuple[Parameter, ...]
    # Those that the engine uses, to lay out the inputs and to add up what is computed of them.
    layout_parameters: tuple[Parameter, ...]
    # Cases worked by hand.
    examples: tuple[Example, ...]
    # Texts for the kernel template of the shape; where none applies, the body computes.
    cuda: tuple[CudaText, ...]
    # kinks[input](*inputs, **parameters): how far each element is from having no derivative.
    kinks: Mapping[str, Callable[..., Array]]
    # Whether the gradient follows the order of an example's elements by size.
    is_ordered: bool
    # ignores(*inputs, **parameters): which examples are left out, before any is computed.
    ignores: Callable[..., Array] | None
    # What parameters have to be for ``ignores`` to be asked.
    ignores_when: Mapping[str, Any]
    # mean_factor(*inputs): a factor of each example that MEAN applies before it averages.
    mean_factor: Callable[..., Array] | None
    # sides(**parameters): the examples that an OPPOSED loss has.
    sides: Callable[..., Sides] | None
    # is_averaged(**parameters): whether scores of a side are compared with the mean of the other.
    is_averaged: Callable[..., bool] | None
    # Texts of an OPPOSED loss, by the inputs that they know: one side, or both in pairs.
    cuda_of: Mapping[tuple[str, ...], tuple[CudaText, ...]]
    # What the body makes of each element on its way, in float32; None for as much as its shape has.
    working_bytes: int | None
    # What it makes of each example besides, where it looks at one label after the other.
    row_bytes: int
    # Whether the body counts its last input with ``BatchContext.soft_counts``, if that is there.
    has_soft_counts: bool
    # The first line of the body's docstring.
    summary: str
    # The first indented block there.
    formula: str
    # The source that it names.
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

    @functools.cached_property
    def pointwise(self) -> Mapping[tuple[str, ...], "Loss"]:
        """The pointwise losses of one side's scores, and of pairs, that an OPPOSED loss is of.

        They are found by the names of their inputs.  The one of a side takes the mean of the other
        side as a parameter, ``centre``.
        """
        return {names: _pointwise(self, names) for names in self.cuda_of}

    def is_beyond_float32(self, parameters: Mapping[str, Any]) -> bool:
        """Returns whether a number among the parameters is one that float32 cannot hold."""
        return any(p.is_beyond_float32(parameters.get(p.name)) for p in self.parameters)

    def may_ignore(self, parameters: Mapping[str, Any]) -> bool:
        """Returns whether the loss looks at inputs for examples to leave out."""
        asked = self.ignores_when.items()
        return self.ignores is not None and all(parameters[name] == value for name, value in asked)

    def input(self, name: str) -> Input:
        """Returns the input of that name; KeyError if there is none."""
        return next(i for i in self.inputs if i.name == name)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fills in defaults and checks bounds.

        Raises:
            ParameterError: for an unknown parameter or one out of bounds.
        """
        return completed(self.message, self._known, given)


def _pointwise(loss: Loss, names: tuple[str, ...]) -> Loss:
    """Returns the pointwise loss of the scores of one side, or of both in pairs."""
    is_pair = len(names) > 1

    def body(xp: Any, *scores: Array, centre: float, **parameters: Any) -> BodyResult:
        given = dict(zip(names, scores, strict=True))
        return loss.body(xp, *(given.get(i.name, centre) for i in loss.inputs), **parameters)

    return replace(
        loss,
        name="_".join((loss.name, "of", *(("pairs",) if is_pair else names))),
        shape=Shape.POINTWISE,
        body=body,
        inputs=tuple(loss.input(name) for name in names),
        parameters=(*loss.parameters, CENTRE),
        examples=(),
        cuda=loss.cuda_of[names],
        cuda_of={},
        sides=None,
        is_averaged=None,
    )


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
    ignores_when: Mapping[str, Any] = MappingProxyType({}),
    mean_factor: Callable[..., Array] | None = None,
    sides: Callable[..., Sides] | None = None,
    is_averaged: Callable[..., bool] | None = None,
    cuda_of: Mapping[tuple[str, ...], tuple[CudaText, ...]] = MappingProxyType({}),
    working_bytes: int | None = None,
    row_bytes: int = 0,
    has_soft_counts: bool = False,
) -> Callable[[Callable[..., BodyResult]], Loss]:
    """Turns a body into a declared loss.

    The body is ``body(xp, *inputs, **parameters) -> BodyResult`` over C-contiguous pieces of one
    floating-point type; ``xp`` is NumPy or CuPy.
    The meaning of the axes depends on the ``shape``; its module in ``lossd.shapes`` defines it.  A
    body of SETWISE or COUPLED sees the whole batch and is given a ``BatchContext`` after its
    inputs; for other shapes it returns the unscaled gradient of each value.  POINTWISE, ROWWISE,
    REGIONWISE, SEQUENCE, VECTORS and TOKENS have a kernel template, and OPPOSED has that of its
    pointwise losses; what no text is for, the body computes. Unless examples are compared with
    each other, a row of a result may depend on that row alone, which holds if only the last axis is
    reduced. Keyword-only parameters with annotations are the schema: ``Annotated[type, bounds]``,
    and a ``Differentiable`` after the bounds where there is a gradient. The docstring holds the
    summary, the formula (indented) and, after "Reference:", the source.

    The arguments are fields of ``Loss``, and ``layout`` is its ``layout_parameters``.  Where
    ``is_ordered``, of equal elements the lowest index goes first; sorting takes long, so such a
    body takes a ``checkpoint`` after its inputs, to call on the way; it may raise.  Examples that
    ``ignores`` leaves out are in no sum and no count; their status is the body's to give.
    ``mean_factor`` follows from whole numbers alone.
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
            ignores_when=ignores_when,
            mean_factor=mean_factor,
            sides=sides,
            is_averaged=is_averaged,
            cuda_of=cuda_of,
            working_bytes=working_bytes,
            row_bytes=row_bytes,
            has_soft_counts=has_soft_counts,
            summary=summary,
            formula=formula,
            reference=reference,
        )

    return declare
