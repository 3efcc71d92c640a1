"""Whether all is well."""

from deploy.grafana.panels import (
    CALLS,
    ERRORS,
    LOSS,
    OURS,
    Panel,
    Query,
    each,
    quantiles,
    share,
    total,
)

_CALLS_SHARE = f"max({each('lossd_inflight_requests')} / {each('lossd_max_inflight_requests')})"
_BYTES_SHARE = f"max({each('lossd_inflight_bytes')} / {each('lossd_max_inflight_bytes')})"

PANELS = (
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
