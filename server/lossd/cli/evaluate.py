"""``lossd evaluate``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from lossd import errors, v1
from lossd.cli.arguments import load, pair, set_parameter
from lossd.cli.progress import counted
from lossd.client import LossClient, LossdError, MetricResult
from lossd.client import metrics as metrics_wire
from lossd.evaluation import METRICS, State, merged
from lossd.serving import evaluation_codec
from lossd.serving.messages import Limits, Reader

_TEXTS = ("hypotheses", "references")


@click.command()
@click.argument("metric")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE", required=True,
    help="An input from a .npy file, or from FILE.npz:KEY, or a text a line; again for more "
    "batches, each with a file of every input.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE",
    help="A parameter of the metric: a number, true or false, or a name such as MACRO.",
)  # fmt: skip
@click.option("--address", help="Of a server; without it, this process computes.")
def evaluate(
    metric: str, inputs: tuple[str, ...], parameters: tuple[str, ...], address: str | None
) -> None:
    """Evaluate METRIC, for example roc_auc, over batches in files."""
    message = _message(metric, parameters)
    files = _files(inputs)
    count = len(next(iter(files.values())))
    try:
        with counted(_batches(files), "evaluating", count, transient=True) as batches:
            result = _remote(address, message, batches) if address else _here(message, batches)
    except (LossdError, errors.LossdError) as error:
        raise click.ClickException(str(error)) from error
    Console().print(_table(result))


def _message(metric: str, parameters: tuple[str, ...]) -> Message:
    known = {name: name for name in METRICS} | {known.message: n for n, known in METRICS.items()}
    if metric not in known:
        raise click.ClickException(f"metric must be one of {', '.join(METRICS)}, got {metric}")
    message: Message = getattr(v1, METRICS[known[metric]].message)()
    for text in parameters:
        set_parameter(message, *pair("--param", text))
    return message


def _files(inputs: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in inputs:
        name, source = pair("--input", text)
        found.setdefault(name, []).append(source)
    counts = {name: len(sources) for name, sources in found.items()}
    if len(set(counts.values())) > 1:
        raise click.ClickException(f"--input must give each input as many files, got {counts}")
    return found


def _batches(files: dict[str, list[str]]) -> Iterable[dict[str, Any]]:
    for sources in zip(*files.values(), strict=True):
        yield {name: _read(name, one) for name, one in zip(files, sources, strict=True)}


def _read(name: str, source: str) -> Any:
    if name not in _TEXTS:
        return load(name, source)
    try:
        return Path(source).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{name} must be a readable text, got {source}") from error


def _here(message: Message, batches: Iterable[dict[str, Any]]) -> MetricResult:
    """As a server would, without one."""
    one = evaluation_codec.read_spec(metrics_wire.spec_of(message), "metric")
    state = State()
    for batch in batches:
        request = metrics_wire.build_request((), **_arguments(batch))
        read = evaluation_codec.batch(request.batch, [one], lambda: None, Reader(None, Limits()))
        state = merged([state, one.observe(read)])
    result = evaluation_codec.result(one, state, one.metric.score(state, one.parameters))
    return metrics_wire.read_results(v1.EvaluateResponse(results=[result]))[0]


def _remote(address: str, message: Message, batches: Iterable[dict[str, Any]]) -> MetricResult:
    with LossClient(address) as client, client.evaluation(message) as run:
        for batch in batches:
            run.update(**batch)
        result = run.result()
        return result if isinstance(result, MetricResult) else result[0]


def _arguments(batch: dict[str, Any]) -> dict[str, Any]:
    extras: dict[str, Any] = {name: batch[name] for name in ("weights", "mask") if name in batch}
    return {"inputs": {n: v for n, v in batch.items() if n not in extras}, **extras}


def _table(result: MetricResult) -> Table:
    table = Table(show_header=False)
    value = "none" if result.value is None else f"{result.value:.17g}"
    table.add_row(result.metric, value)
    if result.status:
        table.add_row("status", f"{result.status}: {result.reason}")
    if result.values is not None:
        table.add_row("values", np.array2string(result.values, precision=6, threshold=64))
    for name, output in result.outputs.items():
        table.add_row(name, np.array2string(np.asarray(output), precision=17))
    for name in ("example_count", "ignored_count", "signature"):
        table.add_row(name, str(getattr(result, name)))
    return table
