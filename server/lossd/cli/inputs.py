"""The inputs that a loss or a metric is given in files: which, and whether it takes them.

No file is read for that.
"""

from collections.abc import Collection, Mapping, Sequence

import click
from google.protobuf.message import Message

from lossd.cli.arguments import NAME_AND_FILE, pair
from lossd.client.input_names import names_of
from lossd.client.kinds import loss_name, spec_of
from lossd.evaluation import Metric
from lossd.losses import LOSSES
from lossd.naming import guess
from lossd.serving.loss_service.requests import WEIGHTED_SUM

# For the name of each input, whether it is required.
Declared = Mapping[str, bool]

EXTRAS = ("weights", "mask")


def input_files(texts: Sequence[str]) -> dict[str, list[str]]:
    """Returns the files of each input, as ``--input`` gives them: one text for each.

    Raises:
        click.UsageError: if a text has another form.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, source = pair("--input", text, NAME_AND_FILE)
        found.setdefault(name, []).append(source)
    return found


def inputs_of_loss(message: Message) -> Declared:
    """Returns the inputs of a loss; for a sum, those of its terms by the sum's names."""
    spec = spec_of(message)
    known = {name: tuple(i.name for i in loss.inputs) for name, loss in LOSSES.items()}
    names = names_of(spec, known)  # refuses anything but a loss
    if loss_name(spec) != WEIGHTED_SUM:
        return {i.name: not i.is_optional for i in LOSSES[loss_name(spec)].inputs}
    needed = {
        term.input_names.get(i.name, i.name)
        for term in spec.weighted_sum.terms
        for i in LOSSES[loss_name(term.loss)].inputs
        if not i.is_optional
    }
    return {name: name in needed for name in names}


def inputs_of_metric(metric: Metric) -> Declared:
    """Returns the inputs of a metric, none of which is optional."""
    return dict.fromkeys((i.name for i in metric.inputs), True)


def check_inputs(name: str, given: Collection[str], declared: Declared) -> None:
    """Checks the names that were given.

    Raises:
        click.UsageError: if one is unknown, or one is missing.
    """
    for one in given:
        if one not in declared:
            hint = f": give --{one} FILE" if one in EXTRAS else guess(one, declared)
            raise click.UsageError(
                f"--input must be among {', '.join(declared)} for {name}, got {one}{hint}"
            )
    missing = [one for one, is_needed in declared.items() if is_needed and one not in given]
    if missing:
        wanted = " ".join(f"--input {one}=FILE" for one in missing)
        raise click.UsageError(f"{wanted} must be given for {name}, got {_listed(given)}")


def check_stdin(files: Mapping[str, Sequence[str]]) -> None:
    """Checks the files of each input, weights and mask included: stdin can be read once.

    Raises:
        click.UsageError: if it stands for several of them.
    """
    found = [name for name, sources in files.items() for one in sources if one == "-"]
    if len(found) > 1:
        raise click.UsageError(f"- must stand for one file, got it for {', '.join(found)}")


def _listed(given: Collection[str]) -> str:
    return f"only {', '.join(given)}" if given else "nothing"
