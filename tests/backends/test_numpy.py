"""The CPU backend: tiles, threads, and what a failure leaves behind."""

import contextlib
import functools
import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd import ordering
from lossd.backends.choose import cpu_backend
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import InvalidTensor
from lossd.losses import LOSSES, Loss, Shape
from lossd.losses.pairwise_auc import AucSurrogate
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes import BLOCK_ELEMENTS, block_rows
from tests.losses.case import Form, looks_of, total, values
from tests.losses.compare import assert_same_bits
from tests.sampling import cases, draw, forms, plain

THREADS = (1, 2, 3, 8)


@pytest.fixture(scope="module")
def engines() -> Iterator[list[Engine]]:
    made = [Engine(NumpyBackend(threads)) for threads in THREADS]
    yield made
    for engine in made:
        engine.backend.close()


@pytest.mark.parametrize(("rows", "length"), [(70_000, 5), (300, 1000), (2, BLOCK_ELEMENTS + 1)])
def test_the_number_of_threads_changes_no_bit(
    engines: list[Engine], loss: Loss, rows: int, length: int
) -> None:
    for form in forms(loss):
        case = draw(loss, {}, form, rows, length).astype(np.float32)
        options: dict[str, Any] = {
            "reduction": Reduction.MEAN,
            "gradients": case.differentiable,
            "weights": np.random.default_rng(0).uniform(0, 2, rows),
        }
        first, *others = (engine.run(case.job(**options)) for engine in engines)
        for other in others:
            assert (other.loss, other.weight_sum) == (first.loss, first.weight_sum)
            assert_same_bits(values(other), values(first))
            for name, gradient in first.gradients.items():
                assert_same_bits(other.gradients[name], gradient)


@pytest.fixture(scope="module")
def compiled() -> Iterator[list[Engine]]:
    made = [Engine(cpu_backend(threads)) for threads in (1, 3)]
    yield made
    for engine in made:
        engine.close()


# Several pieces, of several blocks each where there are few threads; a row in parts.
@pytest.mark.parametrize(
    ("name", "rows", "length"),
    [
        ("squared_error", 900_001, 1),
        ("squared_error", 2, BLOCK_ELEMENTS + 1),
        ("cross_entropy", 1800, 1000),
    ],
)
@pytest.mark.parametrize("policy", [NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO])
def test_the_number_of_threads_changes_no_bit_of_a_kernel(
    compiled: list[Engine], name: str, rows: int, length: int, policy: NonfinitePolicy
) -> None:
    loss, rng = LOSSES[name], np.random.default_rng(rows)
    case = draw(loss, {}, forms(loss)[0], rows, length).astype(np.float32)
    case.inputs[case.first][rows // 2, 0] = np.nan
    job = case.job(weights=rng.uniform(0, 2, rows), mask=rng.random(rows) < 0.9, nonfinite=policy)
    first, *others = (engine.run(job) for engine in compiled)
    for other in others:
        assert_same_bits(np.array(other.loss_sum), np.array(first.loss_sum))
        assert_same_bits(values(other), values(first))
        assert_same_bits(other.gradients[case.first], first.gradients[case.first])
        np.testing.assert_array_equal(other.nonfinite_examples, first.nonfinite_examples)


def test_the_number_of_threads_changes_no_bit_of_a_set(
    engines: list[Engine], set_loss: Loss
) -> None:
    for drawn in cases(set_loss, rows=3001, length=2):
        case = drawn.astype(np.float32)
        weights = np.random.default_rng(0).uniform(0, 2, 3001)
        job = case.job(gradients=case.differentiable, weights=weights)
        first, *others = (engine.run(job) for engine in (*engines, *engines))
        for other in others:
            assert other.loss == first.loss, case
            for name, gradient in first.gradients.items():
                assert_same_bits(other.gradients[name], gradient, case)


def test_a_checkpoint_stops_a_set_between_its_tiles(engines: list[Engine]) -> None:
    scores, positive = np.zeros(5000), np.arange(5000) % 2
    job = Job(
        loss=LOSSES["pairwise_auc"],
        parameters={"surrogate": AucSurrogate.LOGISTIC},
        inputs={"predictions": [scores], "targets": [positive]},
    )
    for engine in engines:
        calls: list[int] = []

        def fail(calls: list[int] = calls) -> None:
            calls.append(threading.get_ident())
            if len(calls) == 5:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            engine.run(job, checkpoint=fail)
        assert len(calls) < 5 + len(THREADS) * 2


def test_a_tile_of_pairs_can_be_stopped_on_its_way(engines: list[Engine]) -> None:
    scores, positive = np.zeros(2 << 14), np.arange(2 << 14) % (1 << 14) == 0
    job = Job(
        loss=LOSSES["pairwise_auc"],
        parameters={"surrogate": AucSurrogate.LOGISTIC},
        inputs={"predictions": [scores], "targets": [positive]},
        gradients=[],
    )
    for engine in engines:  # two positives have one tile
        assert looks_of(engine, job) >= (2 << 14) // 2048


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "loss", [one for one in LOSSES.values() if one.is_ordered or one.name == "pairwise_auc"]
)
def test_sorting_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, engines: list[Engine], loss: Loss, dtype: type[Any]
) -> None:
    case = plain(loss, rows=600, length=1) if loss.shape is Shape.SETWISE else None
    case = (case or plain(loss, rows=1, length=600)).astype(dtype)
    job = case.job(gradients=case.differentiable)
    at_once = [engine.run(job) for engine in engines]
    monkeypatch.setattr("lossd.losses.lovasz_softmax._AT_ONCE", 8)
    looks = [looks_of(engine, job) for engine in engines]
    monkeypatch.setattr(ordering, "RUN", 8)
    for engine, right, few in zip(engines, at_once, looks, strict=True):
        assert looks_of(engine, job) >= few + 600 // 8
        found = engine.run(job)
        assert found.loss == right.loss
        for name, gradient in right.gradients.items():
            assert_same_bits(found.gradients[name], gradient)


def test_blocks_depend_on_the_length_of_a_row_alone() -> None:
    assert block_rows(1) == BLOCK_ELEMENTS
    assert block_rows(1000) == BLOCK_ELEMENTS // 1000
    assert block_rows(BLOCK_ELEMENTS) == 1
    assert block_rows(BLOCK_ELEMENTS + 1) == 1


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_seams_between_tiles_do_not_show(engines: list[Engine], extra: int) -> None:
    """One row less than three blocks, three blocks, and one row more."""
    loss, length = LOSSES["huber"], 1000
    rows = 3 * block_rows(length) + extra
    case = plain(loss, rows=rows, length=length)
    result = engines[1].run(case.job(reduction=Reduction.SUM))
    residuals = case.inputs["predictions"] - case.inputs["targets"]
    derivatives = np.clip(residuals, -1, 1)
    np.testing.assert_allclose(
        values(result), (derivatives * (residuals - derivatives / 2)).mean(axis=1), rtol=1e-13
    )
    np.testing.assert_allclose(result.gradients["predictions"], derivatives / length, rtol=1e-13)
    assert result.loss == pytest.approx(values(result).sum(), rel=1e-13)


@pytest.mark.parametrize("length", [5, BLOCK_ELEMENTS + 5])
def test_the_first_bad_number_is_named_whichever_thread_saw_one(
    engines: list[Engine], length: int
) -> None:
    rows = 3 * block_rows(length) + 2
    case = draw(LOSSES["binary_cross_entropy"], {}, Form.FLOATS, rows, length).astype(np.float32)
    targets = case.inputs["targets"]
    bad = [(1, 3), (1, length - 1), (rows - 1, 0)]
    for row, column in bad:
        targets[row, column] = 1.5 + row
    for engine in engines:
        for _ in range(3):
            with pytest.raises(InvalidTensor, match=r"targets\[1, 3\] must be in \[0, 1\]"):
                engine.run(case.job())


@pytest.mark.parametrize("length", [5, 2 * BLOCK_ELEMENTS + 5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_that_are_not_finite_are_found_in_every_tile(
    engines: list[Engine], length: int, dtype: type
) -> None:
    rows = 2 * block_rows(length) + 2
    case = plain(LOSSES["squared_error"], rows=rows, length=length).astype(dtype)
    predictions = case.inputs["predictions"]
    bad = [0, rows - 1]
    for row, column in zip(bad, (length - 1, 0), strict=True):
        predictions[row, column] = np.nan
    for engine in engines:
        result = engine.run(case.job())
        assert result.nonfinite_examples.tolist() == bad
        zeroed = engine.run(case.job(nonfinite=NonfinitePolicy.ZERO))
        assert zeroed.nonfinite_examples.tolist() == bad
        assert np.isfinite(total(zeroed))
        assert not values(zeroed)[bad].any()
        assert not zeroed.gradients["predictions"][bad].any()


def test_a_masked_long_row_is_excluded_in_every_part(engines: list[Engine]) -> None:
    length = 2 * BLOCK_ELEMENTS + 5
    for case in cases(LOSSES["binary_cross_entropy"], rows=2, length=length):
        if case.form is not Form.FLOATS or case.parameters:
            continue
        case.inputs["predictions"][1] = np.nan
        case.inputs["targets"][1] = np.nan
        result = engines[1].run(case.job(mask=np.array([True, False])))
        assert values(result)[1] == 0
        assert not result.gradients["predictions"][1].any()
        assert not len(result.nonfinite_examples)


def test_a_failure_in_one_tile_ends_the_others_and_reaches_the_caller(
    engines: list[Engine],
) -> None:
    case = plain(LOSSES["huber"], rows=64 * block_rows(1000), length=1000).astype(np.float32)
    for engine in engines:
        calls: list[int] = []

        def fail(calls: list[int] = calls) -> None:
            calls.append(threading.get_ident())
            if len(calls) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.run(case.job(), checkpoint=fail)
        assert len(calls) < 64
        assert engine.run(case.rows(slice(5)).job()).example_count == 5


def test_a_failure_that_was_dealt_with_holds_no_array(engines: list[Engine]) -> None:
    # Without the collector: an idle server has none, and what is held may be a client's memory.
    raised: list[weakref.ref[Exception]] = []

    class StopError(Exception):
        def __init__(self) -> None:
            raised.append(weakref.ref(self))

    def stop() -> None:
        raise StopError

    case = plain(LOSSES["huber"], rows=64 * block_rows(1000), length=1000).astype(np.float32)
    gc.disable()
    try:
        for engine in engines:
            with contextlib.suppress(StopError):
                engine.run(case.job(), checkpoint=stop)
        assert len(raised) >= len(engines)
        assert not any(error() for error in raised)
    finally:
        gc.enable()


def test_a_checkpoint_is_passed_before_every_tile(engines: list[Engine]) -> None:
    case = plain(LOSSES["huber"], rows=4 * block_rows(1000), length=1000)
    for engine in engines:
        calls = itertools.count()
        engine.run(case.job(), checkpoint=functools.partial(_count, calls))
        assert next(calls) == 4


def _count(calls: Iterator[int]) -> None:
    next(calls)


def test_the_device_is_described(engines: list[Engine]) -> None:
    assert engines[1].backend.device.endswith("2 threads, NumPy alone")
    assert engines[1].backend.name == "numpy"


def test_close_ends_the_threads() -> None:
    backend = NumpyBackend(3)
    case = plain(LOSSES["huber"], rows=70_000)
    Engine(backend).run(case.job())
    assert any(t.name.startswith("lossd-compute") for t in threading.enumerate())
    before = {t for t in threading.enumerate() if t.name.startswith("lossd-compute")}
    backend.close()
    after = {t for t in threading.enumerate() if t.name.startswith("lossd-compute")}
    assert len(after) <= len(before) - 1
