"""Every text, compiled for the CPU, against the NumPy body that it stands for."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends._host import HostKernels
from lossd.batch import Job
from lossd.kernels import find_text
from lossd.kernels.host import HostText, KernelInput, KernelSummary, Library, host_texts
from lossd.losses import COMPUTED, LOSSES, Choices, DistributionKind, Loss, Shape
from lossd.shapes import lay_out
from tests.kernels import cases
from tests.kernels.cases import Case, Variant, make_case

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

Array = npt.NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Types and lengths are no parameters: a sample of those would leave most texts with one of each.
every_text = cases.every(text=cases.VARIANTS)
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


def has_kinds(loss: Loss) -> bool:
    """Whether a loss that has a text takes predictions of several kinds."""
    return bool(loss.cuda) and "prediction_kind" in {p.name for p in loss.parameters}


def bits(array: Array) -> bytes:
    """All NaN are one: which of two a sum keeps is the processor's choice."""
    return np.where(np.isnan(array), array.dtype.type(np.nan), array).tobytes()


def test_every_text_has_a_template() -> None:
    named = {text.name for text in host_texts()}
    assert named == {f"{x.name}_{n}" for x in COMPUTED.values() for n in range(len(x.cuda))}


@pytest.mark.parametrize("loss", [x for x in LOSSES.values() if has_kinds(x)], ids=lambda x: x.name)
def test_a_loss_with_a_text_has_one_for_each_kind_of_predictions(loss: Loss) -> None:
    """Give it one, or users of that kind wait ten times as long and nobody says so."""
    names = [p.name for p in loss.parameters if isinstance(p.default, DistributionKind)]
    for kinds in itertools.product(DistributionKind, repeat=len(names)):
        parameters = loss.complete(dict(zip(names, kinds, strict=True)))
        found = [find_text(loss, parameters, targets_are_classes=c) for c in (False, True)]
        assert any(found), kinds


def sizes(text: Variant, *lengths: int) -> Iterator[tuple[Case, str]]:
    """Cases of a text in each type and of each length, with what to call them."""
    for dtype in cases.DTYPES:
        for length in lengths:
            yield make_case(text, dtype, length), f"{dtype}, length {length}"


@every_text
def test_a_kernel_equals_the_body(variants: list[Library], text: Variant) -> None:
    for case, name in sizes(text, *LENGTHS):
        values, gradient = case.expected()
        tolerance = cases.TOLERANCE[case.dtype]
        for variant in variants:
            found, by = run(variant, case), f"{name}, {variant.instructions}"
            np.testing.assert_allclose(found.values, values, tolerance, tolerance, err_msg=by)
            np.testing.assert_allclose(found.gradient, gradient, tolerance, tolerance, err_msg=by)


def of_classes(variants: list[Variant]) -> list[Variant]:
    """The texts of rows that have a class index."""
    return [v for v in variants if v.text.targets_are_classes and v.loss.shape is Shape.ROWWISE]


@cases.every(text=of_classes(cases.VARIANTS))
def test_a_class_may_be_any_column(library: Library, text: Variant) -> None:
    """Its slope is written apart from the others: the first and last of a group, block or row."""
    for case, name in sizes(text, 1, 17, 600, 1040):
        near = {start + step for start in (0, 16, 512, 1024, case.length) for step in range(-2, 3)}
        labels = [label for label in sorted(near) if 0 <= label < case.length]
        for first in range(0, len(labels), cases.ROWS):
            classes = np.resize(labels[first:], cases.ROWS)
            own = replace(case, targets=np.where(case.excluded, case.targets, classes))
            found, (values, gradient) = run(library, own), own.expected()
            tolerance, by = cases.TOLERANCE[case.dtype], f"{name}, {classes}"
            np.testing.assert_allclose(found.values, values, tolerance, tolerance, err_msg=by)
            np.testing.assert_allclose(found.gradient, gradient, tolerance, tolerance, err_msg=by)


# Of the logit of a class, above the largest of the others: near, and beyond where digits are lost.
GAPS = (0, 5, 10, 10.6, 11, 20, 60, 79, 81, 90, 104, 1000, np.inf)


@cases.every(text=[v for v in of_classes(cases.VARIANTS) if "SOFTMAX_FROM" in v.text.host_text])
def test_a_class_may_be_any_distance_from_the_others(library: Library, text: Variant) -> None:
    """Exponentials count from its logit where that is near the largest, and else from that one."""
    gaps = np.array([*GAPS, *(-gap for gap in GAPS), np.nan])
    for length in (2, 17, 600, 1040):
        case = spread_case(text, length, gaps)
        found, (values, gradient) = run(library, case), widened(case).expected()
        by = f"{length} columns"
        np.testing.assert_allclose(found.values, values, 1e-5, 1e-37, err_msg=by)
        np.testing.assert_allclose(found.gradient, gradient, 1e-5, 1e-37, err_msg=by)


@cases.every(text=[v for v in of_classes(cases.VARIANTS) if "z_loss" in v.text.host_text])
def test_a_log_of_the_sum_near_0_keeps_its_digits(library: Library, text: Variant) -> None:
    """Also where the class is unlikely, whose logit and the log of the sum nearly cancel."""
    gaps = (3, 4, 5, 8, 10)
    predictions = np.full((len(gaps), 17), -60, np.float32)
    predictions[:, 3], predictions[:, 5] = 0, [-gap for gap in gaps]
    case = spread_case(text, 17, np.array(gaps))
    case = replace(
        case, predictions=predictions, targets=np.full(len(gaps), 5),
        parameters={**case.parameters, "z_loss": 100.0},
    )  # fmt: skip
    found, (values, gradient) = run(library, case), widened(case).expected()
    np.testing.assert_allclose(found.values, values, 1e-6)
    np.testing.assert_allclose(found.gradient, gradient, 1e-6, 1e-20)


def spread_case(text: Variant, length: int, gaps: Array) -> Case:
    """A row for each gap between the logit of its class, in any column, and the largest other."""
    rows, random = len(gaps), np.random.default_rng(length)
    classes = random.integers(0, length, rows)
    predictions = random.normal(size=(rows, length)).astype(np.float32)
    predictions[np.arange(rows), classes] = -np.inf
    predictions[np.arange(rows), classes] = predictions.max(axis=1) + gaps
    case = make_case(text, cases.FLOAT32, length)
    return replace(
        case, predictions=predictions, targets=classes,
        scales=np.full(rows, 0.75, np.float32), excluded=np.zeros(rows, np.bool_),
    )  # fmt: skip


def widened(case: Case) -> Case:
    """The same numbers in double."""
    wide = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) else value
        for name, value in case.parameters.items()
    }
    return replace(
        case, dtype=cases.FLOAT64, parameters=wide,
        predictions=case.predictions.astype(np.float64), scales=case.scales.astype(np.float64),
    )  # fmt: skip


@every_text
def test_bits_do_not_depend_on_the_instruction_set(variants: list[Library], text: Variant) -> None:
    for case, name in sizes(text, 1003):
        found = [run(variant, case) for variant in variants]
        assert len({bits(one.values) for one in found}) == 1, name
        assert len({bits(one.gradient) for one in found}) == 1, name


@every_text
def test_a_row_has_the_same_bits_alone_and_in_a_batch(library: Library, text: Variant) -> None:
    for case, name in sizes(text, 1, 10, 600):
        together = run(library, case)
        for row in range(cases.ROWS):
            alone = run(library, case.rows(slice(row, row + 1)))
            assert bits(alone.values) == bits(together.values[row : row + 1]), (name, row)
            assert bits(alone.gradient) == bits(together.gradient[row : row + 1]), (name, row)


@every_text
def test_arrays_need_not_be_aligned(library: Library, text: Variant) -> None:
    for aligned, name in sizes(text, 260):
        shifted = make_case(text, aligned.dtype, 260, misaligned=True)
        assert bits(run(library, aligned).gradient) == bits(run(library, shifted).gradient), name


@every_text
def test_an_excluded_row_is_exactly_zero(library: Library, text: Variant) -> None:
    for case, name in sizes(text, 33):
        found = run(library, case)
        assert found.values[cases.EXCLUDED] == 0, name
        assert (found.gradient[cases.EXCLUDED] == 0).all(), name
        assert not found.nonfinite[cases.EXCLUDED], name


@every_text
def test_rows_that_are_not_finite_are_flagged(library: Library, text: Variant) -> None:
    for case, name in sizes(text, 1, 33, 700):
        found = run(library, case)
        is_finite = np.isfinite(found.values) & np.isfinite(found.gradient).all(axis=-1)
        np.testing.assert_array_equal(found.nonfinite, ~is_finite, err_msg=name)
        assert found.answer.nonfinite_rows == found.nonfinite.sum(), name


@every_text
def test_the_sum_is_that_of_the_values(library: Library, text: Variant) -> None:
    for case, name in sizes(text, 40):
        found = run(library, case.rows(slice(cases.INFINITE_ROW + 1, None)), by_row=False)
        total = found.values.astype(np.float64).sum()
        np.testing.assert_allclose(found.answer.sums, [total], 1e-14, err_msg=name)


@every_text
def test_a_block_has_the_same_sum_alone_and_among_others(library: Library, text: Variant) -> None:
    for case, name in sizes(text, 1, 40, 600):
        together = run(library, case, block=3).answer.sums
        starts = range(0, cases.ROWS, 3)
        alone = [run(library, case.rows(slice(s, s + 3))).answer.sums for s in starts]
        assert bits(together) == bits(np.concatenate(alone)), name


@every_text
def test_a_gradient_that_goes_past_the_caches_has_the_same_bits(
    variants: list[Library], text: Variant
) -> None:
    for case, name in sizes(text, 1, 17, 250, 1003):
        stored_types = (None, np.float16) if case.dtype == cases.FLOAT32 else (None,)
        for variant, stored, by_row in itertools.product(variants, stored_types, (True, False)):
            kept, streamed = (
                run(variant, case, stored=stored, by_row=by_row, streams=s) for s in (False, True)
            )
            assert bits(kept.gradient) == bits(streamed.gradient), (name, variant.variant)
            assert bits(kept.values) == bits(streamed.values), (name, variant.variant)


@every_text
def test_half_types_are_read_and_rounded_once(library: Library, text: Variant) -> None:
    halves = (np.dtype(np.float16), BFLOAT16)
    for stored, length in itertools.product(halves, (1, 40, 600)):
        case = make_case(text, cases.FLOAT32, length)
        found, wide = run(library, case, stored=stored), run(library, _rounded(case, stored))
        assert bits(found.values) == bits(wide.values), (stored, length)
        assert bits(found.gradient) == bits(wide.gradient.astype(stored)), (stored, length)


def test_every_number_of_float16_is_read_and_rounded_as_numpy_does(variants: list[Library]) -> None:
    """By the processor where it converts them, and step by step where it does not."""
    text = next(each for each in cases.VARIANTS if each.loss.name == "squared_error")
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    case = make_case(text, cases.FLOAT32, every.size)
    scales = np.resize(np.array([1 / 3, -1, 0.7e-3, 0.9e3], np.float32), case.scales.shape)
    case = replace(
        case,
        predictions=np.broadcast_to(every, case.predictions.shape),
        targets=np.zeros_like(case.targets),
        scales=scales,
        excluded=np.zeros_like(case.excluded),
    )
    for variant in variants:
        found, wide = run(variant, case, stored=np.float16), run(variant, case)
        assert bits(found.gradient) == bits(wide.gradient.astype(np.float16)), variant.instructions
        assert (found.nonfinite == 1).all(), variant.instructions  # some of each row are not


@every_text
def test_a_scale_that_is_not_finite_gives_the_same_past_the_caches(
    library: Library, text: Variant
) -> None:
    """A slope of 0 times it is no 0."""
    for case, name in sizes(text, 40, 1003):
        endless = replace(case, scales=np.full_like(case.scales, np.inf))
        kept, streamed = (run(library, endless, streams=s) for s in (False, True))
        assert bits(kept.gradient) == bits(streamed.gradient), name
        assert bits(kept.nonfinite) == bits(streamed.nonfinite), name


def _rounded(case: Case, stored: np.dtype[Any]) -> Case:
    """Returns a case of the numbers that are left when its own are stored in a type."""
    return replace(
        case,
        predictions=_through(case.predictions, stored),
        targets=_through(case.targets, stored),
        others={name: _through(array, stored) for name, array in case.others.items()},
    )


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


@pytest.mark.parametrize(
    ("dtype", "columns", "is_counted"),
    [
        (np.float16, 2**30 - 1, True),
        (np.float16, 2**30, False),
        (np.float32, 2**31 - 1, False),
        (np.float32, 2**31, False),
        (np.float64, 2**31, True),
    ],
)
def test_a_row_that_is_longer_than_a_text_can_count_has_no_kernel(
    library: Library, dtype: type[np.floating], columns: int, *, is_counted: bool
) -> None:
    without_memory = np.broadcast_to(dtype(0), (1, columns))
    inputs = {"predictions": [without_memory], "targets": [np.zeros(1, np.int64)]}
    template = lay_out(Job(loss=LOSSES["cross_entropy"], parameters={}, inputs=inputs)).template

    assert (HostKernels(library).find(template) is not None) == is_counted
