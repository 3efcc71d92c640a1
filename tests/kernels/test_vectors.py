"""Kernels of vectors, from one text, executed on the CPU: CUDA's source, and compiled for it."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels import OUTSIDE
from lossd.kernels.host import Library
from lossd.losses import Loss
from lossd.losses._declare import CudaText
from tests.kernels import vectors
from tests.kernels.cases import FLOAT32, FLOAT64, Execute
from tests.kernels.host.conftest import library, variants  # noqa: F401 - here too
from tests.kernels.vectors import Found, Vectors, draw

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 1e-6, FLOAT64: 1e-12, FLOAT16: 1e-3, BFLOAT16: 8e-3}


def named(case: Loss | CudaText) -> str:
    """The name of a loss; a text has none."""
    return case.name if isinstance(case, Loss) else ""


every_text = pytest.mark.parametrize(("loss", "text"), vectors.TEXTS, ids=named)
# Beside the defaults; those that a loss has not are left out.
PARAMETERS: tuple[dict[str, Any], ...] = (
    {},
    {"swap": True, "margin": 0.25, "one_sided": True, "target_norm": 2.0},
)


def own(loss: Loss, text: CudaText, parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that a loss has and a text leaves open; R1 has none."""
    if any(getattr(value, "name", "") == "R1" for value in text.when.values()):
        return {}
    known = {p.name for p in loss.parameters} - text.when.keys()
    return {name: value for name, value in parameters.items() if name in known}


def assert_equal(found: Found, batch: Vectors) -> None:
    wanted, dtype = batch.expected(), next(iter(batch.inputs.values())).dtype
    tolerance = TOLERANCE[dtype]
    np.testing.assert_array_equal(found.nonfinite, wanted.nonfinite)
    np.testing.assert_array_equal(found.statuses, wanted.statuses)
    is_finite = ~wanted.nonfinite
    # Numbers below the normal ones have fewer digits, or none where a length is infinite.
    limits = np.finfo(FLOAT32 if dtype == BFLOAT16 else dtype)
    smallest = float(limits.smallest_subnormal if dtype == FLOAT16 else limits.tiny)
    np.testing.assert_allclose(found.values[is_finite], wanted.values[is_finite], tolerance, 1e-30)
    for name, gradient in wanted.gradients.items():
        given, right = (g[is_finite].astype(np.float64) for g in (found.gradients[name], gradient))
        # A component of a direction is as right as the direction.
        size = np.abs(right).max(axis=-1, keepdims=True)
        allowed = tolerance * size + noise(batch)[is_finite, None] + smallest
        assert (np.abs(given - right) <= allowed).all(), name


def noise(batch: Vectors) -> Any:
    """Returns the gradient that rounded directions leave where the right one is 0."""
    sizes = [np.abs(a.astype(np.float64)).max(axis=-1) for a in batch.inputs.values() if a.ndim > 1]
    shortest = np.min([np.where(size > 0, size, np.inf) for size in sizes], axis=0)
    return 1e-15 * np.abs(batch.scales) / shortest


def batches(loss: Loss, text: CudaText, dtype: np.dtype[Any]) -> Iterator[Vectors]:
    """Batches of each length with each of the parameters that a text leaves open."""
    for length, parameters in itertools.product(vectors.LENGTHS, PARAMETERS):
        yield draw(loss, text, length, dtype, **own(loss, text, parameters))


@every_text
def test_the_compiled_kernel_equals_the_body(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    for dtype in TOLERANCE:
        for batch in batches(loss, text, dtype):
            assert_equal(batch.on_host(library), batch)


@every_text
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_source_for_the_device_equals_the_body(
    simt: Execute, loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    for batch in batches(loss, text, dtype):
        assert_equal(batch.on_device(simt), batch)


def assert_same_bits(run: Callable[[Vectors], Found], batch: Vectors) -> None:
    """Checks that neither other rows nor addresses change the bits of a row."""
    together, shifted = run(batch), run(batch.shifted())
    for row in range(vectors.ROWS):
        assert run(batch.row(row)).bits(0) == together.bits(row) == shifted.bits(row)


@every_text
def test_a_row_has_the_same_bits_alone_in_a_batch_and_at_any_address(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    for dtype, length in itertools.product((FLOAT32, FLOAT64, BFLOAT16), (7, 300, 1100)):
        assert_same_bits(lambda b: b.on_host(library), draw(loss, text, length, dtype))


@every_text
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, BFLOAT16], ids=str)
def test_a_row_has_the_same_bits_anywhere_on_the_device(
    simt: Execute, loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    for length in (7, 300, 1100):
        assert_same_bits(lambda b: b.on_device(simt), draw(loss, text, length, dtype))


@every_text
def test_bits_depend_neither_on_the_instruction_set_nor_on_the_caches(
    variants: list[Library],  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    for dtype in (FLOAT32, FLOAT64):
        batch = draw(loss, text, 1003, dtype)
        found = [batch.on_host(v, streams=s) for v in variants for s in (False, True)]
        for row in range(vectors.ROWS):
            assert len({one.bits(row) for one in found}) == 1, dtype


@every_text
def test_the_sum_is_that_of_the_values(
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, 40, FLOAT64)
    found, answer = batch.answered(library, block=1)
    np.testing.assert_array_equal(answer.sums, found.values)
    assert answer.nonfinite_rows == found.nonfinite.sum()
    assert not answer.is_outside


@pytest.mark.parametrize(
    ("loss", "text"), [t for t in vectors.TEXTS if t[0].inputs[-1].name == "targets"], ids=named
)
def test_a_target_outside_its_domain_is_seen_but_in_an_excluded_row(
    simt: Execute,
    library: Library,  # noqa: F811
    loss: Loss,
    text: CudaText,
) -> None:
    batch = draw(loss, text, 20, FLOAT32)
    for row, is_seen in ((vectors.EXCLUDED, False), (0, True)):
        batch.inputs["targets"][row] = 0.5
        assert batch.answered(library)[1].is_outside is is_seen
        flags = batch.on_device(simt).nonfinite.view(np.uint8) & OUTSIDE
        np.testing.assert_array_equal(flags != 0, is_seen & (np.arange(vectors.ROWS) == 0))
