"""NaN where an input has a domain: it spoils its row, and nothing else is looked at for it."""

from typing import Any

import numpy as np
import pytest

from lossd.batch import Array, Job
from lossd.engine import Engine
from lossd.errors import InvalidRequest
from lossd.losses import COMPUTED
from lossd.losses._inputs import DistributionKind

KIND = {"prediction_kind": DistributionKind.PROBABILITIES}
CASES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "dice": (KIND, ("predictions", "targets")),
    "jaccard": (KIND, ("predictions", "targets")),
    "tversky": (KIND, ("predictions", "targets")),
    "expected_risk": ({}, ("log_probabilities", "risks")),
}


def _job(name: str, dtype: type, spoilt: float) -> Job:
    rng = np.random.default_rng(0)
    parameters, (first, second) = CASES[name]
    numbers: Array = rng.uniform(0.1, 0.9, (5, 37)).astype(dtype)
    truth: Array = (rng.uniform(size=(5, 37)) > 0.5).astype(dtype)
    if first == "log_probabilities":
        numbers = np.log(numbers)
    numbers[3, 36] = spoilt
    return Job(
        loss=COMPUTED[name], parameters=parameters, inputs={first: [numbers], second: [truth]}
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_a_row_with_nan_does_not_have_the_batch_looked_at_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str, dtype: type
) -> None:
    looked: list[object] = []
    monkeypatch.setattr("lossd.shapes._by_example.check_domains", looked.append)
    result = engine.run(_job(name, dtype, np.nan))
    assert not looked
    assert result.nonfinite_examples.tolist() == [3]


@pytest.mark.parametrize("spoilt", [-np.inf, -0.5, 1.5, np.inf])
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][0]])
def test_what_is_outside_is_refused_beside_nan(engine: Engine, name: str, spoilt: float) -> None:
    job = _job(name, np.float32, spoilt)
    next(iter(job.inputs.values()))[0][1] = np.nan
    with pytest.raises(InvalidRequest, match=r"predictions\[3, 36\] must be in \[0, 1\]"):
        engine.run(job)
