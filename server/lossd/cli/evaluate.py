"""``lossd evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from lossd import v1
from lossd.cli import evaluate_report
from lossd.cli.arguments import NAME_AND_FILE, NAME_AND_VALUE, SOURCES
from lossd.cli.arrays import path_of
from lossd.cli.completing import complete_inputs, complete_metrics, complete_parameters
from lossd.cli.evaluating import evaluated_here, evaluated_there
from lossd.cli.failures import told
from lossd.cli.files import ArraysFile, check_outputs
from lossd.cli.inputs import EXTRAS, check_inputs, check_stdin, input_files, inputs_of_metric
from lossd.cli.names import metric_named
from lossd.cli.parameters import set_parameters
from lossd.cli.pieces import batches_of, pieces_of
from lossd.cli.reaching import Credentials, takes_credentials
from lossd.cli.shown import print_json, print_pairs
from lossd.client.progress import counted
from lossd.evaluation import METRICS


@click.command()
@click.argument("metric", shell_complete=complete_metrics)
@click.option(
    "--input", "inputs", multiple=True, metavar=NAME_AND_FILE, shell_complete=complete_inputs,
    help=f"An input: {SOURCES}, or a file of texts, one on each line.  Again for more batches, "
    "each with a file of every input.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar=NAME_AND_VALUE,
    shell_complete=complete_parameters,
    help="A parameter of the metric: a number, true or false, or a name such as MACRO.",
)  # fmt: skip
@click.option(
    "--weights", multiple=True, metavar="FILE",
    help="A weight for each example; again for each batch.",
)  # fmt: skip
@click.option(
    "--mask", multiple=True, metavar="FILE", help="True keeps an example; again for each batch."
)
@click.option(
    "--output", type=ArraysFile(),
    help="An .npz or .safetensors file for the value, the values of each class and the outputs.",
)  # fmt: skip
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Address of a server that computes; without it, this process does.",
)
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
    message = getattr(v1, METRICS[name].message)()
    set_parameters(message, parameters)
    files = _files(inputs, extras)
    check_inputs(name, [n for n in files if n not in EXTRAS], inputs_of_metric(METRICS[name]))
    check_outputs(path_of(source) for sources in files.values() for source in sources)
    batches = list(batches_of(files))
    count = sum(batch.piece_count for batch in batches)
    with told(), counted(pieces_of(batches), "evaluating", count, transient=True) as taken:
        result = (
            evaluated_here(message, taken)
            if address is None
            else evaluated_there((address, credentials), message, taken)
        )
    if output is not None:
        evaluate_report.write(output, result)
    if as_json:
        print_json(evaluate_report.plain(result))
    else:
        print_pairs(evaluate_report.rows(result))


def _files(inputs: Sequence[str], extras: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns the files of each input, weights and mask included: one for each batch."""
    found = input_files(inputs)
    for name, sources in extras.items():
        if sources:
            found.setdefault(name, []).extend(sources)
    counts = {name: len(sources) for name, sources in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise click.UsageError(f"each batch must have a file of every input, got {listed}")
    check_stdin(found)
    return found
