"""Examples of a margin: how far apart numbers are on which a loss depends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]  # of nested lists


def scores(m: float) -> Sequence[Row]:
    return [
        {"predictions": logits, "targets": label}
        for logits in ([m, 0.0], [0.0, m], [-m, 0.0])
        for label in (0, 1)
    ]


def three_scores(m: float) -> Sequence[Row]:
    return [{"predictions": [m, m / 2, -0.25], "targets": label} for label in (0, 1, 2)]


def ranked_scores(m: float) -> Sequence[Row]:
    return [{"predictions": [m, m / 2 + 0.125, -0.25], "targets": label} for label in (0, 1, 2)]


def halves(m: float) -> Sequence[Row]:
    return [{"predictions": logits, "targets": [0.5, 0.5]} for logits in ([m, 0.0], [0.0, m])]


def quarters(m: float) -> Sequence[Row]:
    return [
        {"predictions": [sign * m, 0.0], "targets": aims}
        for sign in (1, -1)
        for aims in ([0.25, 0.75], [0.984375, 0.015625])
    ]


def pairs_of_logits(m: float) -> Sequence[Row]:
    near = [m, 0.0], [m * (1 + 2.0**-12), 0.0]
    return [
        {"predictions": near[0], "targets": near[1]},
        {"predictions": near[1], "targets": near[0]},
        {"predictions": [0.0, 0.0], "targets": [m, 0.0]},
        {"predictions": [m, 0.0], "targets": [0.0, 0.0]},
        {"predictions": [0.0, m], "targets": [m, 0.0]},
    ]


def triples_of_logits(m: float) -> Sequence[Row]:
    return [
        {"predictions": [m, 0.0, -m], "targets": [m, 2.0**-14, -m]},
        {"predictions": [m, 0.0, -1.0], "targets": [m, 0.0, -m]},
    ]


def against_logs(m: float) -> Sequence[Row]:
    return [
        {"predictions": [0.0, m], "targets": [-m, -0.75]},
        {"predictions": [m, 0.0], "targets": [-m, -0.75]},
    ]


def logs(m: float) -> Sequence[Row]:
    return [{"predictions": [-m, -0.25], "targets": label} for label in (0, 1)]


def pairs_of_logs(m: float) -> Sequence[Row]:
    return [{"predictions": [-m, -0.5], "targets": [-0.75, -m]}]


def logs_of_halves(m: float) -> Sequence[Row]:
    return [{"predictions": [-m, -0.5], "targets": [0.5, 0.5]}]


def logs_of_logits(m: float) -> Sequence[Row]:
    return [{"predictions": [-3.0, -0.5], "targets": [m, 0.0]}]


def probabilities(m: float) -> Sequence[Row]:
    p = float(np.float32(1 / (3 + m)))
    return [{"predictions": [p, 1 - p], "targets": label} for label in (0, 1)]


def pairs_of_probabilities(m: float) -> Sequence[Row]:
    p = float(np.float32(1 / (3 + m)))
    return [{"predictions": [0.5, 0.5], "targets": [p, 1 - p]}]


def probabilities_of_logits(m: float) -> Sequence[Row]:
    return [{"predictions": [0.125, 0.875], "targets": [m, 0.0]}]


def answers(m: float) -> Sequence[Row]:
    return [{"predictions": [x], "targets": [y]} for x in (m, -m) for y in (0.0, 1.0)]


def soft_answers(m: float) -> Sequence[Row]:
    return [{"predictions": [x], "targets": [y]} for x in (m, -m) for y in (0.5, 0.25)]


def log_answers(m: float) -> Sequence[Row]:
    return [{"predictions": [-m - 1e-3], "targets": [y]} for y in (0.0, 1.0, 0.25)]


def residuals(m: float) -> Sequence[Row]:
    """Without the kink of some losses at 0."""
    return [{"predictions": [x], "targets": [0.0]} for x in ((m, -m) if m else ())]


def signs(m: float) -> Sequence[Row]:
    return [{"predictions": [m], "targets": [y]} for y in (-1.0, 1.0)]


def counts(m: float) -> Sequence[Row]:
    return [{"predictions": [x], "targets": [y]} for x in (m, -m) for y in (0.0, 1.0, 3.0)]


def full_counts(m: float) -> Sequence[Row]:
    return [{"predictions": [x], "targets": [y]} for x in (m, -m) for y in (0.0, 0.0625, 3.0)]


def rates(m: float) -> Sequence[Row]:
    return [{"predictions": [m + 0.125], "targets": [y]} for y in (0.0, 0.5, 3.0)]


def noise(m: float) -> Sequence[Row]:
    return [
        {"predictions": [m], "targets": [0.0], "variances": [v]} for v in (0.0, 0.5, 2.0, 1000.0)
    ]


def candidates(m: float) -> Sequence[Row]:
    return [
        {"log_probabilities": x, "risks": [0.25, 1.0]} for x in ([0.0, -m], [-m, 0.0], [-m, -m])
    ]


def region(m: float) -> Sequence[Row]:
    return [
        {"predictions": [x, x - 1.0, x + 0.5], "targets": truth}
        for x in (m, -m)
        for truth in ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0])
    ]


def log_region(m: float) -> Sequence[Row]:
    return [
        {"predictions": [-m - 1.0, -m - 0.5], "targets": truth}
        for truth in ([0.0, 0.0], [1.0, 0.0])
    ]


def class_region(m: float) -> Sequence[Row]:
    return [
        {"predictions": [[m, 0.0], [0.25, m]], "targets": labels}
        for labels in ([0, 0], [0, 1], [1, 0])
    ]


def ordered_scores(m: float) -> Sequence[Row]:
    return [
        {"predictions": [x, x - 0.5, x + 0.75], "targets": truth}
        for x in (m, -m)
        for truth in ([0.0, 0.0, 0.0], [1.0, 0.0, 1.0])
    ]


def ordered_region(m: float) -> Sequence[Row]:
    return [
        {"predictions": [[-m, 0.0], [0.0, m + 0.5], [1.5, 0.0]], "targets": labels}
        for labels in ([0, 0, 1], [1, 0, 0], [0, 0, 0])
    ]


def label_set(m: float) -> Sequence[Row]:
    return [
        {"predictions": [[x], [x - 1.0]], "targets": truth}
        for x in (m, -m)
        for truth in ([[0.0], [0.0]], [[1.0], [0.0]])
    ]


def ranking(m: float) -> Sequence[Row]:
    return [
        {"predictions": [[x], [0.0], [0.25]], "targets": [[1.0], [0.0], [1.0]]} for x in (m, -m)
    ]


def fakes(m: float) -> Sequence[Row]:
    return [{"fake": [[x], [x / 2]]} for x in (m, -m)]


def both_sides(m: float) -> Sequence[Row]:
    return [{"real": [[x], [0.25]], "fake": [[0.5], [0.125]]} for x in (m, -m)] + [
        {"real": [[0.5], [0.125]], "fake": [[x], [0.25]]} for x in (m, -m)
    ]


def reals(m: float) -> Sequence[Row]:
    """Each score by itself: the sum hides no other."""
    return [{"real": [[x]], "fake": [[-1000.0]]} for x in (m, -m)]
