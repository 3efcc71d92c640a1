"""Pages about losses, from their declarations and from the contract."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from lossd import tensors, v1
from lossd.cli import snippets
from lossd.cli.equivalents import EQUIVALENTS
from lossd.cli.page import InputEntry, Page, ParameterEntry
from lossd.cli.page_parts import declared_page, parameter_entry
from lossd.cli.tasks import LOSS_TASKS, by_task, task_of
from lossd.evaluation import METRICS
from lossd.losses import LOSSES, Loss
from lossd.schema import REQUIRED
from lossd.serving.loss_service import catalogue
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.wire.comments import comments

DIFFERENTIABILITY: Mapping[v1.Differentiability, str] = MappingProxyType({
    v1.DIFFERENTIABILITY_NONE: "none",
    v1.DIFFERENTIABILITY_ON_REQUEST: "on request",
    v1.DIFFERENTIABILITY_DEFAULT: "by default",
})  # fmt: skip


def loss_pages() -> list[Page]:
    """Returns the pages of all losses, by task, with the sum of losses at the end."""
    described = {one.name: one for one in catalogue.list_losses().losses}
    pages = [_page_of_loss(loss, described[loss.name]) for loss in LOSSES.values()]
    return by_task([*pages, _page_of_sum()], LOSS_TASKS)


def _page_of_loss(loss: Loss, described: v1.LossDescription) -> Page:
    inputs = [loss_input(one) for one in described.inputs]
    parameters = [
        parameter_entry(loss.message, parameter, one.type, DIFFERENTIABILITY[one.differentiability])
        for parameter, one in zip(loss.all_parameters, described.parameters, strict=True)
    ]
    needed, first = _needed(loss), loss.examples[0]
    # Where the first example takes parameters, rules may want some that have a default.
    needed |= {n: v for n, v in first.parameters.items() if n != "outputs"}
    is_first = bool(first.parameters)
    given = [i.name for i in inputs if not i.is_optional or (is_first and i.name in first.inputs)]
    task = task_of(v1.LossSpec, loss.name, LOSS_TASKS)
    return replace(
        declared_page(loss, task, inputs, parameters),
        kinks=list(loss.kinks),
        stands_for=[m.name for m in METRICS.values() if m.surrogate == loss.message],
        equivalents=EQUIVALENTS.get(loss.name, ()),
        example=snippets.example(first, first.value),
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
        task=task_of(v1.LossSpec, WEIGHTED_SUM, LOSS_TASKS),
        summary=said[f"LossSpec.{WEIGHTED_SUM}"],
        formula="value = sum_k weight_k value_k",
        notes=said["WeightedSum"],
        parameters=[terms],
        command=snippets.SUM_COMMAND,
        python=snippets.SUM_PYTHON,
    )


def _needed(loss: Loss) -> dict[str, Any]:
    """Returns the parameters without a default, with values of the first worked example."""
    given = loss.examples[0].parameters
    return {p.name: given[p.name] for p in loss.all_parameters if p.default is REQUIRED}
