"""The engine: where results are put, when work may stop, and many callers at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import Abandoned, InvalidParameter
from lossd.losses import LOSSES, DistributionKind
from lossd.reduction import Reduction
from tests.losses.case import Case, Form, total, values
from tests.losses.compare import assert_same_bits
from tests.sampling import draw


def _case(rows: int = 7, length: int = 5) -> Case:
    return draw(LOSSES["cross_entropy"], {}, Form.CLASSES, rows, length)


def test_results_are_put_where_the_caller_says(engine: Engine) -> None:
    made: list[npt.NDArray[Any]] = []

    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        made.append(np.full(shape, 77, dtype))  # whatever lay there before must not show
        return made[-1]

    for axis in (-1, 0):
        made.clear()
        parameters = {"class_axis": axis}
        case = Case(LOSSES["cross_entropy"], parameters, Form.CLASSES, _case(5).inputs)
        expected = engine.run(case.job())
        result = engine.run(case.job(), allocate=allocate)
        assert_same_bits(values(result), values(expected))
        assert_same_bits(result.gradients["predictions"], expected.gradients["predictions"])
        assert sorted(map(id, made)) == sorted(
            map(id, (values(result), result.gradients["predictions"]))
        )


def test_what_nobody_wants_is_not_allocated(engine: Engine) -> None:
    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        raise AssertionError((shape, dtype))

    result = engine.run(_case().job(per_example=False, gradients=()), allocate=allocate)
    assert result.loss is not None
    assert not result.gradients


def test_work_stops_where_a_checkpoint_says_so(engine: Engine) -> None:
    case = _case(70_000, 10)
    seen = []

    def stop() -> None:
        seen.append(threading.get_ident())
        raise Abandoned("call must be wanted, got cancelled")

    with pytest.raises(Abandoned):
        engine.run(case.job(), checkpoint=stop)
    assert 1 <= len(seen) <= 2
    assert np.isfinite(total(engine.run(case.job())))


def test_many_callers_get_what_they_would_get_alone(engine: Engine) -> None:
    loss = LOSSES["cross_entropy"]
    jobs = [
        draw(loss, {}, Form.CLASSES, rows, length, seed=rows).job(reduction=Reduction.SUM)
        for rows in (1, 7, 3000, 20_000)
        for length in (3, 10)
    ]
    alone = [engine.run(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for expected, result in zip(alone, pool.map(engine.run, jobs), strict=True):
                _assert_same(result, expected)


def _assert_same(result: Result, expected: Result) -> None:
    assert result.loss == expected.loss
    assert_same_bits(values(result), values(expected))
    assert_same_bits(result.gradients["predictions"], expected.gradients["predictions"])


def test_a_rule_that_the_body_knows_is_the_callers_mistake(engine: Engine) -> None:
    for rows in (0, 1, 30_000):
        parameters = {"prediction_kind": DistributionKind.PROBABILITIES, "temperature": 2.0}
        case = Case(LOSSES["cross_entropy"], parameters, Form.CLASSES, _case(rows).inputs)
        case = case.with_inputs(predictions=np.full_like(case.inputs["predictions"], 0.25))
        with pytest.raises(InvalidParameter) as caught:
            engine.run(case.job())
        assert caught.value.field == "loss.cross_entropy.temperature"


def test_of_very_many_rows_those_that_are_not_finite_are_told(engine: Engine) -> None:
    predictions = np.zeros((1 << 20) + 5, np.float32)
    wrong = [0, 4096, (1 << 20) + 4]
    for flagged in ([], wrong):  # in memory that may have been used before
        predictions[:] = 1
        predictions[wrong[: len(flagged)]] = np.nan
        inputs = {"predictions": [predictions], "targets": [np.zeros_like(predictions)]}
        result = engine.run(Job(loss=LOSSES["squared_error"], parameters={}, inputs=inputs))
        assert result.nonfinite_examples.tolist() == flagged


def test_what_tells_of_millions_of_rows_is_counted(engine: Engine) -> None:
    """The numbers of rows that are not finite, and their statuses, and both in the reply."""
    rows = 1 << 18
    held: dict[str, int] = {}
    for name, number in (("finite", 1.0), ("not", np.nan)):
        given = np.full(rows, number, np.float32)
        inputs = {"predictions": [given], "targets": [np.zeros_like(given)]}
        counts: list[int] = []
        job = Job(loss=LOSSES["squared_error"], parameters={}, inputs=inputs)
        result = engine.run(job, hold=counts.append)
        held[name] = sum(counts)
    told = result.nonfinite_examples.nbytes + result.statuses.numbers.nbytes
    assert held["not"] - held["finite"] >= 2 * told


def test_the_result_says_which_backend_computed(engine: Engine) -> None:
    assert engine.run(_case().job()).backend == engine.backend.name in ("numpy", "cupy")
    assert engine.backend.device


def test_confident_rows_have_the_numbers_of_the_specification(engine: Engine) -> None:
    """A margin of 20: libraries in float32 say 0."""
    for name, predictions, targets in (
        ("cross_entropy", [[20.0, 0.0]], [0]),
        ("binary_cross_entropy", [[20.0]], [[1]]),
    ):
        inputs = {
            "predictions": [np.array(predictions, np.float32)],
            "targets": [np.array(targets)],
        }
        result = engine.run(Job(loss=LOSSES[name], parameters={}, inputs=inputs))
        assert result.loss == pytest.approx(2.0611537e-09, rel=1e-6)
        assert result.gradients["predictions"][0, 0] == pytest.approx(-2.0611537e-09, rel=1e-6)
