"""NT-Xent, the normalised temperature-scaled cross-entropy of pairs."""

from typing import Annotated, Any

from lossd.losses._body import BatchContext, BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import EMBEDDINGS, LABELS
from lossd.losses._maths.label_contrast import contrast, without_positive
from lossd.losses._maths.sigmoid import softplus
from lossd.schema import POSITIVE, Array, Differentiable


@loss(
    Shape.COUPLED,
    inputs=(EMBEDDINGS, LABELS),
    examples=(
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
        # Three with one label and no negative: other positives are no negatives.
        Example(
            {"embeddings": [[2.0], [1.0], [-1.0]], "labels": [0, 0, 0]},
            parameters={"normalize": False},
            value=0.0,
            gradients={"embeddings": [[0.0], [0.0], [0.0]]},
        ),
    ),
    ignores=without_positive,
)
def nt_xent(
    xp: Any,
    embeddings: Array,
    labels: Array,
    batch: BatchContext,
    *,
    temperature: Annotated[float, POSITIVE, Differentiable.ON_REQUEST] = 0.07,
    normalize: bool = True,
) -> BodyResult:
    """Cross-entropy of finding an example's positive among its negatives, averaged over positives.

        value = mean over positives p of -s_ip + log(exp s_ip + sum_n exp s_in),
                s_ij = z_i . z_j / temperature, n of other labels
        gradient = sum_j (g_ij + g_ji) z_j / temperature, with g_ip = -c_ip / P_i,
                   g_in = sum_p c_ip / P_i softmax_n(s_i), c_ip = 1 - the probability of p

    Positives are the others of the same label; in the pairs of SimCLR there is one.  The
    denominator of a pair holds the pair and the negatives.  An example without a positive is left
    out, with the status NO_POSITIVE; the others are still compared with it.  ``normalize`` gives
    all embeddings the length 1; one of zeros is similar to nothing and has the status ZERO_NORM.

    Reference: T. Chen et al., A simple framework for contrastive learning of visual
    representations, 2020, equation 1; K. Sohn, Improved deep metric learning with multi-class
    N-pair loss objective, 2016.
    """
    return contrast(
        xp, embeddings, labels, batch, _rows, temperature=temperature, normalize=normalize
    )


def _rows(xp: Any, scores: Array, divisor: Any, is_positive: Array, number: Array) -> Array:
    others = xp.where(is_positive, -xp.inf, scores)
    highest = others.max(axis=-1)
    highest = xp.where(highest == -xp.inf, 0, highest)[:, None]
    shares = xp.exp((others - highest) / divisor)
    total = shares.sum(axis=-1, keepdims=True)
    behind = (highest - scores) / divisor + xp.log(total)
    costs, lacks = (xp.where(is_positive, found, 0) for found in softplus(xp, behind))
    lacks /= number[:, None]
    push = lacks.sum(axis=-1, keepdims=True) / xp.where(total == 0, 1, total)
    scores[...] = shares * push - lacks
    return costs.sum(axis=-1) / number
