"""Matthews correlation coefficient."""

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import COUNTS, count_classes
from lossd.evaluation._classification import SINGLE_DECISIONS, Decisions
from lossd.evaluation._declare import BatchState, MetricExample, Score, metric
from lossd.evaluation._exact import root_of_ratio
from lossd.evaluation._state import State
from lossd.evaluation._tally import aligned, checked


def _result(state: State, *, checkpoint: Checkpoint) -> Score:
    tallies = (state.tally(name) for name in COUNTS)
    hits, predicted, targets = aligned(*tallies, checkpoint=checkpoint)
    total = sum(targets)

    def products(left: list[int], right: list[int]) -> int:
        return sum(p * t for p, t in checked(zip(left, right, strict=True), checkpoint))

    covariance = sum(hits) * total - products(predicted, targets)
    spread = total**2 - products(predicted, predicted)
    spread *= total**2 - products(targets, targets)
    if spread <= 0:
        return Score(reason="predictions or targets are of one class only")
    size = root_of_ratio(covariance**2, spread)
    return Score(value=-size if covariance < 0 else size)


@metric(
    SINGLE_DECISIONS,
    result=_result,
    is_result_long=True,
    surrogate="SoftF1",
    tallies=COUNTS,
    examples=(
        MetricExample(
            {"predictions": [1.0, 1.0, -1.0, -1.0], "targets": [1, 0, 0, 0]}, value=3**-0.5
        ),
        MetricExample({"predictions": [0, 1, 2], "targets": [0, 1, 2]}, value=1.0),
    ),
)
def matthews_correlation(prepared: Decisions) -> BatchState:
    """Correlation of the predicted and the true class.

        value = (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2))

    with c right answers among s, p_k predictions and t_k targets of class k.

    Reference: J. Gorodkin, Comparing two K-category assignments by a K-category correlation
    coefficient, 2004, equation 8.
    """
    return count_classes(prepared)
