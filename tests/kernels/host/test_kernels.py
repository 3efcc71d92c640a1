"""Every text, compiled for the CPU, against the NumPy body that it stands for."""

import itertools
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.kernels.host import HostText, KernelInput, KernelSummary, Library, host_texts
from lossd.losses import COMPUTED, LOSSES, Choices, Shape
from tests.kernels import cases
from tests.kernels.cases import Case, Variant, make_case

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

Array = npt.NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

every_text = cases.every(text=cases.VARIANTS, dtype=cases.DTYPES)
# Less and more than a group of lanes; several rows a block; more than a block, its last one full.
LENGTHS = (1, 2, 15, 17, 250, 513, 1003, 1024)


@dataclass(frozen=True)
class Ran:
    """The results of a kernel, and its answer."""

    values: Array
    gradient: Array
    nonfinite: Array
    answer: KernelSummary


def run(
    library: Library, case: Case, *, stored: Any = None, by_row: bool = True, **options: Any
) -> Ran:
    """A case through the kernel of its text, with inputs stored in another type perhaps."""
    loss = case.variant.loss
    kernel = library.kernel(HostText(loss, loss.cuda.index(case.variant.text)), case.dtype)
    targets = np.where(case.excluded, 0, case.targets) if case.targets.ndim == 1 else case.targets
    inputs = [case.predictions, targets, *case.others.values()][: len(loss.inputs)]
    if stored is not None:
        inputs = [a if a.dtype == np.int64 else a.astype(stored) for a in inputs]
    rows = len(targets)
    values, nonfinite = np.full(rows, np.nan, case.dtype), np.zeros(rows, np.bool_)
    gradient = np.full_like(inputs[0], np.nan)
    answer = kernel(
        [KernelInput(array) for array in inputs],
        case.parameters,
        nonfinite=nonfinite,
        values=values,
        gradient=gradient,
        scale=case.scales if by_row else case.scales[0],
        elements=case.length if loss.shape is Shape.POINTWISE else 1,
        excluded=case.excluded if by_row else None,
        **options,
    )
    return Ran(values, gradient, nonfinite, answer)


def bits(array: Array) -> bytes:
    """All NaN are one: which of two a sum keeps is the processor's choice."""
    return np.where(np.isnan(array), array.dtype.type(np.nan), array).tobytes()


def test_every_text_has_a_template() -> None:
    named = {text.name for text in host_texts()}
    assert named == {f"{x.name}_{n}" for x in COMPUTED.values() for n in range(len(x.cuda))}


@every_text
@pytest.mark.parametrize("length", LENGTHS)
def test_a_kernel_equals_the_body(
    variants: list[Library], text: Variant, dtype: np.dtype[Any], length: int
) -> None:
    case = make_case(text, dtype, length)
    values, gradient = case.expected()
    tolerance = cases.TOLERANCE[dtype]
    for variant in variants:
        found = run(variant, case)
        by = variant.instructions
        np.testing.assert_allclose(found.values, values, tolerance, tolerance, err_msg=by)
        np.testing.assert_allclose(found.gradient, gradient, tolerance, tolerance, err_msg=by)


@every_text
def test_bits_do_not_depend_on_the_instruction_set(
    variants: list[Library], text: Variant, dtype: np.dtype[Any]
) -> None:
    case = make_case(text, dtype, 1003)
    found = [run(variant, case) for variant in variants]
    assert len({bits(one.values) for one in found}) == 1
    assert len({bits(one.gradient) for one in found}) == 1


@every_text
@pytest.mark.parametrize("length", [1, 10, 600])
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    library: Library, text: Variant, dtype: np.dtype[Any], length: int
) -> None:
    case = make_case(text, dtype, length)
    together = run(library, case)
    for row in range(cases.ROWS):
        alone = run(library, case.rows(slice(row, row + 1)))
        assert bits(alone.values) == bits(together.values[row : row + 1])
        assert bits(alone.gradient) == bits(together.gradient[row : row + 1])


@every_text
def test_arrays_need_not_be_aligned(library: Library, text: Variant, dtype: np.dtype[Any]) -> None:
    aligned, shifted = (make_case(text, dtype, 260, misaligned=m) for m in (False, True))
    assert bits(run(library, aligned).gradient) == bits(run(library, shifted).gradient)


@every_text
def test_an_excluded_row_is_exactly_zero(
    library: Library, text: Variant, dtype: np.dtype[Any]
) -> None:
    found = run(library, make_case(text, dtype, 33))
    assert found.values[cases.EXCLUDED] == 0
    assert (found.gradient[cases.EXCLUDED] == 0).all()
    assert not found.nonfinite[cases.EXCLUDED]


@every_text
@pytest.mark.parametrize("length", [1, 33, 700])
def test_rows_that_are_not_finite_are_flagged(
    library: Library, text: Variant, dtype: np.dtype[Any], length: int
) -> None:
    found = run(library, make_case(text, dtype, length))
    is_finite = np.isfinite(found.values) & np.isfinite(found.gradient).all(axis=-1)
    np.testing.assert_array_equal(found.nonfinite, ~is_finite)
    assert found.answer.nonfinite_rows == found.nonfinite.sum()


@every_text
def test_the_sum_is_that_of_the_values(
    library: Library, text: Variant, dtype: np.dtype[Any]
) -> None:
    case = make_case(text, dtype, 40).rows(slice(cases.INFINITE_ROW + 1, None))
    found = run(library, case, by_row=False)
    total = found.values.astype(np.float64).sum()
    np.testing.assert_allclose(found.answer.sums, [total], 1e-14)


@every_text
@pytest.mark.parametrize("length", [1, 40, 600])
def test_a_block_has_the_same_sum_alone_and_among_others(
    library: Library, text: Variant, dtype: np.dtype[Any], length: int
) -> None:
    case = make_case(text, dtype, length)
    together = run(library, case, block=3).answer.sums
    starts = range(0, cases.ROWS, 3)
    alone = [run(library, case.rows(slice(s, s + 3))).answer.sums for s in starts]
    assert bits(together) == bits(np.concatenate(alone))


@every_text
@pytest.mark.parametrize("length", [1, 17, 250, 1003])
def test_a_gradient_that_goes_past_the_caches_has_the_same_bits(
    variants: list[Library], text: Variant, dtype: np.dtype[Any], length: int
) -> None:
    case = make_case(text, dtype, length)
    stored_types = (None, np.float16) if dtype == cases.FLOAT32 else (None,)
    for variant, stored, by_row in itertools.product(variants, stored_types, (True, False)):
        kept, streamed = (
            run(variant, case, stored=stored, by_row=by_row, streams=s) for s in (False, True)
        )
        assert bits(kept.gradient) == bits(streamed.gradient), variant.variant
        assert bits(kept.values) == bits(streamed.values), variant.variant


@pytest.mark.parametrize("text", cases.VARIANTS, ids=str)
@pytest.mark.parametrize("stored", [np.dtype(np.float16), BFLOAT16], ids=str)
@pytest.mark.parametrize("length", [1, 40, 600])
def test_half_types_are_read_and_rounded_once(
    library: Library, text: Variant, stored: np.dtype[Any], length: int
) -> None:
    case = make_case(text, cases.FLOAT32, length)
    halves = run(library, case, stored=stored)
    rounded = Case(
        case.variant, case.dtype, case.length, _through(case.predictions, stored),
        _through(case.targets, stored), case.scales, case.excluded,
        {name: _through(array, stored) for name, array in case.others.items()}, case.parameters,
    )  # fmt: skip
    wide = run(library, rounded)
    assert bits(halves.values) == bits(wide.values)
    assert bits(halves.gradient) == bits(wide.gradient.astype(stored))


def _through(array: Array, stored: np.dtype[Any]) -> Array:
    return array if array.dtype == np.int64 else array.astype(stored).astype(array.dtype)


@pytest.mark.parametrize(
    ("loss", "wrong", "right"),
    [("binary_cross_entropy", 1.0000001, 1.0), ("hinge", 0.0, -1.0), ("cross_entropy", -1e-45, 0)],
)
@pytest.mark.parametrize("length", [1, 30, 2000])
def test_a_number_outside_its_domain_is_seen_but_in_an_excluded_row(
    library: Library, loss: str, wrong: float, right: float, length: int
) -> None:
    declared = LOSSES[loss]
    number = next(n for n, t in enumerate(declared.cuda) if t.targets_are_classes is not True)
    kernel = library.kernel(HostText(declared, number), cases.FLOAT32)
    parameters = {p.name: p.default for p in declared.parameters}
    domain = declared.inputs[1].domain
    good = domain.numbers[0] if isinstance(domain, Choices) else right
    targets = np.full((3, length), good, np.float32)
    targets[1, length // 2] = wrong
    predictions, excluded = np.zeros_like(targets), np.arange(3) == 1
    for given, expected in ((None, True), (excluded, False)):
        answer = kernel(
            [KernelInput(predictions), KernelInput(targets, domain)],
            parameters,
            nonfinite=np.zeros(3, np.bool_),
            excluded=given,
        )
        assert answer.is_outside is expected
