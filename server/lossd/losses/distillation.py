"""Distillation of a teacher's distributions into a student's."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import Axes, Input
from lossd.losses._maths.constants import LOG_2, LOG_3, LOG_4
from lossd.losses._maths.divergences import (
    DistillationDivergence,
    DistillationSupport,
    Distribution,
    normalized,
    slopes_to_infinity,
    with_rest,
)
from lossd.losses._maths.divergences import (
    divergence as divergence_of,
)
from lossd.losses._maths.tokens import (
    AGGREGATION,
    GROUPS,
    TokenAggregation,
    Tokens,
    layout_inputs,
)
from lossd.schema import (
    POSITIVE,
    REQUIRED,
    UNIT,
    Array,
    Differentiable,
    ParameterError,
    exactly,
)

# Who leaves less than this to all other classes has rounded it away.
LEAST_REST = 2.0**-40

TEXT = """
    const Distilling how{int(divergence), int(support), beta, temperature};
    value = T(divergence_of_sequence(tokens, how));
"""


class DistillationOutput(enum.Enum):
    """Auxiliary outputs of each sequence."""

    STUDENT_MASS = Output("student_mass", "mean of what the student gives to the classes there are")
    TEACHER_MASS = Output("teacher_mass", "mean of what the teacher gives to the classes there are")


def _case(  # noqa: PLR0917 - most of an example
    student: Any, teacher: Any, value: float, derivative: Any, divergence: DistillationDivergence,
    support: DistillationSupport = DistillationSupport.WHOLE,
    aggregation: TokenAggregation = TokenAggregation.TOKEN_MEAN, **others: Any,
) -> Example:  # fmt: skip
    groups = {"groups": [3]} if aggregation is TokenAggregation.GROUP_MEAN else {}
    return Example(
        {"predictions": [[student]], "targets": [[teacher]], **groups},
        parameters={
            "divergence": divergence, "support": support, "aggregation": aggregation, **others,
        },
        value=value,
        gradients={"predictions": [[derivative]]},
    )  # fmt: skip


_D, _S, _A = DistillationDivergence, DistillationSupport, TokenAggregation
EVEN, APART = [0.0, 0.0], [0.0, LOG_3]  # a half each, and quarters


@loss(
    Shape.TOKENS,
    cuda=(CudaText(TEXT),),
    inputs=(
        Input(
            "predictions",
            "what the student says of each class of each token",
            differentiable=Differentiable.BY_DEFAULT,
            axes=Axes.CLASSES,
        ),
        Input("targets", "what the teacher says of the same classes", axes=Axes.CLASSES),
        *layout_inputs(),
        GROUPS,
    ),
    layout=AGGREGATION,
    examples=(
        # Quarter and three quarters under the teacher, 1/4 log(1/2) + 3/4 log(3/2).
        _case(EVEN, APART, 0.75 * LOG_3 - LOG_2, [0.25, -0.25], _D.FORWARD_KL),
        _case(
            EVEN,
            [0.0, 2 * LOG_3],
            0.75 * LOG_3 - LOG_2,
            [0.125, -0.125],
            _D.FORWARD_KL,
            temperature=2.0,
            aggregation=_A.SUM,
            outputs=tuple(DistillationOutput),
        ),
        # 1/2 log 2 + 1/2 log(2/3).
        _case(
            EVEN,
            APART,
            LOG_2 - LOG_3 / 2,
            [LOG_3 / 4, -LOG_3 / 4],
            _D.REVERSE_KL,
            aggregation=_A.SEQUENCE_MEAN,
        ),
        # Both conventions are 0 at equal distributions, and differ at the ends.
        _case(EVEN, APART, 0.0, [0.0, 0.0], _D.JENSEN_SHANNON, beta=1.0),
        _case(
            EVEN,
            APART,
            LOG_2 - LOG_3 / 2,
            [LOG_3 / 4, -LOG_3 / 4],
            _D.INTERPOLATED_JENSEN_SHANNON,
            beta=1.0,
            aggregation=_A.GROUP_MEAN,
        ),
        # One class of a half, and a tail of a half against three quarters.
        _case(
            [-LOG_2],
            [-LOG_4],
            0.75 * LOG_3 - LOG_2,
            [0.5],
            _D.FORWARD_KL,
            _S.TAIL_BUCKET,
            aggregation=_A.CONSTANT_LENGTH,
            sequence_length=1.0,
        ),
        _case([-LOG_2], [-LOG_4], -LOG_2 / 4, [-0.25], _D.FORWARD_KL, _S.TRUNCATED),
    ),
)
def distillation(
    xp: Any,
    predictions: Array,
    targets: Array,
    sides: Mapping[str, Tokens],
    *,
    divergence: DistillationDivergence = REQUIRED,  # type: ignore[assignment]
    support: DistillationSupport = REQUIRED,  # type: ignore[assignment]
    beta: Annotated[float | None, UNIT] = None,
    temperature: Annotated[float, POSITIVE] = 1.0,
    outputs: Sequence[DistillationOutput] = (),
) -> BodyResult:
    """How far a student's distribution of each token is from a teacher's.

        value = sum_k t log(t / s)                                 FORWARD_KL
                sum_k s log(s / t)                                 REVERSE_KL
                beta KL(T || M) + (1 - beta) KL(S || M)            JENSEN_SHANNON
                (1 - beta) KL(T || M) + beta KL(S || M)            INTERPOLATED_JENSEN_SHANNON
        M = beta T + (1 - beta) S
        s = softmax(prediction / temperature)                      WHOLE
            exp(prediction), with 1 - sum_k s as one more class    TAIL_BUCKET
            exp(prediction)                                        TRUNCATED
        gradient = (a - s sum_k a) / temperature for WHOLE, a - s a_tail / s_tail for TAIL_BUCKET, a
                   for TRUNCATED,  a = s d value / d s

    S and T are the student's and the teacher's distributions, t as s.  JENSEN_SHANNON is 0 at a
    beta of 0 and of 1; INTERPOLATED_JENSEN_SHANNON is forward KL at 0 and reverse KL at 1, and goes
    there steadily.  The values of a token are added up over its classes.  WHOLE makes what is given
    sum to 1, also where it is the log-probabilities of a few classes; the others take
    log-probabilities and no temperature.  A tail is at least 2^-40, below which it has no gradient:
    so much is lost where log-probabilities are rounded.  Nothing is multiplied by the square of the
    temperature.  Everything is computed in float64.

    A class that the student gives a share, and that the other side holds impossible, gives an
    infinite value, and with WHOLE infinite derivatives: 0 where that class has all of the student,
    NaN where several such classes share it.

    Reference: G. Hinton et al., Distilling the knowledge in a neural network, 2015; R. Agarwal et
    al., On-policy distillation of language models, 2024, eq. 1 (JENSEN_SHANNON).
    """
    needs_beta = "JENSEN_SHANNON" in divergence.name
    if needs_beta != (beta is not None):
        raise ParameterError(
            "beta",
            f"beta must be {'given' if needs_beta else 'unset'} with {divergence.name}, "
            f"got {'nothing' if beta is None else exactly(beta)}",
        )
    is_whole = support is DistillationSupport.WHOLE
    if temperature != 1 and not is_whole:
        raise ParameterError(
            "temperature", f"temperature must be 1 with {support.name}, got {exactly(temperature)}"
        )
    pair = (
        _distribution(xp, support, predictions, temperature),
        _distribution(xp, support, targets, temperature),
    )
    value, derivative, masses = _computed(xp, divergence, support, pair, beta or 0.0)
    tokens = sides[""]
    found = {
        DistillationOutput.STUDENT_MASS: masses[0],
        DistillationOutput.TEACHER_MASS: masses[1],
    }
    means = tokens.means_together([found[member] for member in outputs])
    return BodyResult(
        value,
        {"predictions": derivative / temperature},
        outputs={member.value.name: mean for member, mean in zip(outputs, means, strict=True)},
    )


def _distribution(
    xp: Any, support: DistillationSupport, given: Array, temperature: float
) -> Distribution:
    if support is DistillationSupport.WHOLE:
        return normalized(xp, given, temperature)
    if support is DistillationSupport.TAIL_BUCKET:
        return with_rest(xp, given, LEAST_REST)
    return Distribution(xp.exp(given), given)


def _computed(
    xp: Any,
    kind: DistillationDivergence,
    support: DistillationSupport,
    pair: tuple[Distribution, Distribution],
    beta: float,
) -> tuple[Array, Array, tuple[Array, Array]]:
    """Returns the value of each token, its derivatives, and what both sides give to the classes."""
    student, teacher = pair
    terms, derivative = divergence_of(xp, kind, student, teacher, beta)
    classes = student.shares.shape[-1] - int(support is DistillationSupport.TAIL_BUCKET)
    given_to = (
        student.shares[..., :classes].sum(axis=-1),
        teacher.shares[..., :classes].sum(axis=-1),
    )
    if support is DistillationSupport.WHOLE:
        derivative = _of_logits(xp, student.shares, derivative)
    elif support is DistillationSupport.TAIL_BUCKET:
        shares, rest = student.shares[..., :-1], student.shares[..., -1:]
        of_rest = xp.where(rest > LEAST_REST, derivative[..., -1:] / rest, 0)
        derivative = derivative[..., :-1] - shares * of_rest
    return terms.sum(axis=-1), derivative, given_to


def _of_logits(xp: Any, shares: Array, derivative: Array) -> Array:
    """Returns the derivatives with respect to logits from those with respect to logarithms."""
    total = derivative.sum(axis=-1, keepdims=True)
    is_infinite = total == xp.inf
    slopes = derivative - shares * total
    if not is_infinite.any():
        return slopes
    limits = slopes_to_infinity(xp, shares, derivative == xp.inf)
    return xp.where(is_infinite, limits, slopes)
