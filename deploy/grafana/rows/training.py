"""Training curves, and what is evaluated."""

from deploy.grafana.panels import LOSS, Panel, Query, each, rate, total

_TRAINING = (LOSS, 'training_job=~"$training_job"')
_LIVE = rate("lossd_training_batches_total", *_TRAINING)
_NAMES = "{{loss}} {{training_job}}"

PANELS = (
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
