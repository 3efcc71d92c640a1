"""Kernels of tokens, from one text, executed on the CPU: CUDA's source, and compiled for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.kernels.host import SAID, Library
from lossd.losses._maths.policy import PolicyObjective
from lossd.losses._maths.policy_divergence import KlEstimator
from lossd.losses._maths.policy_tokens import PolicyRatio
from tests.kernels import tokens
from tests.kernels.cases import FLOAT32, FLOAT64, Execute
from tests.kernels.host.conftest import library, variants  # noqa: F401 - here too
from tests.kernels.tokens import Found, TokenBatch, draw

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {FLOAT32: 2e-7, FLOAT64: 1e-12, BFLOAT16: 8e-3}
POLICIES = [
    pytest.param(p, id=f"{p['objective'].name}-{p['ratio'].name}") for p in tokens.policies()
]
every_policy = pytest.mark.parametrize("parameters", POLICIES)


def batches(parameters: Mapping[str, Any]) -> list[TokenBatch]:
    """Two batches: with advantages of tokens and of sequences, in either type."""
    return [
        draw(parameters, FLOAT64, by_sequence=False),
        draw(parameters, FLOAT32, by_sequence=True),
    ]


def check(found: Found, batch: TokenBatch) -> None:
    wanted, dtype = batch.expected(), found.gradient.dtype
    tolerance = TOLERANCE[dtype]
    of_values = TOLERANCE[found.values.dtype]
    np.testing.assert_allclose(found.values, wanted.values, of_values, of_values)
    given, right = (x.gradient.astype(FLOAT64) for x in (found, wanted))
    np.testing.assert_allclose(given, right, tolerance, tolerance)
    flagged, wrong = (x.nonfinite | ~np.isfinite(x.values) for x in (found, wanted))
    np.testing.assert_array_equal(flagged, wrong)
    if found.said.size:
        np.testing.assert_allclose(found.said, wanted.said, 1e-12, 1e-12)


@every_policy
def test_the_compiled_kernel_equals_the_body(
    variants: list[Library],  # noqa: F811
    parameters: Mapping[str, Any],
) -> None:
    for batch in batches(parameters):
        found = [batch.on_host(variant) for variant in variants]
        check(found[0], batch)
        for row in range(len(tokens.SIZES)):
            assert len({one.bits(row, batch.cells(row)) for one in found}) == 1


@every_policy
def test_the_source_for_the_device_equals_the_body(
    simt: Execute, parameters: Mapping[str, Any]
) -> None:
    for batch in batches(parameters):
        check(batch.on_device(simt), batch)


@every_policy
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch(
    simt: Execute,
    library: Library,  # noqa: F811
    parameters: Mapping[str, Any],
) -> None:
    batch = draw(parameters, FLOAT32, by_sequence=True)
    on_host, on_device = batch.on_host(library), batch.on_device(simt)
    for row, size in enumerate(tokens.SIZES):
        alone, cells = batch.row(row), slice(0, size + tokens.PADDING)
        assert alone.on_host(library).bits(0, cells) == on_host.bits(row, batch.cells(row))
        assert alone.on_device(simt).bits(0, cells) == on_device.bits(row, batch.cells(row))


@every_policy
def test_a_mask_that_keeps_all_changes_no_bit(
    library: Library,  # noqa: F811
    parameters: Mapping[str, Any],
) -> None:
    drawn = draw(parameters, FLOAT32, by_sequence=True)
    whole = {name: np.nan_to_num(array, nan=-1) for name, array in drawn.inputs.items()}
    masked = replace(drawn, inputs=whole, mask=np.ones_like(drawn.mask))
    without_one = replace(masked, mask=None)  # type: ignore[arg-type]  # as kernels take it
    with_mask, without = masked.on_host(library), without_one.on_host(library)
    for row in range(len(tokens.SIZES)):
        cells = slice(masked.starts[row], masked.starts[row] + tokens.SIZES[row])
        assert with_mask.bits(row, cells) == without.bits(row, cells)
    assert with_mask.said.tobytes() == without.said.tobytes()


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("far", [60.0, 800.0, np.inf, np.nan])
def test_a_ratio_far_from_one_changes_no_bit_of_other_tokens(
    library: Library,  # noqa: F811
    dtype: np.dtype[Any],
    far: float,
) -> None:
    chosen = next(p for p in tokens.policies() if p["objective"] is PolicyObjective.PPO_CLIP)
    assert chosen["ratio"] is PolicyRatio.TOKEN
    with_divergence = {"kl_estimator": KlEstimator.K3, "kl_coefficient": 0.3}
    batch = draw({**chosen, **with_divergence}, dtype, by_sequence=True)
    cells = batch.cells(6)
    counts = batch.mask[cells] & (batch.inputs["token_weights"][cells] > 0)
    place, *others = cells.start + np.flatnonzero(counts)
    logs = batch.inputs["log_probabilities"].copy()
    logs[place] -= dtype.type(far)
    changed = replace(batch, inputs={**batch.inputs, "log_probabilities": logs})
    found, other = (one.on_host(library).gradient for one in (batch, changed))
    assert found[place].tobytes() != other[place].tobytes()
    assert found[others].tobytes() == other[others].tobytes()


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_the_loss_of_a_value_function_equals_the_body(
    simt: Execute,
    library: Library,  # noqa: F811
    dtype: np.dtype[Any],
) -> None:
    batch = tokens.draw_values(dtype)
    wanted, found = batch.expected(), batch.on_host(library)
    check(batch.on_device(simt), batch)
    place = SAID.index("clip_fraction")
    np.testing.assert_allclose(found.said[:, place], wanted.said[:, place], 1e-12)
    check(replace(found, said=np.zeros(0)), batch)


def test_numbers_of_sixteen_bits_are_rounded_once_on_the_device(simt: Execute) -> None:
    batch = draw(next(tokens.policies()), BFLOAT16, by_sequence=True)
    check(batch.on_device(simt), batch)


DISTILLATIONS = [
    pytest.param(p, id=f"{p['divergence'].name}-{p['support'].name}-{p['beta']}")
    for p in tokens.distillations()
]


@pytest.mark.parametrize("parameters", DISTILLATIONS)
def test_distributions_equal_the_body_in_any_variant(
    variants: list[Library],  # noqa: F811
    parameters: Mapping[str, Any],
) -> None:
    for classes, dtype in [(n, t) for n in tokens.CLASSES for t in (FLOAT32, FLOAT64)]:
        batch = tokens.draw_distributions(parameters, dtype, classes)
        found = [batch.on_host(variant) for variant in variants]
        check(replace(found[0], said=np.zeros(0)), batch)
        for row in range(len(batch.used)):
            alone = batch.row(row).on_host(variants[0]).bits(0, slice(None))
            assert {one.bits(row, batch.cells(row)) for one in found} == {alone}


@pytest.mark.parametrize("parameters", DISTILLATIONS[::3])
def test_distributions_equal_the_body_on_the_device(
    simt: Execute, parameters: Mapping[str, Any]
) -> None:
    for classes, dtype in ((17, FLOAT64), (300, FLOAT32)):
        batch = tokens.draw_distributions(parameters, dtype, classes)
        check(batch.on_device(simt), batch)
