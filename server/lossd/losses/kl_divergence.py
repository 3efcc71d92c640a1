"""Kullback-Leibler divergence of a prediction from a target distribution."""

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, DistributionKind, Input
from lossd.losses._maths.constants import LOG_2, LOG_3, LOG_4
from lossd.losses._maths.distribution_comparison import Comparison, compare
from lossd.losses._maths.divergence_from_given_texts import FROM_GIVEN, FROM_GIVEN_ON_HOST
from lossd.losses._maths.divergence_host_texts import host_text
from lossd.losses._maths.divergence_texts import TEXTS
from lossd.schema import POSITIVE, Array, Differentiable, ParameterError, exactly


def _distance_to_nothing(
    predictions: Array,
    targets: Array,
    *,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    **_others: object,
) -> Array:
    """Returns how far probabilities are from 0, where the derivative is -inf."""
    del predictions
    is_smooth = target_kind is not DistributionKind.PROBABILITIES
    return abs(targets) + (float("inf") if is_smooth else 0)


def _texts() -> Iterator[CudaText]:
    """Yields the texts: for predictions that are logits, and for (log-)probabilities."""
    for kind, text in TEXTS.items():
        when = {"prediction_kind": DistributionKind.LOGITS, "target_kind": kind}
        yield CudaText(text, when=when, targets_are_classes=False, on_host=host_text(kind))
    for kinds, text in FROM_GIVEN.items():
        when = dict(zip(("prediction_kind", "target_kind"), kinds, strict=True))
        on_host = FROM_GIVEN_ON_HOST[kinds]
        yield CudaText(text, when=when, targets_are_classes=False, on_host=on_host)


@loss(
    Shape.ROWWISE,
    inputs=(
        DISTRIBUTION,
        Input(
            "targets",
            "the distribution that the predictions should have",
            differentiable=Differentiable.ON_REQUEST,
            kind="target_kind",
        ),
    ),
    cuda=tuple(_texts()),
    examples=(
        # Of (1/4, 3/4) from (1/2, 1/2): log 2 / 2 + log (2/3) / 2.
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [[0.5, 0.5]]},
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.25, 0.25]],
                "targets": [[1 + LOG_2, 1 + LOG_2 - LOG_3]],
            },
        ),
        # A class of share 0 costs nothing.
        Example(
            {"predictions": [[0.25, 0.75]], "targets": [[0.0, 1.0]]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[0.0, -4 / 3]], "targets": [[0.0, 1 + LOG_4 - LOG_3]]},
        ),
        Example(
            {"predictions": [[-LOG_4, LOG_3 - LOG_4]], "targets": [[-LOG_2, -LOG_2]]},
            parameters={
                "prediction_kind": DistributionKind.LOG_PROBABILITIES,
                "target_kind": DistributionKind.LOG_PROBABILITIES,
            },
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.5, -0.5]],
                "targets": [[(1 + LOG_2) / 2, (1 + LOG_2 - LOG_3) / 2]],
            },
        ),
        # Both are softened to the distributions of the first example.
        Example(
            {"predictions": [[0.0, 2 * LOG_3]], "targets": [[5.0, 5.0]]},
            parameters={
                "target_kind": DistributionKind.LOGITS,
                "temperature": 2.0,
                "scale_by_squared_temperature": True,
            },
            value=4 * (LOG_2 - LOG_3 / 2),
            gradients={"predictions": [[-0.5, 0.5]], "targets": [[LOG_3 / 2, -LOG_3 / 2]]},
        ),
    ),
    kinks={"targets": _distance_to_nothing},
)
def kl_divergence(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    temperature: Annotated[float, POSITIVE] = 1.0,
    scale_by_squared_temperature: bool = False,
) -> BodyResult:
    """Divergence of the prediction from the target distribution, in nats.

        value = sum_c p_c (log p_c - log q_c),  p the target, q the prediction
        logits x: q = softmax(x / temperature), and so for targets that are logits
        gradient = ((sum_c p_c) q - p) / temperature
        with respect to log-probabilities: -p;  probabilities: -p / q
        with respect to targets that are probabilities: log p - log q + 1
          log-probabilities: p (log p - log q + 1)
          logits: p (log p - log q - value) / temperature

    A class of target 0 contributes 0 to the value and to every gradient, its own included, although
    the derivative with respect to a probability is -inf there.  A target of a class that the
    prediction holds impossible gives an infinite value, and infinite derivatives with respect to
    logits of the target: 0 where that class has all of the target, NaN where several such classes
    share it.  A temperature needs predictions that are logits; targets are divided by it only if
    they are logits too.  scale_by_squared_temperature multiplies value and gradients by its square,
    as in distillation.  The mean is PyTorch's "batchmean".  Where the two distributions nearly
    agree, their difference is taken in float64, even for float32: at the end of a distillation it
    is tiny.

    Reference: S. Kullback and R. A. Leibler, On information and sufficiency, 1951; temperature:
    G. Hinton et al., Distilling the knowledge in a neural network, 2015, section 2.
    """
    if temperature != 1 and prediction_kind is not DistributionKind.LOGITS:
        raise ParameterError(
            "temperature",
            f"temperature must be 1 unless predictions are logits, got {exactly(temperature)}",
        )
    dtype = predictions.dtype
    scale = temperature if scale_by_squared_temperature else None

    def compared(rows: slice) -> Comparison:
        # In float64: the difference of two nearly equal distributions is far below float32's
        # rounding.
        given, aims = predictions[rows].astype(np.float64), targets[rows].astype(np.float64)
        return compare(xp, given, aims, (prediction_kind, target_kind), temperature)

    found = [compared(rows) for rows in _pieces(xp, *predictions.shape)]

    def by_targets() -> Array:
        return xp.concatenate([f.by_targets(xp, target_kind, scale).astype(dtype) for f in found])

    return BodyResult(
        xp.concatenate([f.value(xp, scale).astype(dtype) for f in found]),
        {
            "predictions": xp.concatenate([f.by_predictions(scale).astype(dtype) for f in found]),
            "targets": by_targets,
        },
    )


# Elements that are computed together: their temporaries in float64 fit a cache.
_PIECE = 1 << 14


def _pieces(xp: Any, rows: int, columns: int) -> list[slice]:
    """Returns pieces of rows to compute together; at least one, perhaps without rows."""
    step = max(1, _PIECE // columns) if xp is np and columns else max(rows, 1)
    return [slice(start, start + step) for start in range(0, max(rows, 1), step)]
