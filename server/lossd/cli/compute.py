"""``lossd compute``."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lossd import v1
from lossd.cli import compute_report
from lossd.cli.arguments import NAME_AND_FILE, NAME_AND_VALUE, SOURCES
from lossd.cli.arrays import load, load_rows, path_of
from lossd.cli.batches import LargeBatch, large_batch
from lossd.cli.completing import (
    complete_gradients,
    complete_inputs,
    complete_losses,
    complete_parameters,
)
from lossd.cli.computing import computing
from lossd.cli.failures import told
from lossd.cli.files import ArraysFile, check_outputs
from lossd.cli.inputs import EXTRAS, check_inputs, check_stdin, input_files, inputs_of_loss
from lossd.cli.merging import Compute, Merged, can_be_cut, merged
from lossd.cli.names import loss_messages, loss_named
from lossd.cli.parameters import set_parameters
from lossd.cli.reaching import Credentials, refuse_with_address, takes_credentials
from lossd.cli.shown import print_json, print_pairs
from lossd.client.arguments import reductions
from lossd.client.progress import counted
from lossd.serving.loss_service.norms import euclidean_norm
from lossd.v1.losses import Loss


@click.command()
@click.argument("loss", shell_complete=complete_losses)
@click.option(
    "--input", "inputs", multiple=True, metavar=NAME_AND_FILE, shell_complete=complete_inputs,
    help=f"An input: {SOURCES}.  Again for each of several tensors.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar=NAME_AND_VALUE,
    shell_complete=complete_parameters,
    help="A parameter of the loss: a number, a list such as [1,2], or a name such as LOGITS.",
)  # fmt: skip
@click.option("--weights", metavar="FILE", help="A weight for each example.")
@click.option("--mask", metavar="FILE", help="True keeps an example.")
@click.option(
    "--reduction", type=click.Choice(list(reductions)), default="mean", show_default=True,
    help="How the losses of the examples become one number.",
)  # fmt: skip
@click.option(
    "--gradient", "gradients", multiple=True, metavar="NAME", shell_complete=complete_gradients,
    help="An input or parameter to return the gradient with respect to; again for several, and "
    "without it those that the loss returns by default.",
)  # fmt: skip
@click.option(
    "--output", type=ArraysFile(),
    help="An .npz or .safetensors file for the gradients, by input, the loss of each example and "
    "the outputs.",
)  # fmt: skip
@click.option(
    "--networks", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory of the networks that losses of images look through, as for serve.",
)  # fmt: skip
@click.option(
    "--address",
    help="Address of a server that computes; without it, this process does.",
    metavar="ADDRESS",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@takes_credentials
def compute(
    *,
    loss: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    output: Path | None,
    networks: Path | None,
    address: str | None,
    as_json: bool,
    credentials: Credentials,
    **options: Any,
) -> None:
    """Compute LOSS, for example cross_entropy, of arrays in files.

    lossd compute huber --input predictions=x.npy --input targets=batch.npz:y

    A sum of losses is weighted_sum, whose parameter is JSON:

    --param 'terms=[{"weight": 0.7, "loss": {"huber": {"delta": 2}}}, ...]'
    """
    if address is not None:
        refuse_with_address("networks")
    name = loss_named(loss)
    message: Loss = getattr(v1, loss_messages()[name])()
    set_parameters(message, parameters)
    files = input_files(inputs)
    with told():
        check_inputs(name, files, inputs_of_loss(message))
    extras = {name: options.pop(name) for name in EXTRAS}
    files |= {name: [source] for name, source in extras.items() if source}
    check_stdin(files)
    check_outputs(path_of(source) for sources in files.values() for source in sources)
    options["gradients"] = options["gradients"] or None
    server = None if address is None else (address, credentials)
    with (
        told(),
        computing(message, server, networks) as computed,
        _answered(computed, message, files, options, output=output, as_json=as_json) as answer,
    ):
        if output is not None:
            compute_report.write(output, answer.result)
        if as_json:
            print_json(compute_report.plain(answer))
        else:
            print_pairs(compute_report.rows(answer))


@contextlib.contextmanager
def _answered(
    compute: Compute,
    message: Loss,
    files: Mapping[str, Sequence[str]],
    options: Mapping[str, Any],
    *,
    output: Path | None,
    as_json: bool,
) -> Iterator[Merged]:
    """Yields the result of a batch, which is read in pieces where it is large."""
    large = _large(message, files)
    if large is None:
        result = compute(**_arrays(files), **options)
        norms = {
            name: euclidean_norm([gradient]) for name, gradient in compute_report.gradients(result)
        }
        yield Merged(result, norms)
        return
    shown = ("per_example", "outputs") if as_json or output is not None else ()
    with merged(
        compute, large, options,
        beside=None if output is None else output.absolute().parent,
        keeps=(*shown, "gradients") if output is not None else shown,
        watched=lambda pieces, count: counted(pieces, "computing", count, transient=True),
    ) as answer:  # fmt: skip
        yield answer


def _large(message: Loss, files: Mapping[str, Sequence[str]]) -> LargeBatch | None:
    """Returns a batch that is too large to be read at once, and that may be cut."""
    if any(len(sources) > 1 for sources in files.values()):
        return None
    found = {name: load_rows(name, source) for name, (source,) in files.items()}
    first = found[next(iter(found))]
    if first is None or not can_be_cut(message, len(first.shape)):
        return None
    return large_batch(found)


def _arrays(files: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Returns one array for each input, or a list of arrays."""
    found = {name: [load(name, one) for one in sources] for name, sources in files.items()}
    return {name: arrays[0] if len(arrays) == 1 else arrays for name, arrays in found.items()}
