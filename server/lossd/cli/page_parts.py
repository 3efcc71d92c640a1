"""Parts of a page that losses and metrics have alike."""

import inspect
import re
from collections.abc import Sequence

from lossd import v1
from lossd.cli.page import InputEntry, Page, ParameterEntry
from lossd.evaluation import Metric
from lossd.losses import Loss, Parameter
from lossd.naming import members_of
from lossd.schema import INTEGERS
from lossd.serving.wire import descriptions
from lossd.serving.wire.comments import comments


def declared_page(
    declared: Loss | Metric,
    task: str,
    inputs: Sequence[InputEntry],
    parameters: Sequence[ParameterEntry],
) -> Page:
    """Returns a page with what declarations of losses and metrics say alike."""
    return Page(
        name=declared.name,
        message=declared.message,
        task=task,
        summary=declared.summary,
        formula=declared.formula,
        notes=prose(declared.body.__doc__, declared.formula),
        reference=declared.reference,
        inputs=inputs,
        parameters=parameters,
    )


def parameter_entry(message: str, parameter: Parameter, kind: str, gradient: str) -> ParameterEntry:
    """Returns a parameter of a message, as its declaration and the contract describe it."""
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


def prose(doc: str | None, formula: str) -> str:
    """Returns the prose between the summary and the reference, one line for each paragraph."""
    indented = {line.strip() for line in formula.splitlines()}
    kept = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc or ""))[1:]:
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines[0] not in indented and not lines[0].startswith("Reference:"):
            kept.append(" ".join(lines))
    return "\n\n".join(kept)
