"""``lossd evaluate``."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from lossd import v1
from lossd.cli.arguments import NAME_AND_FILE, NAME_AND_VALUE, SOURCES, pair
from lossd.cli.arrays import load, load_rows, path_of, save, stdin
from lossd.cli.batches import PIECE_BYTES, LargeBatch, large_batch
from lossd.cli.completing import complete_inputs, complete_metrics, complete_parameters
from lossd.cli.failures import told
from lossd.cli.files import ArraysFile, check_outputs, writing
from lossd.cli.inputs import EXTRAS, check_inputs, check_stdin, inputs_of_metric
from lossd.cli.names import metric_named
from lossd.cli.parameters import set_parameters
from lossd.cli.reaching import Credentials, connected_client, takes_credentials
from lossd.cli.shown import array_text, print_json, print_pairs
from lossd.client import InvalidRequestError, MetricResult
from lossd.client import metrics as metrics_wire
from lossd.client.progress import counted
from lossd.evaluation import METRICS, State, StateError, merged
from lossd.framing import Framed
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.wire.reader import Limits, RequestReader
from lossd.v1.metrics import Metric

_TEXTS = ("hypotheses", "references")
_LINES = 1 << 16  # of texts, in one piece


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
    message: Metric = getattr(v1, METRICS[name].message)()
    set_parameters(message, parameters)
    files = _files(inputs, extras)
    check_inputs(name, [n for n in files if n not in EXTRAS], inputs_of_metric(METRICS[name]))
    check_outputs(path_of(source) for sources in files.values() for source in sources)
    batches = list(_batches(files))
    count = sum(batch.piece_count for batch in batches)
    with told(), counted(_pieces(batches), "evaluating", count, transient=True) as taken:
        result = (
            _here(message, taken)
            if address is None
            else _remote((address, credentials), message, taken)
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
        name, source = pair("--input", text, NAME_AND_FILE)
        found.setdefault(name, []).append(source)
    for name, sources in extras.items():
        if sources:
            found.setdefault(name, []).extend(sources)
    counts = {name: len(sources) for name, sources in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise click.UsageError(f"each batch must have a file of every input, got {listed}")
    check_stdin(found)
    return found


@dataclass(frozen=True, slots=True)
class _Placed:
    """A piece of a batch, and the end of an error that tells where it is."""

    arrays: dict[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class _WholeInput:
    """A batch that is read at once."""

    sources: Mapping[str, str]
    piece_count: int = 1
    rows: int = 0

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Yields it."""
        yield {name: load(name, source) for name, source in self.sources.items()}


@dataclass(frozen=True, slots=True)
class _TextLines:
    """Texts, a line each, with weights and masks beside them."""

    sources: Mapping[str, str]
    piece_count: int
    rows: int = _LINES

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Yields some lines at a time.

        Raises:
            InvalidRequestError: if there are more of one input than of another.
        """
        read = [
            _lines(n, one) if n in _TEXTS else _rows_of(n, one) for n, one in self.sources.items()
        ]
        counts = dict.fromkeys(self.sources, 0)
        has_all = True
        for found in zip_longest(*read, fillvalue=()):
            piece = dict(zip(self.sources, found, strict=True))
            for name, part in piece.items():
                counts[name] += len(part)
            has_all = has_all and len(set(counts.values())) == 1
            if has_all:
                yield piece
        if not has_all:  # only now is it known how many there are
            raise _uneven(counts)


def _uneven(counts: Mapping[str, int]) -> InvalidRequestError:
    """Returns the error for inputs that do not go together."""
    (first, wanted), *others = sorted(counts.items(), key=lambda one: one[0] not in _TEXTS)
    name, count = next(one for one in others if one[1] != wanted)
    return InvalidRequestError(f"{name} must be given for each of {wanted} {first}, got {count}")


def _pieces(batches: Sequence[_WholeInput | _TextLines | LargeBatch]) -> Iterator[_Placed]:
    for number, batch in enumerate(batches, 1):
        named = [f"in batch {number} of {len(batches)}"] if len(batches) > 1 else []
        with told(_where(named)):
            for step, arrays in enumerate(batch.pieces()):
                counted_from = [f"counted from row {step * batch.rows}"] if step else []
                yield _Placed(arrays, _where(named + counted_from))


def _where(facts: Sequence[str]) -> str:
    return f" ({', '.join(facts)})" if facts else ""


def _batches(files: dict[str, list[str]]) -> Iterator[_WholeInput | _TextLines | LargeBatch]:
    for chosen in zip(*files.values(), strict=True):
        sources = dict(zip(files, chosen, strict=True))
        if any(name in _TEXTS for name in sources):
            yield _texts(sources)
            continue
        large = large_batch({name: load_rows(name, source) for name, source in sources.items()})
        yield _WholeInput(sources) if large is None else large


def _texts(sources: Mapping[str, str]) -> _TextLines:
    sizes = [Path(one).stat().st_size for one in sources.values() if Path(one).exists()]
    return _TextLines(sources, 1 + max(sizes, default=0) // PIECE_BYTES)


def _lines(name: str, source: str) -> Iterator[Sequence[str]]:
    try:
        # A mark at the start is no text, and a line may hold other separators.
        with _opened(source) as file:
            lines = (line.removesuffix("\n").removesuffix("\r") for line in file)
            yield list(islice(lines, _LINES))  # of an empty file none
            while found := list(islice(lines, _LINES)):
                yield found
            return
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    raise click.UsageError(f"{name} must be a readable text, got {source}: {reason}")


def _opened(source: str) -> IO[str]:
    if source == "-":
        return io.TextIOWrapper(stdin(), encoding="utf-8-sig", newline="\n")
    return Path(source).open(encoding="utf-8-sig", newline="\n")


def _rows_of(name: str, source: str) -> Iterator[Any]:
    found = load_rows(name, source)
    if found is not None:
        return found.read(_LINES)
    whole = np.atleast_1d(load(name, source))
    return (whole[start : start + _LINES] for start in range(0, len(whole) or 1, _LINES))


# ------------------------------------------------------------------ evaluating


def _here(message: Metric, pieces: Iterable[_Placed]) -> MetricResult:
    """Evaluates as a server would, without one."""
    one = evaluation_codec.read_spec(metrics_wire.spec_of(message), "metric")
    state = State()
    for piece in pieces:
        with told(piece.where):
            request = metrics_wire.build_request((), **_arguments(piece.arrays))
            read = evaluation_codec.batch(
                request.batch, [one], lambda: None, RequestReader(None, Limits())
            )
            state = _added(state, one.observe(read))
    result = evaluation_codec.result(one, state, one.metric.score(state, one.parameters))
    return metrics_wire.read_results(Framed(v1.EvaluateResponse(results=[result])))[0]


def _added(state: State, batch: State) -> State:
    try:
        return merged([state, batch])
    except StateError as error:
        raise InvalidRequestError(
            f"batch must be like the data before it, got one where {error}"
        ) from error


def _remote(
    server: tuple[str, Credentials], message: Metric, pieces: Iterable[_Placed]
) -> MetricResult:
    sent = [""]  # the metric
    try:
        with connected_client(*server) as client, client.evaluation(message) as run:
            for piece in pieces:
                sent.append(piece.where)
                run.update(**piece.arrays)
            return run.result()
    except InvalidRequestError as error:
        # The server tells of which piece it is, of the last or before it; the client's own is of
        # the last.
        part = error.metadata.get("part", 0 if error.reason else -1)
        with told(sent[int(part)]):
            raise


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
        yield from _values(result.metric, result.values)
    for name, output in result.outputs.items():
        yield name, array_text(output)
    yield "example_count", str(result.example_count)
    yield "ignored_count", str(result.ignored_count)
    if result.signature:
        yield "signature", result.signature


def _values(metric: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yields numbers of classes, labels or texts, or a matrix of pairs with what its axes are."""
    if values.ndim < 2:
        yield f"{metric} of each", array_text(values)
        return
    yield metric, array_text(values)
    yield "rows", "targets"
    yield "columns", "predictions"


def _report(result: MetricResult) -> dict[str, Any]:
    names = ("metric", "value", "values", "status", "reason", "example_count", "ignored_count")
    found = {name: getattr(result, name) for name in names}
    return {**found, "outputs": dict(result.outputs), "signature": result.signature}
