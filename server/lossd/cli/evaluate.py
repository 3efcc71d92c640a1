"""``lossd evaluate``."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from lossd import v1
from lossd.cli.arguments import pair
from lossd.cli.arrays import load, save
from lossd.cli.completing import complete_inputs, complete_metrics, complete_parameters
from lossd.cli.failures import told
from lossd.cli.files import OutputFile, writing
from lossd.cli.inputs import EXTRAS, check_inputs, inputs_of_metric
from lossd.cli.names import metric_named
from lossd.cli.parameters import set_parameters
from lossd.cli.reaching import Credentials, connected_client, takes_credentials
from lossd.cli.shown import array_text, print_json, print_pairs
from lossd.client import MetricResult
from lossd.client import metrics as metrics_wire
from lossd.client.progress import counted
from lossd.evaluation import METRICS, State, merged
from lossd.framing import Framed
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.wire.reader import Limits, RequestReader
from lossd.v1.metrics import Metric

_TEXTS = ("hypotheses", "references")


@click.command()
@click.argument("metric", shell_complete=complete_metrics)
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE", shell_complete=complete_inputs,
    help="An input from a .npy file, FILE.npz:KEY or FILE.safetensors:KEY, or a text a line; again "
    "for more batches, each with a file of every input.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE",
    shell_complete=complete_parameters,
    help="A parameter of the metric: a number, true or false, or a name such as MACRO.",
)  # fmt: skip
@click.option(
    "--weights", multiple=True, metavar="FILE",
    help="One weight an example; again for each batch.",
)  # fmt: skip
@click.option(
    "--mask", multiple=True, metavar="FILE", help="True keeps an example; again for each batch."
)
@click.option(
    "--output", type=OutputFile(),
    help="An .npz or .safetensors file for the value, the values of each class and the outputs.",
)  # fmt: skip
@click.option("--address", help="Of a server; without it, this process computes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@takes_credentials
def evaluate(
    *,
    metric: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    output: Path | None,
    address: str | None,
    as_json: bool,
    credentials: Credentials,
    **extras: tuple[str, ...],
) -> None:
    """Evaluate METRIC, for example roc_auc, over batches in files."""
    name = metric_named(metric)
    message: Metric = getattr(v1, METRICS[name].message)()
    set_parameters(message, parameters)
    files = _files(inputs, extras)
    check_inputs(name, [n for n in files if n not in EXTRAS], inputs_of_metric(METRICS[name]))
    count = len(next(iter(files.values())))
    with told(), counted(_batches(files), "evaluating", count, transient=True) as batches:
        result = (
            _here(message, batches)
            if address is None
            else _remote((address, credentials), message, batches)
        )
    if output is not None:
        _write(output, result)
    if as_json:
        print_json(_report(result))
    else:
        print_pairs(_rows(result))


# ------------------------------------------------------------------ arguments


def _files(inputs: tuple[str, ...], extras: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Returns the files of each input, weights and mask included: one for each batch."""
    found: dict[str, list[str]] = {}
    for text in inputs:
        name, source = pair("--input", text)
        found.setdefault(name, []).append(source)
    for name, sources in extras.items():
        if sources:
            found.setdefault(name, []).extend(sources)
    counts = {name: len(sources) for name, sources in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise click.UsageError(f"each batch must have a file of every input, got {listed}")
    return found


def _batches(files: dict[str, list[str]]) -> Iterable[dict[str, Any]]:
    for sources in zip(*files.values(), strict=True):
        yield {name: _read(name, one) for name, one in zip(files, sources, strict=True)}


def _read(name: str, source: str) -> Any:
    if name not in _TEXTS:
        return load(name, source)
    try:
        return Path(source).read_text("utf-8").splitlines()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    raise click.UsageError(f"{name} must be a readable text, got {source}: {reason}")


# ------------------------------------------------------------------ evaluating


def _here(message: Metric, batches: Iterable[dict[str, Any]]) -> MetricResult:
    """Evaluates as a server would, without one."""
    one = evaluation_codec.read_spec(metrics_wire.spec_of(message), "metric")
    state = State()
    for batch in batches:
        request = metrics_wire.build_request((), **_arguments(batch))
        read = evaluation_codec.batch(
            request.batch, [one], lambda: None, RequestReader(None, Limits())
        )
        state = merged([state, one.observe(read)])
    result = evaluation_codec.result(one, state, one.metric.score(state, one.parameters))
    return metrics_wire.read_results(Framed(v1.EvaluateResponse(results=[result])))[0]


def _remote(
    server: tuple[str, Credentials], message: Metric, batches: Iterable[dict[str, Any]]
) -> MetricResult:
    with connected_client(*server) as client, client.evaluation(message) as run:
        for batch in batches:
            run.update(**batch)
        return run.result()


def _arguments(batch: dict[str, Any]) -> dict[str, Any]:
    extras: dict[str, Any] = {name: batch[name] for name in EXTRAS if name in batch}
    return {"inputs": {n: v for n, v in batch.items() if n not in extras}, **extras}


# ------------------------------------------------------------------ output


def _write(path: Path, result: MetricResult) -> None:
    arrays: dict[str, Any] = {f"outputs.{n}": output for n, output in result.outputs.items()}
    for name in ("value", "values"):
        if (found := getattr(result, name)) is not None:
            arrays[name] = found
    with writing(path):
        save(path, arrays)


def _rows(result: MetricResult) -> Iterator[tuple[str, str]]:
    if result.value is not None:
        yield result.metric, f"{result.value:.17g}"
    elif result.values is None:
        yield result.metric, "none"
    if result.status:
        yield "status", f"{result.status}: {result.reason}"
    if result.values is not None:
        yield f"{result.metric} of each", array_text(result.values)
    for name, output in result.outputs.items():
        yield name, array_text(output)
    yield "example_count", str(result.example_count)
    yield "ignored_count", str(result.ignored_count)
    if result.signature:
        yield "signature", result.signature


def _report(result: MetricResult) -> dict[str, Any]:
    names = ("metric", "value", "values", "status", "reason", "example_count", "ignored_count")
    found = {name: getattr(result, name) for name in names}
    return {**found, "outputs": dict(result.outputs), "signature": result.signature}
