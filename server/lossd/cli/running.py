"""The findings of ``lossd doctor --server`` about a running server."""

import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd import v1
from lossd.cli.machine import Finding, checks_right, routed
from lossd.client import BatchWarning, InvalidRequestError, LossClient
from lossd.losses import LOSSES, Example, Loss, Shape
from lossd.naming import members_of
from lossd.selftest import Check
from lossd.selftest.floats import with_floats
from lossd.serving.config import MEBIBYTE

_SECONDS = 5.0  # time for a server that answers to become ready
_TOLERANCES: Mapping[str, float] = MappingProxyType({"float32": 1e-5, "float64": 1e-12})


def findings_of(client: LossClient) -> Iterator[Finding]:
    """Yields the server's information, and whether its losses are right.

    Raises:
        LossdError: if it cannot be reached, or is not ready in time.
    """
    client.wait_until_ready(_SECONDS)
    info = client.server_info()
    yield Finding("server", f"lossd {info.version}, ready")
    yield Finding("backend", f"{info.backend} on {info.device} ({info.backend_reason})")
    for library in info.libraries:
        yield Finding(library.name, library.version)
    yield from routed(info.routes)
    yield Finding("transports", ", ".join(info.transports))
    yield from _limits(info.limits)
    networks = ", ".join(f"{n.name} ({n.architecture})" for n in info.networks)
    yield Finding("networks", networks or "none: losses of images are refused")
    yield from _losses(client)


def _limits(limits: v1.Limits) -> Iterator[Finding]:
    yield Finding("calls", f"at most {limits.concurrent_calls} in flight")
    sizes = f"{_mebibytes(limits.message_size_bytes)} each, {_mebibytes(limits.inflight_bytes)}"
    yield Finding("requests", f"at most {sizes} in flight")


def _losses(client: LossClient) -> Iterator[Finding]:
    """Checks the worked examples of every loss that needs no network, over the wire."""
    known = {described.name for described in client.list_losses().losses}
    for name in LOSSES:
        if name not in known:
            yield Finding(name, "unknown to the server", is_bad=True)
    tried = [one for one in LOSSES.values() if one.name in known and one.shape is not Shape.IMAGES]
    yield from checks_right(
        Check(loss.name, precision, _fault(client, loss, example, precision))
        for loss in tried
        for precision in _TOLERANCES
        for example in loss.examples
    )


def _fault(client: LossClient, loss: Loss, example: Example, precision: str) -> str:
    """Returns what is wrong with the answer; an empty text where it is right."""
    kind = getattr(v1, loss.message)
    spec = kind(**{name: _plain(kind, name, one) for name, one in example.parameters.items()})
    inputs: dict[str, Any] = {
        name: with_floats(value, precision) for name, value in example.inputs.items()
    }
    try:
        with warnings.catch_warnings(action="ignore", category=BatchWarning):  # they are right
            result = client.compute(spec, gradients=list(example.gradients), **inputs)
    except InvalidRequestError as error:
        return str(error)
    found = {"loss": result.loss, **result.gradients}
    for name, value in {"loss": example.value, **example.gradients}.items():
        if not np.allclose(found[name], value, _TOLERANCES[precision], _TOLERANCES[precision]):
            return f"{name} must be {value}, got {found[name]}"
    return ""


def _plain(kind: Any, name: str, value: Any) -> Any:
    """Returns a parameter as its message takes it, with full names of members."""
    field = kind.DESCRIPTOR.fields_by_name[name]
    if field.enum_type is None:
        return value
    members = members_of(field.enum_type)
    if isinstance(value, list | tuple):
        return [members[one.name] for one in value]
    return members[value.name]


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB"
