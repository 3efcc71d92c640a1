"""The report of ``lossd compute``: a table, JSON, and a file of arrays."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lossd.cli.arrays import save
from lossd.cli.files import writing
from lossd.cli.merging import Merged
from lossd.cli.rows import Array
from lossd.client.result import LossResult

_NUMBERS = ("loss", "loss_sum", "weight_sum")
_COUNTS = ("example_count", "ignored_count", "nonfinite_count", "backend")


def rows(answer: Merged) -> Iterator[tuple[str, str]]:
    """Yields the rows of the table: a name, and what it is."""
    result = answer.result
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
        yield "outputs", _listed(result.outputs)
    for index, term in enumerate(result.terms):
        yield f"loss of terms[{index}]", f"{term.loss:.17g}"
        yield f"norm of the gradient of terms[{index}]", f"{term.gradient_norm:.6g}"
        if term.outputs:
            yield f"outputs of terms[{index}]", _listed(term.outputs)
    for name, length in answer.norms.items():
        yield f"norm of the gradient of {name}", f"{length:.6g}"


def _listed(outputs: Mapping[str, Any]) -> str:
    return f"{', '.join(outputs)}: --output writes them, --json shows them"


def plain(answer: Merged) -> dict[str, Any]:
    """Returns all of a result but its gradients as plain data, for JSON."""
    result = answer.result
    return {
        **{name: getattr(result, name) for name in _NUMBERS + _COUNTS},
        "status": result.status,
        "statuses": {str(index): status for index, status in result.statuses.items()},
        "terms": [asdict(term) for term in result.terms],
        "gradient_norms": dict(answer.norms),
        "per_example": result.per_example,
        "outputs": dict(result.outputs),
    }


def write(path: Path, result: LossResult[Any]) -> None:
    """Writes the arrays of a result into a file."""
    arrays: dict[str, Any] = {f"gradients.{name}": gradient for name, gradient in gradients(result)}
    arrays |= {f"outputs.{name}": output for name, output in result.outputs.items()}
    for index, term in enumerate(result.terms):
        arrays |= {f"terms[{index}].outputs.{n}": output for n, output in term.outputs.items()}
    if result.per_example is not None:
        arrays["per_example"] = result.per_example
    with writing(path):
        save(path, arrays)


def gradients(result: LossResult[Any]) -> Iterator[tuple[str, Array]]:
    """Yields each with the name of its input, ``predictions[0]`` for one of several tensors."""
    for name, gradient in result.gradients.items():
        if isinstance(gradient, np.ndarray):
            yield name, gradient
            continue
        for index, one in enumerate(gradient):
            yield f"{name}[{index}]", one
