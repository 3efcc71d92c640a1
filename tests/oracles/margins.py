"""Cases of margins from 0 to 1,000 and of numbers over their whole range.

An example of a case is small, so that what its value and derivatives are is known in 60 digits.
The inputs are exact in float32: an answer in float32 and one in float64 are measured by the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.losses import LOSSES, DistributionKind, Loss, MulticlassHingeVariant, Shape
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses.pairwise_auc import AucSurrogate
from tests.losses.case import Case, Form
from tests.oracles import margin_examples as examples
from tests.oracles.margin_examples import Row

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
        rows = [row for margin in margins for row in self.rows(margin)]
        groups = [rows]
        if loss.shape in TOGETHER:
            groups = [[row] for row in rows]
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


def _of_classes() -> Iterator[Sweep]:
    for rows in (examples.scores, examples.three_scores, examples.halves, examples.quarters):
        for smoothing in (0.0, 1e-10, NEARLY_ALL, 1.0):
            yield Sweep("cross_entropy", rows, {"label_smoothing": smoothing})
        for gamma in (2.0, 0.5):
            is_soft = rows in (examples.halves, examples.quarters)
            smallest = 1e-3 if is_soft else 0.0  # see EXCEPTIONS
            yield Sweep("softmax_focal", rows, {"gamma": gamma}, smallest_margin=smallest)
        yield Sweep("cross_entropy", rows, {}, "temperature", is_long=rows is not examples.scores)
    yield Sweep("cross_entropy", examples.halves, {"label_smoothing": 1.0}, "temperature")
    yield Sweep(
        "cross_entropy", examples.scores, {"label_smoothing": 1.0}, "temperature", is_long=True
    )
    yield Sweep("cross_entropy", examples.scores, {}, "label_smoothing", 1e-300, 0.01)
    yield Sweep("cross_entropy", examples.three_scores, {"class_weights": (0.5, 2.0, 1.0)})
    yield Sweep("cross_entropy", examples.scores, {"class_priors": (1.0, 3.0)}, "temperature")
    yield Sweep("cross_entropy", examples.logs, {"prediction_kind": LOGS})
    yield Sweep("cross_entropy", examples.probabilities, {"prediction_kind": PROBABILITIES})
    yield Sweep("expected_risk", examples.candidates, {}, "alpha")


def _of_divergence() -> Iterator[Sweep]:
    for rows in (examples.halves, examples.quarters):
        yield Sweep("kl_divergence", rows, {}, "temperature")
    for scaled in (False, True):
        given = {"target_kind": LOGITS, "scale_by_squared_temperature": scaled}
        high = 1e250 if scaled else LARGEST  # see EXCEPTIONS
        pairs = Sweep("kl_divergence", examples.pairs_of_logits, given, "temperature", high=high)
        yield from (pairs, replace(pairs, rows=examples.triples_of_logits, is_long=True))
    given = {"target_kind": LOGS}
    yield Sweep("kl_divergence", examples.against_logs, given, "temperature", is_long=True)
    for rows, kind, aims in (
        (examples.against_logs, LOGITS, LOGS),
        (examples.pairs_of_logs, LOGS, LOGS),
        (examples.logs_of_halves, LOGS, PROBABILITIES),
        (examples.logs_of_logits, LOGS, LOGITS),
        (examples.pairs_of_probabilities, PROBABILITIES, PROBABILITIES),
        (examples.probabilities_of_logits, PROBABILITIES, LOGITS),
    ):
        yield Sweep("kl_divergence", rows, {"prediction_kind": kind, "target_kind": aims})


def _of_answers() -> Iterator[Sweep]:
    for rows in (examples.answers, examples.soft_answers):
        for smoothing in (0.0, NEARLY_ALL, 1.0):
            yield Sweep("binary_cross_entropy", rows, {"label_smoothing": smoothing})
        yield Sweep("binary_cross_entropy", rows, {"positive_weights": (3.0,)})
        for parameters in ({}, {"alpha": 0.25}):
            yield Sweep("focal", rows, parameters)
        for parameters in ({"gamma": 0.5}, {"gamma": 0.0, "alpha": 1e-10}):
            yield Sweep("focal", rows, parameters, only=("predictions",))
    yield Sweep("binary_cross_entropy", examples.answers, {}, "label_smoothing", 1e-300, 0.01)
    yield Sweep("binary_cross_entropy", examples.log_answers, {"prediction_kind": LOGS})
    for power in (1.0, 2.0, 1.5):
        yield Sweep("hinge", examples.signs, {"power": power, "margin": 2.5})
        for variant in MulticlassHingeVariant:
            given = {"power": power, "variant": variant, "margin": 2.5}
            yield Sweep("multiclass_hinge", examples.ranked_scores, given)


def _of_regions() -> Iterator[Sweep]:
    by = ("predictions",)
    for name in ("dice", "jaccard", "tversky"):
        for smooth in (0.0, 1e-5, 1e-30):
            yield Sweep(name, examples.region, {"smooth": smooth}, only=by)
            given = {"smooth": smooth, "class_axis": -1}
            yield Sweep(name, examples.class_region, given, only=by)
        of_logs = {"smooth": 0.0, "prediction_kind": LOGS}
        yield Sweep(name, examples.log_region, of_logs, only=by)
    given = {"smooth": 0.0, "beta": 0.0}
    yield Sweep("tversky", examples.region, {**given, "gamma": 2.0}, only=by)
    yield Sweep("tversky", examples.class_region, {**given, "class_axis": -1}, only=by)
    # A class that is absent counts nothing, however probable it is.
    given = {"smooth": 0.0, "alpha": 0.0, "class_axis": -1}
    yield Sweep("tversky", examples.class_region, given, only=by)
    yield Sweep("lovasz_hinge", examples.ordered_scores, {})
    yield Sweep("lovasz_softmax", examples.ordered_region, {})


def _of_sets() -> Iterator[Sweep]:
    yield Sweep("soft_f1", examples.label_set, {}, only=("predictions",))
    for parameters in ({}, {"surrogate": AucSurrogate.LOGISTIC}, {"margin": 0.375}):
        yield Sweep("pairwise_auc", examples.ranking, parameters)
    for objective in GanObjective:
        is_relative = objective.name.startswith("RELATIVISTIC")
        rows = examples.both_sides if is_relative else examples.fakes
        yield Sweep("generator_loss", rows, {"objective": objective})
        yield Sweep("discriminator_loss", examples.both_sides, {"objective": objective})
        if objective in (GanObjective.HINGE, GanObjective.WASSERSTEIN):
            continue
        for smoothing in (1.0, 0.5, NEARLY_ALL / 2, 1e-10):
            rows = examples.both_sides if is_relative else examples.reals
            given = {"objective": objective, "label_smoothing": smoothing}
            yield Sweep("discriminator_loss", rows, given, is_long=is_relative and smoothing < 1)


def _of_residuals() -> Iterator[Sweep]:
    yield Sweep("quantile", examples.residuals, {}, "quantile", 1e-320, 0.5)
    yield Sweep("quantile", examples.residuals, {"quantile": 1 - 2.0**-40})
    yield Sweep("poisson_nll", examples.counts, {})
    yield Sweep("poisson_nll", examples.full_counts, {"full": True})
    for full in (False, True):
        yield Sweep("poisson_nll", examples.rates, {"full": full, "log_input": False})
    yield Sweep("gaussian_nll", examples.noise, {"full": True}, "eps")


def _of_any_residuals(swept: set[str]) -> Iterator[Sweep]:
    """Each other loss of single elements, over its numbers if it has some."""
    for loss in LOSSES.values():
        if loss.shape is Shape.POINTWISE and loss.name not in swept:
            numbers = [p.name for p in loss.parameters if p.type is float and not p.is_vector]
            for number in numbers or [""]:
                yield Sweep(loss.name, examples.residuals, {}, number)


_CHOSEN = [
    *_of_classes(), *_of_divergence(), *_of_answers(), *_of_regions(), *_of_sets(),
    *_of_residuals(),
]  # fmt: skip
SWEEPS = [*_CHOSEN, *_of_any_residuals({sweep.name for sweep in _CHOSEN})]
