"""Kernels of regions of classes, from one text, executed on the CPU."""

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels import OUTSIDE
from lossd.kernels.host import Library
from lossd.losses import DistributionKind, Loss
from lossd.losses._declare import CudaText
from tests.kernels import classes
from tests.kernels.cases import FLOAT32, FLOAT64
from tests.kernels.classes import Classes, Found, draw
from tests.kernels.host.conftest import library, variants  # noqa: F401 - here too

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 2e-6, FLOAT64: 1e-12, FLOAT16: 1e-3, BFLOAT16: 8e-3}


def named(case: Loss | CudaText) -> str:
    """The name of a loss; a text has none."""
    return case.name if isinstance(case, Loss) else ""


every_text = pytest.mark.parametrize(("loss", "text"), classes.TEXTS, ids=named)
every_device = pytest.mark.parametrize("device", ["simt", "host"])


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


def run(request: pytest.FixtureRequest, device: str, batch: Classes) -> Found:
    if device == "simt":
        return batch.on_device(request.getfixturevalue("simt"))
    return batch.on_host(request.getfixturevalue("library"))


@every_text
@every_device
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_kernel_equals_the_body(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText, device: str, dtype: np.dtype[Any]
) -> None:
    for size in classes.SIZES[:4] if device == "simt" else classes.SIZES:
        for parameters in classes.PARAMETERS:
            batch = draw(loss, text, size, dtype, **classes.own(loss, parameters))
            assert_equal(run(request, device, batch), batch)


@every_text
@every_device
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText, device: str
) -> None:
    batch = draw(loss, text, (5, 90), FLOAT32, smooth=0.0)
    together = run(request, device, batch)
    for row in range(classes.ROWS):
        assert run(request, device, batch.row(row)).bits(0) == together.bits(row)


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
@every_device
def test_a_number_outside_its_domain_is_seen_but_in_an_excluded_row(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText, device: str
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
            flags = run(request, device, replace(batch, **{name: given})).flags
            assert bool(flags[0] & OUTSIDE) is is_seen
