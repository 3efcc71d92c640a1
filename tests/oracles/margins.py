"""Cases of margins from 0 to 1,000 and of numbers over their whole range, and the right answers.

An example of a case is small, so that what its value and derivatives are is known in 60 digits.
The inputs are exact in float32: an answer in float32 and one in float64 are measured by the same.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from lossd.losses import LOSSES, DistributionKind, Loss, MulticlassHingeVariant, Shape
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses.pairwise_auc import AucSurrogate
from tests.losses.case import Case, Form
from tests.oracles import ORACLES, exact, moved, size

Array = npt.NDArray[Any]

FEW_MARGINS = (0.0, 1e-6, 0.7, 18.0, 77.0, 90.0, 720.0, 1000.0)
MARGINS_OF_NUMBERS = (1e-6, 77.0)
ALL_MARGINS = (
    *FEW_MARGINS, 1e-30, 1e-8, 1e-4, 1e-3, 1e-2, 0.1, 0.45, 1.1, 3.7, 5.0, 12.5, 25.0, 37.0, 40.0,
    60.0, 84.0, 87.0, 88.5, 100.0, 103.0, 150.0, 300.0, 400.0, 600.0, 708.0, 745.0, 800.0, 999.0,
)  # fmt: skip
# Of labels smoothed so much, next to nothing is left; no margin meets it.
NEARLY_ALL = 0.9987
SMALLEST, LARGEST = math.ulp(0.0), 1.7976931348623157e308
FEW_NUMBERS = (SMALLEST, 1e-40, 0.3, 1e10)
ALL_NUMBERS = (
    *FEW_NUMBERS, LARGEST, 1e-320, 1e-300, 1e-200, 1e-100, 1e-50, 1e-38, 1e-30, 1e-15, 1e-8, 1e-5,
    1e-3, 0.01, 0.07, 0.5, 1.5, 3.0, 7.0, 30.0, 1e3, 1e5, 1e20, 1e38, 1e40, 1e50, 1e100, 1e200,
    1e300,
)  # fmt: skip

LOGS, PROBABILITIES = DistributionKind.LOG_PROBABILITIES, DistributionKind.PROBABILITIES
LOGITS = DistributionKind.LOGITS

# One value of all examples together.
TOGETHER = (Shape.SETWISE, Shape.OPPOSED)

Row = Mapping[str, Any]  # of nested lists
Rows = Callable[[float], Sequence[Row]]  # of a margin


@dataclass(frozen=True, eq=False)
class Sweep:
    """A loss to sweep, with parameters, the examples of a margin, and a number."""

    name: str
    rows: Rows
    parameters: Mapping[str, Any]
    number: str = ""  # the parameter that goes over its range
    low: float = SMALLEST
    high: float = LARGEST
    smallest_margin: float = 0.0
    only: tuple[str, ...] = ()  # the derivatives that are compared, if not all
    is_long: bool = False  # left to the whole sweep

    def __str__(self) -> str:
        told = ", ".join(f"{n}={getattr(v, 'name', v)}" for n, v in self.parameters.items())
        return f"{self.name}-{self.rows.__name__}-{told}-{self.number}"

    def cases(self, *, whole: bool) -> Iterator[Case]:
        """The cases of this sweep, all margins of a number in one, or each alone if it is a set."""
        numbers: Sequence[float] = ALL_NUMBERS if whole else FEW_NUMBERS
        few: Sequence[float] = MARGINS_OF_NUMBERS if self.number else FEW_MARGINS
        tried = ALL_MARGINS if whole else few
        margins = [float(np.float32(m)) for m in tried if m >= self.smallest_margin]
        for number in (n for n in numbers if self.low <= n <= self.high):
            yield from self._cases(margins, {self.number: number} if self.number else {})
            if not self.number:
                return

    def _cases(self, margins: Sequence[float], number: Mapping[str, float]) -> Iterator[Case]:
        loss, parameters = self.loss, {**self.parameters, **number}
        examples = [row for margin in margins for row in self.rows(margin)]
        groups = [examples]
        if loss.shape in TOGETHER:
            groups = [[row] for row in examples]
        for group in groups:
            inputs = {name: _array([row[name] for row in group]) for name in group[0]}
            if loss.shape in TOGETHER:
                inputs = {name: array[0] for name, array in inputs.items()}
            has_classes = any(array.dtype.kind == "i" for array in inputs.values())
            yield Case(loss, parameters, Form.CLASSES if has_classes else Form.FLOATS, inputs)

    @property
    def loss(self) -> Loss:
        """The loss."""
        return LOSSES[self.name]

    @property
    def derivatives(self) -> tuple[str, ...]:
        """The derivatives that are compared."""
        return self.only or next(self.cases(whole=False)).differentiable


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


def _of_classes() -> Iterator[Sweep]:
    for rows in (scores, three_scores, halves, quarters):
        for smoothing in (0.0, 1e-10, NEARLY_ALL, 1.0):
            yield Sweep("cross_entropy", rows, {"label_smoothing": smoothing})
        for gamma in (2.0, 0.5):
            is_soft = rows in (halves, quarters)
            smallest = 1e-3 if is_soft else 0.0  # see EXCEPTIONS
            yield Sweep("softmax_focal", rows, {"gamma": gamma}, smallest_margin=smallest)
        yield Sweep("cross_entropy", rows, {}, "temperature", is_long=rows is not scores)
    yield Sweep("cross_entropy", halves, {"label_smoothing": 1.0}, "temperature")
    yield Sweep("cross_entropy", scores, {"label_smoothing": 1.0}, "temperature", is_long=True)
    yield Sweep("cross_entropy", scores, {}, "label_smoothing", 1e-300, 0.01)
    yield Sweep("cross_entropy", three_scores, {"class_weights": (0.5, 2.0, 1.0)})
    yield Sweep("cross_entropy", scores, {"class_priors": (1.0, 3.0)}, "temperature")
    yield Sweep("cross_entropy", logs, {"prediction_kind": LOGS})
    yield Sweep("cross_entropy", probabilities, {"prediction_kind": PROBABILITIES})
    yield Sweep("expected_risk", candidates, {}, "alpha")


def _of_divergence() -> Iterator[Sweep]:
    for rows in (halves, quarters):
        yield Sweep("kl_divergence", rows, {}, "temperature")
    for scaled in (False, True):
        given = {"target_kind": LOGITS, "scale_by_squared_temperature": scaled}
        high = 1e250 if scaled else LARGEST  # see EXCEPTIONS
        pairs = Sweep("kl_divergence", pairs_of_logits, given, "temperature", high=high)
        yield from (pairs, replace(pairs, rows=triples_of_logits, is_long=True))
    given = {"target_kind": LOGS}
    yield Sweep("kl_divergence", against_logs, given, "temperature", is_long=True)
    for rows, kind, aims in (
        (against_logs, LOGITS, LOGS),
        (pairs_of_logs, LOGS, LOGS),
        (logs_of_halves, LOGS, PROBABILITIES),
        (logs_of_logits, LOGS, LOGITS),
        (pairs_of_probabilities, PROBABILITIES, PROBABILITIES),
        (probabilities_of_logits, PROBABILITIES, LOGITS),
    ):
        yield Sweep("kl_divergence", rows, {"prediction_kind": kind, "target_kind": aims})


def _of_answers() -> Iterator[Sweep]:
    for rows in (answers, soft_answers):
        for smoothing in (0.0, NEARLY_ALL, 1.0):
            yield Sweep("binary_cross_entropy", rows, {"label_smoothing": smoothing})
        yield Sweep("binary_cross_entropy", rows, {"positive_weights": (3.0,)})
        for parameters in ({}, {"alpha": 0.25}):
            yield Sweep("focal", rows, parameters)
        for parameters in ({"gamma": 0.5}, {"gamma": 0.0, "alpha": 1e-10}):
            yield Sweep("focal", rows, parameters, only=("predictions",))
    yield Sweep("binary_cross_entropy", answers, {}, "label_smoothing", 1e-300, 0.01)
    yield Sweep("binary_cross_entropy", log_answers, {"prediction_kind": LOGS})
    for power in (1.0, 2.0, 1.5):
        yield Sweep("hinge", signs, {"power": power, "margin": 2.5})
        for variant in MulticlassHingeVariant:
            given = {"power": power, "variant": variant, "margin": 2.5}
            yield Sweep("multiclass_hinge", ranked_scores, given)


def _of_regions() -> Iterator[Sweep]:
    by = ("predictions",)
    for name in ("dice", "jaccard", "tversky"):
        for smooth in (0.0, 1e-5, 1e-30):
            yield Sweep(name, region, {"smooth": smooth}, only=by)
            given = {"smooth": smooth, "class_axis": -1}
            yield Sweep(name, class_region, given, only=by)
        of_logs = {"smooth": 0.0, "prediction_kind": LOGS}
        yield Sweep(name, log_region, of_logs, only=by)
    given = {"smooth": 0.0, "beta": 0.0}
    yield Sweep("tversky", region, {**given, "gamma": 2.0}, only=by)
    yield Sweep("tversky", class_region, {**given, "class_axis": -1}, only=by)
    # A class that is absent counts nothing, however probable it is.
    given = {"smooth": 0.0, "alpha": 0.0, "class_axis": -1}
    yield Sweep("tversky", class_region, given, only=by)
    yield Sweep("lovasz_hinge", ordered_scores, {})
    yield Sweep("lovasz_softmax", ordered_region, {})


def _of_sets() -> Iterator[Sweep]:
    yield Sweep("soft_f1", label_set, {}, only=("predictions",))
    for parameters in ({}, {"surrogate": AucSurrogate.LOGISTIC}, {"margin": 0.375}):
        yield Sweep("pairwise_auc", ranking, parameters)
    for objective in GanObjective:
        is_relative = objective.name.startswith("RELATIVISTIC")
        rows = both_sides if is_relative else fakes
        yield Sweep("generator_loss", rows, {"objective": objective})
        yield Sweep("discriminator_loss", both_sides, {"objective": objective})
        if objective in (GanObjective.HINGE, GanObjective.WASSERSTEIN):
            continue
        for smoothing in (1.0, 0.5, NEARLY_ALL / 2, 1e-10):
            rows = both_sides if is_relative else reals
            given = {"objective": objective, "label_smoothing": smoothing}
            yield Sweep("discriminator_loss", rows, given, is_long=is_relative and smoothing < 1)


def _of_residuals() -> Iterator[Sweep]:
    yield Sweep("quantile", residuals, {}, "quantile", 1e-320, 0.5)
    yield Sweep("quantile", residuals, {"quantile": 1 - 2.0**-40})
    yield Sweep("poisson_nll", counts, {})
    yield Sweep("poisson_nll", full_counts, {"full": True})
    for full in (False, True):
        yield Sweep("poisson_nll", rates, {"full": full, "log_input": False})
    yield Sweep("gaussian_nll", noise, {"full": True}, "eps")


def _of_any_residuals(swept: set[str]) -> Iterator[Sweep]:
    """Each other loss of single elements, over its numbers if it has some."""
    for loss in LOSSES.values():
        if loss.shape is Shape.POINTWISE and loss.name not in swept:
            numbers = [p.name for p in loss.parameters if p.type is float and not p.is_vector]
            for number in numbers or [""]:
                yield Sweep(loss.name, residuals, {}, number)


_CHOSEN = [
    *_of_classes(), *_of_divergence(), *_of_answers(), *_of_regions(), *_of_sets(),
    *_of_residuals(),
]  # fmt: skip
SWEEPS = [*_CHOSEN, *_of_any_residuals({sweep.name for sweep in _CHOSEN})]


# ------------------------------------------------------------------ the right answers

STEP = 160  # digits by which a step is smaller than anything else


@dataclass(frozen=True)
class Right:
    """The value of each example, or of the set, and its derivatives; infinite beyond float64."""

    values: Array
    gradients: Mapping[str, Array]


@functools.cache
def right(sweep: Sweep, *, whole: bool = False) -> list[tuple[Case, Right]]:
    """The cases of a sweep and what is right of them."""
    return [(case, _right(case, sweep.derivatives)) for case in sweep.cases(whole=whole)]


def _right(case: Case, names: Sequence[str]) -> Right:
    """From differences of the formula, in as many digits as it takes."""
    sizes = [math.log10(n) for n in case.parameters.values() if isinstance(n, float) and n]
    beyond = int(max(map(abs, sizes), default=0))
    digits = 560 + 2 * beyond + int(max(sizes, default=0))
    if case.loss.name == "poisson_nll":
        digits += 450  # of exp(1000)
    rows: Sequence[Any] = range(case.count)
    if case.loss.shape in TOGETHER:
        rows = [slice(None)]
    with mpmath.workdps(digits):
        step = mpmath.mpf(10) ** -(STEP + beyond)
        parameters = {name: _exact_number(value) for name, value in case.parameters.items()}
        oracle = functools.partial(ORACLES[case.loss.name], **parameters)
        examples = [{name: exact(a[row]) for name, a in case.inputs.items()} for row in rows]
        values = np.array([float(oracle(**example)) for example in examples])
        gradients = {
            name: np.array([_derivatives(oracle, example, name, step) for example in examples])
            for name in names
        }
    return Right(values, {n: g.reshape(case.inputs[n].shape) for n, g in gradients.items()})


def _derivatives(oracle: Any, example: Mapping[str, Any], name: str, step: Any) -> list[float]:
    """Central differences by each number of an input."""
    found = []
    for position in range(size(example[name])):
        above, below = (
            oracle(**{**example, name: moved(example[name], position, way)})
            for way in (step, -step)
        )
        found.append(float((above - below) / (2 * step)))
    return found


def _exact_number(value: Any) -> Any:
    if isinstance(value, float):
        return mpmath.mpf(value)
    return tuple(map(mpmath.mpf, value)) if isinstance(value, tuple) else value
