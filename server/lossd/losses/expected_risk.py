"""Expected risk over candidates: minimum-risk training."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import DOMAINS, Content, DistributionKind, Input
from lossd.losses._maths.constants import LOG_3, LOG_4
from lossd.losses._maths.masked_products import weighted
from lossd.losses._maths.softmax import softmax
from lossd.schema import POSITIVE, Array, Differentiable


@loss(
    Shape.ROWWISE,
    inputs=(
        Input(
            "log_probabilities",
            "the model's log-probability of each candidate; of a sentence, the sum over its words",
            differentiable=Differentiable.BY_DEFAULT,
            domain=DOMAINS[DistributionKind.LOG_PROBABILITIES],
        ),
        Input(
            "risks",
            "what each candidate costs, for example one minus its BLEU score",
            content=Content.NUMBERS,
            differentiable=Differentiable.ON_REQUEST,
        ),
    ),
    cuda=(
        CudaText(
            """
            const auto softmax = SOFTMAX_OF_ROW(alpha * prediction);
            const T likeliest = TARGET_AT(softmax.best.column);
            const T base = is_finite(likeliest) ? likeliest : T(0);
            const auto share = [&](long long column, T prediction) -> T {
                return softmax.exponential(column, alpha * prediction) / softmax.total;
            };
            const T above = SUM_OVER_ROW(weighed(share(column, prediction), target - base));
            value = base + above;
            GRADIENT_OF_ROW(
                T(alpha) * weighed(share(column, prediction), target - base - above));
            """,
            targets_are_classes=False,
        ),
    ),
    examples=(
        # Candidates that are as likely as 1 to 3, with risks of 1 and 0.
        Example(
            {"log_probabilities": [[-LOG_4, LOG_3 - LOG_4]], "risks": [[1.0, 0.0]]},
            value=0.25,
            gradients={"log_probabilities": [[0.1875, -0.1875]], "risks": [[0.25, 0.75]]},
        ),
        # Half as sharp: 1 to sqrt(9) for candidates that are as likely as 1 to 9.
        Example(
            {"log_probabilities": [[-2 * LOG_3, 0.0]], "risks": [[5.0, 1.0]]},
            parameters={"alpha": 0.5},
            value=2.0,
            gradients={"log_probabilities": [[0.375, -0.375]]},
        ),
    ),
)
def expected_risk(
    xp: Any, log_probabilities: Array, risks: Array, *, alpha: Annotated[float, POSITIVE] = 1.0
) -> BodyResult:
    """Mean risk of candidates under the model, a smooth stand-in for metrics such as BLEU.

        value = sum_k q_k risk_k,  q = softmax(alpha log p) over the candidates of an example
        gradient = alpha q_k (risk_k - value); with respect to the risks q_k

    The probabilities need not sum to 1: the candidates are a sample.  A candidate whose probability
    is 0 in the type computed in contributes 0, whatever its risk; an infinite risk of any other
    makes the value infinite, or NaN where such risks are of both signs.

    Reference: S. Shen et al., Minimum risk training for neural machine translation, 2016,
    section 3.
    """
    parts = softmax(xp, log_probabilities, sharpness=alpha)
    # Relative to the risk of the likeliest candidate: nothing cancels where it is nearly certain.
    # Relative to infinity nothing is a number.
    base = risks[parts.rows, parts.best]
    base = xp.where(xp.isfinite(base), base, 0)
    above = risks - base[:, None]
    probabilities = parts.probabilities()
    mean = weighted(xp, probabilities, above).sum(axis=-1)
    above -= mean[:, None]
    gradient = weighted(xp, probabilities, above)
    if alpha != 1:
        gradient *= alpha
    return BodyResult(base + mean, {"log_probabilities": gradient, "risks": lambda: probabilities})
