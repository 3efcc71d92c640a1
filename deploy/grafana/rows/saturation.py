"""Everything that is limited, beside its limit."""

from deploy.grafana.panels import Panel, Query, each, rate, total

LIMIT = "limit of {{instance}}"

PANELS = (
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
        "Calls that compute",
        "Or evaluate, on average, and how many may; threads without a call help with a large one.",
        "none",
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
        "Device memory", "Allocated for clients that use the same GPU.", "bytes",
        (
            Query(each("lossd_device_memory_bytes"), "{{instance}}"),
            Query(each("lossd_max_device_memory_bytes"), LIMIT),
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
