"""The words of the catalogue on a message beside its parameters, for docstrings.

It imports the server's declarations, which need the generated code: first that, then this.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Catalogued:
    """The inputs of a loss or a metric, where it is from, and where more is said."""

    inputs: Mapping[str, str]
    closing: Sequence[str]


def catalogued() -> dict[str, Catalogued]:
    """Returns it for each loss and each metric, by the name of the message."""
    sys.path[:0] = [str(ROOT / "protos"), str(ROOT / "server")]
    from lossd import tensors
    from lossd.serving.evaluation_service.catalogue import list_metrics
    from lossd.serving.loss_service.catalogue import list_losses

    dtypes = tensors.dtype_of_type
    found: dict[str, Any] = {"losses": list_losses().losses, "metrics": list_metrics().metrics}
    return {
        one.message: Catalogued(
            {put.name: ". ".join(_facts(put, dtypes)) for put in one.inputs},
            (f"Reference: {one.reference}", f"``lossd {command} {one.name}`` says more."),
        )
        for command, described in found.items()
        for one in described
    }


def _facts(one: Any, dtypes: Mapping[Any, Any]) -> Iterator[str]:
    """Yields what is to be known of an input, each without its full stop but the last."""
    # Metrics take any type that fits, and have no optional inputs.
    kinds = {dtypes[kind].kind for kind in getattr(one, "dtypes", ())}
    said = [" or ".join(one.shapes), _kinds(kinds)]
    said += ["optional"] if getattr(one, "optional", False) else []
    yield "; ".join(filter(None, said))
    yield f"{one.description[:1].upper()}{one.description[1:]}."


def _kinds(kinds: set[str]) -> str:
    """Returns the kinds of NumPy's types in words."""
    integers = kinds & {"b", "i", "u"}
    if not kinds:
        return ""
    if not integers:
        return "floating point"
    return "integer or boolean" if kinds == integers else "of any type"
