"""Kernels of sequences, from one text, executed on the CPU: CUDA's source, and compiled for it."""

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels.host import Library
from lossd.losses import DistributionKind, Loss
from lossd.losses._declare import CudaText
from tests.kernels import sequences
from tests.kernels.cases import FLOAT32, FLOAT64, Execute
from tests.kernels.host.conftest import library, variants  # noqa: F401 - here too
from tests.kernels.sequences import Found, Sequences, draw

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 1e-6, FLOAT64: 1e-11, BFLOAT16: 8e-3}
every_text = pytest.mark.parametrize(
    ("loss", "text"), sequences.TEXTS, ids=lambda x: x.name if isinstance(x, Loss) else ""
)


def check(found: Found, batch: Sequences) -> None:
    wanted, tolerance = batch.expected(), TOLERANCE[found.gradient.dtype]
    np.testing.assert_array_equal(found.statuses, wanted.statuses)
    # Of logarithms near 0 the value is a difference.
    is_exact = batch.text.when["prediction_kind"] is DistributionKind.LOGITS
    smallest = np.finfo(found.values.dtype).smallest_normal if is_exact else 1e-14
    np.testing.assert_allclose(found.values, wanted.values, tolerance, smallest)
    given, right = (x.gradient.astype(np.float64) for x in (found, wanted))
    np.testing.assert_allclose(given, right, tolerance, 1e-14)


@every_text
def test_the_compiled_kernel_equals_the_body(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    for dtype, size in itertools.product(TOLERANCE, sequences.SIZES):
        batch = draw(loss, text, *size, dtype)
        check(batch.on_host(library), batch)


@every_text
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", sequences.SIZES, ids=str)
def test_the_source_for_the_device_equals_the_body(
    simt: Execute, loss: Loss, text: CudaText, dtype: np.dtype[Any], size: tuple[int, int]
) -> None:
    batch = draw(loss, text, *size, dtype)
    check(batch.on_device(simt), batch)


@every_text
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    simt: Execute,
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, 50, 40, FLOAT64)
    on_host, on_device = batch.on_host(library), batch.on_device(simt)
    *_, lengths, counts = batch.inputs.values()
    for row, (frames, labels) in enumerate(zip(lengths, counts, strict=True)):
        alone = batch.row(row, frames=frames, labels=labels)
        assert alone.on_host(library).bits(0, frames) == on_host.bits(row, frames)
        assert alone.on_device(simt).bits(0, frames) == on_device.bits(row, frames)


@every_text
def test_bits_do_not_depend_on_the_instruction_set(
    variants: list[Library],  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, 50, 12, FLOAT32)
    found = [batch.on_host(variant) for variant in variants]
    for row in range(sequences.ROWS):
        assert len({one.bits(row, 50) for one in found}) == 1
