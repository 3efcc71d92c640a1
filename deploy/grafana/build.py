"""Writes the dashboard: ``python deploy/grafana/build.py`` from the root of the repository.

Its queries need nothing but a scrape of lossd, no recording rules and no other exporter.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOARD = Path(__file__).with_name("lossd.json")

WIDTH = 24  # of Grafana's grid
DATA = {"type": "prometheus", "uid": "${datasource}"}
OF = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """One query; ``legend`` names its series by their labels."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``says`` is behind its (i)."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    red_from: float | None = None


def each(metric: str, *labels: str) -> str:
    """Returns the selector of a metric, on what the dashboard's variables choose."""
    return f"{metric}{{{', '.join([OF, *labels])}}}"


def rate(metric: str, *labels: str) -> str:
    """Returns the rate of a counter."""
    return f"rate({each(metric, *labels)}[{RATE}])"


def total(metric: str, *labels: str, by: str = "") -> str:
    """Returns the sum of a counter's rates, by labels."""
    return f"sum{f' by ({by})' if by else ''} ({rate(metric, *labels)})"


def share(part: str, whole: str) -> str:
    """Returns a quotient that is 0 where nothing happens at all."""
    return f"{part} / ({whole} > 0) or vector(0)"


def quantiles(metric: str, *labels: str) -> tuple[Query, ...]:
    """Returns the median and two high quantiles of a histogram."""
    buckets = total(f"{metric}_bucket", *labels, by="le")
    return tuple(Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in QUANTILES)


QUANTILES = (0.5, 0.95, 0.99)
LOSS = 'loss=~"$loss"'
ERRORS = 'grpc_code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"'
OURS = 'grpc_service=~"lossd.*"'
CALLS = "grpc_server_handled_total"
LIMIT = "limit of {{instance}}"
_CALLS_SHARE = f"max({each('lossd_inflight_requests')} / {each('lossd_max_inflight_requests')})"
_BYTES_SHARE = f"max({each('lossd_inflight_bytes')} / {each('lossd_max_inflight_bytes')})"

OVERVIEW = (
    Panel(
        "Servers ready", "Servers that take calls.", "none",
        (Query(f"sum({each('lossd_ready')})"),), kind="stat", width=4, height=4,
    ),
    Panel(
        "Batches", "Batches that were answered, a second.", "reqps",
        (Query(total("lossd_requests_total", LOSS)),), kind="stat", width=4, height=4,
    ),
    Panel(
        "Examples", "Examples that were kept, a second.", "ops",
        (Query(total("lossd_examples_total", LOSS)),), kind="stat", width=4, height=4,
    ),
    Panel(
        "Errors", "Share of calls that ended with an error that no caller can mend.", "percentunit",
        (Query(share(total(CALLS, OURS, ERRORS), total(CALLS, OURS))),),
        kind="stat", width=4, height=4, red_from=0.001,
    ),
    Panel(
        "Time of a batch, p99", "From its arrival to its answer; the network is not in it.", "s",
        (quantiles("lossd_request_duration_seconds", LOSS)[-1],), kind="stat", width=4, height=4,
    ),
    Panel(
        "Busiest limit", "Of calls and bytes in flight, the larger share of what may be.",
        "percentunit", (Query(f"{_CALLS_SHARE} > {_BYTES_SHARE} or {_BYTES_SHARE}"),),
        kind="stat", width=4, height=4, red_from=0.8,
    ),
    Panel(
        "Batches by loss", "Answered, well or not.", "reqps",
        (Query(total("lossd_requests_total", LOSS, by="loss"), "{{loss}}"),), stacked=True,
    ),
    Panel(
        "Calls by server", "Whether each gets its share.", "reqps",
        (Query(total(CALLS, OURS, by="instance"), "{{instance}}"),), stacked=True,
    ),
    Panel(
        "What runs", "Versions and backends.", "none",
        (
            Query(
                "count by (lossd, backend, python, grpc, numpy, cupy) "
                f"({each('lossd_build_info')})",
                "lossd {{lossd}}, {{backend}}",
            ),
        ),
        kind="table",
    ),
)  # fmt: skip

LATENCY = (
    Panel(
        "Time of a batch", "From its arrival to its answer.", "s",
        quantiles("lossd_request_duration_seconds", LOSS),
    ),
    Panel(
        "Time of a batch by phase",
        "Mean seconds that batches of the chosen losses spend in each phase.", "s",
        (
            Query(
                f"{total('lossd_loss_phase_seconds_total', LOSS, by='phase')} "
                f"/ on () group_left () ({total('lossd_requests_total', LOSS)} > 0)",
                "{{phase}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Wait for a turn", "Until a call is let compute. It grows when all threads do.", "s",
        quantiles("lossd_phase_duration_seconds", 'phase="queue"'),
    ),
    Panel(
        "Where the time goes by loss", "Seconds of all phases together, a second.", "none",
        (Query(total("lossd_loss_phase_seconds_total", LOSS, by="loss"), "{{loss}}"),),
        stacked=True,
    ),
    Panel(
        "Time of a batch by loss, p99", "From its arrival to its answer.", "s",
        (
            Query(
                "histogram_quantile(0.99, "
                f"{total('lossd_request_duration_seconds_bucket', LOSS, by='loss, le')})",
                "{{loss}}",
            ),
        ),
    ),
    Panel(
        "Time of calls by method, p99", "The methods of the services, as gRPC counts them.", "s",
        (
            Query(
                "histogram_quantile(0.99, "
                f"{total('grpc_server_handling_seconds_bucket', OURS, by='grpc_method, le')})",
                "{{grpc_method}}",
            ),
        ),
    ),
)  # fmt: skip

SATURATION = (
    Panel(
        "Calls in flight", "One more than the limit is refused, and told to come again.", "none",
        (
            Query(each("lossd_inflight_requests"), "{{instance}}"),
            Query(each("lossd_max_inflight_requests"), LIMIT),
        ),
    ),
    Panel(
        "Bytes in flight", "Of requests; what exceeds the limit is told to come again.", "bytes",
        (
            Query(each("lossd_inflight_bytes"), "{{instance}}"),
            Query(each("lossd_max_inflight_bytes"), LIMIT),
        ),
    ),
    Panel(
        "Threads that compute", "Computing and evaluating, on average, and how many may.", "none",
        (
            Query(
                "sum by (instance) ("
                + rate("lossd_phase_duration_seconds_sum", 'phase=~"compute|evaluate"') + ")",
                "{{instance}}",
            ),
            Query(each("lossd_compute_threads"), LIMIT),
        ),
    ),
    Panel(
        "Shared memory", "Attached by clients on the same host.", "bytes",
        (
            Query(each("lossd_shared_memory_bytes"), "{{instance}}"),
            Query(each("lossd_max_shared_memory_bytes"), LIMIT),
        ),
    ),
    Panel(
        "Segments of shared memory", "Each is a file that a client attached.", "none",
        (
            Query(each("lossd_shared_memory_segments"), "{{instance}}"),
            Query(each("lossd_max_shared_memory_segments"), LIMIT),
        ),
    ),
    Panel(
        "Processors and memory", "Of the process: cores in use, and bytes in memory.", "none",
        (
            Query(rate("process_cpu_seconds_total"), "cores, {{instance}}"),
            Query(f"{each('process_resident_memory_bytes')} / 1024 ^ 3", "GiB, {{instance}}"),
        ),
    ),
    Panel(
        "Bytes received", "By how tensors travelled.", "Bps",
        (Query(total("lossd_request_bytes_sum", by="transport"), "{{transport}}"),), stacked=True,
    ),
    Panel(
        "Bytes sent", "By how tensors travelled.", "Bps",
        (Query(total("lossd_response_bytes_sum", by="transport"), "{{transport}}"),), stacked=True,
    ),
    Panel(
        "Open files", "Connections and segments take one each.", "percentunit",
        (Query(f"{each('process_open_fds')} / {each('process_max_fds')}", "{{instance}}"),),
        red_from=0.8,
    ),
)  # fmt: skip

FAULTS = (
    Panel(
        "Calls by status", "OK is left out.", "reqps",
        (Query(total(CALLS, OURS, 'grpc_code!="OK"', by="grpc_code"), "{{grpc_code}}"),),
        stacked=True,
    ),
    Panel(
        "Refused and failed calls by reason", "The reason that callers are told.", "reqps",
        (Query(total("lossd_rejected_total", by="reason"), "{{reason}}"),), stacked=True,
    ),
    Panel(
        "Examples that are not finite", "Share of examples, by loss.", "percentunit",
        (
            Query(
                f"{total('lossd_nonfinite_total', LOSS, by='loss')} / "
                f"{total('lossd_examples_total', LOSS, by='loss')}",
                "{{loss}}",
            ),
        ),
    ),
)  # fmt: skip

_TRAINING = (LOSS, 'training_job=~"$training_job"')
_LIVE = rate("lossd_training_batches_total", *_TRAINING)
_NAMES = "{{loss}} {{training_job}}"
TRAINING = (
    Panel(
        "Loss", "Of the last batch, on average over the servers that had one lately.", "none",
        (
            Query(
                "avg by (loss, training_job) "
                f"({each('lossd_loss_value', *_TRAINING)} and {_LIVE} > 0)",
                _NAMES,
            ),
        ),
        width=12, height=10,
    ),
    Panel(
        "Gradient norm", "Euclidean norm of all gradients of a batch; looked at once a second.",
        "none",
        (
            Query(
                "avg by (loss, training_job) "
                f"({each('lossd_gradient_norm', *_TRAINING)} and {_LIVE} > 0)",
                _NAMES,
            ),
        ),
        width=12, height=10,
    ),
    Panel(
        "Batches by training job", "Jobs are told apart where --jobs names them.", "reqps",
        (Query(f"sum by (loss, training_job) ({_LIVE})", _NAMES),), width=12, stacked=True,
    ),
    Panel(
        "Evaluations", "By metric.", "reqps",
        (Query(total("lossd_evaluations_total", by="metric"), "{{metric}}"),), width=12,
        stacked=True,
    ),
)  # fmt: skip

GPU = (
    Panel(
        "Examples by backend", "What computed them.", "ops",
        (Query(total("lossd_examples_total", LOSS, by="backend"), "{{backend}}"),), stacked=True,
    ),
    Panel(
        "Servers without a usable GPU", "Those that fell back to the CPU.", "none",
        (Query(f"sum({each('lossd_backend_fallback')})"),), kind="stat", red_from=1,
    ),
    Panel(
        "Losses that a GPU got wrong", "The CPU computes them, by the self-test at the start.",
        "none",
        (Query(f"sum({each('lossd_loss_fallback')}) or vector(0)"),), kind="stat", red_from=1,
    ),
)  # fmt: skip

ROWS = {
    "Overview": OVERVIEW,
    "Latency by phase": LATENCY,
    "Saturation against limits": SATURATION,
    "Errors": FAULTS,
    "Training curves": TRAINING,
    "GPU": GPU,
}

VARIABLES = {
    "namespace": "label_values(lossd_build_info, namespace)",
    "job": 'label_values(lossd_build_info{namespace=~"$namespace"}, job)',
    "instance": 'label_values(lossd_build_info{namespace=~"$namespace", job=~"$job"}, instance)',
    "loss": f"label_values({each('lossd_requests_total')}, loss)",
    "training_job": f"label_values({each('lossd_training_batches_total')}, training_job)",
}


def panel(described: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """Returns a panel as Grafana stores it."""
    is_instant = described.kind in ("stat", "table")
    defaults: dict[str, Any] = {"unit": described.unit}
    if described.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if described.stacked else 0,
            "stacking": {"mode": "normal" if described.stacked else "none"},
            "showPoints": "never",
        }
    if described.red_from is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": described.red_from}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "id": number,
        "type": described.kind,
        "title": described.title,
        "description": described.says,
        "datasource": DATA,
        "gridPos": {"h": described.height, "w": described.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATA,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": is_instant,
                "range": not is_instant,
                "format": "table" if described.kind == "table" else "time_series",
            }
            for place, query in enumerate(described.queries)
        ],
    }


def panels() -> list[dict[str, Any]]:
    """Returns rows and panels, from left to right and from top to bottom."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, members in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        row = {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False}
        found.append({**row, "gridPos": place, "panels": []})
        x, y, height = 0, y + 1, 0
        for member in members:
            if x + member.width > WIDTH:
                x, y, height = 0, y + height, 0
            found.append(panel(member, len(found) + 1, x, y))
            x, height = x + member.width, max(height, member.height)
        y += height
    return found


def variable(name: str, query: str) -> dict[str, Any]:
    """Returns a variable whose values Prometheus knows; all of them at first."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATA,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def board() -> dict[str, Any]:
    """Returns the dashboard."""
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}}
    restarts = f"changes({each('process_start_time_seconds')}[{RATE}]) > 0"
    return {
        "uid": "lossd",
        "title": "lossd",
        "description": "Losses computed over gRPC: traffic, latency, limits, errors and training.",
        "tags": ["lossd"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {
            "list": [
                {
                    "name": "Restarts",
                    "datasource": DATA,
                    "enable": True,
                    "iconColor": "orange",
                    "expr": restarts,
                    "titleFormat": "{{instance}} was started",
                }
            ]
        },
        "templating": {"list": [source, *(variable(*item) for item in VARIABLES.items())]},
        "panels": panels(),
    }


def text() -> str:
    """Returns the file."""
    return json.dumps(board(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    BOARD.write_text(text())
