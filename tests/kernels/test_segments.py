"""Rows of single numbers that several blocks work on, executed on the CPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.kernels import OUTSIDE, Kernel, Launch
from lossd.kernels._launch import MOST_THREADS, SEGMENT, WARP, threads_of_row
from lossd.losses import Loss, Shape
from lossd.losses._declare import CudaText
from tests.kernels import cases
from tests.kernels.cases import (
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Execute,
    Variant,
    check,
    make_case,
)

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

VARIANTS = [v for v in cases.VARIANTS if v.loss.shape is Shape.POINTWISE]
TEXTS = [pair for pair in cases.texts() if pair[0].shape is Shape.POINTWISE]
every_variant = cases.every(variant=VARIANTS)
every_kernel = cases.every(variant=VARIANTS, dtype=cases.DTYPES)
# Segments of two warps, and a row of two whole ones and a part of one.
SHORT, LENGTH = 2048, 5003


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are in segments as if each had eight times as many columns."""
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", SHORT)


def plain(name: str) -> Variant:
    return next(v for v in VARIANTS if v.loss.name == name and v.plain)


def bits(results: tuple[cases.Array, cases.Array | None], row: int) -> tuple[bytes, bytes]:
    values, gradient = results
    assert gradient is not None
    return values[row].tobytes(), gradient[row].tobytes()


@pytest.mark.parametrize(
    ("length", "grids"),
    [
        (1, {"elements": 1}),
        (2, {"rows": 1}),
        (SEGMENT, {"rows": 16}),
        (SEGMENT + 1, {"segments": 32, "sums": 1}),
        (1_000_000, {"segments": 16 * 62, "sums": 16}),
        (3 << 20, {"segments": 16 * 192, "sums": 16}),
    ],
)
def test_a_row_has_a_block_for_each_segment(length: int, grids: dict[str, int]) -> None:
    case = make_case(plain("huber"), FLOAT32, 1)
    launch = case.kernel().launch(16, length)
    assert {step.name.removeprefix("huber_"): step.blocks for step in launch.steps} == grids
    if launch.is_in_segments:
        assert launch.steps[0].threads == MOST_THREADS


@every_kernel
@pytest.mark.usefixtures("short_segments")
def test_rows_in_segments_equal_the_body(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    for length, misaligned in ((SHORT + 1, True), (LENGTH, False)):
        check(make_case(variant, dtype, length, misaligned=misaligned), simt)


@every_variant
@pytest.mark.usefixtures("short_segments")
def test_segments_may_be_stored_in_16_bits(simt: Execute, variant: Variant) -> None:
    for stored in (FLOAT16, cases.BFLOAT16):
        check(make_case(variant, FLOAT32, LENGTH, stored=stored), simt)


def test_segments_of_whole_blocks_equal_the_body(simt: Execute) -> None:
    case = make_case(plain("huber"), FLOAT32, 2 * SEGMENT + 77)
    check(case.rows(slice(cases.EXCLUDED, cases.EXCLUDED + 3)), simt)


@every_variant
def test_a_gradient_has_the_bits_of_a_row_in_one_block(
    simt: Execute, monkeypatch: pytest.MonkeyPatch, variant: Variant
) -> None:
    case = make_case(variant, FLOAT32, LENGTH)
    whole = case.run(simt)[1]
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", SHORT)
    cut = case.run(simt)[1]
    assert whole is not None
    assert cut is not None
    assert cut.tobytes() == whole.tobytes()


@every_kernel
@pytest.mark.usefixtures("short_segments")
def test_a_row_has_the_same_bits_alone_in_a_batch_and_without_a_gradient(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    case = make_case(variant, dtype, LENGTH)
    found = case.run(simt)
    assert case.run(simt, with_gradient=False)[0].tobytes() == found[0].tobytes()
    for row in range(cases.ROWS):
        assert bits(case.rows(slice(row, row + 1)).run(simt), 0) == bits(found, row)


def test_the_order_of_a_sum_follows_from_the_length_of_its_row(
    simt: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for segment, length in ((2048, 5003), (512, 7003), (64, 40003)):
        monkeypatch.setattr("lossd.kernels._launch.SEGMENT", segment)
        numbers = rng.uniform(0, 1, (4, length))
        right = np.array([mean_in_segments(row, segment) for row in numbers])
        case = replace(
            make_case(plain("absolute_error"), FLOAT64, length).rows(slice(0, 4)),
            predictions=numbers,
            targets=np.zeros_like(numbers),
            excluded=np.zeros(4, bool),
        )
        alone = [case.rows(slice(row, row + 1)).run(simt)[0] for row in range(4)]
        for found in (case.run(simt)[0], np.concatenate(alone)):
            assert found.tobytes() == right.tobytes()


def mean_in_segments(numbers: npt.NDArray[np.float64], segment: int) -> np.float64:
    """The mean of a row, in the order that is told in pointwise.cuh."""
    parts = [
        sum_of_team(numbers[first : first + segment], threads_of_row(segment), width=2)
        for first in range(0, len(numbers), segment)
    ]
    threads = 1
    while threads < min(len(parts), MOST_THREADS):
        threads *= 2
    return sum_of_team(np.array(parts), threads, width=1) / len(numbers)


def sum_of_team(numbers: npt.NDArray[Any], threads: int, width: int) -> np.float64:
    """The sum of numbers of which each thread adds up packs, and then those of all in a tree."""
    own = np.zeros(threads)
    for first in range(0, len(numbers), width):
        for number in numbers[first : first + width]:
            own[first // width % threads] += np.float64(number)
    warps = in_a_tree(own.reshape(-1, min(WARP, threads)).T)
    return np.float64(in_a_tree(warps))


def in_a_tree(numbers: npt.NDArray[Any]) -> Any:
    while len(numbers) > 1:
        half = len(numbers) // 2
        numbers = numbers[:half] + numbers[half:]
    return numbers[0]


PLACES = (0, SHORT - 1, SHORT, 2 * SHORT, LENGTH - 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("short_segments")
def test_a_slope_beyond_its_type_shows_from_any_segment(simt: Execute, place: int) -> None:
    case = make_case(plain("huber"), FLOAT32, LENGTH, stored=FLOAT16).rows(slice(0, 3))
    finite = replace(
        case,
        predictions=np.zeros_like(case.predictions),
        targets=np.zeros_like(case.targets),
        excluded=np.zeros(3, bool),
        scales=np.array([1, 1e30, 1], np.float32),
    )
    finite.predictions[1, place] = 1
    values, gradient = finite.run(simt)  # which looks at the flags
    assert gradient is not None
    assert np.isfinite(values).all()
    assert np.isinf(gradient[1, place])
    finite.run(simt, with_gradient=False)  # of which nothing is beyond its type


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("loss", "text"), TEXTS, ids=lambda x: getattr(x, "name", ""))
@pytest.mark.usefixtures("short_segments")
def test_any_segment_sees_a_number_outside_its_domain(
    simt: Execute, loss: Loss, text: CudaText, place: int
) -> None:
    case = make_case(Variant(loss, text, plain=True), FLOAT32, LENGTH).rows(slice(0, 3))
    for array in (case.predictions, case.targets, *case.others.values()):
        array[...] = 0.5
    case.excluded[...] = [False, False, True]
    case.predictions[1:, place] = 1.5
    _, _, flags = case.results(simt, cases.kernel_of(loss, text, FLOAT32))
    assert (flags & OUTSIDE).tolist() == [0, OUTSIDE, 0]


@pytest.mark.usefixtures("short_segments")
def test_a_sum_may_be_beyond_double_where_the_mean_is_not(simt: Execute) -> None:
    case = make_case(plain("absolute_error"), FLOAT64, LENGTH).rows(slice(0, 2))
    case.excluded[...] = False
    case.targets[...] = 0
    case.predictions[0] = 1.5e308
    case.predictions[1] = 1e-320
    values, _ = case.run(simt)
    np.testing.assert_allclose(values, [1.5e308, 1e-320], 1e-9)


def test_a_missing_segment_is_found(simt: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a fault would be that anyone makes there."""
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", SHORT)
    case = make_case(plain("squared_error"), FLOAT32, LENGTH)
    walk = "s < segments; s += blockDim.x"

    def executed(kernel: Kernel, launch: Launch, arguments: tuple[Any, ...]) -> None:
        assert kernel.source.count(walk) == 1
        wrong = kernel.source.replace(walk, "s + 1 < segments; s += blockDim.x")
        simt(replace(kernel, source=wrong), launch, arguments)

    check(case, simt)
    with pytest.raises(AssertionError):
        check(case, executed)
