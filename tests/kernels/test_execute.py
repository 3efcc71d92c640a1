"""The unmodified source of every kernel, executed on the CPU against the NumPy bodies.

It shows that the source is right; nothing here has run on a GPU.
"""

from typing import Any

import numpy as np
import pytest

from lossd.kernels._launch import SHARED_BYTES_OF_SUMS
from lossd.losses import DistributionKind, Shape
from tests.kernels import cases
from tests.kernels.cases import Execute, Variant, check, make_case

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

every_kernel = cases.every(variant=cases.VARIANTS, dtype=cases.DTYPES)


@every_kernel
def test_a_kernel_equals_the_body(simt: Execute, variant: Variant, dtype: np.dtype[Any]) -> None:
    for length in cases.LENGTHS:
        check(make_case(variant, dtype, length), simt)


@pytest.mark.parametrize("variant", [v for v in cases.VARIANTS if not v.plain], ids=str)
def test_the_longest_tree_is_right_too(simt: Execute, variant: Variant) -> None:
    case = make_case(variant, cases.FLOAT32, 5003)
    check(case.rows(slice(cases.EXCLUDED, cases.EXCLUDED + 2)), simt)


@every_kernel
def test_arrays_need_not_be_aligned(simt: Execute, variant: Variant, dtype: np.dtype[Any]) -> None:
    check(make_case(variant, dtype, 260, misaligned=True), simt)


# What is computed in, what predictions are stored in, and what other inputs are.
TYPES = [
    (cases.FLOAT32, cases.FLOAT16, cases.FLOAT16),
    (cases.FLOAT32, cases.BFLOAT16, cases.BFLOAT16),
    (cases.FLOAT32, cases.BFLOAT16, cases.FLOAT32),
    (cases.FLOAT32, cases.FLOAT32, cases.FLOAT16),
    (cases.FLOAT64, cases.FLOAT16, cases.FLOAT64),
    (cases.FLOAT64, cases.FLOAT32, cases.BFLOAT16),
]


@pytest.mark.parametrize("types", TYPES, ids=lambda types: "-".join(map(str, types)))
@pytest.mark.parametrize("variant", [v for v in cases.VARIANTS if not v.plain], ids=str)
def test_inputs_may_be_stored_in_other_types(
    simt: Execute, variant: Variant, types: tuple[np.dtype[Any], ...]
) -> None:
    dtype, stored, targets = types
    for length, misaligned in ((1, False), (33, True), (2051, False)):
        case = make_case(
            variant, dtype, length, misaligned=misaligned, stored=stored, targets_stored=targets
        )
        check(case, simt)


@pytest.mark.parametrize("stored", cases.STORED, ids=str)
@pytest.mark.parametrize(
    "variant", [v for v in cases.VARIANTS if v.loss.shape is not Shape.POINTWISE], ids=str
)
def test_a_row_on_chip_has_the_bits_of_one_beyond(
    simt: Execute, variant: Variant, stored: np.dtype[Any]
) -> None:
    dtype = cases.FLOAT64 if stored == cases.FLOAT64 else cases.FLOAT32
    for length in (3, 33, 2051):
        case = make_case(variant, dtype, length, stored=stored, misaligned=True)
        whole = case.kernel().launch(cases.ROWS, length, cases.ENOUGH_BYTES)
        assert whole.kept == length
        half = SHARED_BYTES_OF_SUMS + whole.shared_bytes // 2
        assert case.kernel().launch(cases.ROWS, length, half).kept < length
        found = [case.run(simt, most_bytes=most) for most in (cases.ENOUGH_BYTES, half, 0)]
        assert len({tuple(_bytes(array) for array in arrays) for arrays in found}) == 1


def _bytes(array: cases.Array | None) -> bytes:
    assert array is not None
    return array.tobytes()


@every_kernel
def test_an_excluded_row_is_exactly_zero(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    values, gradient = make_case(variant, dtype, 33).run(simt)
    assert gradient is not None
    assert values[cases.EXCLUDED] == 0
    assert (gradient[cases.EXCLUDED] == 0).all()


@every_kernel
def test_nan_stays_in_its_row(simt: Execute, variant: Variant, dtype: np.dtype[Any]) -> None:
    values, _ = make_case(variant, dtype, 33).run(simt)
    is_nan = np.isnan(values)
    assert is_nan[cases.NAN_ROW]
    assert is_nan.sum() == 1


@every_kernel
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    for length in (1, 31, 257):
        case = make_case(variant, dtype, length)
        values, gradient = case.run(simt)
        assert gradient is not None
        for row in range(cases.ROWS):
            alone_values, alone_gradient = case.rows(slice(row, row + 1)).run(simt)
            assert alone_gradient is not None
            assert alone_values.tobytes() == values[row].tobytes(), length
            assert alone_gradient.tobytes() == gradient[row].tobytes(), length


@every_kernel
def test_the_gradient_may_be_left_out(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    for length in (1, 33):
        case = make_case(variant, dtype, length)
        values, gradient = case.run(simt, with_gradient=False)
        assert gradient is None
        assert values.tobytes() == case.run(simt)[0].tobytes(), length


@every_kernel
def test_one_scale_for_all_rows_is_as_good_as_one_a_row(
    simt: Execute, variant: Variant, dtype: np.dtype[Any]
) -> None:
    case = make_case(variant, dtype, 33).rows(slice(cases.EXCLUDED + 1, None))
    case.scales[:] = case.scales[0]
    _, by_row = case.run(simt)
    _, uniform = case.run(simt, by_row=False)
    assert by_row is not None
    assert uniform is not None
    assert uniform.tobytes() == by_row.tobytes()


@pytest.mark.parametrize("margin", [20, 60])
@pytest.mark.parametrize(
    "variant",
    [v for v in cases.VARIANTS if v.plain and v.text.targets_are_classes],
    ids=str,
)
def test_a_confident_prediction_keeps_its_gradient(
    simt: Execute, variant: Variant, margin: float
) -> None:
    found = []
    for dtype in cases.DTYPES:
        case = make_case(variant, dtype, 2).rows(slice(0, 1))
        case.predictions[:] = [[margin, 0]]
        case.targets[:] = 0
        case.scales[:] = 1
        found.append(case)
    values, gradient = found[0].run(simt)
    assert gradient is not None
    exact_values, exact_gradient = found[1].expected()
    smallest = float(np.finfo(np.float32).smallest_normal)
    np.testing.assert_allclose(values, exact_values, 1e-6, smallest)
    np.testing.assert_allclose(gradient, exact_gradient, 1e-6, smallest)


@pytest.mark.parametrize(
    "variant",
    [v for v in cases.VARIANTS if v.plain and v.text.targets_are_classes is False],
    ids=str,
)
def test_an_unlikely_best_class_keeps_its_digits(simt: Execute, variant: Variant) -> None:
    """One minus what is nearly one would lose them."""
    found = []
    for dtype in cases.DTYPES:
        case = make_case(variant, dtype, 5003).rows(slice(0, 1))
        case.predictions[:] = 0
        case.predictions[:, 7] = 1e-3
        shares = np.arange(5003) == 0
        kind = variant.text.when.get("target_kind", DistributionKind.PROBABILITIES)
        case.targets[:] = shares if kind is DistributionKind.PROBABILITIES else np.log(shares)
        case.scales[:] = 1
        found.append(case)
    single, double = found
    expected = double.expected()[1][0, 7]
    for gradient in (single.run(simt)[1], single.expected()[1]):
        assert gradient is not None
        np.testing.assert_allclose(gradient[0, 7], expected, 1e-6)
