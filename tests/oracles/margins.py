"""Cases of margins from 0 to 1,000 and of numbers over their whole range, and the right answers.

An example of a case is small, so that what its value and derivatives are is known in 60 digits.
The inputs are exact in float32: an answer in float32 and one in float64 are measured by the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from lossd.losses import LOSSES, DistributionKind, MulticlassHingeVariant, Shape
from lossd.losses._adversarial import GanObjective
from lossd.losses.pairwise_auc import AucSurrogate
from tests.losses.case import Case, Form
from tests.oracles import ORACLES

Array = npt.NDArray[Any]

FEW_MARGINS = (0.0, 1e-6, 1e-3, 0.7, 3.3, 18.0, 40.0, 77.0, 90.0, 300.0, 720.0, 1000.0)
ALL_MARGINS = (
    *FEW_MARGINS, 1e-30, 1e-8, 1e-4, 1e-2, 0.1, 0.5, 1.0, 5.0, 12.5, 25.0, 37.0, 60.0, 84.0, 87.0,
    88.5, 100.0, 103.0, 150.0, 400.0, 600.0, 708.0, 745.0, 800.0, 999.0,
)  # fmt: skip
SMALLEST, LARGEST = math.ulp(0.0), 1.7976931348623157e308
FEW_NUMBERS = (SMALLEST, 1e-300, 1e-40, 1e-8, 0.3, 7.0, 1e10, 1e40, LARGEST)
ALL_NUMBERS = (
    *FEW_NUMBERS, 1e-320, 1e-200, 1e-100, 1e-50, 1e-38, 1e-30, 1e-15, 1e-5, 1e-3, 0.01, 0.07, 0.5,
    1.5, 3.0, 30.0, 1e3, 1e5, 1e20, 1e38, 1e50, 1e100, 1e200, 1e300,
)  # fmt: skip

LOGS, PROBABILITIES = DistributionKind.LOG_PROBABILITIES, DistributionKind.PROBABILITIES
LOGITS = DistributionKind.LOGITS

Row = Mapping[str, Any]  # of nested lists
Rows = Callable[[float], Sequence[Row]]  # of a margin


@dataclass(frozen=True)
class Sweep:
    """What is swept: a loss with parameters, the examples of a margin, and a number."""

    name: str
    rows: Rows
    parameters: Mapping[str, Any]
    number: str = ""  # the parameter that goes over its range
    low: float = SMALLEST
    high: float = LARGEST

    def __str__(self) -> str:
        told = ", ".join(f"{n}={getattr(v, 'name', v)}" for n, v in self.parameters.items())
        return f"{self.name}-{self.rows.__name__}-{told}-{self.number}"

    def cases(self, margins: Sequence[float], numbers: Sequence[float]) -> Iterator[Case]:
        """The cases of this sweep, all margins of a number in one, or each alone if it is a set."""
        loss = LOSSES[self.name]
        chosen = [n for n in numbers if self.low <= n <= self.high] if self.number else [1.0]
        examples = [row for margin in margins for row in self.rows(float(np.float32(margin)))]
        apart = loss.shape in (Shape.SETWISE, Shape.OPPOSED)
        for number in chosen:
            parameters = {**self.parameters, **({self.number: number} if self.number else {})}
            for group in [[row] for row in examples] if apart else [examples]:
                inputs = {name: _array([row[name] for row in group]) for name in group[0]}
                if apart:
                    inputs = {name: array[0] for name, array in inputs.items()}
                form = Form.CLASSES if any(a.dtype.kind == "i" for a in inputs.values()) else None
                yield Case(loss, parameters, form or Form.FLOATS, inputs)


def _array(numbers: Any) -> Array:
    array = np.array(numbers)
    return array if array.dtype.kind == "i" else array.astype(np.float32).astype(np.float64)


# ------------------------------------------------------------------ examples of a margin


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
    return [{"predictions": [-m, -0.5], "targets": [-1.0, -m]}]


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


def hard_region(m: float) -> Sequence[Row]:
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


def _sweeps() -> Iterator[Sweep]:
    for rows in (scores, three_scores, halves, quarters):
        for parameters in ({}, {"label_smoothing": 1.0}, {"label_smoothing": 1e-10}):
            yield Sweep("cross_entropy", rows, parameters)
        yield Sweep("cross_entropy", rows, {}, "temperature")
        for gamma in (2.0, 0.5):
            yield Sweep("softmax_focal", rows, {"gamma": gamma})
    yield Sweep("cross_entropy", halves, {"label_smoothing": 1.0}, "temperature")
    yield Sweep("cross_entropy", scores, {"label_smoothing": 1.0}, "temperature")
    yield Sweep("cross_entropy", scores, {}, "label_smoothing", 1e-300, 0.5)
    yield Sweep("cross_entropy", three_scores, {"class_weights": (0.5, 2.0, 1.0)})
    yield Sweep("cross_entropy", scores, {"class_priors": (1.0, 3.0)}, "temperature")
    yield Sweep("cross_entropy", logs, {"prediction_kind": LOGS})
    yield Sweep("cross_entropy", probabilities, {"prediction_kind": PROBABILITIES})
    for rows in (halves, quarters):
        yield Sweep("kl_divergence", rows, {}, "temperature")
    for scaled in (False, True):
        given = {"target_kind": LOGITS, "scale_by_squared_temperature": scaled}
        yield Sweep("kl_divergence", pairs_of_logits, given, "temperature")
        yield Sweep("kl_divergence", triples_of_logits, given, "temperature")
    yield Sweep("kl_divergence", against_logs, {"target_kind": LOGS}, "temperature")
    for rows, kind, aims in (
        (pairs_of_logs, LOGS, LOGS),
        (logs_of_halves, LOGS, PROBABILITIES),
        (logs_of_logits, LOGS, LOGITS),
        (pairs_of_probabilities, PROBABILITIES, PROBABILITIES),
        (probabilities_of_logits, PROBABILITIES, LOGITS),
    ):
        yield Sweep("kl_divergence", rows, {"prediction_kind": kind, "target_kind": aims})
    for parameters in ({}, {"label_smoothing": 1.0}, {"positive_weights": (3.0,)}):
        yield Sweep("binary_cross_entropy", answers, parameters)
        yield Sweep("binary_cross_entropy", soft_answers, parameters)
    yield Sweep("binary_cross_entropy", answers, {}, "label_smoothing", 1e-300, 0.5)
    yield Sweep("binary_cross_entropy", log_answers, {"prediction_kind": LOGS})
    for parameters in ({}, {"gamma": 0.5}, {"alpha": 0.25}, {"gamma": 0.0, "alpha": 1e-10}):
        yield Sweep("focal", answers, parameters)
        yield Sweep("focal", soft_answers, parameters)
    for name in ("dice", "jaccard", "tversky"):
        for smooth in (0.0, 1e-5, 1e-30):
            yield Sweep(name, region, {"smooth": smooth})
            yield Sweep(name, class_region, {"smooth": smooth, "class_axis": -1})
        yield Sweep(name, log_region, {"smooth": 0.0, "prediction_kind": LOGS})
    yield Sweep("tversky", region, {"smooth": 0.0, "beta": 0.0, "gamma": 2.0})
    yield Sweep("tversky", class_region, {"smooth": 0.0, "beta": 0.0, "class_axis": -1})
    yield Sweep("lovasz_hinge", hard_region, {})
    yield Sweep("lovasz_softmax", ordered_region, {})
    yield Sweep("soft_f1", label_set, {})
    for parameters in ({}, {"surrogate": AucSurrogate.LOGISTIC}, {"margin": 0.375}):
        yield Sweep("pairwise_auc", ranking, parameters)
    for power in (1.0, 2.0, 1.5):
        yield Sweep("hinge", signs, {"power": power, "margin": 2.5})
        for variant in MulticlassHingeVariant:
            given = {"power": power, "variant": variant, "margin": 2.5}
            yield Sweep("multiclass_hinge", ranked_scores, given)
    for objective in GanObjective:
        is_paired = objective.name.startswith("RELATIVISTIC")
        yield Sweep("generator_loss", both_sides if is_paired else fakes, {"objective": objective})
        yield Sweep("discriminator_loss", both_sides, {"objective": objective})
        if objective not in (GanObjective.HINGE, GanObjective.WASSERSTEIN):
            for smoothing in (1.0, 0.5, 1e-10):
                given = {"objective": objective, "label_smoothing": smoothing}
                yield Sweep("discriminator_loss", both_sides if is_paired else reals, given)
    for name in ("log_cosh", "squared_error", "absolute_error"):
        yield Sweep(name, residuals, {})
    yield Sweep("huber", residuals, {}, "delta")
    yield Sweep("smooth_l1", residuals, {}, "beta")
    yield Sweep("quantile", residuals, {}, "quantile", 1e-320, 0.5)
    yield Sweep("quantile", residuals, {"quantile": 1 - 2.0**-40})
    yield Sweep("poisson_nll", counts, {})
    yield Sweep("poisson_nll", full_counts, {"full": True})
    for full in (False, True):
        yield Sweep("poisson_nll", rates, {"full": full, "log_input": False})
    yield Sweep("gaussian_nll", noise, {"full": True}, "eps")
    yield Sweep("expected_risk", candidates, {}, "alpha")


SWEEPS = list(_sweeps())


# ------------------------------------------------------------------ the right answers

STEP = 160  # digits by which a step is smaller than anything else


@dataclass(frozen=True)
class Right:
    """The value of each example, or of the set, and its derivatives; infinite beyond float64."""

    values: Array
    gradients: Mapping[str, Array]


def right(case: Case, names: Sequence[str]) -> Right:
    """What a case gives, from differences of the formula in as many digits as it takes."""
    apart = case.loss.shape not in (Shape.SETWISE, Shape.OPPOSED)
    rows = range(case.count) if apart else [slice(None)]
    sizes = [math.log10(n) for n in case.parameters.values() if isinstance(n, float) and n]
    beyond = int(max(map(abs, sizes), default=0))
    digits = 560 + 2 * beyond + int(max(sizes, default=0))
    if case.loss.name == "poisson_nll":
        digits += 450  # of exp(1000)
    with mpmath.workdps(digits):
        step = mpmath.mpf(10) ** -(STEP + beyond)
        parameters = {n: _exact_number(v) for n, v in case.parameters.items()}
        found = []
        for row in rows:
            given = {n: _exact(a[row]) for n, a in case.inputs.items()}
            if not apart:
                given = {n: _exact(a) for n, a in case.inputs.items()}
            found.append(_differences(case, given, parameters, step, names))
        values = np.array([float(value) for value, _ in found])
    gradients = {
        name: np.array([slopes[name] for _, slopes in found]).reshape(case.inputs[name].shape)
        for name in names
    }
    return Right(values, gradients)


def _differences(
    case: Case, given: Mapping[str, Any], parameters: Mapping[str, Any], step: Any, names: Any
) -> tuple[Any, Mapping[str, list[float]]]:
    oracle = ORACLES[case.loss.name]
    slopes = {}
    for name in names:
        slopes[name] = []
        for place in range(
            case.inputs[name][0].size if _is_of_rows(case) else case.inputs[name].size
        ):
            ends = [
                oracle(**{**given, name: _moved(given[name], place, way * step)}, **parameters)
                for way in (1, -1)
            ]
            slopes[name].append(float((ends[0] - ends[1]) / (2 * step)))
    return oracle(**given, **parameters), slopes


def _is_of_rows(case: Case) -> bool:
    return case.loss.shape not in (Shape.SETWISE, Shape.OPPOSED)


def _exact_number(value: Any) -> Any:
    if isinstance(value, float):
        return mpmath.mpf(value)
    return tuple(map(mpmath.mpf, value)) if isinstance(value, tuple) else value


def _exact(numbers: Array) -> Any:
    if numbers.ndim:
        return tuple(_exact(part) for part in numbers)
    return int(numbers) if numbers.dtype.kind in "iub" else mpmath.mpf(float(numbers))


def _moved(row: Any, place: int, step: Any) -> Any:
    if not isinstance(row, tuple):
        return row + step
    parts = list(row)
    for index, part in enumerate(parts):
        size = _size(part)
        if place < size:
            parts[index] = _moved(part, place, step)
            break
        place -= size
    return tuple(parts)


def _size(row: Any) -> int:
    return sum(map(_size, row)) if isinstance(row, tuple) else 1
