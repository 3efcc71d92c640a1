"""Where the time of a batch goes."""

from deploy.grafana.panels import LOSS, OURS, Panel, Query, quantiles, total

PANELS = (
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
