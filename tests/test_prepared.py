"""Prepared calls: a job that one call of a kernel computes has the bits of any other way."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.backends.choose import cpu_backend
from lossd.engine import Engine, Result
from lossd.errors import ServiceError
from lossd.kernels.host import Library, NoLibraryError
from lossd.losses import LOSSES, Loss
from lossd.reduction import NonfinitePolicy, Reduction
from tests.drawn_networks import NETWORKS
from tests.losses.case import Array, Case, Form
from tests.sampling import cases, coupled_cases, plain

LABELS = (
    np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
)  # fmt: skip
FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        Library()
    except NoLibraryError as error:
        pytest.skip(str(error))
    made = Engine(cpu_backend(2), NETWORKS)
    yield made
    made.close()


def told(compute: Any) -> Any:
    """All that a caller sees, as bytes where a number may be NaN."""
    try:
        found: Result = compute()
    except ServiceError as error:
        return type(error), str(error), error.field, error.reason, error.details
    numbers = [found.loss, found.loss_sum, found.weight_sum]
    arrays: dict[str, Any] = {"per_example": found.per_example, **found.gradients, **found.outputs}
    listed = {
        name: [_bits(one) for one in (given if isinstance(given, list) else [given])]
        for name, given in arrays.items()
    }
    statuses = found.statuses.indices.tolist(), found.statuses.numbers.tolist()
    counts = found.example_count, found.ignored_count, found.nonfinite_examples.tolist()
    # As texts, of which two NaN are equal.
    return repr(numbers), counts, statuses, found.status, listed, found.backend


def _bits(array: Array | None) -> Any:
    return None if array is None else (str(array.dtype), array.shape, array.tobytes())


def agrees(engine: Engine, case: Case, other: Case | None = None, **options: Any) -> bool:
    """Computes a case by a plan, which may be that of another case, and without one."""
    job = case.job(**options)
    try:
        plan = engine.plan((other or case).job(**options))
    except ServiceError:
        return True  # the plan tells
    arrays = plan.laid.arrays(job)
    by_plan = told(lambda: engine.compute(plan, job, arrays))
    return bool(by_plan == told(lambda: engine.run(job)))


def is_prepared(engine: Engine, case: Case, **options: Any) -> bool:
    return engine.plan(case.job(**options)).prepared is not None


def _drawn(loss: Loss) -> list[Case]:
    return list((coupled_cases if loss.shape.name == "COUPLED" else cases)(loss))


def test_every_variant_of_every_loss_has_the_same_bits(engine: Engine, any_loss: Loss) -> None:
    for number, case in enumerate(_drawn(any_loss)):
        typed = case.astype(FLOATS[number % len(FLOATS)])
        reduction = list(Reduction)[number % len(Reduction)]
        assert agrees(engine, typed, reduction=reduction), typed
        assert agrees(engine, typed, gradients=typed.derivatives, per_example=False), typed


@pytest.mark.parametrize("name", ["cross_entropy", "huber", "binary_cross_entropy", "focal"])
def test_small_batches_of_common_losses_are_prepared(engine: Engine, name: str) -> None:
    case = plain(LOSSES[name]).astype(np.float32)

    assert is_prepared(engine, case)
    assert is_prepared(engine, case, gradients=())
    assert is_prepared(engine, case, per_example=False, normalizer=3.0)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": np.linspace(0, 1, 7)},
        {"mask": np.arange(7) > 2},
        {"cotangent": np.linspace(0, 1, 7)},
        {"nonfinite": NonfinitePolicy.ZERO},
    ],
    ids=["weights", "mask", "cotangent", "zero"],
)
def test_what_depends_on_data_is_not_prepared(engine: Engine, options: Any) -> None:
    case = plain(LOSSES["huber"], rows=7).astype(np.float32)

    assert not is_prepared(engine, case, **options)
    assert agrees(engine, case, **options)


@pytest.mark.parametrize("normalizer", [1e-60, 1e60])
def test_scales_beyond_the_type_of_a_batch_have_the_same_bits(
    engine: Engine, normalizer: float
) -> None:
    case = plain(LOSSES["huber"]).astype(np.float32)

    assert agrees(engine, case, normalizer=normalizer)


@pytest.mark.parametrize("parameters", [{"ignore_index": 1}, {"class_weights": (1.0, 2.0, 3.0)}])
def test_what_depends_on_labels_is_not_prepared(engine: Engine, parameters: Any) -> None:
    drawn = plain(LOSSES["cross_entropy"], length=3, form=Form.CLASSES)
    case = replace(drawn, parameters=parameters)

    assert not is_prepared(engine, case)
    assert agrees(engine, case)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("wrong", [None, -1, 5, 127, 2**63])
def test_labels_of_any_integer_are_read_and_checked(
    engine: Engine, label: type[np.integer[Any]], wrong: int | None
) -> None:
    case = plain(LOSSES["cross_entropy"], length=5, form=Form.CLASSES).astype(np.float32)
    right = (case.inputs["targets"] % 2).astype(label)
    given = right.copy()
    if wrong is not None:
        given[1] = np.array(wrong % 2**64, np.uint64).astype(label)
    planned = case.with_inputs(targets=right)

    assert is_prepared(engine, planned)
    assert agrees(engine, case.with_inputs(targets=given), planned)


@pytest.mark.parametrize("name", ["cross_entropy", "huber", "binary_cross_entropy", "poisson_nll"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0, -1.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_of_any_kind_are_told_as_ever(
    engine: Engine, name: str, value: float, dtype: Any
) -> None:
    case = plain(LOSSES[name]).astype(dtype)
    for given in case.inputs:
        if case.inputs[given].dtype != dtype:
            continue
        array = case.inputs[given].copy()
        array.reshape(-1)[2] = value
        other = case.with_inputs(**{given: array})
        assert agrees(engine, other, case)
        assert agrees(engine, other, case, nonfinite=NonfinitePolicy.ERROR)


def test_arrays_lie_anywhere(engine: Engine) -> None:
    """Unaligned, as in a message, or in another order than C's."""
    case = plain(LOSSES["cross_entropy"], rows=9, length=5, form=Form.CLASSES).astype(np.float32)
    for shift in range(9):
        moved = {}
        for name, array in case.inputs.items():
            room = bytes(shift) + array.tobytes()
            moved[name] = np.ndarray(array.shape, array.dtype, room, shift)
        assert agrees(engine, case.with_inputs(**moved), case)
    turned = np.asfortranarray(case.inputs["predictions"])
    assert agrees(engine, case.with_inputs(predictions=turned), case)


def test_a_caller_who_has_gone_is_noticed(engine: Engine) -> None:
    job = plain(LOSSES["huber"]).astype(np.float32).job()
    plan = engine.plan(job)

    def gone() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.compute(plan, job, plan.laid.arrays(job), checkpoint=gone)
