"""Calls that failed, and what will make some fail."""

from deploy.grafana.panels import CALLS, LOSS, OURS, RANGE, Panel, Query, each, total

PANELS = (
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
    Panel(
        "Files that could not be used", "Changed files of the settings, in the time that is shown; "
        "the last good ones stay.", "none",
        (
            Query(
                "sum by (instance, file) "
                f"(increase({each('lossd_reload_failures_total')}[{RANGE}]))",
                "{{file}} of {{instance}}",
            ),
            Query(each("lossd_file_unusable"), "{{file}} of {{instance}} now"),
        ),
        kind="stat", red_from=1,
    ),
    Panel(
        "Certificates expire in", "Of those that a server shows; it reads new ones by itself.", "s",
        (
            Query(
                "min by (instance, certificate) "
                f"({each('lossd_certificate_expiry_timestamp_seconds')} - time())",
                "{{certificate}} of {{instance}}",
            ),
        ),
        kind="stat", red_below=7 * 86_400,
    ),
    Panel(
        "Lines of the log that were lost", "Nobody read them, and calls do not wait for a reader.",
        "none", (Query(each("lossd_log_lines_lost"), "{{instance}}"),),
    ),
)  # fmt: skip
