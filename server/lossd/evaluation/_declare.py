"""Declarations of metrics: inputs, parameters, formula, examples and state.

Read ``perplexity.py`` next, the smallest complete declaration.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint, never_stop
from lossd.evaluation._state import ClassificationTask, State
from lossd.evaluation._tally import Tally
from lossd.losses import Interval, Parameter
from lossd.schema import completed, documentation, message_name, parameters_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MAX_CLASSES = 1_000_000

FACTOR = Interval(0, 1e6)
POSITIVE_FACTOR = Interval(0, 1e6, low_open=True)
SHARE = Interval(0, 1, low_open=True)

_TOO_LARGE = "it is beyond the largest number"


class InputError(ValueError):
    """An input breaks its rule; ``field`` is the part of the batch at fault."""

    def __init__(self, field: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.field = field
        self.details = details


@dataclass(frozen=True, slots=True)
class Sequences:
    """Texts or sequences of tokens, grouped by example."""

    groups: tuple[tuple[Any, ...], ...]
    are_texts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricBatch:
    """The data of a call: tensors and sequences by name, weights and mask.

    ``checkpoint`` is called between pieces of long work and may raise to stop it.
    """

    inputs: Mapping[str, Array] = field(default_factory=dict)
    sequences: Mapping[str, Sequences] = field(default_factory=dict)
    weights: Array | None = None
    mask: Array | None = None
    checkpoint: Checkpoint = never_stop


@dataclass(frozen=True, slots=True)
class MetricInput:
    """One input of a metric; ``shapes`` are patterns of its shape, "text" for sequences."""

    name: str
    description: str
    shapes: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        """Whether it holds sequences instead of a tensor."""
        return self.shapes[0].startswith("text")


class Prepared(Protocol):
    """A laid-out batch: the material of the body, and the facts for the state."""

    @property
    def facts(self) -> "BatchFacts":
        """The facts for the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """Facts about a batch that every metric keeps."""

    task: ClassificationTask | None = None
    width: int | None = None
    example_count: int
    ignored_count: int
    silent_count: int = 0
    nonfinite_count: int = 0


@dataclass(frozen=True, slots=True)
class MetricLayout:
    """How inputs are checked and laid out, and the parameters of that.

    ``lay_out(batch, **parameters)`` raises InputError or ParameterError.
    """

    inputs: tuple[MetricInput, ...]
    lay_out: Callable[..., Prepared]
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """The part of a batch that a body keeps: exact sums, and rows that cannot be summed.

    ``nonfinite_count`` is how many examples it left out besides those that the layout left out.
    """

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    table: Mapping[str, Array] | None = None
    nonfinite_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The result of a metric.

    ``value`` is None where it is undefined, which ``reason`` explains; with a value, ``reason``
    says which part was undefined.  ``values`` has one number for each class, label, output or
    hypothesis, NaN where it is undefined, and for a hypothesis that is ignored.
    """

    value: float | None = None
    values: Floats | None = None
    outputs: Mapping[str, Floats | float] = field(default_factory=dict)
    reason: str = ""
    is_nonfinite: bool = False
    signature: str = ""


@dataclass(frozen=True, slots=True)
class MetricExample:
    """A case worked by hand; texts are lists of strings, references lists of them.

    For a metric without a single number, ``values`` takes its place.
    """

    inputs: Mapping[str, Any]
    value: float | None = None
    values: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A declared metric.

    ``tallies`` and ``columns`` are the names and axes of what its state may hold, so that a state
    from elsewhere can be checked.
    """

    # Without slots, like Loss.

    name: str
    message: str
    layout: MetricLayout
    body: Callable[..., BatchState]
    result: Callable[..., Score]
    own_parameters: tuple[Parameter, ...]
    tallies: Mapping[str, int]
    columns: Mapping[str, int]
    surrogate: str
    examples: tuple[MetricExample, ...]
    check: Callable[[State], str]
    is_result_long: bool
    observing: Callable[[MetricBatch, Mapping[str, Any]], int]
    scoring: Callable[[State, Mapping[str, Any]], int]
    summary: str
    formula: str
    reference: str

    @property
    def inputs(self) -> tuple[MetricInput, ...]:
        """The inputs that it takes."""
        return self.layout.inputs

    @functools.cached_property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the layout and its own."""
        return self.layout.parameters + self.own_parameters

    @functools.cached_property
    def _known(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.all_parameters}

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fills in defaults and checks bounds.

        Raises:
            ParameterError: for an unknown parameter or one out of bounds.
        """
        return completed(self.message, self._known, given)

    def observe(self, batch: MetricBatch, parameters: Mapping[str, Any]) -> State:
        """Returns the state of one batch; ``parameters`` are complete.

        Raises:
            InputError: if an input breaks its rule.
            ParameterError: if a parameter does not fit the inputs.
        """
        layout = {p.name: parameters[p.name] for p in self.layout.parameters}
        prepared = self.layout.lay_out(_named(self, batch), **layout)
        batch_state = self.body(prepared, **self._own(parameters))
        facts = prepared.facts
        return State(
            task=facts.task,
            width=facts.width,
            example_count=facts.example_count,
            ignored_count=facts.ignored_count,
            silent_count=facts.silent_count,
            nonfinite_count=facts.nonfinite_count + batch_state.nonfinite_count,
            tallies=batch_state.tallies,
            tables=() if not batch_state.table else (batch_state.table,),
        )

    def score(
        self,
        state: State,
        parameters: Mapping[str, Any],
        checkpoint: Checkpoint = never_stop,
    ) -> Score:
        """Returns the number that a state stands for; ``checkpoint`` is as that of a batch."""
        if state.nonfinite_count:
            return Score(
                is_nonfinite=True,
                reason=f"{state.nonfinite_count} of {state.example_count} examples are not finite",
            )
        if state.is_empty:
            return Score(reason=_why_empty(state))
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a NaN is handled below
                beside = {"checkpoint": checkpoint} if self.is_result_long else {}
                found = self.result(state, **self._own(parameters), **beside)
        except OverflowError:
            return Score(is_nonfinite=True, reason=_TOO_LARGE)
        if found.value is None and found.values is not None and np.isinf(found.values).any():
            return replace(found, is_nonfinite=True, reason=_TOO_LARGE)
        if found.value is None or math.isfinite(found.value):
            return found
        return replace(found, value=None, is_nonfinite=True, reason=_TOO_LARGE)

    def _own(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {p.name: parameters[p.name] for p in self.own_parameters}


def _named(metric: Metric, batch: MetricBatch) -> MetricBatch:
    """Returns the batch, if it has every declared input; others are for other metrics."""
    for declared in metric.inputs:
        given = batch.sequences if declared.is_text else batch.inputs
        if declared.name not in given:
            raise InputError(
                "sequences" if declared.is_text else "inputs",
                f"{declared.name} must be given for {metric.message}, got nothing",
            )
    return batch


def _why_empty(state: State) -> str:
    if state.example_count:
        return f"all {state.example_count} examples have weight 0"
    if state.ignored_count:
        return f"all {state.ignored_count} examples are ignored"
    return "there is no example"


# For each number of the inputs: copies of it in float64, and what sorts, splits or adds them up.
ELEMENT_BYTES = 64
# For each class or label: counts, their Python numbers, and what is made of them.
CLASS_BYTES = 128
_CLASS_SUMS = 3  # of each class or label: hits, predictions and targets
_FRACTION_BYTES = 740  # a sum of weights: an integer of 4,500 bits, and its place in a table


def observing_bytes(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of the tensors of a batch."""
    arrays = [*batch.inputs.values(), *(a for a in (batch.weights, batch.mask) if a is not None)]
    elements = sum(a.size for a in arrays)
    classes = classes_of(batch, parameters)
    of_sums = _CLASS_SUMS * fraction_bytes(batch, classes)
    return ELEMENT_BYTES * elements + CLASS_BYTES * classes + of_sums


def fraction_bytes(batch: MetricBatch, sums: int) -> int:
    """Returns the bytes of exact sums of weights, at most one for each target that has one.

    A weight of an example with labels is that of each of them.
    """
    targets = batch.inputs.get("targets")
    if batch.weights is None or targets is None:
        return 0
    return _FRACTION_BYTES * min(sums, targets.size)


def classes_of(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns how many classes there are: as said, as there are scores, or as the indices tell."""
    predictions = batch.inputs.get("predictions")
    if predictions is None or "task" not in parameters:
        return 0
    if parameters.get("classes"):
        return int(parameters["classes"])
    if predictions.dtype.kind not in "iu":
        return int(predictions.shape[-1]) if predictions.ndim > 1 else 2
    return 1 + max(map(_largest_index, batch.inputs.values()), default=0)


def _largest_index(array: Array) -> int:
    """Returns the largest index of a class; larger numbers are those of no class, and ignored."""
    if array.dtype.kind not in "iu" or not array.size:
        return 0
    largest = int(array.max())
    if largest < MAX_CLASSES:
        return largest
    return int(array.max(where=array < MAX_CLASSES, initial=0))


def scoring_bytes(state: State, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of a result besides its state."""
    del parameters
    return 5 * state.nbytes + state.aligned_nbytes + CLASS_BYTES * (state.width or 0)


def metric(
    layout: MetricLayout,
    *,
    result: Callable[..., Score],
    surrogate: str,
    examples: tuple[MetricExample, ...],
    tallies: Mapping[str, int] | None = None,
    columns: Mapping[str, int] | None = None,
    check: Callable[[State], str] = lambda _: "",
    is_result_long: bool = False,
    observing: Callable[[MetricBatch, Mapping[str, Any]], int] = observing_bytes,
    scoring: Callable[[State, Mapping[str, Any]], int] = scoring_bytes,
) -> Callable[[Callable[..., BatchState]], Metric]:
    """Turns a body into a declared metric.

    The body is ``body(prepared, **parameters) -> BatchState``: what to keep of one batch.
    ``result(state, **parameters) -> Score`` computes the number from everything that was kept,
    however it was split; it is not called for an empty state.  Both take the same keyword-only
    parameters, whose annotations in the body are the schema.  The docstring holds the summary, the
    formula (indented) and, after "Reference:", the source.

    ``surrogate`` names the differentiable loss to train with in its place.
    ``tallies`` and ``columns`` give the number of axes of each thing that the body keeps;
    ``check(state)`` returns any other fault of a state that came from elsewhere, "" for none.
    ``observing(batch, parameters)`` and ``scoring(state, parameters)`` tell the bytes that will be
    taken beside the inputs and the states.
    A result that takes long (``is_result_long``) is given a ``checkpoint`` to call on the way.
    """

    def declare(body: Callable[..., BatchState]) -> Metric:
        summary, formula, reference = documentation(body)
        return Metric(
            name=body.__name__,
            message=message_name(body.__name__),
            layout=layout,
            body=body,
            result=result,
            own_parameters=parameters_of(body),
            tallies=MappingProxyType(tallies or {}),
            columns=MappingProxyType(columns or {}),
            check=check,
            is_result_long=is_result_long,
            observing=observing,
            scoring=scoring,
            surrogate=surrogate,
            examples=examples,
            summary=summary,
            formula=formula,
            reference=reference,
        )

    return declare
