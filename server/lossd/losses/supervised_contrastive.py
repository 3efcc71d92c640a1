"""Supervised contrastive loss."""

from typing import Annotated, Any

from lossd.losses._body import BatchContext, BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import EMBEDDINGS, LABELS
from lossd.losses._maths.label_contrast import contrast, without_positive
from lossd.schema import POSITIVE, Array, Differentiable


@loss(
    Shape.COUPLED,
    inputs=(EMBEDDINGS, LABELS),
    examples=(
        # The positive is the only other example: the loss is 0.
        Example(
            {"embeddings": [[1.0, 0.0], [0.0, 3.0]], "labels": [7, 7]},
            value=0.0,
            gradients={"embeddings": [[0.0, 0.0], [0.0, 0.0]]},
        ),
        # Two with the same label; the third has no positive and is left out.
        Example(
            {"embeddings": [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], "labels": [0, 0, 1]},
            parameters={"temperature": 1.0},
            value=0.31326168751822286,
            gradients={
                "embeddings": [
                    [0.0, 0.13447071068499755],
                    [0.0, 0.13447071068499755],
                    [0.2689414213699951, 0.0],
                ],
                "temperature": 0.2689414213699951,
            },
        ),
        Example(
            {"embeddings": [[2.0], [1.0]], "labels": [0, 0]},
            parameters={"normalize": False},
            value=0.0,
            gradients={"embeddings": [[0.0], [0.0]]},
        ),
    ),
    ignores=without_positive,
)
def supervised_contrastive(
    xp: Any,
    embeddings: Array,
    labels: Array,
    batch: BatchContext,
    *,
    temperature: Annotated[float, POSITIVE, Differentiable.ON_REQUEST] = 0.07,
    normalize: bool = True,
) -> BodyResult:
    """Cross-entropy of finding each positive of an example among all others, averaged over them.

        value = mean over positives p of -s_ip + log sum_a exp s_ia,  a all others but i,
                s_ij = z_i . z_j / temperature
        gradient = sum_j (g_ij + g_ji) z_j / temperature, g_ij = softmax_j(s_i) - [j positive] / P_i

    Positives are the others of the same label.  An example without one is left out, with the status
    NO_POSITIVE; the others are still compared with it.  ``normalize`` gives all embeddings the
    length 1; one of zeros is similar to nothing and has the status ZERO_NORM.

    Reference: P. Khosla et al., Supervised contrastive learning, 2020, equation 2, without the
    factor of temperatures in the authors' code.
    """
    return contrast(
        xp, embeddings, labels, batch, _rows, temperature=temperature, normalize=normalize
    )


def _rows(xp: Any, scores: Array, divisor: Any, is_positive: Array, number: Array) -> Array:
    """Computes softmax rows; the likeliest has 1 / total, and total - 1 is summed without it.

    So a row whose only positive is far ahead keeps the digits of value and gradient.
    """
    rows = xp.arange(len(scores))
    top = scores.argmax(axis=-1)
    scores -= scores[rows, top][:, None].copy()
    scores /= divisor
    behind = xp.where(is_positive, scores, 0).sum(axis=-1)
    xp.exp(scores, out=scores)
    scores[rows, top] = 0
    rest = scores.sum(axis=-1)
    total = 1 + rest
    scores /= total[:, None]
    scores -= is_positive / number[:, None]
    is_top_positive = is_positive[rows, top]
    scores[rows, top] = xp.where(is_top_positive, (number - 1 - rest) / number, 1) / total
    return xp.log1p(rest) - behind / number
