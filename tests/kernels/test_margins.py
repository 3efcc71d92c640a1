"""Kernels at margins of 0 to 1,000, against what is right and not against the bodies."""

from typing import Any

import numpy as np
import pytest

from lossd.kernels import find_text
from tests.kernels.cases import SHAPES, Case, Execute, Variant
from tests.losses import case as losses
from tests.oracles.margins import SWEEPS, Sweep, right
from tests.oracles.test_margins import TOLERANCES, assert_right

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

SWEPT = [
    s
    for s in SWEEPS
    if s.loss.cuda and s.loss.shape in SHAPES and len(s.loss.inputs) > 1 and not s.is_long
]


def _on_kernel(case: losses.Case, dtype: np.dtype[Any]) -> Case | None:
    """The same for a kernel, if there is one for its parameters."""
    loss, parameters = case.loss, case.loss.complete(case.parameters)
    inputs = [a if a.dtype.kind == "i" else a.astype(dtype) for a in case.inputs.values()]
    text = find_text(loss, parameters, targets_are_classes=inputs[1].ndim == 1)
    if text is None:
        return None
    vectors = {p.name: np.array(parameters[p.name], dtype) for p in loss.parameters if p.is_vector}
    others = {i.name: a for i, a in zip(loss.inputs[2:], inputs[2:], strict=True)}
    return Case(
        Variant(loss, text, plain=False), dtype, inputs[0].shape[1], inputs[0], inputs[1],
        np.ones(case.count, dtype), np.zeros(case.count, np.bool_), others,
        {p.name: parameters[p.name] for p in loss.parameters} | vectors,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("sweep", SWEPT, ids=str)
def test_every_margin_is_right(simt: Execute, sweep: Sweep, dtype: np.dtype[Any]) -> None:
    found = 0
    for case, expected in right(sweep):
        given = _on_kernel(case, dtype)
        if given is None:
            continue
        values, gradient = given.run(simt)
        assert gradient is not None
        assert_right(values, expected.values, dtype, case, ("smooth",))
        assert_right(gradient, expected.gradients[case.first], dtype, case)
        found += 1
    if not found:
        pytest.skip("it has no kernel for these parameters")
