"""``lossd compute``."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from lossd import sums, v1
from lossd.backends.choose import BackendChoice, choose
from lossd.cli.arguments import pair
from lossd.cli.arrays import load, save
from lossd.cli.completing import (
    complete_gradients,
    complete_inputs,
    complete_losses,
    complete_parameters,
)
from lossd.cli.failures import told
from lossd.cli.files import OutputFile, writing
from lossd.cli.inputs import check_inputs, inputs_of_loss
from lossd.cli.names import loss_messages, loss_named
from lossd.cli.parameters import set_parameters
from lossd.cli.reaching import Credentials, connected_client, takes_credentials
from lossd.cli.shown import print_json, print_pairs
from lossd.client.arguments import reductions
from lossd.client.result import LossResult
from lossd.client.wire import build_request, read_response
from lossd.engine import Engine
from lossd.networks import Networks
from lossd.networks import load as load_networks
from lossd.serving.config import usable_cores
from lossd.serving.loss_service import replies as loss_replies
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.wire.reader import Limits
from lossd.v1.losses import Loss

Array = npt.NDArray[Any]


@click.command()
@click.argument("loss", shell_complete=complete_losses)
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE", shell_complete=complete_inputs,
    help="An input from a .npy file, FILE.npz:KEY or FILE.safetensors:KEY; again for each of "
    "several tensors.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE",
    shell_complete=complete_parameters,
    help="A parameter of the loss: a number, a list such as [1,2], or a name such as LOGITS.",
)  # fmt: skip
@click.option("--weights", metavar="FILE", help="One weight an example.")
@click.option("--mask", metavar="FILE", help="True keeps an example.")
@click.option(
    "--reduction", type=click.Choice(list(reductions)), default="mean", show_default=True,
    help="How the losses of the examples become one number.",
)  # fmt: skip
@click.option(
    "--gradient", "gradients", multiple=True, metavar="NAME", shell_complete=complete_gradients,
    help="An input or parameter to compute the gradient by; the loss's own default without.",
)  # fmt: skip
@click.option(
    "--output", type=OutputFile(),
    help="An .npz or .safetensors file for the gradients, by input, the loss of each example and "
    "the outputs.",
)  # fmt: skip
@click.option(
    "--networks", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory of the networks that losses of images look through, as for serve.",
)  # fmt: skip
@click.option(
    "--address", help="Of a server; without it, this process computes.", metavar="ADDRESS"
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

    A sum of losses is weighted_sum, whose parameter is JSON:

    --param 'terms=[{"weight": 0.7, "loss": {"huber": {"delta": 2}}}, ...]'
    """
    name = loss_named(loss)
    message: Loss = getattr(v1, loss_messages()[name])()
    set_parameters(message, parameters)
    files = _files(inputs)
    with told():
        check_inputs(name, files, inputs_of_loss(message))
    arrays = _arrays(files)
    for extra in ("weights", "mask"):
        options[extra] = load(extra, options[extra]) if options[extra] else None
    options["gradients"] = options["gradients"] or None
    with told():
        result = (
            _here(message, arrays, options, networks)
            if address is None
            else _remote((address, credentials), message, arrays, options)
        )
    if output is not None:
        _write(output, result)
    if as_json:
        print_json(_report(result))
    else:
        print_pairs(_rows(result))


def _here(
    message: Loss, arrays: dict[str, Any], options: dict[str, Any], networks: Path | None
) -> LossResult[Any]:
    """Computes as a server would, without one."""
    request = build_request(message, arrays, **options)
    found = Networks(load_networks(networks)) if networks else Networks()
    backend = choose(BackendChoice.AUTO, threads=usable_cores()).backend
    try:
        work = loss_requests.read_request(request, Limits())
        return read_response(loss_replies.response(sums.run(Engine(backend, found), work)))
    finally:
        backend.close()


def _remote(
    server: tuple[str, Credentials],
    message: Loss,
    arrays: dict[str, Any],
    options: dict[str, Any],
) -> LossResult[Any]:
    with connected_client(*server) as client:
        return client.compute(message, **arrays, **options)


# ------------------------------------------------------------------ arguments


def _files(texts: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, source = pair("--input", text)
        found.setdefault(name, []).append(source)
    return found


def _arrays(files: dict[str, list[str]]) -> dict[str, Any]:
    """Returns one array for each input, or a list of arrays."""
    found = {name: [load(name, one) for one in sources] for name, sources in files.items()}
    return {name: arrays[0] if len(arrays) == 1 else arrays for name, arrays in found.items()}


# ------------------------------------------------------------------ output


def _gradients(result: LossResult[Any]) -> Iterator[tuple[str, Array]]:
    """Yields each with the name of its input, ``predictions[0]`` for one of several tensors."""
    for name, gradient in result.gradients.items():
        if isinstance(gradient, np.ndarray):
            yield name, gradient
            continue
        for place, one in enumerate(gradient):
            yield f"{name}[{place}]", one


def _write(path: Path, result: LossResult[Any]) -> None:
    arrays: dict[str, Any] = {
        f"gradients.{name}": gradient for name, gradient in _gradients(result)
    }
    arrays |= {f"outputs.{name}": output for name, output in result.outputs.items()}
    if result.per_example is not None:
        arrays["per_example"] = result.per_example
    with writing(path):
        save(path, arrays)


_NUMBERS = ("loss", "loss_sum", "weight_sum")
_COUNTS = ("example_count", "ignored_count", "nonfinite_count", "backend")


def _rows(result: LossResult[Any]) -> Iterator[tuple[str, str]]:
    for name in _NUMBERS:
        value = getattr(result, name)
        yield name, "none" if value is None else f"{value:.17g}"
    for name in _COUNTS:
        yield name, str(getattr(result, name))
    if result.status:
        yield "status", result.status
    for status, count in Counter(result.statuses.values()).items():
        yield f"examples that are {status}", str(count)
    if result.outputs:
        yield "outputs", f"{', '.join(result.outputs)}: --output writes them, --json shows them"
    for place, term in enumerate(result.terms):
        yield f"loss of terms[{place}]", f"{term.loss:.17g}"
        yield f"norm of the gradient of terms[{place}]", f"{term.gradient_norm:.6g}"
    for name, gradient in _gradients(result):
        yield f"norm of the gradient of {name}", f"{_norm(gradient):.6g}"


def _report(result: LossResult[Any]) -> dict[str, Any]:
    return {
        **{name: getattr(result, name) for name in _NUMBERS + _COUNTS},
        "status": result.status,
        "statuses": {str(index): status for index, status in result.statuses.items()},
        "terms": [asdict(term) for term in result.terms],
        "gradient_norms": {name: _norm(gradient) for name, gradient in _gradients(result)},
        "per_example": result.per_example,
        "outputs": dict(result.outputs),
    }


def _norm(gradient: Array) -> float:
    return float(np.linalg.norm(np.asarray(gradient, np.float64)))
