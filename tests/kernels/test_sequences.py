"""Kernels of sequences, from one text, executed on the CPU: CUDA's source, and compiled for it."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels.host import Library
from lossd.losses import DistributionKind, Loss
from lossd.losses._declare import CudaText
from tests.kernels import sequences
from tests.kernels.cases import FLOAT32, FLOAT64, Execute
from tests.kernels.host.conftest import library  # noqa: F401 - here too
from tests.kernels.sequences import draw

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 1e-6, FLOAT64: 1e-11, BFLOAT16: 8e-3}
every_text = pytest.mark.parametrize(
    ("loss", "text"), sequences.TEXTS, ids=lambda x: x.name if isinstance(x, Loss) else ""
)
every_device = pytest.mark.parametrize("device", ["simt", "host"])


class Run:
    """Runs batches on one of the two, of which the other may not be there."""

    def __init__(self, request: pytest.FixtureRequest, device: str) -> None:
        self._execute: Execute | None = None
        if device == "simt":
            self._execute = request.getfixturevalue("simt")
        else:
            self._library: Library = request.getfixturevalue("library")

    def __call__(self, batch: sequences.Sequences) -> sequences.Found:
        return batch.on_device(self._execute) if self._execute else batch.on_host(self._library)


@every_text
@every_device
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", sequences.SIZES, ids=str)
def test_a_kernel_equals_the_body(  # noqa: PLR0917 - parameters of the test
    request: pytest.FixtureRequest,
    loss: Loss,
    text: CudaText,
    device: str,
    dtype: np.dtype[Any],
    size: tuple[int, int],
) -> None:
    batch = draw(loss, text, *size, dtype)
    found, wanted = Run(request, device)(batch), batch.expected()
    np.testing.assert_array_equal(found.statuses, wanted.statuses)
    tolerance = TOLERANCE[dtype]
    # Of logarithms near 0 the value is a difference.
    is_exact = text.when["prediction_kind"] is DistributionKind.LOGITS
    smallest = np.finfo(found.values.dtype).smallest_normal if is_exact else 1e-14
    np.testing.assert_allclose(found.values, wanted.values, tolerance, smallest)
    given, right = (x.gradient.astype(np.float64) for x in (found, wanted))
    np.testing.assert_allclose(given, right, tolerance, 1e-14)


@every_text
@every_device
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText, device: str
) -> None:
    batch, run = draw(loss, text, 50, 40, FLOAT64), Run(request, device)
    together = run(batch)
    *_, lengths, counts = batch.inputs.values()
    for row, (frames, labels) in enumerate(zip(lengths, counts, strict=True)):
        alone = run(batch.row(row, frames=frames, labels=labels))
        assert alone.bits(0, frames) == together.bits(row, frames)


@every_text
def test_bits_do_not_depend_on_the_instruction_set(
    request: pytest.FixtureRequest, loss: Loss, text: CudaText
) -> None:
    compiled: Library = request.getfixturevalue("library")
    batch = draw(loss, text, 50, 12, FLOAT32)
    found = [batch.on_host(Library(variant=name)) for name in compiled.variants]
    for row in range(sequences.ROWS):
        assert len({one.bits(row, 50) for one in found}) == 1
