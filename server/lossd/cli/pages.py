"""Pages about losses and metrics, from their declarations and from the contract.

A page is plain data: ``page_text`` shows it to people, ``--json`` to programs.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lossd import tensors, v1
from lossd.cli import snippets
from lossd.cli.equivalents import EQUIVALENTS, Equivalent
from lossd.evaluation import METRICS, Metric
from lossd.losses import LOSSES, Loss, Parameter
from lossd.naming import members_of
from lossd.schema import INTEGERS, REQUIRED
from lossd.serving.loss_service import catalogue
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.wire import descriptions
from lossd.serving.wire.comments import comments

DIFFERENTIABILITY: Mapping[v1.Differentiability, str] = MappingProxyType({
    v1.DIFFERENTIABILITY_NONE: "none",
    v1.DIFFERENTIABILITY_ON_REQUEST: "on request",
    v1.DIFFERENTIABILITY_DEFAULT: "by default",
})  # fmt: skip
# The tasks of the contract, by the first field number of each in its spec.
LOSS_TASKS = {
    1: "regression", 20: "classification", 40: "overlap and ranking", 60: "embeddings",
    80: "sequences, adversaries and features", 100: "sums of losses",
    120: "policies, preferences and distillation",
}  # fmt: skip
METRIC_TASKS = {
    1: "classification", 20: "ranking and probabilities", 40: "regression",
    60: "text and sequences", 80: "retrieval",
}  # fmt: skip
_UNKNOWN_TASK = "unknown to this version"


@dataclass(frozen=True, slots=True)
class InputEntry:
    """One input; ``dtypes`` is empty for texts, and for metrics, which take any fitting type."""

    name: str
    description: str
    shapes: Sequence[str]
    dtypes: Sequence[str]
    gradient: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """One parameter; ``choices`` are the members of an enum and their meanings."""

    name: str
    type: str
    default: str
    bounds: str
    description: str
    choices: Mapping[str, str]
    gradient: str


@dataclass(frozen=True, slots=True)
class Page:
    """A loss or a metric.

    ``surrogate`` is the loss to train with instead of a metric, ``stands_for`` the metrics that a
    loss replaces in training; ``kinks`` are inputs in which it is not differentiable everywhere.
    """

    name: str
    message: str
    task: str
    summary: str
    formula: str
    notes: str
    reference: str
    inputs: Sequence[InputEntry]
    parameters: Sequence[ParameterEntry]
    kinks: Sequence[str]
    surrogate: str
    stands_for: Sequence[str]
    equivalents: Sequence[Equivalent]
    example: str
    command: str
    python: str

    def has(self, words: Sequence[str]) -> bool:
        """Returns whether each of the words is somewhere in it, ignoring case."""
        described = [f"{one.name} {one.description}" for one in self.inputs]
        described += [one.name for one in self.equivalents]
        for one in self.parameters:
            described += [one.name, one.description, *one.choices, *one.choices.values()]
        parts = (self.name, self.message, self.task, self.summary, self.notes, self.reference)
        text = " ".join([*parts, *described]).lower()
        return all(word.lower() in text for word in words)


def loss_pages() -> list[Page]:
    """Returns the pages of all losses, by task, with the sum of losses at the end."""
    described = {one.name: one for one in catalogue.list_losses().losses}
    pages = [_page_of_loss(loss, described[loss.name]) for loss in LOSSES.values()]
    return by_task([*pages, _page_of_sum()], LOSS_TASKS)


def metric_pages() -> list[Page]:
    """Returns the pages of all metrics, by task."""
    return by_task(map(_page_of_metric, METRICS.values()), METRIC_TASKS)


def blank_page(name: str, message: str) -> Page:
    """Returns the page of a loss or a metric that this version does not know."""
    return Page(
        name=name,
        message=message,
        task=_UNKNOWN_TASK,
        summary="",
        formula="",
        notes="",
        reference="",
        inputs=(),
        parameters=(),
        kinks=(),
        surrogate="",
        stands_for=(),
        equivalents=(),
        example="",
        command="",
        python="",
    )


def by_task(pages: Iterable[Page], tasks: Mapping[int, str]) -> list[Page]:
    """Returns pages in the order of their tasks, those of tasks unknown here at the end."""
    order = [*tasks.values(), _UNKNOWN_TASK]
    return sorted(pages, key=lambda page: (order.index(page.task), page.name))


def _task(spec: Any, name: str, tasks: Mapping[int, str]) -> str:
    number = spec.DESCRIPTOR.fields_by_name[name].number
    return tasks[max(first for first in tasks if first <= number)]


# ------------------------------------------------------------------ losses


def _page_of_loss(loss: Loss, described: v1.LossDescription) -> Page:
    inputs = [loss_input(one) for one in described.inputs]
    parameters = [
        _parameter(loss.message, parameter, one.type, DIFFERENTIABILITY[one.differentiability])
        for parameter, one in zip(loss.all_parameters, described.parameters, strict=True)
    ]
    needed, first = _needed(loss), loss.examples[0]
    # Where the first example takes parameters, rules may want some that have a default.
    needed |= {n: v for n, v in first.parameters.items() if n != "outputs"}
    is_first = bool(first.parameters)
    given = [i.name for i in inputs if not i.is_optional or (is_first and i.name in first.inputs)]
    return Page(
        name=loss.name,
        message=loss.message,
        task=_task(v1.LossSpec, loss.name, LOSS_TASKS),
        summary=loss.summary,
        formula=loss.formula,
        notes=_notes(loss.body.__doc__, loss.formula),
        reference=loss.reference,
        inputs=inputs,
        parameters=parameters,
        kinks=list(loss.kinks),
        surrogate="",
        stands_for=[m.name for m in METRICS.values() if m.surrogate == loss.message],
        equivalents=EQUIVALENTS.get(loss.name, ()),
        example=snippets.example(loss.examples[0], loss.examples[0].value),
        command=snippets.compute_command(loss.name, given, needed),
        python=snippets.compute_python(loss.message, given, needed),
    )


def loss_input(one: v1.InputDescription) -> InputEntry:
    """Returns an input as the catalogue describes it."""
    return InputEntry(
        name=one.name,
        description=one.description,
        shapes=list(one.shapes),
        dtypes=[tensors.dtype_of_type[kind].name for kind in one.dtypes],
        gradient=DIFFERENTIABILITY[one.differentiability],
        is_optional=one.optional,
    )


def _page_of_sum() -> Page:
    """Returns the page of the sum, the only loss without a declaration of its own."""
    said = comments()
    fields = v1.WeightedTerm.DESCRIPTOR.fields_by_name
    terms = ParameterEntry(
        name="terms",
        type="repeated WeightedTerm",
        default="required",
        bounds="",
        description=said["WeightedSum.terms"],
        choices={name: said[f"WeightedTerm.{name}"] for name in fields},
        gradient="none",
    )
    return Page(
        name=WEIGHTED_SUM,
        message=v1.WeightedSum.DESCRIPTOR.name,
        task=_task(v1.LossSpec, WEIGHTED_SUM, LOSS_TASKS),
        summary=said[f"LossSpec.{WEIGHTED_SUM}"],
        formula="value = sum_k weight_k value_k",
        notes=said["WeightedSum"],
        reference="",
        inputs=[],
        parameters=[terms],
        kinks=[],
        surrogate="",
        stands_for=[],
        equivalents=[],
        example="",
        command=snippets.SUM_COMMAND,
        python=snippets.SUM_PYTHON,
    )


# ------------------------------------------------------------------ metrics


def _page_of_metric(metric: Metric) -> Page:
    inputs = [
        InputEntry(one.name, one.description, one.shapes, (), "none", is_optional=False)
        for one in metric.inputs
    ]
    surrogate = next(loss.name for loss in LOSSES.values() if loss.message == metric.surrogate)
    parameters = [
        _parameter(metric.message, parameter, descriptions.type_name(parameter), "none")
        for parameter in metric.all_parameters
    ]
    first = metric.examples[0]
    files = {one.name: "txt" if one.is_text else "npy" for one in metric.inputs}
    return Page(
        name=metric.name,
        message=metric.message,
        task=_task(v1.MetricSpec, metric.name, METRIC_TASKS),
        summary=metric.summary,
        formula=metric.formula,
        notes=_notes(metric.body.__doc__, metric.formula),
        reference=metric.reference,
        inputs=inputs,
        parameters=parameters,
        kinks=[],
        surrogate=surrogate,
        stands_for=[],
        equivalents=[],
        example=snippets.example(first, first.values if first.value is None else first.value),
        command=snippets.evaluate_command(metric.name, files),
        python=snippets.evaluate_python(metric.message, list(files)),
    )


# ------------------------------------------------------------------ both


def _parameter(message: str, parameter: Parameter, kind: str, gradient: str) -> ParameterEntry:
    field = getattr(v1, message).DESCRIPTOR.fields_by_name[parameter.name]
    choices = {}
    if field.enum_type is not None:
        choices = {
            short: comments()[f"{field.enum_type.name}.{full}"]
            for short, full in members_of(field.enum_type).items()
        }
    return ParameterEntry(
        name=parameter.name,
        type=kind,
        default=descriptions.default_text(parameter) or "unset",
        bounds=shown_bounds(str(parameter.bounds or "")),
        description=comments()[f"{message}.{parameter.name}"],
        choices=choices,
        gradient=gradient,
    )


def shown_bounds(text: str) -> str:
    """Returns the bounds of a parameter; nothing for those of every whole number."""
    return "" if text == str(INTEGERS) else text


def _notes(doc: str | None, formula: str) -> str:
    """Returns the prose between the summary and the reference, one line for each paragraph."""
    indented = {line.strip() for line in formula.splitlines()}
    kept = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc or ""))[1:]:
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines[0] not in indented and not lines[0].startswith("Reference:"):
            kept.append(" ".join(lines))
    return "\n\n".join(kept)


def _needed(declared: Loss | Metric) -> dict[str, Any]:
    """Returns the parameters without a default, with values of the first worked example."""
    given = declared.examples[0].parameters
    return {p.name: given[p.name] for p in declared.all_parameters if p.default is REQUIRED}
