"""Finds what a caller may have meant: names of losses, metrics and anything else with names."""

from collections.abc import Mapping

import click

from lossd import v1
from lossd.cli.equivalents import EQUIVALENTS
from lossd.client.kinds import surrogates
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.naming import guess, letters
from lossd.serving.loss_service.requests import WEIGHTED_SUM


def loss_messages() -> Mapping[str, str]:
    """Returns the names of the messages of all that ``compute`` takes, by name."""
    messages = {name: loss.message for name, loss in LOSSES.items()}
    return {**messages, WEIGHTED_SUM: v1.WeightedSum.DESCRIPTOR.name}


def metric_messages() -> Mapping[str, str]:
    """Returns the names of the messages of the metrics, by name."""
    return {name: metric.message for name, metric in METRICS.items()}


def loss_named(text: str) -> str:
    """Returns the name of a loss: ``cross_entropy`` for that, ``CrossEntropy`` or their like.

    Raises:
        click.UsageError: if there is none, with names that may have been meant.
    """
    messages = loss_messages()
    if (found := same_name(text, messages)) is not None:
        return found
    metric = same_name(text, metric_messages())
    if metric is not None:
        instead = same_name(surrogates[metric], messages)
        raise click.UsageError(
            f"loss must be differentiable, got the metric {metric}: train with {instead}, and give "
            f"{metric} to lossd evaluate"
        )
    own = _by_foreign_name().get(letters(text.rpartition(".")[2]))
    hint = f": did you mean {own}?" if own else guess(text, messages)
    raise click.UsageError(f"loss must be one that lossd losses lists, got {text}{hint}")


def metric_named(text: str) -> str:
    """Returns the name of a metric.

    Raises:
        click.UsageError: if there is none, with names that may have been meant.
    """
    messages = metric_messages()
    if (found := same_name(text, messages)) is not None:
        return found
    loss = same_name(text, loss_messages())
    if loss is not None:
        raise click.UsageError(
            f"metric must be one that lossd metrics lists, got the loss {loss}: lossd compute "
            "takes it"
        )
    raise click.UsageError(
        f"metric must be one that lossd metrics lists, got {text}" + guess(text, messages)
    )


def refuse_metric(text: str) -> None:
    """Refuses a metric where the page of a loss is asked for.

    Raises:
        click.UsageError: with the command that has the page.
    """
    _refuse_page(same_name(text, metric_messages()), "metric", "metrics")


def refuse_loss(text: str) -> None:
    """Refuses a loss where the page of a metric is asked for.

    Raises:
        click.UsageError: with the command that has the page.
    """
    _refuse_page(same_name(text, loss_messages()), "loss", "losses")


def _refuse_page(name: str | None, kind: str, pages: str) -> None:
    if name is not None:
        raise click.UsageError(f"{name} is a {kind}: lossd {pages} {name}")


def _by_foreign_name() -> dict[str, str]:
    """Returns the losses by their names in other libraries: ``mseloss``, and ``mse`` for short."""
    found = {
        letters(one.name.rpartition(".")[2]): name
        for name, known in EQUIVALENTS.items()
        for one in known
    }
    return {short.removesuffix("loss"): name for short, name in found.items()} | found


def same_name(text: str, messages: Mapping[str, str]) -> str | None:
    """Returns the name with the same letters as a text, or whose message has them."""
    by_letters = {letters(message): name for name, message in messages.items()}
    return by_letters.get(letters(text))
