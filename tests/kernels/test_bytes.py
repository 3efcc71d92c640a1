"""The bytes that kernels read and write of the arrays of a batch, beside the least they could.

Every such access goes through ``load_stored`` and ``store`` of ``common.cuh``, or is of a thread's
own number in one of a few lines; here all of them count.  What is kept on chip is read without
them, and what all threads of a row read at one place, such as the target's logit, is left out, as
are class indices.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.kernels import Kernel, Launch
from lossd.kernels._launch import SHARED_BYTES_OF_SUMS
from lossd.losses import Loss, Shape
from lossd.losses._declare import CudaText
from tests.kernels import classes
from tests.kernels.cases import ENOUGH_BYTES, FLOAT32, VARIANTS, Array, Case, Variant, make_case

TEXT = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
COLUMNS = 1003
SIZE_OF_CLASSES = (150, 70)
PLAIN = [variant for variant in VARIANTS if variant.plain]
# What rows may move of which nothing is kept on the chip, where that is more than 1.5: two inputs
# that are read twice, and those of which one is needed for a sum of its own before.
FAR_BEYOND = {
    "cross_entropy": 1.67, "dice": 1.67, "expected_risk": 2.0, "jaccard": 1.67,
    "kl_divergence": 2.0, "softmax_focal": 2.0, "tversky": 1.67,
}  # fmt: skip
COUNTER = """
#include <atomic>
std::atomic<long long> moved{0};
extern "C" long long moved_bytes() { return moved.exchange(0); }
template <typename S>
long long tally(long long left, int width) {
    return moved += left > 0 ? sizeof(S) * (left < width ? left : width) : 0;
}
"""
# What stands in every template, and what only some have, with what counts the bytes there.
PACKS = {
    "load_stored(const S* source, long long left) {": "tally<S>(left, WIDTH);",
    "store(S* place, const Stored<S>& stored, long long left) {": "tally<S>(left, WIDTH);",
}
SINGLE = {
    ": items[column]);": ": (tally<S>(1, 1), items[column]));",
    "gradient[column] = sent_of(": "gradient[column] = tally<FIRST>(1, 1), sent_of(",
    "return widened(predictions[c *": "return tally<FIRST>(1, 1), widened(predictions[c *",
    "return widened(targets[c *": "return tally<TARGET>(1, 1), widened(targets[c *",
    "position, T slope) const {": "position, T slope) const { tally<FIRST>(1, 1);",
}


@dataclass
class Counting:
    """Executes kernels with a counter in them; ``moved`` is what all launches moved."""

    simt: Any
    moved: int = 0

    def __call__(self, kernel: Kernel, launch: Launch, arguments: tuple[Any, ...]) -> None:
        source = kernel.source
        for line, counting in PACKS.items():
            assert source.count(line) == 1, line
            source = source.replace(line, f"{line} {counting}")
        for line, counted in SINGLE.items():
            source = source.replace(line, counted)
        counting_kernel = replace(kernel, source=COUNTER + source)
        self.simt(counting_kernel, launch, arguments)
        self.moved += self.simt.library(counting_kernel).moved_bytes()


def ratio(simt: Any, variant: Variant, kept: float) -> float:
    """The bytes that a kernel moves over the least: each input once, and the gradient.

    So much of a row fits into shared memory.
    """
    case = usual(make_case(variant, FLOAT32, COLUMNS))
    counting = Counting(simt)
    whole = case.kernel().launch(1, COLUMNS, ENOUGH_BYTES)
    most_bytes = int(kept * whole.shared_bytes) + SHARED_BYTES_OF_SUMS
    case.run(counting, by_row=False, most_bytes=most_bytes)
    given = [case.predictions, case.targets, *case.others.values(), case.predictions]
    rows = [array for array in given if array.shape == case.predictions.shape]
    return counting.moved / sum(array.nbytes for array in rows)


def usual(case: Case) -> Case:
    """The case without what is difficult."""
    return replace(case, predictions=finite(case.predictions), targets=finite(case.targets))


def finite(array: Array) -> Array:
    if array.dtype == np.int64:
        return np.clip(array, 0, COLUMNS - 1)
    return np.nan_to_num(array, nan=0, posinf=1, neginf=-1)


@pytest.mark.parametrize("variant", PLAIN, ids=str)
def test_kernels_move_what_the_table_says(simt: Any, variant: Variant) -> None:
    on_chip, half, beyond = (ratio(simt, variant, kept) for kept in (1, 0.5, 0))
    name = f"`{variant.loss.name}` {variant.loss.cuda.index(variant.text)}"
    assert f"| {name} | {on_chip:.2f} | {half:.2f} | {beyond:.2f} |" in TEXT.splitlines()
    assert on_chip <= 1.05
    assert round(half, 2) <= 1.5
    if variant.loss.shape is Shape.POINTWISE:
        assert beyond <= 1.05
    else:
        assert round(beyond, 2) <= FAR_BEYOND.get(variant.loss.name, 1.5)


@pytest.mark.parametrize(
    ("loss", "text"), classes.TEXTS, ids=lambda value: getattr(value, "name", "")
)
def test_kernels_of_regions_of_classes_move_what_the_table_says(
    simt: Any, loss: Loss, text: CudaText
) -> None:
    counting = Counting(simt)
    row = classes.draw(loss, text, SIZE_OF_CLASSES, FLOAT32).row(0)  # without what is difficult
    row.on_device(counting)
    given = [row.predictions, row.targets, row.predictions]
    least = sum(array.nbytes for array in given if array.shape == row.predictions.shape)
    moved = f"{counting.moved / least:.2f}"
    name = f"`{loss.name}` {loss.cuda.index(text)}"
    assert f"| {name} | {moved} | {moved} | {moved} |" in TEXT.splitlines()
    assert counting.moved < 3 * least


@pytest.mark.parametrize(
    ("loss", "text"), classes.TEXTS, ids=lambda value: getattr(value, "name", "")
)
def test_regions_in_segments_move_no_more(
    simt: Any, monkeypatch: pytest.MonkeyPatch, loss: Loss, text: CudaText
) -> None:
    row = classes.draw(loss, text, SIZE_OF_CLASSES, FLOAT32).row(0)
    whole, in_segments = Counting(simt), Counting(simt)
    row.on_device(whole)
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", 64)
    row.on_device(in_segments)
    assert in_segments.moved == whole.moved


@pytest.mark.parametrize("variant", [v for v in PLAIN if v.loss.shape is Shape.POINTWISE], ids=str)
def test_rows_in_segments_move_no_more(
    simt: Any, monkeypatch: pytest.MonkeyPatch, variant: Variant
) -> None:
    whole = ratio(simt, variant, kept=0)
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", 64)
    assert ratio(simt, variant, kept=0) == whole


def test_the_table_has_no_other_text() -> None:
    texts = [*((variant.loss, variant.text) for variant in PLAIN), *classes.TEXTS]
    names = {f"| `{loss.name}` {loss.cuda.index(text)} " for loss, text in texts}
    table = TEXT.split("<!-- bytes of kernels -->")[1].split("<!-- end of bytes -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert {line[: line.index("|", 2)] for line in lines} == names
