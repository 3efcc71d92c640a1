"""``lossd compute``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from lossd import errors, sums, v1
from lossd.backends.choose import BackendChoice, choose
from lossd.cli.arguments import load, pair, set_parameter
from lossd.client import LossClient, LossdError
from lossd.client.arguments import reductions
from lossd.client.result import LossResult
from lossd.client.wire import build_request, read_response
from lossd.engine import Engine
from lossd.losses import LOSSES
from lossd.networks import Networks
from lossd.networks import load as load_networks
from lossd.serving import loss_replies, loss_requests
from lossd.serving.config import usable_cores
from lossd.serving.messages import Limits

Array = npt.NDArray[Any]


@click.command()
@click.argument("loss")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE",
    help="An input from a .npy file, or from FILE.npz:KEY; again for each of several tensors.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE",
    help="A parameter of the loss: a number, a list such as [1,2], or a name such as LOGITS.",
)  # fmt: skip
@click.option("--weights", metavar="FILE", help="One weight an example.")
@click.option("--mask", metavar="FILE", help="True keeps an example.")
@click.option(
    "--reduction", type=click.Choice(list(reductions)), default="mean", show_default=True,
    help="How the losses of the examples become one number.",
)  # fmt: skip
@click.option(
    "--gradient", "gradients", multiple=True, metavar="NAME",
    help="An input or parameter to compute the gradient by; the loss's own default without.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="An .npz file for the gradients, by input, and the loss of each example.",
)  # fmt: skip
@click.option(
    "--networks", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory of the networks that losses of images look through, as for serve.",
)  # fmt: skip
@click.option(
    "--address", help="Of a server; without it, this process computes.", metavar="ADDRESS"
)
def compute(
    *,
    loss: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    output: Path | None,
    networks: Path | None,
    address: str | None,
    **options: Any,
) -> None:
    """Compute LOSS, for example cross_entropy, of arrays in files.

    A sum of losses is weighted_sum, whose parameter is JSON:

    --param 'terms=[{"weight": 0.7, "loss": {"huber": {"delta": 2}}}, ...]'
    """
    message = _message(loss, parameters)
    arrays = _inputs(inputs)
    for name in ("weights", "mask"):
        options[name] = load(name, options[name]) if options[name] else None
    options["gradients"] = options["gradients"] or None
    try:
        result = (
            _remote(address, message, arrays, options)
            if address
            else _here(message, arrays, options, networks)
        )
    except (LossdError, errors.LossdError) as error:
        raise click.ClickException(str(error)) from error
    if output is not None:
        _write(output, result)
    Console().print(_table(result))


def _here(
    message: Message, arrays: dict[str, Any], options: dict[str, Any], networks: Path | None
) -> LossResult:
    """As a server would, without one."""
    request = build_request(message, arrays, **options)
    found = Networks(load_networks(networks)) if networks else Networks()
    backend = choose(BackendChoice.AUTO, threads=usable_cores()).backend
    try:
        work = loss_requests.work(request, Limits())
        return read_response(loss_replies.response(sums.run(Engine(backend, found), work)))
    finally:
        backend.close()


def _remote(
    address: str, message: Message, arrays: dict[str, Any], options: dict[str, Any]
) -> LossResult:
    with LossClient(address) as client:
        return client.compute(message, **arrays, **options)


# ------------------------------------------------------------------ what was asked for


def _message(loss: str, parameters: tuple[str, ...]) -> Message:
    messages = {known.name: known.message for known in LOSSES.values()}
    messages[loss_requests.WEIGHTED_SUM] = v1.WeightedSum.DESCRIPTOR.name
    name = loss if loss in messages.values() else messages.get(loss)
    if name is None:
        raise click.ClickException(f"loss must be one of {', '.join(messages)}, got {loss}")
    message: Message = getattr(v1, name)()
    for text in parameters:
        name, value = pair("--param", text)
        set_parameter(message, name, value)
    return message


def _inputs(texts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, list[Array]] = {}
    for text in texts:
        name, source = pair("--input", text)
        found.setdefault(name, []).append(load(name, source))
    return {name: arrays[0] if len(arrays) == 1 else arrays for name, arrays in found.items()}


# ------------------------------------------------------------------ what came of it


def _gradients(result: LossResult) -> Iterator[tuple[str, Array]]:
    """Each by the name of its input, those of several tensors like ``predictions[0]``."""
    for name, gradient in result.gradients.items():
        if isinstance(gradient, np.ndarray):
            yield name, gradient
            continue
        for place, one in enumerate(gradient):
            yield f"{name}[{place}]", one


def _write(path: Path, result: LossResult) -> None:
    arrays: dict[str, Any] = {
        f"gradients.{name}": gradient for name, gradient in _gradients(result)
    }
    if result.per_example is not None:
        arrays["per_example"] = result.per_example
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise click.ClickException(
            f"output must be writable, got {path}: {error.strerror}"
        ) from error


def _table(result: LossResult) -> Table:
    table = Table(show_header=False)
    for name in ("loss", "loss_sum", "weight_sum"):
        value = getattr(result, name)
        table.add_row(name, "none" if value is None else f"{value:.17g}")
    for name in ("example_count", "ignored_count", "nonfinite_count", "backend"):
        table.add_row(name, str(getattr(result, name)))
    for place, term in enumerate(result.terms):
        table.add_row(f"loss of terms[{place}]", f"{term.loss:.17g}")
        table.add_row(f"norm of the gradient of terms[{place}]", f"{term.gradient_norm:.6g}")
    for name, gradient in _gradients(result):
        norm = np.linalg.norm(np.asarray(gradient, np.float64))
        table.add_row(f"norm of the gradient of {name}", f"{norm:.6g}")
    return table
