"""What ``lossd doctor --server`` finds at a server that runs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from lossd import selftest, v1
from lossd.batch import Job
from lossd.cli.machine import Finding, examples_right
from lossd.cli.parameters import members_of
from lossd.client import LossClient
from lossd.client.result import LossResult
from lossd.losses import LOSSES, Shape
from lossd.serving.config import MEBIBYTE

if TYPE_CHECKING:
    from lossd.engine import Engine


_SECONDS = 5.0  # for a server that answers to be ready


def findings_of(client: LossClient) -> Iterator[Finding]:
    """Yields what a server says of itself, and whether its losses come out right.

    Raises:
        LossdError: if it cannot be reached, or is not ready in time.
    """
    client.wait_until_ready(_SECONDS)
    info = client.server_info()
    yield Finding("server", f"lossd {info.version}, ready")
    yield Finding("backend", f"{info.backend} on {info.device} ({info.backend_reason})")
    for library in info.libraries:
        yield Finding(library.name, library.version)
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
    """The worked examples of every loss that needs no network, over the wire."""
    known = {described.name for described in client.list_losses().losses}
    yield from (
        Finding(name, "unknown to the server", is_bad=True) for name in LOSSES if name not in known
    )
    tried = [loss for loss in LOSSES.values() if loss.name in known]
    tried = [loss for loss in tried if loss.shape is not Shape.IMAGES]
    yield from examples_right(selftest.run(cast("Engine", _Remote(client)), tried))


class _Remote:
    """Runs jobs as an engine does, on a server."""

    def __init__(self, client: LossClient) -> None:
        self._client = client

    def run(self, job: Job) -> LossResult:
        """Computes a job."""
        kind = getattr(v1, job.loss.message)
        loss = kind(**{name: _plain(kind, name, one) for name, one in job.parameters.items()})
        return self._client.compute(loss, gradients=job.gradients, **_inputs(job.inputs))


def _inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: arrays if len(arrays) > 1 else arrays[0] for name, arrays in inputs.items()}


def _plain(kind: Any, name: str, value: Any) -> Any:
    """A parameter as its message takes it: the full names of members."""
    field = kind.DESCRIPTOR.fields_by_name[name]
    if field.enum_type is None:
        return value
    members = members_of(field.enum_type)
    if isinstance(value, list | tuple):
        return [members[one.name] for one in value]
    return members[value.name]


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB"
