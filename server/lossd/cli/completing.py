"""Completions for shells: names of losses, metrics, parameters and members."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lossd import v1
from lossd.cli import columns
from lossd.cli.names import loss_messages, loss_named, metric_messages, metric_named
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.naming import members_of

_SUFFIXES = (".npy", ".npz", ".safetensors", ".txt", *columns.SUFFIXES)

Items = list[CompletionItem]


def complete_losses(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """Offers the names of losses."""
    return _items(loss_messages(), incomplete)


def complete_metrics(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """Offers the names of metrics."""
    return _items(metric_messages(), incomplete)


def complete_parameters(context: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """Offers ``NAME=``, and after it the members of an enum."""
    message = _message(context)
    if message is None:
        return []
    fields = message.DESCRIPTOR.fields_by_name
    name, equals, _ = incomplete.partition("=")
    if not equals:
        return _items((f"{field}=" for field in fields), incomplete)
    field = fields.get(name)
    return _items((f"{name}={value}" for value in _values(field)), incomplete)


def complete_inputs(context: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """Offers ``NAME=``, and after it files of arrays and of texts."""
    declared = _declared(context)
    name, equals, path = incomplete.partition("=")
    if not equals:
        return _items((f"{one.name}=" for one in declared.inputs) if declared else (), incomplete)
    return _items((f"{name}={one}" for one in _paths(path)), incomplete)


def complete_gradients(context: click.Context, _: click.Parameter, incomplete: str) -> Items:
    """Offers names that a gradient can be computed with respect to."""
    declared = _declared(context)
    if declared is None:
        return []
    every = (*declared.inputs, *declared.all_parameters)
    return _items((one.name for one in every if one.differentiable.value != "no"), incomplete)


def _items(names: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _name(context: click.Context) -> str | None:
    """Returns the name of the loss or metric that was typed; None for anything else."""
    is_metric = "metric" in context.params
    typed = context.params["metric" if is_metric else "loss"]
    # click leaves arguments unparsed where an option before the cursor has no value yet.
    text = typed or next(iter(context.args), "")
    try:
        return metric_named(text) if is_metric else loss_named(text)
    except click.UsageError:
        return None


def _declared(context: click.Context) -> Any:
    name = _name(context)
    return METRICS.get(name or "") if "metric" in context.params else LOSSES.get(name or "")


def _message(context: click.Context) -> Any:
    name = _name(context)
    if name is None:
        return None
    messages = metric_messages() if "metric" in context.params else loss_messages()
    return getattr(v1, messages[name])


def _values(field: Any) -> Iterable[str]:
    if field is None:
        return ()
    if field.enum_type is not None:
        return members_of(field.enum_type)
    return ("true", "false") if field.cpp_type == field.CPPTYPE_BOOL else ()


def _paths(text: str) -> Iterator[str]:
    """Yields readable files and directories whose paths begin with a text."""
    folder, slash, _ = text.rpartition("/")
    try:
        found = sorted(Path(folder + slash or ".").iterdir())
    except OSError:
        return
    for path in found:
        if path.is_dir():
            yield f"{folder}{slash}{path.name}/"
        elif path.suffix in _SUFFIXES:
            yield f"{folder}{slash}{path.name}"
