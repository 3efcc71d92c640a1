"""Distillation where student or teacher holds classes impossible."""

from typing import Any

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.losses._maths.divergences import DistillationDivergence, DistillationSupport
from lossd.losses._maths.tokens import TokenAggregation
from lossd.reduction import Reduction
from tests.losses.case import values

D, S = DistillationDivergence, DistillationSupport
NEVER, HALF, QUARTER = -np.inf, np.log(0.5), np.log(0.25)
INF, NAN = np.inf, np.nan


def run(engine: Engine, students: Any, teachers: Any, dtype: Any, **given: Any) -> Result:
    """Each token as a sequence by itself."""
    sides = {"predictions": students, "targets": teachers}
    return engine.run(
        Job(
            loss=LOSSES["distillation"],
            parameters={"aggregation": TokenAggregation.SUM, **given},
            inputs={name: [np.array(side, dtype)[:, None]] for name, side in sides.items()},
            reduction=Reduction.NONE,
            gradients=("predictions",),
        )
    )


# A student, a teacher that holds a class of it impossible, and the limits of the derivatives.
REVERSED = [
    ([NEVER, NEVER, 0.0], [NEVER, 0.0, NEVER], [0, 0, 0]),
    ([NEVER, 0.0], [0.0, NEVER], [0, 0]),
    ([NEVER, HALF, HALF], [NEVER, 0.0, NEVER], [0, -INF, INF]),
    ([HALF, QUARTER, QUARTER], [NEVER, 0.0, NEVER], [INF, -INF, INF]),
    ([HALF, NEVER, HALF], [NEVER, 0.0, NEVER], [NAN, 0, NAN]),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("student", "teacher", "limits"), REVERSED)
def test_a_class_that_the_teacher_holds_impossible_has_the_limit_of_its_derivative(  # noqa: PLR0917 - a table
    engine: Engine, student: Any, teacher: Any, limits: Any, temperature: float, dtype: type
) -> None:
    for divergence in ({"divergence": D.REVERSE_KL}, {
        "divergence": D.INTERPOLATED_JENSEN_SHANNON, "beta": 1.0,
    }):  # fmt: skip
        given = {**divergence, "support": S.WHOLE, "temperature": temperature}
        result = run(engine, [student, teacher], [teacher, teacher], dtype, **given)
        assert values(result).tolist() == [INF, 0]
        np.testing.assert_array_equal(result.gradients["predictions"][0, 0], limits)
        assert not result.gradients["predictions"][1].any()
        assert result.nonfinite_examples.tolist() == [0]


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("support", S)
def test_a_mixture_that_is_one_side_alone_is_no_distance(
    engine: Engine, support: DistillationSupport, beta: float
) -> None:
    """Also where both sides have no class in common."""
    students = [[NEVER, NEVER, 0.0], [NEVER, HALF, HALF], [HALF, QUARTER, QUARTER]]
    teachers = [[NEVER, 0.0, NEVER], [NEVER, 0.0, NEVER], [QUARTER, HALF, QUARTER]]
    given = {"divergence": D.JENSEN_SHANNON, "beta": beta, "support": support}
    result = run(engine, students, teachers, np.float64, **given)
    np.testing.assert_allclose(values(result), 0, atol=1e-15)
    np.testing.assert_allclose(result.gradients["predictions"], 0, atol=1e-15)
    assert not len(result.nonfinite_examples)
