"""Pages about the losses and metrics of a server, whose version may be another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from lossd import v1
from lossd.cli.loss_pages import DIFFERENTIABILITY, loss_input, loss_pages
from lossd.cli.metric_pages import metric_pages
from lossd.cli.names import same_name
from lossd.cli.page import InputEntry, Page, ParameterEntry
from lossd.cli.page_parts import shown_bounds
from lossd.cli.tasks import LOSS_TASKS, METRIC_TASKS, UNKNOWN_TASK, by_task
from lossd.client import LossClient
from lossd.naming import guess


def served_losses(client: LossClient) -> list[Page]:
    """Returns the pages of the losses that a server lists.

    Raises:
        LossdError: if it does not answer.
    """
    known = _by_name(loss_pages())
    listed = client.list_losses().losses
    pages = (_page(one, [loss_input(each) for each in one.inputs], known) for one in listed)
    return by_task(pages, LOSS_TASKS)


def served_metrics(client: LossClient) -> list[Page]:
    """Returns the pages of the metrics that a server lists.

    Raises:
        LossdError: if it does not answer.
    """
    known = _by_name(metric_pages())
    listed = client.list_metrics().metrics
    pages = (_page(one, [_input(each) for each in one.inputs], known) for one in listed)
    surrogates = [one.surrogate for one in listed]
    return by_task(map(_trained_with, pages, surrogates), METRIC_TASKS)


def page_named(text: str, pages: Sequence[Page]) -> str:
    """Returns the name of one of the pages.

    Raises:
        click.UsageError: if there is none, with a name that may have been meant.
    """
    messages = {page.name: page.message for page in pages}
    found = same_name(text, messages)
    if found is None:
        raise click.UsageError(
            f"name must be one that the server lists, got {text}{guess(text, messages)}"
        )
    return found


def _by_name(pages: Sequence[Page]) -> dict[str, Page]:
    return {page.name: page for page in pages}


def _page(
    said: v1.LossDescription | v1.MetricDescription,
    inputs: Sequence[InputEntry],
    known: Mapping[str, Page],
) -> Page:
    """Returns what the server says, with what this version knows beside it."""
    own = known.get(said.name) or Page(said.name, said.message, UNKNOWN_TASK)
    meanings = {one.name: one for one in own.parameters}
    return replace(
        own,
        message=said.message,
        summary=said.summary,
        formula=said.formula,
        reference=said.reference,
        inputs=list(inputs),
        parameters=[_parameter(one, meanings.get(one.name)) for one in said.parameters],
    )


def _trained_with(page: Page, surrogate: str) -> Page:
    return replace(page, surrogate=surrogate)


def _parameter(said: v1.ParameterDescription, own: ParameterEntry | None) -> ParameterEntry:
    return ParameterEntry(
        name=said.name,
        type=said.type,
        default=said.default or "unset",
        bounds=shown_bounds(said.bounds),
        description=own.description if own else "",
        choices=own.choices if own else {},
        gradient=DIFFERENTIABILITY.get(said.differentiability, "none"),
    )


def _input(said: v1.MetricInputDescription) -> InputEntry:
    shapes = list(said.shapes)
    return InputEntry(said.name, said.description, shapes, (), "none", is_optional=False)
