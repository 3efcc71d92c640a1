"""The costs of a critic's scores as kernel texts, by the inputs that they know.

One text knows the scores of a side, and perhaps the mean of the other side, ``centre``; where
scores go in pairs, one knows both.  See ``gan_costs`` for the objectives.
"""

from collections.abc import Callable, Iterable, Mapping

from lossd.losses._declare import CudaText
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses._maths.sigmoid import SIGMOID_COST

Texts = Mapping[tuple[str, ...], tuple[CudaText, ...]]

_REAL, _FAKE = ("real",), ("fake",)


def _softplus(score: str) -> str:
    """Returns softplus of a score or its negative, and its derivative with respect to that."""
    return f"""
    const T tail = exp(-fabs(score));
    const T large = 1 / (1 + tail), small = tail * large;
    value = fmax({score}, T(0)) + log1p_of_share(tail);
    gradient = {score} >= 0 ? large : small;
"""


_FALLING = _softplus("-score") + "    gradient = -gradient;\n"
_RISING = _softplus("score")
_NEGATIVE = _RISING + "    value = -value; gradient = -gradient;\n"
_SMOOTHED = """
    const T positive = T(1 - label_smoothing), negative = T(label_smoothing);
    const T apart = T(2 * label_smoothing - 1);
""" + SIGMOID_COST.replace("prediction", "score")


def _of_score(cost: str) -> str:
    return f"""
    const T score = prediction;
{cost}"""


def _of_difference(cost: str, other: str) -> str:
    """Returns the cost of a difference, of which T cannot hold the rest: that is its next term."""
    return f"""
    const double difference = double(prediction) - double({other});
    const T score = T(difference);
    const T rest = score - score == 0 ? T(difference - double(score)) : T(0);
{cost}
    value += rest * gradient;
    gradient += rest * large * small;
"""


def _of_mean(cost: str) -> str:
    return _of_difference(cost, "centre")


def _of_pair(cost: str) -> str:
    return _of_difference(cost, "target")


def _squared(distance: str) -> str:
    return f"""
    const double distance = {distance};
    value = T(distance * distance / 2);
    gradient = T(distance);
"""


def _hinge(slope: int) -> str:
    return f"""
    const T lacking = 1 + T({slope}) * prediction;
    value = lacking > 0 ? lacking : lacking < 0 ? T(0) : lacking;  // 0 and NaN
    gradient = lacking > 0 ? T({slope}) : value;
"""


def _linear(slope: int) -> str:
    return f"""
    value = T({slope}) * prediction;
    gradient = prediction == prediction ? T({slope}) : prediction;
"""


_CLOSE_TO_1 = _squared("double(prediction) - 1")
# The larger is subtracted first, as in ``least_squares``.
_CLOSE_TO_SMOOTHED = _squared("""label_smoothing < 0.5
        ? (double(prediction) - 1) + label_smoothing
        : double(prediction) - (1 - label_smoothing)""")


def _plain(costs: Iterable[tuple[GanObjective, str]], **when: float) -> tuple[CudaText, ...]:
    return tuple(CudaText(text, when={"objective": o, **when}) for o, text in costs)


def _smoothed(objectives: Iterable[GanObjective], of: Callable[[str], str]) -> tuple[CudaText, ...]:
    """Returns the cost of real scores for some objectives, without label smoothing and with it."""
    return tuple(
        CudaText(of(cost), when={"objective": objective, **when})
        for objective in objectives
        for cost, when in ((_FALLING, {"label_smoothing": 0.0}), (_SMOOTHED, {}))
    )


def _critic_without_targets(slope: int) -> Iterable[tuple[GanObjective, str]]:
    """Returns the costs of a critic that know no targets, and so no label smoothing."""
    return (GanObjective.HINGE, _hinge(slope)), (GanObjective.WASSERSTEIN, _linear(slope))


def critic_texts() -> Texts:
    """Returns the texts of a critic that tells real scores from generated ones."""
    both = (GanObjective.NON_SATURATING, GanObjective.MINIMAX)
    return {
        _REAL: (
            *_smoothed(both, _of_score),
            *_smoothed((GanObjective.RELATIVISTIC_AVERAGE,), _of_mean),
            *_plain(((GanObjective.LEAST_SQUARES, _CLOSE_TO_SMOOTHED),)),
            *_plain(_critic_without_targets(-1), label_smoothing=0.0),
        ),
        _FAKE: (
            *_plain((
                *((objective, _of_score(_RISING)) for objective in both),
                (GanObjective.RELATIVISTIC_AVERAGE, _of_mean(_RISING)),
                (GanObjective.LEAST_SQUARES, _squared("prediction")),
            )),
            *_plain(_critic_without_targets(1), label_smoothing=0.0),
        ),
        _REAL + _FAKE: _smoothed((GanObjective.RELATIVISTIC,), _of_pair),
    }  # fmt: skip


def generator_texts() -> Texts:
    """Returns the texts of a generator whose scores should be those of real examples."""
    return {
        _FAKE: _plain((
            (GanObjective.NON_SATURATING, _of_score(_FALLING)),
            (GanObjective.MINIMAX, _of_score(_NEGATIVE)),
            (GanObjective.LEAST_SQUARES, _CLOSE_TO_1),
            (GanObjective.HINGE, _linear(-1)),
            (GanObjective.WASSERSTEIN, _linear(-1)),
            (GanObjective.RELATIVISTIC_AVERAGE, _of_mean(_FALLING)),
        )),
        _REAL: _plain(((GanObjective.RELATIVISTIC_AVERAGE, _of_mean(_RISING)),)),
        _FAKE + _REAL: _plain(((GanObjective.RELATIVISTIC, _of_pair(_FALLING)),)),
    }  # fmt: skip
