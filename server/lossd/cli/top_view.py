"""The view of ``lossd top`` as plain data, from two scrapes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lossd.cli.scrapes import Between, labelled

_METHOD_SECONDS = "grpc_server_handling_seconds"
_PHASES = ("queue", "receive", "decode", "compute", "evaluate", "encode")


@dataclass(frozen=True, slots=True)
class Timed:
    """A thing that is counted and timed; times are None where there was nothing."""

    name: str
    per_second: float
    mean_seconds: float | None
    p50_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True, slots=True)
class LossRow:
    """A loss; ``values`` are the last ones by training job, where the operator names jobs."""

    loss: str
    batches_per_second: float
    failed_per_second: float
    examples_per_second: float
    nonfinite_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reason why calls were not answered."""

    reason: str
    per_second: float
    total: float


@dataclass(frozen=True, slots=True)
class Used:
    """How much is taken of what may be; a limit of None is not known."""

    thing: str
    used: float
    limit: float | None
    is_bytes: bool = False


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU; ``utilization`` is the share of time in which it computed, None if nobody says."""

    device: str
    memory_used: float
    memory: float
    utilization: float | None


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes a second by the way that they travelled."""

    transport: str
    request_bytes_per_second: float
    reply_bytes_per_second: float


@dataclass(frozen=True, slots=True)
class View:
    """Everything about a server between two scrapes."""

    url: str
    seconds: float
    version: str
    backend: str
    is_ready: bool
    is_fallback: bool
    losses_off_the_gpu: Sequence[str]
    calls_per_second: float
    failed_per_second: float
    processor_cores: float
    methods: Sequence[Timed]
    phases: Sequence[Timed]
    losses: Sequence[LossRow]
    metrics: Sequence[Timed]
    rejections: Sequence[Rejection]
    moved: Sequence[Moved]
    used: Sequence[Used]
    gpus: Sequence[GpuRow] = ()


def view_of(url: str, between: Between) -> View:
    """Returns what two scrapes of a server say."""
    last = between.last
    builds = [dict(has) for name, has in last.values if name == "lossd_build_info"]
    build = builds[0] if builds else {}
    handled = labelled(between.rates("grpc_server_handled_total"), "grpc_code")
    off = last.by("loss", "lossd_loss_fallback")
    return View(
        url=url,
        seconds=between.seconds,
        version=build.get("lossd", ""),
        backend=build.get("backend", ""),
        is_ready=last.total("lossd_ready") == 1,
        is_fallback=last.total("lossd_backend_fallback") == 1,
        losses_off_the_gpu=sorted(loss for loss, is_off in off.items() if is_off),
        calls_per_second=between.rate("grpc_server_started_total"),
        failed_per_second=sum(handled.values()) - handled.get("OK", 0.0),
        processor_cores=between.rate("process_cpu_seconds_total"),
        methods=_timed(between, _METHOD_SECONDS, "grpc_method"),
        phases=sorted(
            _timed(between, "lossd_phase_duration_seconds", "phase"),
            key=lambda one: _PHASES.index(one.name) if one.name in _PHASES else len(_PHASES),
        ),
        losses=_losses(between),
        metrics=_metrics(between),
        rejections=_rejections(between),
        moved=_moved(between),
        used=_used(between),
        gpus=_gpus(between),
    )


def _timed(between: Between, name: str, label: str) -> list[Timed]:
    """Returns the series of a histogram that ever saw something, those with the most first."""
    seen = [one for one, count in between.last.by(label, f"{name}_count").items() if count]
    found = [_one_timed(between, name, label, one) for one in seen]
    return sorted(found, key=lambda one: (-one.per_second, one.name))


def _one_timed(between: Between, name: str, label: str, one: str) -> Timed:
    chosen = {label: one}
    return Timed(
        name=one,
        per_second=between.rate(f"{name}_count", **chosen),
        mean_seconds=between.mean(name, **chosen),
        p50_seconds=between.quantile(0.5, name, **chosen),
        p99_seconds=between.quantile(0.99, name, **chosen),
    )


def _losses(between: Between) -> list[LossRow]:
    seen = between.last.by("loss", "lossd_requests_total")
    found = [_loss(between, loss) for loss, count in seen.items() if count]
    return sorted(found, key=lambda one: (-one.batches_per_second, one.loss))


def _loss(between: Between, loss: str) -> LossRow:
    rate = between.rate("lossd_requests_total", loss=loss)
    answered = between.rate("lossd_requests_total", loss=loss, status="OK")
    return LossRow(
        loss=loss,
        batches_per_second=rate,
        failed_per_second=max(rate - answered, 0.0),
        examples_per_second=between.rate("lossd_examples_total", loss=loss),
        nonfinite_per_second=between.rate("lossd_nonfinite_total", loss=loss),
        p50_seconds=between.quantile(0.5, "lossd_request_duration_seconds", loss=loss),
        p99_seconds=between.quantile(0.99, "lossd_request_duration_seconds", loss=loss),
        values=between.last.by("training_job", "lossd_loss_value", loss=loss),
    )


def _metrics(between: Between) -> list[Timed]:
    """Returns the metrics that were ever evaluated; they are not timed one by one."""
    seen = between.last.by("metric", "lossd_evaluations_total")
    rates = labelled(between.rates("lossd_evaluations_total"), "metric")
    found = [Timed(one, rates.get(one, 0.0), None, None, None) for one, n in seen.items() if n]
    return sorted(found, key=lambda one: (-one.per_second, one.name))


def _rejections(between: Between) -> list[Rejection]:
    rates = labelled(between.rates("lossd_rejected_total"), "reason")
    totals = between.last.by("reason", "lossd_rejected_total")
    found = [Rejection(one, rates.get(one, 0.0), total) for one, total in totals.items() if total]
    return sorted(found, key=lambda one: (-one.per_second, -one.total, one.reason))


def _moved(between: Between) -> list[Moved]:
    transports = between.last.by("transport", "lossd_request_bytes_count")
    return [
        Moved(
            one,
            between.rate("lossd_request_bytes_sum", transport=one),
            between.rate("lossd_response_bytes_sum", transport=one),
        )
        for one, count in sorted(transports.items())
        if count
    ]


def _used(between: Between) -> list[Used]:
    total = between.last.total
    memory = Used("memory", total("process_resident_memory_bytes"), None, is_bytes=True)
    found = [
        Used("calls in flight", total("lossd_inflight_requests"),
             total("lossd_max_inflight_requests")),
        Used("bytes in flight", total("lossd_inflight_bytes"),
             total("lossd_max_inflight_bytes"), is_bytes=True),
    ]  # fmt: skip
    if total("lossd_max_shared_memory_segments"):
        found += [
            Used("segments", total("lossd_shared_memory_segments"),
                 total("lossd_max_shared_memory_segments")),
            Used("shared memory", total("lossd_shared_memory_bytes"),
                 total("lossd_max_shared_memory_bytes"), is_bytes=True),
        ]  # fmt: skip
    if total("lossd_max_device_memory_bytes"):
        found.append(Used("device memory", total("lossd_device_memory_bytes"),
                          total("lossd_max_device_memory_bytes"), is_bytes=True))  # fmt: skip
    return [*found, memory]


def _gpus(between: Between) -> list[GpuRow]:
    """Returns the GPUs that a server has, which are none where the CPU computes."""
    used, there, busy = (
        between.last.by("device", f"lossd_gpu_{name}")
        for name in ("memory_used_bytes", "memory_bytes", "utilization_ratio")
    )
    return [
        GpuRow(device, used.get(device, math.nan), memory, _known(busy.get(device, math.nan)))
        for device, memory in sorted(there.items())
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
