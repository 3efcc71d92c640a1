"""The backend that computes, and the GPU."""

from deploy.grafana.panels import LOSS, Panel, Query, each, or_nothing, total

PANELS = (
    Panel(
        "Examples by backend", "What computed them.", "ops",
        (Query(total("lossd_examples_total", LOSS, by="backend"), "{{backend}}"),), stacked=True,
    ),
    Panel(
        "Memory of the GPU", "Taken by all processes, and all that there is.", "bytes",
        (
            Query(or_nothing(each("lossd_gpu_memory_used_bytes")), "{{instance}} {{device}} taken"),
            Query(or_nothing(each("lossd_gpu_memory_bytes")), "{{instance}} {{device}} there is"),
        ),
    ),
    Panel(
        "Utilisation of the GPU", "The share of time in which it computed, for all.",
        "percentunit",
        (Query(or_nothing(each("lossd_gpu_utilization_ratio")), "{{instance}} {{device}}"),),
    ),
    Panel(
        "Servers without a usable GPU", "Those that fell back to the CPU.", "none",
        (Query(f"sum({each('lossd_backend_fallback')})"),), kind="stat", red_from=1,
    ),
    Panel(
        "Losses that a GPU got wrong", "The CPU computes them, by the self-test at the start.",
        "none",
        (Query(or_nothing(f"sum({each('lossd_loss_fallback')})")),), kind="stat", red_from=1,
    ),
)  # fmt: skip
