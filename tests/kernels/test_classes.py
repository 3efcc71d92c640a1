"""Kernels of regions of classes, from one text, executed on the CPU."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels import OUTSIDE, Kernel, Launch, kept_bytes
from lossd.kernels.host import Library
from lossd.losses import DistributionKind, Loss
from lossd.losses._declare import CudaText
from lossd.losses._maths.overlap import EmptyTarget
from tests.kernels import classes
from tests.kernels.cases import FLOAT32, FLOAT64, Execute
from tests.kernels.classes import Classes, Found, draw
from tests.kernels.host.conftest import library, variants  # noqa: F401 - here too

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 2e-6, FLOAT64: 1e-12, FLOAT16: 1e-3, BFLOAT16: 8e-3}


def named(case: Loss | CudaText) -> str:
    """The name of a loss; a text has none."""
    return case.name if isinstance(case, Loss) else ""


every_text = pytest.mark.parametrize(("loss", "text"), classes.TEXTS, ids=named)


def assert_equal(found: Found, batch: Classes) -> None:
    wanted, dtype = batch.expected(), batch.predictions.dtype
    tolerance = TOLERANCE[dtype]
    np.testing.assert_array_equal(found.flags, wanted.flags)
    is_finite = ~wanted.flags.astype(bool)
    np.testing.assert_allclose(found.values[is_finite], wanted.values[is_finite], tolerance, 1e-30)
    given, right = (g[is_finite].astype(np.float64) for g in (found.gradient, wanted.gradient))
    # A slope is as right as the largest of its position, or of its row where all are noise.
    limits = np.finfo(FLOAT32 if dtype == BFLOAT16 else dtype)
    smallest = float(limits.smallest_subnormal if dtype == FLOAT16 else limits.tiny)
    size = np.abs(right).max(axis=(1, 2), keepdims=True, initial=0)
    assert (np.abs(given - right) <= tolerance * size + 2 * smallest).all()


def batches(
    loss: Loss, text: CudaText, dtype: np.dtype[Any], sizes: Iterable[tuple[int, int]]
) -> Iterator[Classes]:
    """Batches of each size with each of the parameters that a loss has."""
    for size, parameters in itertools.product(sizes, classes.PARAMETERS):
        yield draw(loss, text, size, dtype, **classes.own(loss, parameters))


@every_text
def test_the_compiled_kernel_equals_the_body(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    for dtype in TOLERANCE:
        for batch in batches(loss, text, dtype, classes.SIZES):
            assert_equal(batch.on_host(library), batch)


@every_text
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_source_for_the_device_equals_the_body(
    simt: Execute, loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    for batch in batches(loss, text, dtype, classes.SIZES[:4]):
        assert_equal(batch.on_device(simt), batch)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 64 positions are in segments, as if one had hundreds of times as many."""
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", 64)


@every_text
@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rows_in_segments_equal_the_body(
    simt: Execute, loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    for batch in batches(loss, text, dtype, [(3, 600), (20, 65)]):
        launched: list[str] = []
        found = batch.on_device(noting(simt, launched))
        assert [name.partition("_")[2] for name in launched] == ["counts", "sums", "slopes"]
        assert_equal(found, batch)


def test_only_a_row_in_segments_keeps_what_it_works_in_until_its_tile_is_done() -> None:
    _, text = classes.TEXTS[0]
    assert kept_bytes(text, (2, 128, 128)) == 0
    row = 2, 1024, 1024
    assert kept_bytes(text, row) == pytest.approx(24 * 1024 * 1024, rel=1e-3)
    assert kept_bytes(replace(text, has_class_axis=False), row) == 0


def noting(execute: Execute, names: list[str]) -> Execute:
    """Executes kernels, and notes their names."""

    def executed(kernel: Kernel, launch: Launch, arguments: tuple[Any, ...]) -> None:
        names.append(launch.name)
        execute(kernel, launch, arguments)

    return executed


@every_text
@pytest.mark.usefixtures("short_segments")
def test_a_row_in_segments_has_the_same_bits_alone_and_without_a_gradient(
    simt: Execute, loss: Loss, text: CudaText
) -> None:
    batch = draw(loss, text, (5, 200), FLOAT32, smooth=0.0)
    found, values = batch.on_device(simt), replace(batch, is_differentiated=False).on_device(simt)
    assert values.values.tobytes() == found.values.tobytes()
    for row in range(classes.ROWS):
        assert batch.row(row).on_device(simt).bits(0) == found.bits(row)


@every_text
@pytest.mark.usefixtures("short_segments")
def test_a_segment_sees_a_number_outside_its_domain(
    simt: Execute, loss: Loss, text: CudaText
) -> None:
    kind = DistributionKind.PROBABILITIES
    batch = classes.with_domains(draw(loss, text, (4, 200), FLOAT32, prediction_kind=kind))
    for place in (0, 130, 199):
        given = batch.predictions.copy()
        given[0, 2, place] = 1.0000001
        flags = replace(batch, predictions=given).on_device(simt).flags
        assert flags[0] & OUTSIDE
        assert not flags[[classes.EXCLUDED, classes.CONFIDENT]].any()


@every_text
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    simt: Execute,
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, (5, 90), FLOAT32, smooth=0.0)
    on_host, on_device = batch.on_host(library), batch.on_device(simt)
    for row in range(classes.ROWS):
        assert batch.row(row).on_host(library).bits(0) == on_host.bits(row)
        assert batch.row(row).on_device(simt).bits(0) == on_device.bits(row)


@every_text
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, FLOAT16], ids=str)
@pytest.mark.parametrize("size", [(3, 700), (40, 129)], ids=str)
def test_bits_do_not_depend_on_instructions_caches_or_where_the_classes_lie(
    variants: list[Library],  # noqa: F811
    loss: Loss,
    text: CudaText,
    dtype: np.dtype[Any],
    size: tuple[int, int],
) -> None:
    batch = draw(loss, text, size, dtype, smooth=0.0)
    found = [
        one.on_host(variant, streams=streams)
        for variant in variants
        for streams in (False, True)
        for one in (batch, batch.turned())
    ]
    for row in range(classes.ROWS):
        assert len({one.bits(row) for one in found}) == 1


@every_text
def test_the_sum_is_that_of_the_values(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, (4, 40), FLOAT64)
    found, answer = batch.answered(library, block=1)
    np.testing.assert_array_equal(answer.sums, found.values)
    assert answer.nonfinite_rows == found.flags.sum()


@every_text
@pytest.mark.parametrize("place", ["host", "device"])
def test_an_absent_class_has_no_part_in_the_mean_where_a_prediction_of_it_is_nan(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText, place: str
) -> None:
    if not text.targets_are_classes:
        pytest.skip("a class may be absent of class indices only")
    row, absent = classes.NAN_ROW, 1
    for kind in DistributionKind:
        skipping = {"prediction_kind": kind, "empty_target": EmptyTarget.SKIP}
        batch = draw(loss, text, (3, 600), FLOAT64, **skipping)
        batch.targets[row][batch.targets[row] == absent] = 0
        assert np.isnan(batch.predictions[row, absent]).any()
        if place == "host":
            found = batch.on_host(request.getfixturevalue("library"))
        else:
            found = batch.on_device(request.getfixturevalue("simt"))
        wanted = batch.expected()
        assert_equal(found, batch)
        assert np.isnan([found.values[row], wanted.values[row]]).all()
        np.testing.assert_allclose(found.gradient[row], wanted.gradient[row], 1e-9)


@every_text
def test_a_number_outside_its_domain_is_seen_but_in_an_excluded_row(
    simt: Execute,
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    kind = DistributionKind.PROBABILITIES
    batch = draw(loss, text, (4, 40), FLOAT32, prediction_kind=kind)
    excluded = np.isin(np.arange(classes.ROWS), (classes.EXCLUDED, classes.NAN_ROW))
    batch = classes.with_domains(replace(batch, excluded=excluded))
    names = ["predictions"] if text.targets_are_classes else ["predictions", "targets"]
    for name in names:
        given = getattr(batch, name).copy()
        for row, is_seen in ((classes.NAN_ROW, False), (0, True)):
            given[row, 2, 39] = 1.0000001
            wrong = replace(batch, **{name: given})
            for found in (wrong.on_host(library), wrong.on_device(simt)):
                assert bool(found.flags[0] & OUTSIDE) is is_seen
