"""Kernels at margins of 0 to 1,000, against what is right and not against the bodies."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.kernels import find_text
from tests.kernels.cases import SHAPES, Case, Execute, Variant
from tests.kernels.classes import Classes
from tests.losses import case as losses
from tests.oracles.margins import SWEEPS, Sweep
from tests.oracles.right_answers import right
from tests.oracles.test_margins import TOLERANCES, assert_right

Array = npt.NDArray[Any]

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

SWEPT = [
    s
    for s in SWEEPS
    if s.loss.cuda and s.loss.shape in SHAPES and len(s.loss.inputs) > 1 and not s.is_long
]


def _on_kernel(
    simt: Execute, case: losses.Case, dtype: np.dtype[Any]
) -> tuple[Array, Array | None] | None:
    """Returns values and gradient from a kernel, if there is one for its parameters."""
    loss, parameters = case.loss, case.loss.complete(case.parameters)
    inputs = [a if a.dtype.kind == "i" else a.astype(dtype) for a in case.inputs.values()]
    text = find_text(loss, parameters, targets_are_classes=inputs[1].dtype.kind == "i")
    if text is None:
        return None
    if text.has_class_axis:  # which is last in these cases
        rows = Classes(
            loss, text, np.ascontiguousarray(inputs[0].transpose(0, 2, 1)), inputs[1],
            np.zeros(case.count, np.bool_), np.ones(case.count, dtype),
            {p.name: parameters[p.name] for p in loss.parameters},
        )  # fmt: skip
        found = rows.on_device(simt)
        return found.values, found.gradient.transpose(0, 2, 1)
    vectors = {p.name: np.array(parameters[p.name], dtype) for p in loss.parameters if p.is_vector}
    others = {i.name: a for i, a in zip(loss.inputs[2:], inputs[2:], strict=True)}
    given = Case(
        Variant(loss, text, plain=False), dtype, inputs[0].shape[1], inputs[0], inputs[1],
        np.ones(case.count, dtype), np.zeros(case.count, np.bool_), others,
        {p.name: parameters[p.name] for p in loss.parameters} | vectors,
    )  # fmt: skip
    return given.run(simt)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("sweep", SWEPT, ids=str)
def test_every_margin_is_right(simt: Execute, sweep: Sweep, dtype: np.dtype[Any]) -> None:
    found = 0
    for case, expected in right(sweep):
        result = _on_kernel(simt, case, dtype)
        if result is None:
            continue
        values, gradient = result
        assert gradient is not None
        assert_right(values, expected.values, dtype, case, ("smooth",))
        assert_right(gradient, expected.gradients[case.first], dtype, case)
        found += 1
    if not found:
        pytest.skip("it has no kernel for these parameters")
