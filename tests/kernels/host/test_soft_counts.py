"""Soft counts over all examples, by what is compiled for the host."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.kernels.host import Library
from lossd.schema import UNIT
from tests.misaligned import misaligned

Array = npt.NDArray[Any]
# Labels of which a group of lanes holds many, a whole number, none, and more than a block.
LABELS = [1, 2, 3, 16, 17, 100, 1001]


def drawn(labels: int, dtype: Any) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(labels)
    rows = 1 + 5000 // labels
    logits = rng.normal(0, 4, (rows, labels)).astype(dtype)
    logits[0, 0], logits[-1, -1] = 95, -95  # whose exponentials are hardly numbers
    return logits, rng.random((rows, labels)).astype(dtype), rng.uniform(0.1, 2, rows)


@pytest.mark.parametrize("labels", LABELS)
def test_counts_and_derivatives_are_those_of_the_definition(
    variants: list[Library], labels: int
) -> None:
    for dtype, is_weighted in itertools.product((np.float32, np.float64), (False, True)):
        assert_right(variants, labels, dtype, is_weighted=is_weighted)


def assert_right(variants: list[Library], labels: int, dtype: Any, *, is_weighted: bool) -> None:
    logits, truth, drawn_weights = drawn(labels, dtype)
    weights = drawn_weights if is_weighted else None
    own = drawn_weights[:, None] if is_weighted else 1
    wide, true = logits.astype(np.longdouble), truth.astype(np.longdouble)
    inside, outside = 1 / (1 + np.exp(-wide)), 1 / (1 + np.exp(wide))
    wanted = [(own * part).sum(axis=0) for part in
              (inside * true, inside * (1 - true), outside * true)]  # fmt: skip
    by_true, by_false = np.linspace(-2, 1, labels, dtype=dtype), np.ones(labels, dtype)
    slopes = own * inside * outside * (true * by_true + (1 - true) * by_false)
    size = own * inside * outside * (true * abs(by_true) + (1 - true))
    tolerance = 3e-6 if dtype is np.float32 else 1e-13
    for library in variants:
        kernel = library.soft_counts(np.dtype(dtype))
        products = np.empty_like(logits)
        counts, _ = kernel.count(logits, truth, weights, products)
        np.testing.assert_allclose(counts, np.array(wanted, np.float64), rtol=tolerance)
        assert kernel.slope(truth, weights, (by_true, by_false), products)
        assert (abs(products - slopes) <= tolerance * size + np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("labels", LABELS)
def test_bits_are_those_of_any_instruction_set_and_any_address(
    variants: list[Library], labels: int
) -> None:
    logits, truth, weights = drawn(labels, np.float32)
    found = set()
    for library in variants:
        kernel = library.soft_counts(np.dtype(np.float32))
        for given in (logits, misaligned(logits)):
            products = np.empty_like(logits)
            counts, _ = kernel.count(given, truth, weights, products)
            kernel.slope(truth, weights, (truth[0], truth[0]), products)
            found.add(counts.tobytes() + products.tobytes())
    assert len(found) == 1


def test_an_example_that_is_no_number_shows(variants: list[Library]) -> None:
    logits, truth, _ = drawn(3, np.float32)
    logits[7, 1] = np.nan
    for library in variants:
        counts, _ = library.soft_counts(np.dtype(np.float32)).count(logits, truth, None, None)
        assert np.isnan(counts).all(axis=0).tolist() == [False, True, False]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("wrong", [1.0000001, -1e-45, np.nan])
def test_a_target_outside_its_domain_is_seen(
    variants: list[Library], labels: int, wrong: float
) -> None:
    logits, truth, _ = drawn(labels, np.float32)
    bad = truth.copy()
    bad[len(bad) // 2, -1] = wrong
    for library in variants:
        kernel = library.soft_counts(np.dtype(np.float32))
        found = [kernel.count(logits, one, None, None, UNIT)[1] for one in (truth, bad)]
        assert found == [False, True]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_derivative_that_is_not_finite_is_seen(
    variants: list[Library], labels: int, *, is_weighted: bool
) -> None:
    logits, truth, weights = drawn(labels, np.float32)
    ones = np.ones(labels, np.float32)
    for library, wrong in itertools.product(variants, (None, np.inf, np.nan)):
        products = np.ones_like(logits)
        if wrong is not None:
            products[len(products) // 2, -1] = wrong
        kernel = library.soft_counts(np.dtype(np.float32))
        found = kernel.slope(truth, weights if is_weighted else None, (ones, ones), products)
        assert found is (wrong is None)
